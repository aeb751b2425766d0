# SPDX-License-Identifier: MIT
"""The M6 control messages: one layout, ten codes [draft §3.3, D5].

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |  Type (200)   |     Code      |           Checksum            |
    +---------------+---------------+-------+-----------------------+
    |  Next Header  | Header Length |Version|         Flags         |
    +---------------+---------------+-------+-----------------------+
    |                          Nonce (64)                           |
    +---------------------------------------------------------------+
    |                      Sender's AID (128)                       |
    +---------------------------------------------------------------+
    |                     Receiver's AID (128)                      |
    +---------------------------------------------------------------+
    |                          Options ...                          |
    +---------------------------------------------------------------+
    |                 Piggybacked ULP packet ...                    |
    +---------------------------------------------------------------+

Next Header is the protocol of the piggybacked packet, 59 if there is none, 41 for the packet
that a UC quotes whole. Header Length counts everything before the piggyback, in units of 8 octets.
Version is 0. Flags not listed in ``Flag`` are sent as zero and ignored.

**Which checksum** [D6]. A plain message (next header 58) has RFC 4443's, over the address fields. A
rewritable one travels in the ICMPv6 slot with flow label 0, and its pseudo-header holds the two
AIDs instead of the address fields, so that it stays valid when a router rewrites the source.
"""

import enum
import struct
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from noid.constants import (
    CONTROL_OCTETS_MAX,
    LOCATORS_MAX,
    Codepoints,
)
from noid.counters import Drop
from noid.errors import UsageError, WireError
from noid.identifiers import NO_NONCE, Nonce
from noid.locators import UNSPECIFIED, Locator
from noid.wire import ipv6
from noid.wire.options import (
    ALIGNMENT,
    AUTHENTICATION_CODEC,
    CONTEXT_CODEC,
    COOKIE_CODEC,
    CRITICAL,
    HEAD,
    HEAD_OCTETS,
    HEARD_CODEC,
    KEY_CODEC,
    LOCATORS_CODEC,
    RESET_TOKEN_CODEC,
    TOKENS_CODEC,
    Codec,
    ContextOption,
    Cookie,
    Entries,
    OptionType,
    Tokens,
    UnknownOption,
    encode_option,
)
from noid.wire.reader import Layout, Reader
from noid.wire.slots import SLOT_ICMPV6, next_header_of

FIXED = Layout(
    ("B", "type"),
    ("B", "code"),
    ("H", "checksum"),
    ("B", "next header"),
    ("B", "header length"),
    ("H", "flags"),
    ("Q", "nonce"),
    ("16s", "sender's AID"),
    ("16s", "receiver's AID"),
)
VERSION = 0
SENDER_AT = 16
RECEIVER_AT = 32
FIXED_OCTETS = 48
HEADER_OCTETS_MAX = CONTROL_OCTETS_MAX - ipv6.HEADER_OCTETS
UNKNOWN_OPTIONS_MAX = 16
"""Options of the future that one message may carry past us; the rest makes it an error."""


class Code(enum.IntEnum):
    """ICMPv6 codes [D1]. Any other "MUST" be silently ignored [draft §3.3]."""

    INIT = 1
    CC = 2
    CCR = 3
    CONF = 4
    UR = 5
    UA = 6
    UC = 7
    CLOSE = 8
    CLOSEACK = 9
    KEEPALIVE = 10


class Flag(enum.IntFlag):
    """The twelve flag bits."""

    ULP_PACKET_DISCARDED = 0x800
    """In CC: the packet piggybacked on the INIT was not delivered [draft §7.3]."""
    HEARS_NOTHING = 0x400
    """In UR: its sender hears nothing from the receiver; the receiver's path may be dead [D20]."""
    HEARS_HERE = 0x200
    """In UR: its sender heard nothing, and uses this pair now, over which it hears [D43]."""
    DATA_LOST = 0x100
    """In UR: data over the pair in use is lost, and messages in its form pass [D47]."""
    ALL_DATA_LOST = 0x080
    """In UR: data is lost over all pairs, and goes plainly [D47]."""
    ANSWER_HERE = 0x040
    """In UR: the answer uses this pair, so that both directions of it are measured."""
    DATA_ASKED = 0x020
    """In UR: its sender asks whether data has come lately. In KEEPALIVE: it has [D47]."""


