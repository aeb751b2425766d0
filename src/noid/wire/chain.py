# SPDX-License-Identifier: MIT
"""Finds the M6 header in a packet, and checks whether the packet is well-formed.

"The M6 shim layer behaves as if it is associated with an extension header, which would be ordered
immediately after any hop-by-hop options in the packet" [draft §3]. So an M6 next header is in the
IPv6 header, or in hop-by-hop options immediately after it. After any other header it is ignored.
"""

from collections.abc import Container
from typing import NamedTuple

from noid.wire import ipv6
from noid.wire.ipv6 import HEADER_OCTETS, NEXT_HEADER_AT

OPTIONS_MAX = 8
"""Hop-by-hop options of a packet; Linux takes no more either."""
PADDING_OCTETS_MAX = 7
"""In a row, as Linux does (RFC 4942 §2.1.9.5)."""
PAD1, PADN = 0, 1
ROUTER_ALERT, ROUTER_ALERT_OCTETS = 5, 4
CALIPSO, IOAM = 0x07, 0x31
"""What Linux drops without a known domain of interpretation (RFC 5570), and if it is not aligned to
4 octets (RFC 9486)."""
MUST_BE_KNOWN = 0xC0
"""The bits of an option's type by which it may not be skipped (RFC 8200 §4.2)."""


class Place(NamedTuple):
    """The position of an M6 next header.

    Attributes:
        at: the offset of the next header in the packet.
        body_at: the offset of what follows it; beyond the end of a truncated packet.
    """

    at: int
    body_at: int


USUAL = Place(NEXT_HEADER_AT, HEADER_OCTETS)
"""In a packet without hop-by-hop options."""


def place_of(packet: bytes, numbers: Container[int]) -> Place | None:
    """The position of the M6 next header of a packet; None if it has none.

    Args:
        packet: from the IPv6 header on, of any length.
        numbers: the M6 next headers.
    """
    if len(packet) < HEADER_OCTETS or packet[0] >> 4 != ipv6.VERSION:
        return None
    if packet[NEXT_HEADER_AT] in numbers:
        return USUAL
    behind = HEADER_OCTETS
    if packet[NEXT_HEADER_AT] != ipv6.HOP_BY_HOP or len(packet) <= behind:
        return None
    if packet[behind] not in numbers:
        return None
    units = packet[behind + 1] if len(packet) > behind + 1 else 0xFF
    return Place(behind, behind + 8 + 8 * units)


def has_hop_by_hop(packet: bytes) -> bool:
    """Whether the hop-by-hop header of a packet that announces one is complete."""
    lengths = packet[HEADER_OCTETS + 1 : HEADER_OCTETS + 2]
    return bool(lengths) and len(packet) >= HEADER_OCTETS + 8 + 8 * lengths[0]


def is_sound(packet: bytes, place: Place) -> bool:
    """Whether the packet is complete, and every hop-by-hop option may be skipped.

    A jumbogram (RFC 2675) is rejected: its option must be understood, and noid does not support it.
    """
    end = HEADER_OCTETS + int.from_bytes(packet[4:6], "big")
    if len(packet) < end or place.body_at > end:
        return False
    return place.at == NEXT_HEADER_AT or _may_be_skipped(packet[place.at + 2 : place.body_at])


def _may_be_skipped(options: bytes) -> bool:
    """Whether the options of a hop-by-hop header are few, whole, and need not be known."""
    at = count = padding = 0
    while at < len(options):
        began, kind = at, options[at]
        octets = 1 if kind == PAD1 else 2 + int.from_bytes(options[at + 1 : at + 2] or b"\xff")
        value, at = options[at + 2 : at + octets], at + octets
        if kind in (PAD1, PADN):
            padding += octets
            if padding > PADDING_OCTETS_MAX or any(value):
                return False
            continue
        padding, count = 0, count + 1
        if kind & MUST_BE_KNOWN or count > OPTIONS_MAX:
            return False
        if kind == ROUTER_ALERT and octets != ROUTER_ALERT_OCTETS:
            return False
        if kind == CALIPSO or (kind == IOAM and (HEADER_OCTETS + 2 + began) % 4):
            return False
    return at == len(options)
