# SPDX-License-Identifier: MIT
"""The reference of the data plane: how one packet is rewritten, given the flows. Pure.

Every data plane does exactly this. Outbound, a packet between the AIDs of a flow gets the
flow's locators, the peer's label and the slot of its protocol. Inbound, the label selects the
flow, both locators are checked, and the AIDs and the protocol are restored [draft §6, §7.11]. The
length of the packet does not change, except for a protocol without a slot [D2].

"The M6 shim layer behaves as if it is associated with an extension header, which would be ordered
immediately after any hop-by-hop options in the packet" [draft §3]: the next header that changes is
the one after those options.

``Watch`` is the time-dependent part: what a plane observes about a flow.

This module does not know where packets come from, the current time, or who installs flows.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from noid.constants import (
    FLOW_LABEL_MASK,
    FOLLOW_INTERVAL,
    FOLLOW_SILENCE_MIN,
    GAP_MAX,
    GAPS_USUAL,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_PACKETS,
    MANY_PATIENCE,
    NEVER,
    UNANSWERED_MANY,
    UNANSWERED_PATIENCE,
    UNPROVEN_TIME,
    Codepoints,
)
from noid.counters import PlaneCounter
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.chain import has_hop_by_hop
from noid.wire.icmpv6 import NEIGHBOUR_DISCOVERY
from noid.wire.ipv6 import ADDRESSES_AT, NEXT_HEADER_AT
from noid.wire.slots import (
    ESCAPE_OCTETS,
    PROTOCOL_OF_SLOT,
    SLOT_ESCAPE,
    SLOT_ICMPV6,
    SLOT_OF_PROTOCOL,
    SLOT_RESERVED,
    escape_header,
    m6_next_headers,
    next_header_of,
    slot_of,
)


class Refusal(enum.Enum):
    """Why a data packet from the network is not delivered; the value is its counter."""

    UNKNOWN_LABEL = PlaneCounter.REFUSED_UNKNOWN_LABEL
    DESTINATION_NOT_OURS = PlaneCounter.REFUSED_DESTINATION
    SOURCE_NOT_THE_PEERS = PlaneCounter.REFUSED_SOURCE
    RESERVED_SLOT = PlaneCounter.REFUSED_RESERVED_SLOT
    BAD_ESCAPE = PlaneCounter.REFUSED_BAD_ESCAPE
    MALFORMED = PlaneCounter.REFUSED_MALFORMED
    MISPLACED = PlaneCounter.REFUSED_FRAGMENT
    SOURCE_OF_NO_HOST = PlaneCounter.REFUSED_SOURCE_OF_NO_HOST
    CONTROL_AS_DATA = PlaneCounter.REFUSED_CONTROL_AS_DATA
    """Control messages travel plain or with flow label 0, and never out of data [D6]."""


ANSWERED = frozenset({Refusal.DESTINATION_NOT_OURS, Refusal.SOURCE_NOT_THE_PEERS})
"""Refusals that are answered like an unknown label, because silence reveals labels [D41]."""


class Arrival(NamedTuple):
    """A parsed data packet from the network.

    Attributes:
        source: source address field.
        destination: destination address field.
        next_header: its M6 next header.
        flow_label: 20 bits.
        traffic_class: 8 bits.
        hop_limit: 8 bits.
        payload: what follows the M6 next header.
        device: index of the device it came over; 0 if that is not known.
    """

    source: Locator
    destination: Locator
    next_header: int
    flow_label: Label
    traffic_class: int
    hop_limit: int
    payload: bytes
    device: int = 0

    @classmethod
    def of(cls, packet: bytes, next_header: int, body_at: int) -> "Arrival":
        """Parses a complete packet.

        Args:
            packet: the packet; octets after its announced length are cut off.
            next_header: the M6 next header, which may follow hop-by-hop options.
            body_at: the offset of what follows it.
        """
        first, octets, _, hop_limit, source, destination = ipv6.HEADER.unpack_from(packet)
        return cls(
            source,
            destination,
            next_header,
            first & FLOW_LABEL_MASK,
            first >> 20 & 0xFF,
            hop_limit,
            packet[body_at : ipv6.HEADER_OCTETS + octets],
        )

    def encode(self) -> bytes:
        """The packet as it arrived, without hop-by-hop options."""
        header = ipv6.Header(
            source=self.source,
            destination=self.destination,
            next_header=self.next_header,
            payload_octets=len(self.payload),
            flow_label=self.flow_label,
            traffic_class=self.traffic_class,
            hop_limit=self.hop_limit,
        )
        return header.encode() + self.payload


class Delivery(NamedTuple):
    """A packet for the ULP.

    Attributes:
        flow: the flow it came on.
        packet: the whole IPv6 packet between AIDs.
        source: the locator it came from.
        verified: whether that may become a destination.
        elsewhere: whether it arrived at another locator than Lp(local), which has no effect and is
            counted [draft §7.11 2c, D21].
    """

    flow: Flow
    packet: bytes
    source: Locator
    verified: bool
    elsewhere: bool


@dataclass(slots=True)
class Watch:
    """What a plane records about a flow, and the events that it derives from that.

    A plane has one for each label it has a flow for, and keeps it when the flow is replaced.

    Attributes:
        unanswered_ns: when the first unanswered packet was sent; 0 if there is none.
        received_ns: when something was last received; 0 if never.
        reported_ns: when silence was last reported.
        moved_ns: when another source was last followed or reported.
        unanswered: packets sent since ``unanswered_ns`` that draw answers or keepalives.
        heard_ns: when data or a keepalive last came; 0 if never.
        gap_ns: the mean time between these; 0 if not known.
        unreturned: packets received since something was last sent.
        sent_ns: when something was last sent, or a keepalive last due; 0 if never.
        proven_ns: when something authentic last came, or that was last missed; 0 if never.
    """

    unanswered_ns: int = 0
    received_ns: int = 0
    reported_ns: int = 0
    moved_ns: int = 0
    unanswered: int = 0
    heard_ns: int = 0
    gap_ns: int = 0
    unreturned: int = 0
    sent_ns: int = 0
    proven_ns: int = 0

    def sent(self, flow: Flow, now_ns: int, *, is_tcp: bool) -> int:
        """Records a packet that the flow sends.

        Args:
            flow: its flow.
            now_ns: the present.
            is_tcp: whether receivers acknowledge it.

        Returns:
            0, or how long nothing has been heard, where that is to be reported with a copy of the
            packet: it leaves later than the patience of the flow after the first unanswered one.
        """
        self.sent_ns, self.unreturned = now_ns, 0
        if not self.unanswered_ns:
            self.unanswered_ns, self.unanswered = now_ns, 1
            return 0
        silent_ns = now_ns - self.unanswered_ns
        if is_tcp or silent_ns >= KEEPALIVE_INTERVAL:
            self.unanswered += 1  # others may reach a peer that has just sent, and owes nothing
        if (
            silent_ns <= max(flow.silence_ns, self._patience_ns(is_tcp))
            or now_ns - self.reported_ns <= flow.silence_ns
        ):
            return 0
        self.reported_ns = now_ns
        return silent_ns

    def _patience_ns(self, is_tcp: bool) -> int:
        """The shortest silence of a peer that is reported, also if T is shorter [D20, D42].

        Receivers delay their answers to few TCP segments. Other packets may get no answers except
        keepalives: the usual interval of the peer decides, or that several of these are missing.
        """
        many = self.unanswered > UNANSWERED_MANY
        if is_tcp:
            return 0 if many else UNANSWERED_PATIENCE
        usual_ns = 7 * self.gap_ns // 4 if self.gap_ns else NEVER
        return min(usual_ns, MANY_PATIENCE) if many else usual_ns

    def heard(self, now_ns: int, *, unasked: bool = True) -> None:
        """Records data or an authentic message: sent packets are no longer unanswered.

        Answers to requests do not count for the usual interval. Otherwise each request would
        shorten it, and cause the next request earlier.
        """
        self.unanswered_ns = self.unanswered = 0
        if not unasked:
            return
        if self.heard_ns:
            usual_ns = max(GAPS_USUAL * self.gap_ns, UNANSWERED_PATIENCE)
            longest_ns = usual_ns if self.gap_ns else GAP_MAX
            gap_ns = min(now_ns - self.heard_ns, longest_ns, GAP_MAX)
            self.gap_ns = (3 * self.gap_ns + gap_ns) // 4 if self.gap_ns else gap_ns
        self.heard_ns = now_ns

    def misses_proof(self, now_ns: int) -> bool:
        """Whether a packet is sent after no authentic message for UNPROVEN_TIME [D41]."""
        if now_ns - self.proven_ns < UNPROVEN_TIME:
            return False
        self.proven_ns = now_ns
        return True

    def owes_keepalive(self, now_ns: int) -> bool:
        """Whether, as a packet is delivered, a keepalive to the peer is due [D42].

        That is due at the second packet since anything was sent, not sooner than
        KEEPALIVE_INTERVAL after that.
        """
        self.unreturned += 1
        if self.unreturned < KEEPALIVE_PACKETS or now_ns - self.sent_ns < KEEPALIVE_INTERVAL:
            return False
        self.sent_ns, self.unreturned = now_ns, 0
        return True

    def received(self, delivery: Delivery, now_ns: int) -> bool | None:
        """Records a delivered packet. Only packets from the locator in use count as heard [D41].

        Returns:
            None, or, where its source is to be reported, whether Lp(peer) has become it [draft
            §7.11 3].
        """
        self.received_ns = now_ns
        flow, source = delivery.flow, delivery.source
        if source == flow.peer_locator:
            flow.peer_source = source
        follows = source != flow.peer_source and delivery.verified and self._follows(flow, now_ns)
        if follows:
            flow.peer_locator = flow.peer_source = source
            flow.follow_ns = now_ns + FOLLOW_INTERVAL
        if source == flow.peer_source:
            self.heard(now_ns)
        elif now_ns - self.moved_ns < FOLLOW_INTERVAL:
            return None
        if follows or source != flow.peer_source:
            self.moved_ns = now_ns
            return follows
        return None

    def _follows(self, flow: Flow, now_ns: int) -> bool:
        """Whether the locator in use is silent, and data may move Lp(peer) [D41]."""
        if not flow.transmits or now_ns < flow.follow_ns:
            return False
        silence_ns = min(max(2 * self.gap_ns, FOLLOW_SILENCE_MIN), flow.silence_ns)
        return now_ns - self.heard_ns >= silence_ns


class Rewriter:
    """The flows of one host and the two functions over them.

    Args:
        codepoints: the next headers in use.
    """

    def __init__(self, codepoints: Codepoints) -> None:
        self.by_aids: dict[bytes, Flow] = {}
        self.by_label: dict[Label, Flow] = {}
        # Both directions are one look-up in a table of small integers, made once.
        self._slot_heads = {
            rewritable: {
                protocol: next_header_of(slot, codepoints, rewritable=rewritable)
                for protocol, slot in SLOT_OF_PROTOCOL.items()
            }
            for rewritable in (True, False)
        }
        self._escapes = {
            rewritable: next_header_of(SLOT_ESCAPE, codepoints, rewritable=rewritable)
            for rewritable in (True, False)
        }
        slots = {number: slot_of(number, codepoints) for number in m6_next_headers(codepoints)}
        self._slots = {number: slot.number for number, slot in slots.items() if slot is not None}
        self.numbers = frozenset(self._slots)
        self._control_type = bytes((codepoints.icmpv6_type,))

    def install(self, flow: Flow) -> None:
        """Installs a flow; it replaces the flow with its AIDs and the flow with its label."""
        key = flow.local_aid + flow.peer_aid
        if flow.aside:
            self._forget_pair(key, flow.local_label)
            self.by_label[flow.local_label] = flow
            return
        previous = self.by_aids.get(key)
        if previous is not None and previous.local_label != flow.local_label:
            self.by_label.pop(previous.local_label, None)
        self.by_aids[key] = flow
        self.by_label[flow.local_label] = flow

    def remove(self, local_label: Label) -> Flow | None:
        """Removes a flow; returns it, or None if there was none."""
        flow = self.by_label.pop(local_label, None)
        if flow is not None:
            self._forget_pair(flow.local_aid + flow.peer_aid, local_label)
        return flow

    def _forget_pair(self, key: bytes, local_label: Label) -> None:
        """Takes the flow with a label from its pair of AIDs, if it is the one that has it."""
        having = self.by_aids.get(key)
        if having is not None and having.local_label == local_label:
            del self.by_aids[key]

    def flow_of(self, packet: bytes) -> Flow | None:
        """The flow for a packet of the ULP, or None if the packet is sent plain.

        Neighbour discovery between AIDs on one link always does: it is about that link [D23].
        """
        kind = packet[ipv6.HEADER_OCTETS : ipv6.HEADER_OCTETS + 1]
        if packet[NEXT_HEADER_AT] == ipv6.ICMPV6 and kind and kind[0] in NEIGHBOUR_DISCOVERY:
            return None
        flow = self.by_aids.get(packet[ADDRESSES_AT : ipv6.HEADER_OCTETS])
        return flow if flow is not None and flow.transmits else None

    def outbound(self, packet: bytes, flow: Flow) -> bytes:
        """Rewrites a packet of a ULP between AIDs to a packet between locators.

        Args:
            packet: a whole IPv6 packet whose addresses are the flow's AIDs.
            flow: the flow that carries it.

        Returns:
            The same number of octets, or 8 more if the protocol needs the escape slot.
        """
        first, payload_octets, protocol, hop_limit = ipv6.FRONT.unpack_from(packet)
        first = first & ~FLOW_LABEL_MASK | flow.peer_label
        options, body = b"", packet[ipv6.HEADER_OCTETS :]
        if protocol == ipv6.HOP_BY_HOP and has_hop_by_hop(packet):
            protocol, end = body[0], 8 + body[1] * 8
            options, body = body[1:end], body[end:]
        head = self._slot_heads[flow.rewritable].get(protocol)
        if head is None:
            head = self._escapes[flow.rewritable]
            body = escape_header(protocol) + body
            payload_octets = len(packet) - ipv6.HEADER_OCTETS + ESCAPE_OCTETS
        if options:
            body = bytes((head,)) + options + body
            head = ipv6.HOP_BY_HOP
        ends = flow.local_locator, flow.peer_locator
        return ipv6.HEADER.pack(first, payload_octets, head, hop_limit, *ends) + body

    def is_icmpv6(self, arrival: Arrival) -> bool:
        """Whether a packet is in the ICMPv6 slot."""
        return self._slots[arrival.next_header] == SLOT_ICMPV6

    def inbound(self, arrival: Arrival) -> Delivery | Refusal:
        """Restores a data packet from the network for the ULP [draft §7.11].

        Returns:
            The packet between AIDs, or the reason why it is refused.
        """
        flow = self.by_label.get(arrival.flow_label)
        if flow is None:
            return Refusal.UNKNOWN_LABEL
        if arrival.destination not in flow.local_locators:
            return Refusal.DESTINATION_NOT_OURS
        if arrival.source not in flow.peer_locators:
            return Refusal.SOURCE_NOT_THE_PEERS
        slot = self._slots[arrival.next_header]
        payload = arrival.payload
        if slot == SLOT_RESERVED:
            return Refusal.RESERVED_SLOT
        if slot == SLOT_ICMPV6 and payload[:1] == self._control_type:
            return Refusal.CONTROL_AS_DATA
        if slot == SLOT_ESCAPE:
            # No host sends a protocol with a slot in an escape, nor M6 again, nor hop-by-hop
            # options, behind which there could be M6 again.
            if len(payload) < ESCAPE_OCTETS or payload[1] != 0:
                return Refusal.BAD_ESCAPE
            protocol = payload[0]
            if protocol in SLOT_OF_PROTOCOL or protocol in self._slots or not protocol:
                return Refusal.BAD_ESCAPE
            payload = payload[ESCAPE_OCTETS:]
        else:
            protocol = PROTOCOL_OF_SLOT[slot]
        first = ipv6.VERSION << 28 | arrival.traffic_class << 20
        aids = flow.peer_aid, flow.local_aid
        header = ipv6.HEADER.pack(first, len(payload), protocol, arrival.hop_limit, *aids)
        return Delivery(
            flow,
            header + payload,
            arrival.source,
            verified=arrival.source in flow.verified_locators,
            elsewhere=arrival.destination != flow.local_locator,
        )
