# SPDX-License-Identifier: MIT
"""The packet path in software: what leaves, what is delivered, what the engine is to know."""

import dataclasses

import pytest

from noid.constants import SECOND
from noid.counters import PlaneCounter
from noid.flows.events import (
    ControlMessageReceived,
    IcmpErrorReceived,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
)
from noid.flows.flow import Flow
from noid.flows.rewrite import Watch
from noid.flows.software import KEPT_MAX, Deliver, SoftwareDatapath, Transmit
from noid.identifiers import NO_LABEL, Label
from noid.shares.policy import UNKNOWN
from noid.wire import icmpv6, ipv6
from noid.wire.slots import SLOT_ICMPV6, next_header_of
from tests.flows.test_rewrite import FLOW_A, FLOW_B, ulp_packet
from tests.wire.messages import A1, A2, B1, B2, CODEPOINTS

T = SECOND
FLOW = dataclasses.replace(FLOW_A, silence_ns=T)
SEGMENT = ulp_packet(ipv6.TCP, b"a segment")


def path(*flows: Flow) -> SoftwareDatapath:
    fresh = SoftwareDatapath(CODEPOINTS)
    for flow in flows or (FLOW,):
        fresh.install(dataclasses.replace(flow))
    return fresh


def travelling(packet: bytes = SEGMENT) -> bytes:
    (sent,) = path().from_host(packet, T)
    assert isinstance(sent, Transmit)
    return sent.packet


def icmpv6_packet(kind: int, *, next_header: int = ipv6.ICMPV6, label: Label = NO_LABEL) -> bytes:
    header = ipv6.Header(
        source=A2, destination=B2, next_header=next_header, payload_octets=8, flow_label=label
    )
    return header.encode() + bytes((kind,)) + bytes(7)


def test_a_packet_without_a_flow_goes_plainly_and_is_reported() -> None:
    assert SoftwareDatapath(CODEPOINTS).from_host(SEGMENT, T) == [
        Transmit(SEGMENT, None),
        UlpPacketSeen(SEGMENT),
    ]


def test_a_packet_of_a_flow_leaves_between_its_locators() -> None:
    (sent,) = path().from_host(SEGMENT, T)
    assert isinstance(sent, Transmit)
    assert sent.packet[8:40] == A2 + B2
    assert sent.flow is not None
    assert sent.flow.local_label == FLOW.local_label


def test_a_packet_later_than_t_after_an_unanswered_one_is_reported() -> None:
    one = path()
    one.from_host(SEGMENT, T)
    assert len(one.from_host(SEGMENT, 2 * T)) == 1
    assert one.from_host(SEGMENT, 2 * T + 1)[1:] == [
        UnansweredPacket(FLOW.local_label, SEGMENT, T + 1, packets=3)
    ]
    assert one.counts[PlaneCounter.UNANSWERED_PACKETS] == 1


def test_a_packet_comes_out_as_it_was_sent() -> None:
    assert path(FLOW_B).from_network(travelling(), T)[0] == Deliver(SEGMENT)


def test_a_verified_source_other_than_the_peer_locator_is_followed_and_reported() -> None:
    flow = dataclasses.replace(
        FLOW_B,
        verified_locators=frozenset({A1, A2}),
        peer_locator=A1,
        peer_source=A1,
        local_locator=B1,
        transmits=True,
    )
    one = path(flow)
    assert one.from_network(travelling(), T)[1:] == [SourceMoved(flow.local_label, A2, True)]
    assert one.counts[PlaneCounter.PACKETS_RECEIVED_ELSEWHERE] == 1


def test_a_flow_that_holds_gives_its_packets_to_the_engine() -> None:
    one = path(dataclasses.replace(FLOW_B, aside=True, holds=True))
    assert one.from_network(travelling(), T) == [PacketHeld(FLOW_B.local_label, SEGMENT, A2)]


def test_data_with_an_unknown_label_is_reported_as_it_arrived() -> None:
    packet = travelling()
    assert SoftwareDatapath(CODEPOINTS).from_network(packet, T) == [UnknownLabelSeen(packet)]


def test_unknown_labels_are_reported_at_a_bounded_rate() -> None:
    one, packet = SoftwareDatapath(CODEPOINTS), travelling()
    reports = [one.from_network(packet, T) for _ in range(2 * UNKNOWN.each)]
    assert UNKNOWN.each // 2 < len([report for report in reports if report]) <= UNKNOWN.each
    assert one.counts[PlaneCounter.REFUSED_UNKNOWN_LABEL] == 2 * UNKNOWN.each
    assert one.from_network(packet, 2 * T) == [UnknownLabelSeen(packet)]


def test_unknown_labels_of_one_48_do_not_use_up_the_rate_of_another() -> None:
    one, packet = SoftwareDatapath(CODEPOINTS), travelling()
    for _ in range(2 * UNKNOWN.each):
        one.from_network(packet, T)
    of_another = packet[:12] + b"\xaa\xaa" + packet[14:]
    assert one.from_network(of_another, T) == [UnknownLabelSeen(of_another)]


