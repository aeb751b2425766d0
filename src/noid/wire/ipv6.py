# SPDX-License-Identifier: MIT
"""The IPv6 header (RFC 8200 §3) and the Internet checksum over its pseudo-header (§8.1)."""

import struct
from dataclasses import dataclass

from noid.constants import FLOW_LABEL_MASK
from noid.counters import Drop
from noid.errors import WireError
from noid.identifiers import NO_LABEL, Label
from noid.locators import LOCATOR_OCTETS, Locator

HEADER = struct.Struct(">IHBB16s16s")
FRONT = struct.Struct(">IHBB")
"""The header up to the addresses."""
HEADER_OCTETS = 40
NEXT_HEADER_AT = 6
ADDRESSES_AT = 8
VERSION = 6
DEFAULT_HOP_LIMIT = 64
PAYLOAD_OCTETS_MAX = 0xFFFF

HOP_BY_HOP = 0
TCP = 6
UDP = 17
IPV6 = 41
FRAGMENT = 44
ESP = 50
ICMPV6 = 58
NO_NEXT_HEADER = 59
SCTP = 132


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The fixed header.

    ::

         0                   1                   2                   3
         0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
        +-------+---------------+---------------------------------------+
        |Version| Traffic Class |              Flow Label               |
        +-------+---------------+-------+---------------+---------------+
        |        Payload Length         |  Next Header  |   Hop Limit   |
        +-------------------------------+---------------+---------------+
        |                        Source (16 octets)                     |
        +---------------------------------------------------------------+
        |                     Destination (16 octets)                   |
        +---------------------------------------------------------------+

    Attributes:
        traffic_class: 8 bits.
        flow_label: 20 bits.
        payload_octets: octets after this header, 0 to 65535.
        next_header: 8 bits.
        hop_limit: 8 bits.
        source: the source address field.
        destination: the destination address field.
    """

    source: Locator
    destination: Locator
    next_header: int
    payload_octets: int
    flow_label: Label = NO_LABEL
    traffic_class: int = 0
    hop_limit: int = DEFAULT_HOP_LIMIT

    def __post_init__(self) -> None:
        assert 0 <= self.flow_label <= FLOW_LABEL_MASK
        assert 0 <= self.traffic_class <= 0xFF
        assert 0 <= self.next_header <= 0xFF
        assert 0 <= self.hop_limit <= 0xFF
        assert 0 <= self.payload_octets <= PAYLOAD_OCTETS_MAX

    def encode(self) -> bytes:
        """The 40 octets."""
        return HEADER.pack(
            VERSION << 28 | self.traffic_class << 20 | self.flow_label,
            self.payload_octets,
            self.next_header,
            self.hop_limit,
            self.source,
            self.destination,
        )

    @classmethod
    def decode(cls, packet: bytes) -> "Header":
        """The header at the start of ``packet``; the packet must have the length in the header.

        Raises:
            WireError: too short, another version, or an incomplete payload. Octets after
                the payload are refused too: no source of packets adds any.
        """
        if len(packet) < HEADER_OCTETS:
            raise WireError(len(packet), Drop.TRUNCATED, "truncated IPv6 header")
        first = int.from_bytes(packet[:4], "big")
        if first >> 28 != VERSION:
            raise WireError(0, Drop.NOT_IPV6)
        payload_octets = int.from_bytes(packet[4:6], "big")
        if len(packet) != HEADER_OCTETS + payload_octets:
            raise WireError(4, Drop.PAYLOAD_LENGTH_WRONG)
        return cls.decode_unchecked(packet)

    @classmethod
    def decode_unchecked(cls, packet: bytes) -> "Header":
        """The header of a packet that may be truncated after it, as in ICMPv6 errors.

        Raises:
            WireError: the header is incomplete.
        """
        if len(packet) < HEADER_OCTETS:
            raise WireError(len(packet), Drop.TRUNCATED, "truncated IPv6 header")
        first = int.from_bytes(packet[:4], "big")
        return cls(
            traffic_class=first >> 20 & 0xFF,
            flow_label=Label(first & FLOW_LABEL_MASK),
            payload_octets=int.from_bytes(packet[4:6], "big"),
            next_header=packet[6],
            hop_limit=packet[7],
            source=Locator(packet[8 : 8 + LOCATOR_OCTETS]),
            destination=Locator(packet[8 + LOCATOR_OCTETS : HEADER_OCTETS]),
        )


def stays_on_link(packet: bytes) -> bool:
    """Whether a packet stays on one link: multicast, or a link-local address [D23].

    Args:
        packet: at least its header.
    """
    return packet[24] == 0xFF or any(
        packet[at] == 0xFE and packet[at + 1] & 0xC0 == 0x80 for at in (8, 24)
    )


def plain_header(
    source: Locator, destination: Locator, next_header: int, payload_octets: int
) -> bytes:
    """A 40-octet header with traffic class 0, flow label 0 and the default hop limit."""
    assert payload_octets <= PAYLOAD_OCTETS_MAX
    return HEADER.pack(
        VERSION << 28, payload_octets, next_header, DEFAULT_HOP_LIMIT, source, destination
    )


def checksum(source: Locator, destination: Locator, next_header: int, payload: bytes) -> int:
    """The Internet checksum of an upper-layer packet (RFC 8200 §8.1).

    The 16-bit one's complement sum is the number the octets write, modulo 65535.

    Args:
        source: address in the pseudo-header.
        destination: address in the pseudo-header.
        next_header: the upper layer's own number.
        payload: the upper-layer packet; its checksum field zero to compute, as is to verify.

    Returns:
        The checksum to put in, or 0 where a received one is right.
    """
    padded = payload + b"\0" if len(payload) & 1 else payload
    total = (
        int.from_bytes(source, "big")
        + int.from_bytes(destination, "big")
        + len(payload)
        + next_header
        + int.from_bytes(padded, "big")
    )
    return -total % 0xFFFF
