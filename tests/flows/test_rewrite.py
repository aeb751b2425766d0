# SPDX-License-Identifier: MIT
"""The law of the data plane: out and in again is identity, and nothing foreign gets through."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.constants import (
    FOLLOW_INTERVAL,
    FOLLOW_SILENCE_MIN,
    MILLISECOND,
    NEVER,
    SECOND,
)
from noid.flows.flow import Flow
from noid.flows.rewrite import Arrival, Delivery, Refusal, Rewriter, Watch
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.slots import ESCAPE_OCTETS, SLOT_OF_PROTOCOL, m6_next_headers
from tests.wire.messages import A1, A2, B1, B2, CODEPOINTS

FLOW_A = Flow(
    local_aid=A1,
    peer_aid=B1,
    local_label=Label(0x11111),
    peer_label=Label(0x22222),
    local_locator=A2,
    peer_locator=B2,
    local_locators=frozenset({A1, A2}),
    peer_locators=frozenset({B1, B2}),
    verified_locators=frozenset({B1, B2}),
    rewritable=True,
    transmits=True,
    silence_ns=1,
)
FLOW_B = Flow(
    local_aid=B1,
    peer_aid=A1,
    local_label=Label(0x22222),
    peer_label=Label(0x11111),
    local_locator=B2,
    peer_locator=A2,
    local_locators=frozenset({B1, B2}),
    peer_locators=frozenset({A1, A2}),
    verified_locators=frozenset({A1}),
    rewritable=True,
    transmits=False,
    silence_ns=1,
)


def side(flow: Flow) -> Rewriter:
    rewriter = Rewriter(CODEPOINTS)
    rewriter.install(flow)
    return rewriter


def ulp_packet(
    protocol: int, payload: bytes, *, label: Label = NO_LABEL, traffic_class: int = 0
) -> bytes:
    header = ipv6.Header(
        source=A1,
        destination=B1,
        next_header=protocol,
        payload_octets=len(payload),
        flow_label=label,
        traffic_class=traffic_class,
    )
    return header.encode() + payload


def arrival_of(packet: bytes, **changes: object) -> Arrival:
    header = ipv6.Header.decode(packet)
    arrival = Arrival(
        header.source,
        header.destination,
        header.next_header,
        header.flow_label,
        header.traffic_class,
        header.hop_limit,
        packet[40:],
    )
    return arrival._replace(**changes)  # type: ignore[arg-type] # a case


protocols = st.integers(0, 255).filter(
    lambda number: number != ipv6.HOP_BY_HOP and number not in m6_next_headers(CODEPOINTS)
)


@given(protocols, st.binary(max_size=80), st.integers(0, 0xFFFFF), st.integers(0, 255))
def test_out_and_in_again_is_the_same_packet(
    protocol: int, payload: bytes, label: Label, traffic_class: int
) -> None:
    packet = ulp_packet(protocol, payload, label=label, traffic_class=traffic_class)
    travelling = side(FLOW_A).outbound(packet, FLOW_A)
    result = side(FLOW_B).inbound(arrival_of(travelling))
    assert isinstance(result, Delivery)
    assert result.packet == ulp_packet(protocol, payload, traffic_class=traffic_class)


@given(st.sampled_from(sorted(SLOT_OF_PROTOCOL)), st.binary(max_size=80), st.booleans())
def test_a_protocol_with_a_slot_costs_no_octet(
    protocol: int, payload: bytes, rewritable: bool
) -> None:
    flow = dataclasses.replace(FLOW_A, rewritable=rewritable)
    packet = ulp_packet(protocol, payload)
    travelling = side(flow).outbound(packet, flow)
    header = ipv6.Header.decode(travelling)
    assert len(travelling) == len(packet)
    assert travelling[40:] == payload
    assert (header.source, header.destination, header.flow_label) == (A2, B2, 0x22222)
    first = CODEPOINTS.rewritable_first if rewritable else CODEPOINTS.fixed_first
    assert header.next_header == first + SLOT_OF_PROTOCOL[protocol]


def test_any_other_protocol_costs_eight() -> None:
    packet = ulp_packet(47, b"GRE")
    travelling = side(FLOW_A).outbound(packet, FLOW_A)
    header = ipv6.Header.decode(travelling)
    assert header.next_header == CODEPOINTS.rewritable_first + 7
    assert header.payload_octets == ESCAPE_OCTETS + 3
    assert travelling[40:48] == bytes((47, 0, 1, 4, 0, 0, 0, 0))


def test_hop_by_hop_options_stay_in_front() -> None:
    options = bytes((ipv6.TCP, 0, 1, 4, 0, 0, 0, 0))
    travelling = side(FLOW_A).outbound(ulp_packet(ipv6.HOP_BY_HOP, options + b"TCP"), FLOW_A)
    assert travelling[6] == ipv6.HOP_BY_HOP
    assert travelling[40] == CODEPOINTS.rewritable_first
    assert travelling[41:] == options[1:] + b"TCP"


def test_hop_by_hop_options_stay_in_front_of_an_escape() -> None:
    options = bytes((47, 0, 1, 4, 0, 0, 0, 0))
    travelling = side(FLOW_A).outbound(ulp_packet(ipv6.HOP_BY_HOP, options + b"GRE"), FLOW_A)
    assert travelling[40] == CODEPOINTS.rewritable_first + 7
    assert travelling[48] == 47
    assert travelling[56:] == b"GRE"
    assert ipv6.Header.decode(travelling).payload_octets == 8 + 8 + 3


TRAVELLING = side(FLOW_A).outbound(ulp_packet(ipv6.TCP, b"segment"), FLOW_A)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"flow_label": 0x33333}, Refusal.UNKNOWN_LABEL),
        ({"destination": A1}, Refusal.DESTINATION_NOT_OURS),
        ({"source": B1}, Refusal.SOURCE_NOT_THE_PEERS),
        ({"next_header": CODEPOINTS.rewritable_first + 3}, Refusal.RESERVED_SLOT),
        ({"next_header": CODEPOINTS.fixed_first + 3}, Refusal.RESERVED_SLOT),
    ],
)
def test_what_does_not_fit_the_context_is_refused(
    changes: dict[str, object], refusal: Refusal
) -> None:
    assert side(FLOW_B).inbound(arrival_of(TRAVELLING, **changes)) is refusal


@pytest.mark.parametrize(
    "payload", [b"", bytes(7), bytes((47, 1)) + bytes(14), bytes((6,)) + bytes(7), b"\xe0" * 8]
)
def test_an_escape_header_that_is_none_is_refused(payload: bytes) -> None:
    arrival = arrival_of(TRAVELLING, next_header=CODEPOINTS.rewritable_first + 7, payload=payload)
    if payload[1:2] == b"\0" and payload[:1] == b"\x2f":
        pytest.fail("that one is well-formed")
    assert side(FLOW_B).inbound(arrival) is Refusal.BAD_ESCAPE


@given(
    st.sampled_from(m6_next_headers(CODEPOINTS)),
    st.integers(0, 0xFFFFF),
    st.sampled_from([A1, A2, B1, B2]),
    st.sampled_from([A1, A2, B1, B2]),
    st.binary(max_size=40),
)
def test_any_arrival_is_delivered_between_the_aids_or_refused(
    next_header: int, label: Label, source: bytes, destination: bytes, payload: bytes
) -> None:
    arrival = arrival_of(
        TRAVELLING,
        next_header=next_header,
        flow_label=label,
        source=source,
        destination=destination,
        payload=payload,
    )
    result = side(FLOW_B).inbound(arrival)
    if isinstance(result, Delivery):
        assert result.packet[8:40] == A1 + B1
        assert label == FLOW_B.local_label
        assert source in FLOW_B.peer_locators
        assert destination in FLOW_B.local_locators


def test_a_packet_from_an_unverified_source_is_delivered_and_marked() -> None:
    result = side(FLOW_B).inbound(arrival_of(TRAVELLING))
    assert isinstance(result, Delivery)
    assert not result.verified


def test_a_flow_that_does_not_transmit_carries_nothing_out() -> None:
    packet = ulp_packet(ipv6.TCP, b"")
    assert side(FLOW_A).flow_of(packet) is FLOW_A
    assert side(dataclasses.replace(FLOW_A, transmits=False)).flow_of(packet) is None


@pytest.mark.parametrize("kind", range(256))
def test_neighbour_discovery_stays_out_of_the_shim(kind: int) -> None:
    packet = ulp_packet(ipv6.ICMPV6, bytes((kind,)) + bytes(23))
    carries = side(FLOW_A).flow_of(packet) is FLOW_A
    assert carries is (kind not in range(133, 138))
    assert side(FLOW_A).flow_of(ulp_packet(ipv6.TCP, packet[40:])) is FLOW_A


def test_a_flow_replaces_the_one_with_its_aids_under_another_label() -> None:
    rewriter = side(FLOW_B)
    rewriter.install(dataclasses.replace(FLOW_B, local_label=Label(0x44444)))
    assert set(rewriter.by_label) == {0x44444}
    assert rewriter.remove(Label(0x44444)) is not None
    assert rewriter.remove(Label(0x44444)) is None
    assert not rewriter.by_aids


def arrived_at_b(source: Locator, destination: Locator = B2, **changes: object) -> Delivery:
    """What the peer sends from one of its locators, delivered."""
    flow = dataclasses.replace(FLOW_B, **changes)  # type: ignore[arg-type] # a case
    packet = side(FLOW_A).outbound(ulp_packet(ipv6.TCP, bytes(20)), FLOW_A)
    delivery = side(flow).inbound(arrival_of(packet, source=source, destination=destination))
    assert isinstance(delivery, Delivery)
    return delivery


NOW = 100 * FOLLOW_INTERVAL


BOTH = frozenset({A1, A2})


def from_elsewhere(verified: frozenset[Locator] = BOTH, **changes: object) -> Delivery:
    """Data from a locator of the peer's that is not in use, which is silent."""
    usual: dict[str, object] = {"peer_locator": A2, "peer_source": A2, "transmits": True}
    return arrived_at_b(A1, B2, verified_locators=verified, **usual | changes)


