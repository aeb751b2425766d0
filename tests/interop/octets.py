# SPDX-License-Identifier: MIT
"""The octets of a second implementation, written from docs/protocol.md and nothing else.

Control messages and their options, checksums, and packets; who sends what when is in ``second``.
Sections in brackets are those of docs/protocol.md.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from ipaddress import IPv6Address
from typing import Final

CONTROL_TYPE: Final = 200
TCP: Final = 6
UDP: Final = 17
FRAGMENT: Final = 44
IPV6: Final = 41
ICMPV6: Final = 58
NOTHING: Final = 59
HOP_BY_HOP: Final = 0
SLOTS: Final = {TCP: 0, UDP: 1, 132: 2, 50: 4, FRAGMENT: 5, ICMPV6: 6}
PROTOCOLS: Final = {slot: protocol for protocol, slot in SLOTS.items()}
ESCAPE_SLOT: Final = 7
ESCAPE: Final = bytes((0, 1, 4, 0, 0, 0, 0))
"""What follows the next header of an escape header [§3]."""
REWRITE_OK: Final = 224
NO_REWRITE: Final = 232
M6_NEXT_HEADERS: Final = range(224, 240)
NO_AID: Final = "::"
MESSAGE_OCTETS_MAX: Final = 1280
IPV6_OCTETS: Final = 40

DISCARDED: Final = 0x800
HEARS_NOTHING: Final = 0x400
DATA_LOST: Final = 0x100
ALL_DATA_LOST: Final = 0x080
ANSWER_HERE: Final = 0x040
DATA_ASKED: Final = 0x020

IN_LSL: Final = 0x80
IN_LSR: Final = 0x40
DEPRECATED: Final = 0x20
BROKEN: Final = 0x10
BACKUP: Final = 0x08


class Code(IntEnum):
    """What a control message is [§2]."""

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


class Option(IntEnum):
    """The options of control messages [§4]."""

    CONTEXT = 1
    SENDERS_LOCATORS = 2
    RECEIVERS_LOCATORS = 3
    TOKENS = 4
    COOKIE = 5
    AUTHENTICATION = 6
    RESET_TOKEN = 7
    HEARD = 8
    PUBLIC_KEY = 9


CRITICAL: Final = 0x8000
NOT_CRITICAL: Final = frozenset({Option.RESET_TOKEN, Option.HEARD})
BASIC: Final = {Option.CONTEXT, Option.TOKENS, Option.PUBLIC_KEY}
SETS: Final = {Option.SENDERS_LOCATORS, Option.RECEIVERS_LOCATORS}
REQUIRED: Final[Mapping[int, set[Option]]] = {
    Code.INIT: BASIC | SETS,
    Code.CC: BASIC | SETS | {Option.COOKIE},
    Code.CCR: BASIC | SETS | {Option.COOKIE, Option.RESET_TOKEN},
    Code.CONF: BASIC | {Option.AUTHENTICATION, Option.RESET_TOKEN},
    Code.UR: SETS | {Option.CONTEXT, Option.AUTHENTICATION},
    Code.UA: {Option.CONTEXT, Option.AUTHENTICATION},
    Code.UC: {Option.CONTEXT, Option.RESET_TOKEN},
    Code.CLOSE: {Option.CONTEXT, Option.AUTHENTICATION},
    Code.CLOSEACK: {Option.CONTEXT},
    Code.KEEPALIVE: {Option.CONTEXT, Option.AUTHENTICATION},
}

LocatorSet = dict[str, int]
"""Locators, each with its flags."""


class Malformed(Exception):
    """Octets that are no message."""


# --- the message ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The value of the Context option; what is not known is 0."""

    sender: int = 0
    receiver: int = 0
    sender_birthday: int = 0
    receiver_birthday: int = 0

    def encode(self) -> bytes:
        return struct.pack(
            "!4I", self.sender, self.receiver, self.sender_birthday, self.receiver_birthday
        )

    @classmethod
    def decode(cls, value: bytes) -> "Labels":
        sender, receiver, sender_birthday, receiver_birthday = struct.unpack_from("!4I", value)
        return cls(
            sender=sender & 0xFFFFF,
            receiver=receiver & 0xFFFFF,
            sender_birthday=sender_birthday,
            receiver_birthday=receiver_birthday,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A control message without its checksum [§4].

    Attributes:
        code: what it is.
        nonce: 64 bits.
        sender: AID of the host that sends it.
        receiver: AID of the host it is for.
        options: values by type, in the order they stand in.
        flags: 12 bits.
        protocol: of the piggybacked packet.
        piggyback: the packet without its IPv6 header.
    """

    code: int
    nonce: int
    sender: str
    receiver: str
    options: dict[int, bytes]
    flags: int = 0
    protocol: int = NOTHING
    piggyback: bytes = b""

    @property
    def labels(self) -> Labels:
        return Labels.decode(self.options[Option.CONTEXT])

    @property
    def tokens(self) -> tuple[bytes, bytes]:
        """The sender's and the receiver's."""
        value = self.options[Option.TOKENS]
        return value[:8], value[8:16]

    @property
    def public(self) -> bytes:
        """The sender's public key."""
        return self.options[Option.PUBLIC_KEY][:32]

    @property
    def heard(self) -> int:
        """Nonce of the newest UR that the sender has heard; 0 if it says none."""
        return int.from_bytes(self.options.get(Option.HEARD, b"")[:8], "big")

    def locators(self, option: Option) -> LocatorSet:
        value = self.options.get(option)
        return {} if value is None else decode_locators(value)

    def encode(self) -> bytes:
        options = b"".join(_encode_option(*option) for option in self.options.items())
        header_octets = 48 + len(options)
        assert header_octets + len(self.piggyback) + IPV6_OCTETS <= MESSAGE_OCTETS_MAX
        words = (CONTROL_TYPE, self.code, 0, self.protocol, header_octets // 8, self.flags)
        addresses = packed(self.sender) + packed(self.receiver)
        head = struct.pack("!BBHBBHQ", *words, self.nonce) + addresses
        return head + options + self.piggyback

    @classmethod
    def decode(cls, octets: bytes) -> "Message":
        if len(octets) < 48:
            raise Malformed("shorter than its fixed part")
        kind, code, _, protocol, length, word, nonce = struct.unpack_from("!BBHBBHQ", octets)
        if kind != CONTROL_TYPE or word >> 12 or not 48 <= length * 8 <= len(octets):
            raise Malformed("type, version or header length")
        message = cls(
            code=code,
            nonce=nonce,
            sender=str(IPv6Address(octets[16:32])),
            receiver=str(IPv6Address(octets[32:48])),
            options=_decode_options(octets[48 : length * 8]),
            flags=word & 0xFFF,
            protocol=protocol,
            piggyback=octets[length * 8 :],
        )
        missing = REQUIRED.get(code, set()) - set(message.options)
        if missing:
            raise Malformed(f"code {code} without {missing}")
        return message

    def signature(self, key: bytes) -> bytes:
        """The keyed hash over the message with the hash itself as zeros [§8]."""
        blank = {**self.options, Option.AUTHENTICATION: bytes(16)}
        octets = replace(self, options=blank).encode()
        return hashlib.blake2b(octets, digest_size=16, key=key).digest()

    def signed(self, key: bytes) -> "Message":
        options = {**self.options, Option.AUTHENTICATION: self.signature(key)}
        return replace(self, options=options)


def _encode_option(kind: int, value: bytes) -> bytes:
    critical = CRITICAL if kind in set(Option) - NOT_CRITICAL else 0
    return struct.pack("!HH", kind | critical, len(value)) + value + bytes(-(4 + len(value)) % 8)


def _decode_options(octets: bytes) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    offset = 0
    while offset < len(octets):
        word, length = struct.unpack_from("!HH", octets, offset)
        kind, end = word & ~CRITICAL, offset + 4 + length
        if end > len(octets):
            raise Malformed(f"option {kind} does not end in time")
        if kind in options:
            raise Malformed(f"option {kind} stands twice")
        if kind not in set(Option) and word & CRITICAL:
            raise Malformed(f"option {kind} is critical and unknown")
        options[kind] = octets[offset + 4 : end]
        offset = end + -(4 + length) % 8
    return options


def encode_locators(locators: LocatorSet) -> bytes:
    flags = bytes(locators.values())
    padding = bytes(-len(flags) % 8)
    addresses = b"".join(packed(locator) for locator in locators)
    return struct.pack("!B3x", len(locators)) + flags + padding + addresses


def decode_locators(value: bytes) -> LocatorSet:
    count = value[0]
    start = 4 + count + -count % 8
    if not 1 <= count <= 16 or len(value) < start + 16 * count:
        raise Malformed("a set of locators")
    spots = range(start, start + 16 * count, 16)
    addresses = [str(IPv6Address(value[spot : spot + 16])) for spot in spots]
    return dict(zip(addresses, value[4 : 4 + count], strict=True))


# --- checksums and packets ------------------------------------------------------------------------


def packed(address: str) -> bytes:
    return IPv6Address(address).packed


def checksum(source: str, destination: str, protocol: int, octets: bytes) -> int:
    """The Internet checksum with the pseudo-header of RFC 8200; 0 over what holds a right one."""
    pseudo = packed(source) + packed(destination) + struct.pack("!I3xB", len(octets), protocol)
    data = pseudo + octets + bytes(len(octets) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


CHECKSUM_OFFSETS: Final = {TCP: 16, UDP: 6, ICMPV6: 2}


def with_checksum(source: str, destination: str, protocol: int, octets: bytes) -> bytes:
    """A ULP's packet, or a control message, with its checksum filled in."""
    if protocol not in CHECKSUM_OFFSETS:
        return octets
    offset = CHECKSUM_OFFSETS[protocol]
    blank = octets[:offset] + bytes(2) + octets[offset + 2 :]
    value = checksum(source, destination, protocol, blank)
    if protocol == UDP:
        value = value or 0xFFFF
    return blank[:offset] + struct.pack("!H", value) + blank[offset + 2 :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """An IPv6 packet without extension headers of its own."""

    source: str
    destination: str
    next_header: int
    label: int
    payload: bytes

    def encode(self) -> bytes:
        head = struct.pack("!IHBB", 6 << 28 | self.label, len(self.payload), self.next_header, 64)
        return head + packed(self.source) + packed(self.destination) + self.payload

    @classmethod
    def decode(cls, octets: bytes) -> "Packet":
        word, length, next_header, _ = struct.unpack_from("!IHBB", octets)
        return cls(
            source=str(IPv6Address(octets[8:24])),
            destination=str(IPv6Address(octets[24:40])),
            next_header=next_header,
            label=word & 0xFFFFF,
            payload=octets[IPV6_OCTETS : IPV6_OCTETS + length],
        )


def data_payload(protocol: int, payload: bytes) -> tuple[int, bytes]:
    """The slot of a protocol, and what is sent in it [§3]."""
    if protocol in SLOTS:
        return SLOTS[protocol], payload
    return ESCAPE_SLOT, bytes((protocol,)) + ESCAPE + payload


def ulp_payload(slot: int, payload: bytes) -> tuple[int, bytes]:
    """The protocol in a slot, and its packet [§3].

    Raises:
        Malformed: it must be dropped.
    """
    if slot == SLOTS[ICMPV6] and payload[:1] == bytes((CONTROL_TYPE,)):
        raise Malformed("control message as data")
    if slot in PROTOCOLS:
        return PROTOCOLS[slot], payload
    if slot != ESCAPE_SLOT or len(payload) < 8 or payload[1]:
        raise Malformed(f"slot {slot}")
    protocol = payload[0]
    if protocol in SLOTS or protocol in M6_NEXT_HEADERS or protocol == HOP_BY_HOP:
        raise Malformed(f"protocol {protocol} in the escape slot")
    return protocol, payload[8:]


def control_packet(message: Message, source: str, destination: str, *, base: int = 0) -> Packet:
    """A control message as a packet: plain, or in the slot of P1 or P2 [§4]."""
    octets = message.encode()
    addresses = (message.sender, message.receiver) if base else (source, destination)
    return Packet(
        source=source,
        destination=destination,
        next_header=base + SLOTS[ICMPV6] if base else ICMPV6,
        label=0,
        payload=with_checksum(*addresses, ICMPV6, octets),
    )


CONTROL_SLOTS: Final = {base + SLOTS[ICMPV6] for base in (REWRITE_OK, NO_REWRITE)}


def is_plain_control(packet: Packet) -> bool:
    return packet.next_header == ICMPV6 and packet.payload[:1] == bytes((CONTROL_TYPE,))


def control_message(packet: Packet) -> tuple[Message, int] | None:
    """The control message that a packet is, if it is one, and the base of its slot; 0 if plain.

    Raises:
        Malformed: it must be dropped.
    """
    plain = is_plain_control(packet)
    if not plain and not (packet.next_header in CONTROL_SLOTS and packet.label == 0):
        return None
    message = Message.decode(packet.payload)
    addresses = packet.source, packet.destination
    if not plain:
        addresses = message.sender, message.receiver
    if checksum(*addresses, ICMPV6, packet.payload):
        raise Malformed("checksum")
    return message, 0 if plain else packet.next_header - SLOTS[ICMPV6]
