# SPDX-License-Identifier: MIT
"""Pairs of locators that die, and pairs that take their place [draft §4.4, D20, D21]."""

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.counters import Drop
from noid.engine.events import (
    Dropped,
    Input,
    LocatorsChanged,
    SendAgain,
    Switched,
)
from noid.engine.state import State
from noid.engine.update import request
from noid.flows.events import SourceMoved, UnansweredPacket
from noid.identifiers import Nonce
from noid.wire import ipv6
from noid.wire.control import Code, Flag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    DELAY_NS,
    X1,
    Network,
    Station,
    established,
    packet,
    receive,
)
from tests.engine.test_conformance_setup import sent_by


def silence(station: Station) -> Input:
    """What a data plane says when a packet of this station went unanswered too long."""
    context = station.context
    return UnansweredPacket(
        context.local_label,
        packet(context.local_aid, context.peer_aid, b"unanswered"),
        context.silence_ns,
    )


def reports(station: Station, kind: type) -> list[object]:
    return [output for output in station.outputs if isinstance(output, kind)]


def test_both_ends_switch_from_a_failed_provider_in_a_few_round_trips() -> None:
    network = established()
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(100 * MILLISECOND)
    assert network.b.context.pair == (B2, A2)
    assert network.a.context.pair == (A2, B2), "who heard everything switched too"
    assert network.a.context.state is network.b.context.state is State.ESTABLISHED


def test_the_packet_that_caused_a_switch_is_repeated_until_both_have_switched() -> None:
    network = established()
    network.kill_provider(1)
    long = packet(B1, A1, bytes(1460))
    label = network.b.context.local_label
    network.give(network.b, UnansweredPacket(label, long, 50 * MILLISECOND))
    network.run(SECOND)
    assert SendAgain(label, long) in network.b.outputs
    assert network.a.delivered == [long] * 2, "a keepalive says that the second has come"


def test_a_host_that_is_not_heard_leaves_its_pair_when_the_peer_has_left() -> None:
    network = established()
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    at_ns = {}
    for _ in range(200):
        network.run(MILLISECOND)
        if network.b.context.pair == (B2, A2) and "b" not in at_ns:
            at_ns["b"] = network.now_ns
            network.ulp_sends(network.b, packet(B1, A1))
        if network.a.context.pair == (A2, B2):
            at_ns.setdefault("a", network.now_ns)
    assert at_ns["a"] - at_ns["b"] <= 2 * DELAY_NS + 3 * MILLISECOND, "without a verdict of its own"


def test_a_pair_that_answers_is_kept() -> None:
    network = established()
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == (B1, A1)
    assert reports(network.b, Switched) == []
    assert network.b.context.state is State.ESTABLISHED


@pytest.mark.parametrize(
    "dead",
    [
        {(B1, A1)},
        {(B1, A1), (B2, A1)},
        {(B1, A1), (B1, A2)},
        {(B1, A1), (B1, A2), (B2, A1)},
    ],
)
def test_a_path_that_dies_in_one_direction_only_is_left(dead: set[tuple[bytes, bytes]]) -> None:
    network = established()
    network.dead |= dead  # type: ignore[arg-type] # locators are bytes
    network.give(network.b, silence(network.b))
    network.run(5 * SECOND)
    pair = network.b.context.pair
    assert pair not in network.dead
    network.trace.clear()
    network.ulp_sends(network.b, packet(B1, A1, b"after"))
    network.run(10 * MILLISECOND)
    assert network.a.delivered[-1] == packet(B1, A1, b"after")


def test_one_way_failures_in_both_directions_are_survived() -> None:
    network = established()
    network.dead |= {(B1, A1), (B2, A1), (B1, A2), (A2, B2), (A1, B1), (A1, B2)}
    network.give(network.b, silence(network.b))
    network.run(10 * SECOND)
    assert network.b.context.pair == (B2, A2)
    for _ in range(20):  # what b sent again has moved Lp(peer) of a to B2
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(100 * MILLISECOND)
    assert network.a.context.pair == (A2, B1)


def test_a_provider_that_recovers_during_the_search_is_found() -> None:
    network = established()
    network.kill_provider(1)
    network.kill_provider(2)
    network.give(network.b, silence(network.b))
    network.run(5 * SECOND)
    network.dead.clear()
    network.run(10 * SECOND)
    assert network.b.context.state is State.ESTABLISHED


def test_data_never_follows_to_what_is_not_verified() -> None:
    network = established()
    network.give(network.a, SourceMoved(network.a.context.local_label, X1, False))
    assert network.a.context.pair == (A1, B1)


def test_a_removed_locator_is_not_used_any_more() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(SECOND)
    assert network.b.context.peer_verified == {A1}
    assert network.a.context.state is State.ESTABLISHED


def test_an_added_locator_is_used_once_the_dns_proves_it() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1,)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_verified == {A1}
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1, A2}
    assert network.b.context.peer_verified == {A1, A2}


def test_a_locator_the_dns_does_not_know_is_accepted_but_never_used() -> None:
    network = Network()
    del network.reverse[A2]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1, A2}
    assert network.b.context.peer_verified == {A1}
    assert network.a.context.own_set == (A1,), "the peer said what the DNS knows"


def test_a_transient_dns_error_is_tried_again() -> None:
    network = Network()
    network.a.in_use = network.b.in_use = True
    network.dns_works = False
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND // 4)
    assert network.b.context.peer_verified == {A1}
    network.dns_works = True
    network.run(5 * SECOND)
    assert network.b.context.peer_verified == {A1, A2}
    assert network.a.context.peer_verified == {B1, B2}


def test_a_forged_update_is_dropped() -> None:
    network = established()
    network.give(network.b, silence(network.b))
    forged = network.wire[0][1]
    octets = bytearray(forged[40:])
    octets[8:16] = (1 << 40).to_bytes(8, "big")
    octets[2:4] = bytes(2)
    header = ipv6.Header.decode(forged)
    total = ipv6.checksum(header.source, header.destination, 58, bytes(octets))
    octets[2:4] = total.to_bytes(2, "big")
    network.wire.clear()
    network.put(forged[:40] + bytes(octets))
    network.run(10 * MILLISECOND)
    assert Dropped(Drop.UR_NOT_AUTHENTIC) in network.a.outputs


def test_an_older_update_is_acknowledged_and_not_applied() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    older = network.wire[-1][1]
    network.run(SECOND)
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(SECOND)
    network.put(older)
    network.run(SECOND)
    assert network.b.context.peer_verified == {A1, A2}


def test_a_request_from_a_locator_that_is_not_proven_is_answered_over_the_pair_in_use() -> None:
    network = Network()
    del network.reverse[B2]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    octets = request(network.b.host.core, network.b.context, Nonce(1), flags=Flag.HEARS_NOTHING)
    network.a.outputs.clear()
    receive(network, network.a, octets, B2, A2)
    answers = [(header.source, header.destination) for header, _ in sent_by(network.a, Code.UA)]
    assert answers == [(A1, B1)]
