# SPDX-License-Identifier: MIT
"""The packet path of a host in software: takes packets and the time, returns effects.

The TUN plane, the slow path of the plane in the kernel, the simulator and the tests run this one.
It dispatches a packet by ``rewrite`` and by what ``Watch`` observes. It has no clock, no
socket and no engine: the caller executes the effects in their order.
"""

from collections import Counter, OrderedDict
from typing import NamedTuple

from noid.constants import Codepoints
from noid.counters import PlaneCounter
from noid.flows.events import (
    ControlMessageReceived,
    DatapathEvent,
    IcmpErrorReceived,
    LongUnproven,
    OneWayDataSeen,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
)
from noid.flows.flow import Flow
from noid.flows.rewrite import Arrival, Delivery, Refusal, Rewriter, Watch
from noid.flows.verdict import Outcome, arrival_of, judge
from noid.identifiers import Label
from noid.shares.policy import CONTROL, NAMED, UNKNOWN, site_of
from noid.shares.rates import Each, Rate
from noid.wire import icmpv6, ipv6
from noid.wire.ipv6 import NEXT_HEADER_AT
from noid.wire.peek import naming_of

KEPT_MAX = 4096
"""Flows whose last TCP segment is kept."""
KEY = 0x9E37_79B9_7F4A_7C15
"""The key in simulators and tests, where nothing is random."""


class Transmit(NamedTuple):
    """A packet for the network.

    Attributes:
        packet: as it travels.
        flow: the flow that carries it; None if it is plain.
    """

    packet: bytes
    flow: Flow | None


class Deliver(NamedTuple):
    """A packet for the host's own stack, between AIDs.

    Attributes:
        packet: the whole IPv6 packet.
    """

    packet: bytes


Effect = Transmit | Deliver | DatapathEvent