def test_a_source_is_followed_at_most_once_a_second() -> None:
    delivery, watch = from_elsewhere(), Watch()
    flow, back = delivery.flow, delivery._replace(source=A2)
    assert watch.received(delivery, NOW) is True
    assert flow.peer_locator == A1
    assert watch.received(back, NOW + FOLLOW_INTERVAL - 1) is None
    assert flow.peer_locator == A1
    assert watch.received(back, NOW + FOLLOW_INTERVAL) is True
    assert flow.peer_locator == A2


def test_a_source_is_not_followed_before_the_locator_in_use_is_silent() -> None:
    delivery, watch = from_elsewhere(silence_ns=SECOND), Watch()
    flow, used = delivery.flow, delivery._replace(source=A2)
    for turn in range(10):
        assert watch.received(used, NOW + turn * 10 * MILLISECOND) is None
    silent_ns = NOW + 110 * MILLISECOND
    assert watch.received(delivery, silent_ns - 1) is False, "reported at once"
    assert flow.peer_locator == A2
    assert watch.received(delivery, silent_ns) is True, "twice the gap"
    assert flow.peer_locator == A1


def test_the_silence_after_which_a_source_is_followed_has_bounds() -> None:
    for gap_ns, silence_ns in ((MILLISECOND, FOLLOW_SILENCE_MIN), (SECOND, 100 * MILLISECOND)):
        delivery, watch = from_elsewhere(silence_ns=100 * MILLISECOND), Watch()
        for turn in range(10):
            watch.received(delivery._replace(source=A2), NOW + turn * gap_ns)
        last_ns = NOW + 9 * gap_ns
        assert watch.received(delivery, last_ns + silence_ns - 1) is False
        assert watch.received(delivery, last_ns + silence_ns) is True