@pytest.mark.parametrize("in_slot", [False, True])
def test_a_control_message_goes_to_the_engine(in_slot: bool) -> None:
    slot = next_header_of(SLOT_ICMPV6, CODEPOINTS, rewritable=True)
    packet = icmpv6_packet(
        CODEPOINTS.icmpv6_type, next_header=slot if in_slot else ipv6.ICMPV6, label=NO_LABEL
    )
    assert path().from_network(packet, T) == [ControlMessageReceived(A2, B2, in_slot, packet[40:])]


def test_an_error_goes_to_the_engine() -> None:
    packet = icmpv6_packet(icmpv6.PACKET_TOO_BIG)
    assert path().from_network(packet, T) == [IcmpErrorReceived(A2, B2, packet[40:])]


def test_an_error_in_the_slot_is_nothing() -> None:
    slot = next_header_of(SLOT_ICMPV6, CODEPOINTS, rewritable=True)
    assert not path().from_network(icmpv6_packet(icmpv6.PACKET_TOO_BIG, next_header=slot), T)


@pytest.mark.parametrize("packet", [SEGMENT, icmpv6_packet(128), icmpv6_packet(200)[:40]])
def test_any_other_plain_packet_is_delivered(packet: bytes) -> None:
    assert path().from_network(packet, T) == [Deliver(packet)]


def test_hop_by_hop_options_in_front_of_m6_are_passed_over() -> None:
    packet = travelling()
    options = bytes((packet[6], 0, 1, 4, 0, 0, 0, 0))
    longer = (len(packet) - 40 + 8).to_bytes(2, "big")
    packet = packet[:4] + longer + b"\0" + packet[7:40] + options + packet[40:]
    assert path(FLOW_B).from_network(packet, T)[0] == Deliver(SEGMENT)


def test_the_last_segment_of_a_flow_is_sent_again() -> None:
    one = path()
    one.from_host(SEGMENT, T)
    one.from_host(ulp_packet(ipv6.UDP, b"a datagram"), T)
    (sent,) = one.again(FLOW.local_label, b"")
    assert isinstance(sent, Transmit)
    assert sent.packet == travelling()


def test_a_deleted_or_holding_flow_does_not_send_again() -> None:
    one = path(dataclasses.replace(FLOW, transmits=False))
    assert not one.again(FLOW.local_label, SEGMENT)
    one.remove(FLOW.local_label)
    assert not one.again(FLOW.local_label, SEGMENT)


def test_the_segments_that_are_kept_are_bounded() -> None:
    one = SoftwareDatapath(CODEPOINTS)
    for label in range(1, KEPT_MAX + 2):
        aid = B1[:8] + label.to_bytes(8, "big")
        one.install(dataclasses.replace(FLOW, local_label=Label(label), peer_aid=type(B1)(aid)))
        one.from_host(SEGMENT[:24] + aid + SEGMENT[40:], T)
    assert len(one.kept) == KEPT_MAX
    assert 1 not in one.kept


@pytest.mark.parametrize("replaced", [False, True])
def test_a_flow_that_is_gone_leaves_nothing(replaced: bool) -> None:
    one = path()
    one.from_host(SEGMENT, T)
    if replaced:
        one.install(dataclasses.replace(FLOW, local_label=Label(7)))
        one.remove(Label(7))
    else:
        one.remove(FLOW.local_label)
    assert [len(table) for table in (one.watches, one.kept)] == [0, 0]
    assert [len(table) for table in (one.rewriter.by_aids, one.rewriter.by_label)] == [0, 0]


def test_a_flow_that_changes_keeps_what_was_noticed() -> None:
    one = path()
    one.from_host(SEGMENT, T)
    one.install(dataclasses.replace(FLOW, local_locator=A1))
    assert one.watches[FLOW.local_label] == Watch(unanswered_ns=T, unanswered=1, sent_ns=T)
    assert one.received_ns(FLOW.local_label) == 0


def test_when_something_came_is_known() -> None:
    one = path(FLOW_B)
    one.from_network(travelling(), 3 * T)
    assert one.received_ns(FLOW_B.local_label) == 3 * T
    assert one.heard_ns(FLOW_B.local_label) == 3 * T
    one.heard(FLOW_B.local_label, 4 * T)
    assert one.heard_ns(FLOW_B.local_label) == 3 * T, "an answer shows that it was asked"
    one.heard(FLOW_B.local_label, 5 * T, unasked=True)
    assert one.heard_ns(FLOW_B.local_label) == 5 * T
    assert one.received_ns(FLOW_B.local_label) == 3 * T
    assert one.received_ns(Label(1)) == one.heard_ns(Label(1)) == 0
