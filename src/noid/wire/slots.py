# SPDX-License-Identifier: MIT
"""The M6 next headers: each identifies M6, whether routers may rewrite, and the upper protocol.

"We pick two unused ranges of IP protocol values with 8 numbers each" [draft §6]: the eight from P1
say "rewrite ok", the eight from P2 "no rewrite", and the place within the eight is the slot [D2].
The common protocols cost no octet; any other pays the escape slot's 8-octet extension header::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+---------------+---------------+
    |  Next Header  | Header Length |   PadN (1)    |   Length (4)  |
    +---------------+---------------+---------------+---------------+
    |                               0                               |
    +---------------------------------------------------------------+

Header Length is 0, as in every extension header of 8 octets; the padding is ignored on receipt.
"""

from dataclasses import dataclass

from noid.constants import Codepoints
from noid.wire.ipv6 import (
    ESP,
    FRAGMENT,
    HEADER_OCTETS,
    HOP_BY_HOP,
    ICMPV6,
    NEXT_HEADER_AT,
    SCTP,
    TCP,
    UDP,
)

TABLE = (
    ("TCP", TCP),
    ("UDP", UDP),
    ("SCTP", SCTP),
    ("reserved", None),
    ("ESP", ESP),
    ("Fragment", FRAGMENT),
    ("ICMPv6", ICMPV6),
    ("escape", None),
)
"""The slots in the order of their numbers [D2]: the name of each, and the protocol that it means.
RDDP, which was to have slot 3, never got a protocol number: it is never sent, and dropped on
receipt. ``planes/bpf/programs/parse.h`` and docs/protocol.md have the same; a test compares them.
"""
SLOTS = len(TABLE)
SLOT_ICMPV6 = TABLE.index(("ICMPv6", ICMPV6))
SLOT_RESERVED = TABLE.index(("reserved", None))
SLOT_ESCAPE = TABLE.index(("escape", None))
PROTOCOL_OF_SLOT = {slot: one for slot, (_, one) in enumerate(TABLE) if one is not None}
SLOT_OF_PROTOCOL = {protocol: slot for slot, protocol in PROTOCOL_OF_SLOT.items()}
ESCAPE_OCTETS = 8
ESCAPE_TAIL = bytes((0, 1, 4, 0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Slot:
    """The meaning of an M6 next header.

    Attributes:
        number: 0 to 7.
        rewritable: whether routers may rewrite the source locator.
    """

    number: int
    rewritable: bool


def slot_of(next_header: int, codepoints: Codepoints) -> Slot | None:
    """The slot that ``next_header`` names, or None if it is not an M6 number."""
    number = next_header - codepoints.rewritable_first
    if 0 <= number < SLOTS:
        return Slot(number, True)
    number = next_header - codepoints.fixed_first
    if 0 <= number < SLOTS:
        return Slot(number, False)
    return None


def next_header_of(slot: int, codepoints: Codepoints, *, rewritable: bool) -> int:
    """The M6 next header of a slot."""
    assert 0 <= slot < SLOTS
    return (codepoints.rewritable_first if rewritable else codepoints.fixed_first) + slot


def m6_next_headers(codepoints: Codepoints) -> tuple[int, ...]:
    """The sixteen M6 next headers, P1 first."""
    firsts = (codepoints.rewritable_first, codepoints.fixed_first)
    return tuple(first + slot for first in firsts for slot in range(SLOTS))


def may_ride(packet: bytes, codepoints: Codepoints) -> bool:
    """Whether a packet is one of a ULP, so that a message or data may carry it [D6, D7].

    Delivered, a control message, M6 data or hop-by-hop options before either would come to the shim
    a second time, as if they had come from the AID of the peer.

    Args:
        packet: a whole packet between AIDs.
        codepoints: the numbers in use.
    """
    if len(packet) < HEADER_OCTETS:
        return False
    protocol = packet[NEXT_HEADER_AT]
    if protocol == ICMPV6:
        return packet[HEADER_OCTETS : HEADER_OCTETS + 1] != bytes((codepoints.icmpv6_type,))
    return protocol != HOP_BY_HOP and slot_of(protocol, codepoints) is None


def escape_header(protocol: int) -> bytes:
    """The 8-octet extension header that carries a protocol without a slot."""
    return bytes((protocol,)) + ESCAPE_TAIL
