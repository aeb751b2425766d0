# SPDX-License-Identifier: MIT
"""The options of the control messages [D5].

Every option is a 4-octet head and a value, padded with zeros to a multiple of 8 octets::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-----------------------------+-------------------------------+
    |C|            Type             |            Length             |
    +-+-----------------------------+-------------------------------+
    |                            Value ...                          |
    +---------------------------------------------------------------+

Length counts the octets of the value alone. C is the critical bit: a message with an unknown option
that has it is dropped, without it the option is skipped and kept for re-encoding. An option we know
is known with or without its critical bit. A value longer than its layout says is accepted and its
tail ignored, so that layouts can grow; a shorter one is an error. No option is repeated.

What is read and written for every message is a named tuple, which is made several times as fast as
a frozen dataclass.
"""

import enum
import functools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from noid.constants import FLOW_LABEL_MASK, LOCATORS_MAX
from noid.counters import Drop
from noid.errors import WireError
from noid.identifiers import NO_LABEL, NO_TOKEN, Label, Nonce, Token
from noid.locators import Locator
from noid.wire.reader import Layout, Reader

CRITICAL = 0x8000
HEAD_OCTETS = 4
ALIGNMENT = 8
HASH_OCTETS = 16
SETS_KEPT_MAX = 256
"""Sets that are kept in both forms, because few sets occur in most messages."""
KEY_OCTETS = 32
"""An X25519 public key (RFC 7748)."""

HEAD = Layout(("H", "option type"), ("H", "option length"))
CONTEXT = Layout(
    ("I", "flow label"), ("I", "flow label"), ("I", "birthday counter"), ("I", "birthday counter")
)
TOKENS = Layout(("Q", "token"), ("Q", "token"))
COOKIE = Layout(("Q", "timestamp"), ("16s", "cookie locator"), ("16s", "keyed hash"))
HEARD = Layout(("Q", "nonce heard"))
COUNT = Layout(("B", "locator count"), ("3x", "locator set"))
SETS = tuple(
    Layout(
        (f"{count}s", "locator flags"),
        (f"{-count % ALIGNMENT}x", "locator flags"),
        *[("16s", "locator")] * count,
    )
    for count in range(LOCATORS_MAX + 1)
)
"""What follows the count in a set of so many locators."""
PADDING = tuple(bytes(count) for count in range(ALIGNMENT))
SET_OPTIONS = tuple(
    struct.Struct(f">HHB3x{count}s{-count % ALIGNMENT}x" + "16s" * count)
    for count in range(LOCATORS_MAX + 1)
)
"""A whole option with a set of so many locators; it needs no padding."""
CONTEXT_OPTION = struct.Struct(">HHIIII4x")
TOKENS_OPTION = struct.Struct(">HHQQ4x")
COOKIE_OPTION = struct.Struct(">HHQ16s16s4x")
HASH_OPTION = struct.Struct(">HH16s4x")
HEARD_OPTION = struct.Struct(">HHQ4x")
KEY_OPTION = struct.Struct(">HH32s4x")
"""Whole options of one size, with head and padding."""


class OptionType(enum.IntEnum):
    """Option types, without the critical bit."""

    CONTEXT = 1
    SENDER_LOCATORS = 2
    RECEIVER_LOCATORS = 3
    TOKENS = 4
    COOKIE = 5
    AUTHENTICATION = 6
    RESET_TOKEN = 7
    HEARD = 8
    KEY = 9


class LocatorFlag:
    """Flags of one locator [draft §3.3.2, D22]; other bits are reserved.

    Plain integers, because several are tested per message and tests of ``enum`` flags are slow.
    """

    LOCAL: Final = 0x80
    """In Lsl of its owner."""
    REMOTE: Final = 0x40
    """In Lsr of its owner: the other end found it in the DNS."""
    DEPRECATED: Final = 0x20
    BROKEN: Final = 0x10
    BACKUP: Final = 0x08
    WEIGHT: Final = 0x07
    """The weight of the locator for new connections, less one: three bits, of which 0 is usual."""


class LocatorEntry(NamedTuple):
    """One locator of a set, and its flags."""

    locator: Locator
    flags: int


Entries = tuple[LocatorEntry, ...]


