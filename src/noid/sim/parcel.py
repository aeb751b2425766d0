# SPDX-License-Identifier: MIT
"""A packet on the network, with what the simulator knows of it."""

from dataclasses import dataclass

from noid.constants import Codepoints
from noid.wire import ipv6
from noid.wire.slots import SLOT_ICMPV6, next_header_of, slot_of

CODEPOINTS = Codepoints()
SLOTS = {number: slot_of(number, CODEPOINTS) for number in range(256)}
MESSAGES = frozenset(
    next_header_of(SLOT_ICMPV6, CODEPOINTS, rewritable=one) for one in (True, False)
)
"""The next headers of control messages in the form of data."""
CONTEXT_VALUE_AT = 52
"""The offset of the labels in a control message, from its ICMPv6 type."""


@dataclass(slots=True)
class Parcel:
    """A packet on its way.

    Attributes:
        octets: the whole IPv6 packet.
        sender: name of the node that sent it.
        sent_ns: when it was sent.
        forged: an attacker made it or its content.
        informed: the attacker knows the secrets of the context that it forges.
        corrupted: the network changed it.
    """

    octets: bytes
    sender: str
    sent_ns: int
    forged: bool = False
    informed: bool = False
    corrupted: bool = False


def is_control(octets: bytes) -> bool:
    """Whether a packet is an M6 control message, plain or in the slot [D6]."""
    if len(octets) < ipv6.HEADER_OCTETS + CONTEXT_VALUE_AT + 8:
        return False
    if octets[ipv6.HEADER_OCTETS] != CODEPOINTS.icmpv6_type:
        return False
    if octets[6] == ipv6.ICMPV6:
        return True
    slot = SLOTS[octets[6]]
    return slot is not None and slot.number == SLOT_ICMPV6 and label_of(octets) == 0


def is_m6(octets: bytes) -> bool:
    """Whether a packet has an M6 next header, which a firewall may not know."""
    return SLOTS[octets[6]] is not None


def is_data(octets: bytes) -> bool:
    """Whether a packet is M6 data."""
    slot = SLOTS[octets[6]]
    return slot is not None and not (slot.number == SLOT_ICMPV6 and label_of(octets) == 0)


def label_of(octets: bytes) -> int:
    """The flow label."""
    return int.from_bytes(octets[1:4], "big") & 0xFFFFF


def labels_said(message: bytes) -> tuple[int, int]:
    """The labels in the context option of a control message that honest senders put first."""
    at = CONTEXT_VALUE_AT
    return (
        int.from_bytes(message[at : at + 4], "big"),
        int.from_bytes(message[at + 4 : at + 8], "big"),
    )