class SoftwareDatapath:
    """The packet path of one host.

    Args:
        codepoints: the numbers in use.
        key: a secret, odd number for the rates of strangers; see ``Rate``.

    Attributes:
        rewriter: the flows.
        watches: the ``Watch`` of each flow, by F(local).
        kept: the last TCP segment of a flow, by F(local), the least recently sent first.
        counts: what happened so far.
    """

    def __init__(self, codepoints: Codepoints, key: int = KEY) -> None:
        self.rewriter = Rewriter(codepoints)
        self.watches: dict[Label, Watch] = {}
        self.kept: OrderedDict[Label, bytes] = OrderedDict()
        self.counts: Counter[PlaneCounter] = Counter()
        self._control_type = codepoints.icmpv6_type
        self.unknown = Rate(UNKNOWN, key)
        self.control = Rate(CONTROL, key)
        self.named = Each(NAMED)

    # --- flows ----------------------------------------------------------------------------------

    def install(self, flow: Flow) -> None:
        """Installs a flow; it replaces flows with its AIDs or its label."""
        previous = self.rewriter.by_aids.get(flow.local_aid + flow.peer_aid)
        self.rewriter.install(flow)
        self.watches.setdefault(flow.local_label, Watch())
        if previous is not None and previous.local_label not in self.rewriter.by_label:
            self._forget(previous.local_label)

    def remove(self, local_label: Label) -> None:
        """Removes a flow and everything recorded about it."""
        self.rewriter.remove(local_label)
        self._forget(local_label)

    def _forget(self, local_label: Label) -> None:
        self.watches.pop(local_label, None)
        self.kept.pop(local_label, None)

    def heard(self, local_label: Label, now_ns: int, *, unasked: bool = False) -> None:
        """Marks the packets of a flow as answered: an authentic message of the peer arrived.

        Args:
            local_label: F(local) of the flow.
            now_ns: the present.
            unasked: whether it was unsolicited, so that it counts for the usual interval.
        """
        watch = self.watches.get(local_label)
        if watch is not None:
            watch.proven_ns = now_ns
            watch.heard(now_ns, unasked=unasked)

    def received_ns(self, local_label: Label) -> int:
        """When a flow last received something; 0 if never."""
        watch = self.watches.get(local_label)
        return 0 if watch is None else watch.received_ns

    def heard_ns(self, local_label: Label) -> int:
        """When a flow last received data or a keepalive; 0 if never."""
        watch = self.watches.get(local_label)
        return 0 if watch is None else max(watch.received_ns, watch.heard_ns)

    # --- out ------------------------------------------------------------------------------------

    def from_host(self, packet: bytes, now_ns: int) -> list[Effect]:
        """A program sends a packet to an AID that is watched.

        Args:
            packet: a whole IPv6 packet.
            now_ns: the present, by the clock that ``Flow.silence_ns`` is about.

        Returns:
            The packet for the network, and events for the engine.
        """
        flow = self.rewriter.flow_of(packet)
        if flow is None:
            self.counts[PlaneCounter.PACKETS_SENT_PLAINLY] += 1
            return [Transmit(packet, None), UlpPacketSeen(packet)]
        self.counts[PlaneCounter.PACKETS_SENT] += 1
        label = flow.local_label
        is_tcp = packet[NEXT_HEADER_AT] == ipv6.TCP
        if is_tcp:
            self._keep(label, packet)
        effects: list[Effect] = [Transmit(self.rewriter.outbound(packet, flow), flow)]
        watch = self.watches[label]
        silent_ns = watch.sent(flow, now_ns, is_tcp=is_tcp)
        if watch.misses_proof(now_ns):
            effects.append(LongUnproven(label))
        if silent_ns:
            self.counts[PlaneCounter.UNANSWERED_PACKETS] += 1
            known = silent_ns, watch.received_ns, watch.gap_ns, watch.unanswered
            effects.append(UnansweredPacket(label, packet, *known))
        return effects

    def again(self, local_label: Label, packet: bytes) -> list[Effect]:
        """Sends a packet of the ULP again through its flow, if the flow still exists.

        Args:
            local_label: F(local).
            packet: the packet of the ULP; empty for the stored TCP segment, if there is one.
        """
        flow = self.rewriter.by_label.get(local_label)
        packet = packet or self.kept.get(local_label, b"")
        if flow is None or not flow.transmits or not packet:
            return []
        return [Transmit(self.rewriter.outbound(packet, flow), flow)]

    def _keep(self, local_label: Label, packet: bytes) -> None:
        """Keeps the last TCP segment of a flow, to be sent again on another pair of locators."""
        self.kept[local_label] = packet
        self.kept.move_to_end(local_label)
        if len(self.kept) > KEPT_MAX:
            self.kept.popitem(last=False)

    # --- in -------------------------------------------------------------------------------------

    def from_network(self, packet: bytes, now_ns: int) -> list[Effect]:
        """A whole packet arrives from the network.

        Returns:
            Deliveries and events for the engine; a plain packet is delivered unchanged.
        """
        arrival = self.arrival_of(packet)
        if arrival is not None:
            return self.arrived(arrival, now_ns)
        if packet[NEXT_HEADER_AT] == ipv6.ICMPV6 and len(packet) > ipv6.HEADER_OCTETS:
            kind = packet[ipv6.HEADER_OCTETS]
            if kind == self._control_type or kind in icmpv6.ERROR_TYPES:
                arrival = Arrival.of(packet, ipv6.ICMPV6, ipv6.HEADER_OCTETS)
                return self.icmpv6_arrived(arrival, now_ns, in_slot=False)
        return [Deliver(packet)]

    def arrival_of(self, packet: bytes) -> Arrival | Refusal | None:
        """The parsed M6 packet, or why it is dropped, or None if it is not an M6 packet."""
        return arrival_of(packet, self.rewriter.numbers)

    def arrived(self, arrival: Arrival | Refusal, now_ns: int) -> list[Effect]:
        """An M6 packet."""
        verdict = judge(self.rewriter, arrival)
        if verdict.delivery is not None:
            self.counts[PlaneCounter.PACKETS_RECEIVED] += 1
            if verdict.outcome is Outcome.HELD:
                return [_held(verdict.delivery)]
            return self._delivered(verdict.delivery, now_ns)
        if verdict.outcome in (Outcome.DROPPED, Outcome.UNKNOWN_LABEL):
            why = verdict.refusal or Refusal.UNKNOWN_LABEL
            self.counts[why.value] += 1
        if verdict.outcome is Outcome.DROPPED:
            return []
        assert verdict.arrival is not None, "it is M6 and sound"
        if verdict.outcome is Outcome.CONTROL:
            return self.icmpv6_arrived(verdict.arrival, now_ns, in_slot=True)
        return self._unknown(verdict.arrival, now_ns)

    def _delivered(self, delivery: Delivery, now_ns: int) -> list[Effect]:
        """Delivers a packet to the ULP, and reports what it shows."""
        flow = delivery.flow
        if delivery.elsewhere:
            self.counts[PlaneCounter.PACKETS_RECEIVED_ELSEWHERE] += 1
        effects: list[Effect] = [Deliver(delivery.packet)]
        watch = self.watches[flow.local_label]
        followed = watch.received(delivery, now_ns)
        if followed is not None:
            effects.append(SourceMoved(flow.local_label, delivery.source, followed))
        if watch.owes_keepalive(now_ns):
            effects.append(OneWayDataSeen(flow.local_label))
        return effects

    def icmpv6_arrived(self, arrival: Arrival, now_ns: int, *, in_slot: bool) -> list[Effect]:
        """A control message, plain or in the slot, or an ICMPv6 error; other types are ignored."""
        source, destination, octets = arrival.source, arrival.destination, arrival.payload
        is_control = octets[:1] == bytes((self._control_type,))
        if not is_control and (in_slot or not octets):
            return []
        has_share = is_control and self._has_share(arrival, now_ns)
        if not has_share and not self.control.take(site_of(source), now_ns):
            self.counts[PlaneCounter.REFUSED_OVER_SHARE] += 1
            return []
        if is_control:
            return [ControlMessageReceived(source, destination, in_slot, octets)]
        return [IcmpErrorReceived(source, destination, octets)]

    def _has_share(self, arrival: Arrival, now_ns: int) -> bool:
        """Whether a message has the labels of a context, whose own rate permits it [D46].

        Other hosts and contexts do not use this rate. Nothing is authenticated yet.
        """
        naming = naming_of(arrival.payload)
        flow = None if naming is None else self.rewriter.by_label.get(naming.label)
        if naming is None or flow is None:
            return False
        if (naming.local_aid, naming.peer_aid) != (flow.local_aid, flow.peer_aid):
            return False
        source, destination = arrival.source, arrival.destination
        is_of_both = (source in flow.peer_locators or source == flow.peer_aid) and (
            destination in flow.local_locators or destination == flow.local_aid
        )
        return is_of_both and self.named.take((naming.label, source), now_ns)

    def _unknown(self, arrival: Arrival, now_ns: int) -> list[Effect]:
        if not self.unknown.take(site_of(arrival.source), now_ns):
            return []
        return [UnknownLabelSeen(arrival.encode())]


def _held(delivery: Delivery) -> PacketHeld:
    return PacketHeld(delivery.flow.local_label, delivery.packet, delivery.source)