class ContextOption(NamedTuple):
    """Which context, and whether its owner has rebooted since; in every message. 16 octets.

    ::

        | Reserved (12) |            Sender's flow label (20)           |
        | Reserved (12) |           Receiver's flow label (20)          |
        |                 Sender's birthday counter (32)                |
        |                Receiver's birthday counter (32)               |

    A label or counter that the sender does not know is 0. In UC the receiver's label is the one in
    the packet that caused it [draft §3.3.7].

    Attributes:
        sender_label: F(local) of the sender, 20 bits.
        receiver_label: F(local) of the receiver, 20 bits.
        sender_birthday: the sender's birthday counter [draft §7.14], 32 bits.
        receiver_birthday: the receiver's, as the sender knows it, 32 bits.
    """

    sender_label: Label = NO_LABEL
    receiver_label: Label = NO_LABEL
    sender_birthday: int = 0
    receiver_birthday: int = 0

    def pack(self, head: int) -> bytes:
        """The whole option, after its type and critical bit."""
        return CONTEXT_OPTION.pack(head, CONTEXT.octets, *self)

    @classmethod
    def decode(cls, reader: Reader) -> "ContextOption":
        """Reads the value."""
        sender, receiver, *birthdays = reader.unpack(CONTEXT)
        labels = Label(sender & FLOW_LABEL_MASK), Label(receiver & FLOW_LABEL_MASK)
        return cls(*labels, *birthdays)


class Tokens(NamedTuple):
    """The public random tokens that make the key of each context unique [D40]. 16 octets.

    Attributes:
        sender: the sender's token, 64 bits.
        receiver: the receiver's, 64 bits; 0 if the sender does not know it (INIT).
    """

    sender: Token = NO_TOKEN
    receiver: Token = NO_TOKEN

    def pack(self, head: int) -> bytes:
        """The whole option, after its type and critical bit."""
        return TOKENS_OPTION.pack(head, TOKENS.octets, *self)

    @classmethod
    def decode(cls, reader: Reader) -> "Tokens":
        """Reads the value."""
        return cls(*reader.unpack(TOKENS))


class Cookie(NamedTuple):
    """State of the responder between CC and CCR, held by the peer [draft §3.3.2, D8]. 40 octets.

    ::

        |                  Timestamp (64), the responder's own          |
        |               Locator to which the CC was sent (128)          |
        |                        Keyed hash (128)                       |

    The responder alone makes sense of the timestamp. The keyed hash covers the state, the timestamp
    and the locator; how is the responder's affair, and engine/secrets.py's here.
    """

    timestamp: int
    locator: Locator
    keyed_hash: bytes

    def pack(self, head: int) -> bytes:
        """The whole option, after its type and critical bit."""
        return COOKIE_OPTION.pack(head, COOKIE.octets, *self)

    @classmethod
    def decode(cls, reader: Reader) -> "Cookie":
        """Reads the value."""
        return cls(*reader.unpack(COOKIE))


@functools.lru_cache(maxsize=SETS_KEPT_MAX)
def encode_entries(entries: Entries) -> bytes:
    """The value of a locator set, in the order given.

    ::

        |   Count (8)   |                 Reserved (24)                 |
        |   Flags (8) x Count, padded with zeros to a multiple of 8     |
        |                 Locator (128) x Count                         |
    """
    count = len(entries)
    if not count:
        return COUNT.pack(0)
    locators, flags = zip(*entries, strict=True)
    return COUNT.pack(count) + SETS[count].pack(bytes(flags), *locators)


def decode_entries(reader: Reader) -> Entries:
    """Reads the value of a locator set.

    Raises:
        WireError: truncated, empty, more than LOCATORS_MAX, or a repeated locator.
    """
    start = reader.position
    (count,) = reader.unpack(COUNT)
    if not 1 <= count <= LOCATORS_MAX:
        raise WireError(start, Drop.LOCATOR_COUNT_OUT_OF_RANGE)
    flags, *locators = reader.unpack(SETS[count])
    if len(set(locators)) != count:
        raise WireError(start, Drop.LOCATOR_TWICE)
    return tuple(map(LocatorEntry, locators, flags))


@dataclass(frozen=True, slots=True)
class UnknownOption:
    """An unknown option, kept unchanged; its critical bit is clear."""

    number: int
    value: bytes


@functools.lru_cache(maxsize=SETS_KEPT_MAX)
def pack_entries(entries: Entries, head: int) -> bytes:
    """A whole option with a locator set, after its type and critical bit."""
    locators, flags = zip(*entries, strict=True)
    count = len(locators)
    option = SET_OPTIONS[count]
    return option.pack(head, option.size - HEAD_OCTETS, count, bytes(flags), *locators)