NO_FLAGS = Flag(0)
KNOWN_FLAGS = sum(Flag)
CODES: dict[int, Code] = {code.value: code for code in Code}
FLAGS = {bits: Flag(bits) for bits in range(KNOWN_FLAGS + 1) if not bits & ~KNOWN_FLAGS}
"""Enumerations look their members up in Python; these are made once."""


@dataclass(frozen=True, slots=True)
class Piggyback:
    """A ULP packet on a control message; its addresses are the message's two AIDs [D7].

    Attributes:
        next_header: the ULP's protocol number.
        payload: everything after the packet's IPv6 header.
    """

    next_header: int
    payload: bytes


NO_PIGGYBACK = Piggyback(ipv6.NO_NEXT_HEADER, b"")


class Option(NamedTuple):
    """One option.

    Attributes:
        type: its number.
        attribute: what it is in a ``ControlMessage``.
        critical: whether a receiver that does not know it drops the message.
        codec: how it is written and read.
        required: the messages that are dropped without it [draft §3.3.1-3.3.7, App. A]. Others may
            have it.
    """

    type: OptionType
    attribute: str
    critical: bool
    codec: Codec
    required: frozenset[Code] = frozenset()

    @property
    def head(self) -> int:
        """The number of the option with the critical bit."""
        return self.type | CRITICAL if self.critical else self.type.value


ALL = frozenset(Code)
SET_UP = frozenset((Code.INIT, Code.CC, Code.CCR, Code.CONF))
WITH_SETS = frozenset((Code.INIT, Code.CC, Code.CCR, Code.UR))
WITH_COOKIE = frozenset((Code.CC, Code.CCR))
SIGNED = frozenset((Code.CONF, Code.UR, Code.UA, Code.CLOSE, Code.KEEPALIVE))