def test_a_source_is_not_followed_before_the_time_of_the_flow() -> None:
    delivery = from_elsewhere(follow_ns=NOW)
    assert Watch().received(delivery, NOW - 1) is False
    assert delivery.flow.peer_locator == A2
    assert Watch().received(delivery, NOW) is True


def test_a_flow_that_does_not_transmit_follows_nothing() -> None:
    delivery = from_elsewhere(transmits=False)
    assert Watch().received(delivery, NOW) is False
    assert delivery.flow.peer_locator == A2


def test_what_comes_from_another_locator_than_that_in_use_is_not_heard() -> None:
    delivery, watch = from_elsewhere(follow_ns=NEVER), Watch()
    watch.sent(delivery.flow, NOW, is_tcp=True)
    watch.received(delivery, NOW + 1)
    assert watch.unanswered_ns == NOW
    assert watch.received_ns == NOW + 1
    watch.received(delivery._replace(source=A2), NOW + 2)
    assert watch.unanswered_ns == 0


def test_where_the_peer_is_known_to_send_from_is_no_news_and_is_heard() -> None:
    delivery = arrived_at_b(A1, verified_locators=BOTH, peer_locator=A2, peer_source=A1)
    watch = Watch()
    assert watch.received(delivery, NOW) is None
    assert watch.heard_ns == NOW
    assert delivery.flow.peer_locator == A2
    assert watch.received(delivery._replace(source=A2), NOW + 1) is None
    assert delivery.flow.peer_source == A2, "it sends from Lp(peer) again"


def test_a_source_that_is_not_verified_is_reported_and_not_followed() -> None:
    delivery = from_elsewhere(frozenset({A2}))
    assert Watch().received(delivery, NOW) is False
    assert delivery.flow.peer_locator == A2


def test_the_source_in_use_is_no_news() -> None:
    assert Watch().received(arrived_at_b(A1, peer_locator=A1), NOW) is None


def test_an_arrival_at_another_locator_is_reported_and_changes_nothing() -> None:
    delivery = arrived_at_b(A1, B1)
    assert delivery.elsewhere
    Watch().received(delivery, NOW)
    assert delivery.flow.local_locator == B2
    assert not arrived_at_b(A1, B2).elsewhere


def test_silence_is_reported_once_in_each_t_until_something_is_heard() -> None:
    flow, watch = dataclasses.replace(FLOW_A, silence_ns=10), Watch()
    assert [
        watch.sent(flow, NOW + after, is_tcp=True) for after in (0, 1, 2, 3, 10, 11, 20, 21, 22)
    ] == [
        *(0, 0, 0, 0, 0, 11, 0, 0, 22),
    ]
    watch.received(arrived_at_b(A2), NOW + 23)
    assert watch.received_ns == NOW + 23
    assert [watch.sent(flow, NOW + after, is_tcp=True) for after in (30, 31, 32, 33, 40, 41)] == [
        *(0, 0, 0, 0, 0, 11),
    ]


# --- silence and keepalives -----------------------------------------------------------------------