Quick = tuple[int, Callable[[bytes, int], Any]]
"""The octets of a whole option of one length, with head and padding, and how its value is read from
there; None if it is to be read step by step, which finds what is wrong."""


class Codec(NamedTuple):
    """How an option is written and read.

    Attributes:
        pack: from its value, and its type with the critical bit, to the whole option.
        unpack: from its octets without head and padding to its value.
        quick: for the usual lengths of its value.
    """

    pack: Callable[[Any, int], bytes]
    unpack: Callable[[Reader], Any]
    quick: dict[int, Quick]


def _quick_context(octets: bytes, at: int) -> ContextOption:
    _, _, sender, receiver, *birthdays = CONTEXT_OPTION.unpack_from(octets, at)
    return ContextOption(sender & FLOW_LABEL_MASK, receiver & FLOW_LABEL_MASK, *birthdays)


def _quick_tokens(octets: bytes, at: int) -> Tokens:
    return Tokens._make(TOKENS_OPTION.unpack_from(octets, at)[2:])


def _quick_cookie(octets: bytes, at: int) -> Cookie:
    return Cookie._make(COOKIE_OPTION.unpack_from(octets, at)[2:])


def _quick_heard(octets: bytes, at: int) -> Nonce:
    nonce: Nonce = HEARD_OPTION.unpack_from(octets, at)[2]
    return nonce


def _quick_octets(layout: struct.Struct) -> Callable[[bytes, int], bytes]:
    def decode(octets: bytes, at: int) -> bytes:
        value: bytes = layout.unpack_from(octets, at)[2]
        return value

    return decode


def _quick_entries(count: int) -> Callable[[bytes, int], Entries | None]:
    end = SET_OPTIONS[count].size
    unpack_from = SETS[count].unpack_from

    @functools.lru_cache(maxsize=SETS_KEPT_MAX)
    def read(value: bytes) -> Entries | None:
        flags, *locators = unpack_from(value, COUNT.octets)
        if value[0] != count or len(set(locators)) != count:
            return None
        return tuple(map(LocatorEntry, locators, flags))

    return lambda octets, at: read(octets[at + HEAD_OCTETS : at + end])


def _codec_of_octets(layout: struct.Struct, octets: int, name: str) -> Codec:
    """The codec of a value that is so many octets."""
    return Codec(
        lambda value, head: layout.pack(head, octets, value),
        lambda reader: reader.take(octets, name),
        {octets: (layout.size, _quick_octets(layout))},
    )


CONTEXT_CODEC = Codec(
    ContextOption.pack,
    ContextOption.decode,
    {CONTEXT.octets: (CONTEXT_OPTION.size, _quick_context)},
)
LOCATORS_CODEC = Codec(
    pack_entries,
    decode_entries,
    {
        one.size - HEAD_OCTETS: (one.size, _quick_entries(count))
        for count, one in enumerate(SET_OPTIONS)
        if count
    },
)
TOKENS_CODEC = Codec(
    Tokens.pack, Tokens.decode, {TOKENS.octets: (TOKENS_OPTION.size, _quick_tokens)}
)
COOKIE_CODEC = Codec(
    Cookie.pack, Cookie.decode, {COOKIE.octets: (COOKIE_OPTION.size, _quick_cookie)}
)
AUTHENTICATION_CODEC = _codec_of_octets(HASH_OPTION, HASH_OCTETS, "authentication")
RESET_TOKEN_CODEC = _codec_of_octets(HASH_OPTION, HASH_OCTETS, "reset token")
KEY_CODEC = _codec_of_octets(KEY_OPTION, KEY_OCTETS, "public key")
HEARD_CODEC = Codec(
    lambda value, head: HEARD_OPTION.pack(head, HEARD.octets, value),
    lambda reader: reader.unpack(HEARD)[0],
    {HEARD.octets: (HEARD_OPTION.size, _quick_heard)},
)


def encode_option(number: int, value: bytes, *, critical: bool) -> bytes:
    """Head, value and padding."""
    octets = len(value)
    head = HEAD.pack(number | CRITICAL if critical else number, octets)
    return head + value + PADDING[-(HEAD_OCTETS + octets) % ALIGNMENT]
