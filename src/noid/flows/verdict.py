# SPDX-License-Identifier: MIT
"""The verdict on a packet from the network, as data, the same for every plane. Pure.

The programs in the kernel, the planes in Python and the second implementation of the tests give the
same verdict for the same packet. ``arrival_of`` is the parser, ``judge`` the law.
"""

import enum
from collections.abc import Container
from typing import NamedTuple

from noid.constants import CONTROL_FLOW_LABEL
from noid.flows.rewrite import ANSWERED, Arrival, Delivery, Refusal, Rewriter
from noid.locators import is_global_unicast
from noid.wire.chain import is_sound, place_of


class Outcome(enum.Enum):
    """The kind of a verdict."""

    NOT_M6 = "not M6"
    """The stack of the host gets it unchanged."""
    CONTROL = "control"
    """A control message in the slot; the engine gets it [D6]."""
    RESTORED = "restored"
    """The ULP gets it, between AIDs."""
    HELD = "held"
    """The engine keeps it [D37, D48]."""
    UNKNOWN_LABEL = "unknown label"
    """The engine may answer it with UC [draft §7.11 1a]; a packet with a known label and wrong
    locators is answered like this too, so that silence reveals no label [D41]."""
    DROPPED = "dropped"


class Verdict(NamedTuple):
    """The verdict on a packet.

    Attributes:
        outcome: its kind.
        arrival: the parsed packet, if it is a well-formed M6 packet.
        delivery: what is restored or held.
        refusal: why it is dropped.
    """

    outcome: Outcome
    arrival: Arrival | None = None
    delivery: Delivery | None = None
    refusal: Refusal | None = None


NOT_M6 = Verdict(Outcome.NOT_M6)


def arrival_of(packet: bytes, numbers: Container[int]) -> Arrival | Refusal | None:
    """The parsed M6 packet, or why it is dropped, or None if it is not an M6 packet.

    Args:
        packet: from its IPv6 header on; what follows its announced length is cut off.
        numbers: the M6 next headers.
    """
    place = place_of(packet, numbers)
    if place is None:
        return None
    if not is_sound(packet, place):
        return Refusal.MALFORMED
    return Arrival.of(packet, packet[place.at], place.body_at)


def judge(rewriter: Rewriter, arrival: Arrival | Refusal | None) -> Verdict:
    """The verdict on a packet to an address of this host."""
    if arrival is None:
        return NOT_M6
    if isinstance(arrival, Refusal):
        return Verdict(Outcome.DROPPED, refusal=arrival)
    label = arrival.flow_label
    is_control = label == CONTROL_FLOW_LABEL and rewriter.is_icmpv6(arrival)
    if is_control or label not in rewriter.by_label:
        if not is_global_unicast(arrival.source):
            return Verdict(Outcome.DROPPED, refusal=Refusal.SOURCE_OF_NO_HOST)
        return Verdict(Outcome.CONTROL if is_control else Outcome.UNKNOWN_LABEL, arrival)
    delivery = rewriter.inbound(arrival)
    if isinstance(delivery, Refusal):
        if delivery in ANSWERED and is_global_unicast(arrival.source):
            return Verdict(Outcome.UNKNOWN_LABEL, arrival, refusal=delivery)
        return Verdict(Outcome.DROPPED, arrival, refusal=delivery)
    return Verdict(Outcome.HELD if delivery.flow.holds else Outcome.RESTORED, arrival, delivery)