OPTIONS = (
    Option(OptionType.CONTEXT, "context", True, CONTEXT_CODEC, ALL),
    Option(OptionType.SENDER_LOCATORS, "sender_locators", True, LOCATORS_CODEC, WITH_SETS),
    Option(OptionType.RECEIVER_LOCATORS, "receiver_locators", True, LOCATORS_CODEC, WITH_SETS),
    Option(OptionType.TOKENS, "tokens", True, TOKENS_CODEC, SET_UP),
    Option(OptionType.COOKIE, "cookie", True, COOKIE_CODEC, WITH_COOKIE),
    Option(OptionType.AUTHENTICATION, "authentication", True, AUTHENTICATION_CODEC, SIGNED),
    # Who does not know it can still have a context; a UC of ours is then harder to believe.
    Option(OptionType.RESET_TOKEN, "reset_token", False, RESET_TOKEN_CODEC),
    Option(OptionType.HEARD, "heard", False, HEARD_CODEC),
    Option(OptionType.KEY, "key", True, KEY_CODEC, SET_UP),
)
"""Every option, in the order in which a message has them. An option is added as a row here, a
member of ``OptionType`` and an attribute of ``ControlMessage``; docs/protocol.md is compared with
this table."""
REQUIRED = {
    code: tuple(one.attribute for one in OPTIONS[1:] if code in one.required) for code in Code
}
"""What each message cannot do without, besides its context."""
REQUIRED_VALUES = {code: attrgetter("code", "context", *names) for code, names in REQUIRED.items()}
"""The same as a tuple of the values in a message."""
ENCODERS = tuple((one.head, one.codec.pack) for one in OPTIONS)
VALUES = attrgetter(*(one.attribute for one in OPTIONS))
"""The values of all options of a message, in the order of OPTIONS."""
DECODERS = {one.type.value: (one.attribute, one.codec.unpack) for one in OPTIONS}
QUICK = {
    one.type << 16 | length: (one.attribute, *quick)
    for one in OPTIONS
    for length, quick in one.codec.quick.items()
}
"""By the type and the length: how an option of exactly this length is read as a whole. Nearly all
are such."""
WORD, NOT_CRITICAL = struct.Struct(">I"), ~(CRITICAL << 16)
"""The head of an option as one number, and what of it counts."""


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class ControlMessage:
    """One control message, of any code; an option that is absent has its empty value.

    Nothing changes a message. It is not frozen, because that takes four times as long to create.

    Attributes:
        code: the code of the message.
        nonce: 64 bits; matches an answer to its request.
        sender_aid: AID of the host that sends this message; ``::`` in UC.
        receiver_aid: AID of the host it is for; ``::`` in UC.
        context: labels and birthday counters.
        flags: see ``Flag``.
        sender_locators: what is said of the sender's locators.
        receiver_locators: what is said of the receiver's.
        tokens: both ends' random tokens; None where the message has none.
        cookie: the responder's, in CC and CCR.
        authentication: keyed hash with the key of the context, 16 octets [D40].
        reset_token: in CCR and CONF, hash of what proves a later UC of the sender's; in UC, that
            itself; 16 octets [D39].
        key: the sender's X25519 public key, 32 octets [D40].
        heard: in UR, nonce of the newest UR that its sender has heard; 0 where there is none [D43].
        unknown: options without the critical bit that this version does not know.
        piggyback: the ULP packet, or in UC the packet that caused it.
    """

    code: Code
    nonce: Nonce
    sender_aid: Locator
    receiver_aid: Locator
    context: ContextOption
    flags: Flag = NO_FLAGS
    sender_locators: Entries = ()
    receiver_locators: Entries = ()
    tokens: Tokens | None = None
    cookie: Cookie | None = None
    authentication: bytes = b""
    reset_token: bytes = b""
    heard: Nonce = NO_NONCE
    key: bytes = b""
    unknown: tuple[UnknownOption, ...] = ()
    piggyback: Piggyback | None = None

    def __post_init__(self) -> None:
        if not all(REQUIRED_VALUES[self.code](self)):
            raise UsageError(f"{self.code.name} without {self._lacking()}")
        if len(self.sender_locators) > LOCATORS_MAX or len(self.receiver_locators) > LOCATORS_MAX:
            raise UsageError(f"more than {LOCATORS_MAX} locators in a set")
        if (self.code is Code.UC) != (self.sender_aid == self.receiver_aid == UNSPECIFIED):
            raise UsageError("the AIDs are :: in UC and nowhere else")

    def _lacking(self) -> str:
        missing = [option for option in REQUIRED[self.code] if not getattr(self, option)]
        return ", ".join(sorted(missing)).upper()

    def _options(self) -> bytes:
        """The options, in the order of their numbers, those we do not know last."""
        values = zip(VALUES(self), ENCODERS, strict=True)
        parts = [pack(value, head) for value, (head, pack) in values if value]
        for option in self.unknown:
            parts.append(encode_option(option.number, option.value, critical=False))
        return b"".join(parts)

    def encode(self, icmpv6_type: int) -> bytes:
        """The message from its type to the end of its piggyback, with a checksum of zero.

        Raises:
            UsageError: without the piggyback it would not fit CONTROL_OCTETS_MAX.
        """
        options = self._options()
        header_octets = FIXED_OCTETS + len(options)
        if header_octets > HEADER_OCTETS_MAX:
            raise UsageError(f"a control message of {header_octets} octets")
        piggyback = self.piggyback or NO_PIGGYBACK
        fixed = FIXED.pack(
            icmpv6_type,
            self.code,
            0,
            piggyback.next_header,
            header_octets // ALIGNMENT,
            VERSION << 12 | int(self.flags),
            self.nonce,
            self.sender_aid,
            self.receiver_aid,
        )
        return fixed + options + piggyback.payload


def encode_packet(
    message: ControlMessage | bytes,
    source: Locator,
    destination: Locator,
    codepoints: Codepoints,
    *,
    rewritable: bool = False,
    in_slot: bool = False,
) -> bytes:
    """The IPv6 packet that carries ``message`` from ``source`` to ``destination``.

    Args:
        message: the message, or its octets from ``encode``.
        source: source locator.
        destination: destination locator.
        codepoints: the numbers in use.
        rewritable: whether routers may rewrite the source [D6]; never for UC.
        in_slot: whether to use the ICMPv6 slot even if it is not rewritable.
    """
    in_slot = in_slot or rewritable
    octets = message if isinstance(message, bytes) else message.encode(codepoints.icmpv6_type)
    if in_slot:
        assert octets[1] != Code.UC, "UC is always plain [D6]"
        ends = Locator(octets[SENDER_AT:RECEIVER_AT]), Locator(octets[RECEIVER_AT:FIXED_OCTETS])
        next_header = next_header_of(SLOT_ICMPV6, codepoints, rewritable=rewritable)
    else:
        ends = source, destination
        next_header = ipv6.ICMPV6
    total = ipv6.checksum(*ends, ipv6.ICMPV6, octets)
    header = ipv6.plain_header(source, destination, next_header, len(octets))
    return header + octets[:2] + total.to_bytes(2, "big") + octets[4:]


