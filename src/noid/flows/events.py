# SPDX-License-Identifier: MIT
"""The events that a data plane reports to the engine.

Nothing changes an event; the classes are not frozen, because that makes them slow to create.
"""

from dataclasses import dataclass

from noid.constants import NO_USER
from noid.identifiers import Label
from noid.locators import Locator


@dataclass(slots=True, unsafe_hash=True)
class UlpPacketSeen:
    """The ULP sent a packet to a watched peer without a flow; it was sent plain.

    Attributes:
        packet: the whole IPv6 packet, at most PIGGYBACK_OCTETS_MAX after its header.
        user: whose program sent it; NO_USER if the plane does not know.
    """

    packet: bytes
    user: int = NO_USER


@dataclass(slots=True, unsafe_hash=True)
class UnknownPeerSeen:
    """The ULP sent a packet to an address that is not watched; it was sent plain [D34].

    A plane that sees such packets reports each address at a low rate. Not every plane sees them.

    Attributes:
        aid: its destination.
        user: whose program sent it; NO_USER if the plane does not know.
    """

    aid: Locator
    user: int = NO_USER


@dataclass(slots=True, unsafe_hash=True)
class UnansweredPacket:
    """A flow sent this packet more than T after an unanswered packet [D20].

    Attributes:
        local_label: F(local) of the flow.
        packet: a copy of it as the ULP sent it, between AIDs.
        silent_ns: the time since that unanswered packet.
        received_ns: when the flow last received data; 0 if never.
        gap_ns: the mean time between two signs of life of the peer; 0 if not known.
        packets: that are unanswered; a plane may not count further than UNANSWERED_MANY.
    """

    local_label: Label
    packet: bytes
    silent_ns: int
    received_ns: int = 0
    gap_ns: int = 0
    packets: int = 0


@dataclass(slots=True, unsafe_hash=True)
class ControlMessageReceived:
    """An ICMPv6 message of the M6 type arrived.

    Attributes:
        source: source address field.
        destination: destination address field.
        in_slot: whether it arrived in the ICMPv6 slot rather than plain [D6].
        octets: from the ICMPv6 type to the end of the packet.
    """

    source: Locator
    destination: Locator
    in_slot: bool
    octets: bytes


@dataclass(slots=True, unsafe_hash=True)
class IcmpErrorReceived:
    """An ICMPv6 error arrived.

    Attributes:
        source: source address field.
        destination: destination address field.
        octets: from the ICMPv6 type to the end of the packet.
    """

    source: Locator
    destination: Locator
    octets: bytes


@dataclass(slots=True, unsafe_hash=True)
class UnknownLabelSeen:
    """A data packet arrived with an unknown label, or with locators that its flow does not have.

    The engine answers both alike [draft §7.11 1a, D41].

    Attributes:
        packet: the complete packet as it arrived, with its locators.
    """

    packet: bytes


@dataclass(slots=True, unsafe_hash=True)
class SourceMoved:
    """Data arrived from another locator than the known source of the peer [draft §7.11 step 3].

    Attributes:
        local_label: F(local) of the flow.
        source: its source; a member of Lsl(peer).
        followed: whether the plane already sends there, because the locator in use was silent.
    """

    local_label: Label
    source: Locator
    followed: bool


@dataclass(slots=True, unsafe_hash=True)
class OneWayDataSeen:
    """A flow received data and sends none: a keepalive is due [D42].

    Attributes:
        local_label: F(local) of the flow.
    """

    local_label: Label


@dataclass(slots=True, unsafe_hash=True)
class LongUnproven:
    """A flow sends, and its context has received nothing authentic for UNPROVEN_TIME [D41].

    Attributes:
        local_label: F(local) of the flow.
    """

    local_label: Label


@dataclass(slots=True, unsafe_hash=True)
class LongPacketLost:
    """A packet of more than MTU_MIN octets was sent several times while its peer was heard.

    Attributes:
        local_label: F(local) of the flow.
        packet: the packet between AIDs.
    """

    local_label: Label
    packet: bytes


@dataclass(slots=True, unsafe_hash=True)
class PacketHeld:
    """A flow that holds its packets received one [D37, D48].

    Attributes:
        local_label: F(local) of the flow.
        packet: the whole packet, restored between AIDs.
        source: the locator it came from, a member of the flow's peer_locators.
    """

    local_label: Label
    packet: bytes
    source: Locator


DatapathEvent = (
    UlpPacketSeen
    | UnknownPeerSeen
    | UnansweredPacket
    | ControlMessageReceived
    | IcmpErrorReceived
    | UnknownLabelSeen
    | SourceMoved
    | OneWayDataSeen
    | LongUnproven
    | LongPacketLost
    | PacketHeld
)