def decode_message(
    octets: bytes, source: Locator, destination: Locator, *, in_slot: bool
) -> ControlMessage:
    """The message that ``octets`` hold, from the ICMPv6 type to the end of the packet.

    Args:
        octets: as received.
        source: source address field.
        destination: destination address field.
        in_slot: whether it arrived in the ICMPv6 slot; the checksum then covers its AIDs [D6].

    Raises:
        WireError: malformed, a wrong checksum, an unknown code, version or critical option.
    """
    reader = Reader(octets)
    (
        _,
        number,
        _,
        next_header,
        header_length,
        version_and_flags,
        nonce,
        sender_aid,
        receiver_aid,
    ) = reader.unpack(FIXED)
    header_octets = header_length * ALIGNMENT
    ends: tuple[Locator, Locator] = (sender_aid, receiver_aid) if in_slot else (source, destination)
    if ipv6.checksum(*ends, ipv6.ICMPV6, octets) != 0:
        raise WireError(2, Drop.WRONG_CHECKSUM)
    code = CODES.get(number)
    if code is None:
        raise WireError(1, Drop.UNKNOWN_CODE)
    if version_and_flags >> 12 != VERSION:
        raise WireError(6, Drop.UNKNOWN_VERSION)
    if not FIXED_OCTETS <= header_octets <= HEADER_OCTETS_MAX:
        raise WireError(5, Drop.HEADER_LENGTH_OUT_OF_RANGE)
    said = _decode_options(reader.part(header_octets - FIXED_OCTETS, "options"))
    payload = reader.rest()
    if next_header == ipv6.NO_NEXT_HEADER and payload:
        raise WireError(4, Drop.OCTETS_AFTER_MESSAGE)
    try:
        return ControlMessage(
            code=code,
            nonce=nonce,
            sender_aid=sender_aid,
            receiver_aid=receiver_aid,
            flags=FLAGS[version_and_flags & KNOWN_FLAGS],
            piggyback=None
            if next_header == ipv6.NO_NEXT_HEADER
            else Piggyback(next_header, payload),
            **said,
        )
    except UsageError as error:
        raise WireError(FIXED_OCTETS, Drop.INVALID_MESSAGE, str(error)) from None


def _decode_options(reader: Reader) -> dict[str, Any]:
    """Every option up to the end of the header, by its place in the message.

    None stands twice, and a context is always there.
    """
    said: dict[str, Any] = {}
    unknown: list[UnknownOption] = []
    seen: set[int] = set()
    octets, at, end = reader.octets, reader.position, reader.end
    while at < end:
        if at + HEAD_OCTETS <= end:
            quick = QUICK.get(WORD.unpack_from(octets, at)[0] & NOT_CRITICAL)
            if quick is not None and at + quick[1] <= end and quick[0] not in said:
                name, size, decode = quick
                value = decode(octets, at)
                if value is not None:
                    said[name] = value
                    at += size
                    continue
        at = _decode_option(Reader(octets, at, end), said, unknown, seen)
    if "context" not in said:
        raise WireError(end, Drop.NO_CONTEXT_OPTION)
    if unknown:
        said["unknown"] = tuple(unknown)
    return said


def _decode_option(
    part: Reader, said: dict[str, Any], unknown: list[UnknownOption], seen: set[int]
) -> int:
    """Reads one option of any length; returns where the next one begins."""
    at, end = part.position, part.end
    head, length = part.unpack(HEAD)
    number = head & ~CRITICAL
    part.end = after = part.position + length
    known = DECODERS.get(number)
    if number in seen or (known is not None and known[0] in said):
        raise WireError(at, Drop.OPTION_TWICE)
    seen.add(number)
    if after > end:
        raise WireError(part.position, Drop.TRUNCATED, "truncated option")
    if known is not None:
        # What a later version appended to a layout we know is left unread.
        name, decode = known
        said[name] = decode(part)
    elif head & CRITICAL:
        raise WireError(at, Drop.UNKNOWN_CRITICAL_OPTION)
    elif len(unknown) == UNKNOWN_OPTIONS_MAX:
        raise WireError(at, Drop.TOO_MANY_UNKNOWN_OPTIONS)
    else:
        unknown.append(UnknownOption(number, part.rest()))
    padded: int = after + -(HEAD_OCTETS + length) % ALIGNMENT
    if padded > end:
        raise WireError(after, Drop.TRUNCATED, "truncated option padding")
    return padded
