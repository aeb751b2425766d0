# SPDX-License-Identifier: MIT
"""What names and the DNS can and cannot do to a context [draft §3.1, §7.13, §16.2; D31, D33]."""

import dataclasses

from noid.constants import (
    LOOK_AGAIN_MIN,
    MILLISECOND,
    MINUTE,
    SECOND,
    VERIFY_AGAIN_MIN,
    VERIFY_AGAIN_QUESTIONS_MAX,
    VERIFY_AGAIN_WAITING,
)
from noid.dns.records import Kind, Question, reverse_name
from noid.engine.events import AskDns, LocatorsChanged, PeerResolved
from noid.engine.state import State
from noid.flows.events import SourceMoved
from noid.locators import Locator
from noid.wire.control import Piggyback, encode_packet
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    Station,
    established,
    packet,
    receive,
)
from tests.engine.test_handshake import init_on
from tests.engine.test_loss import lose_context, sent_data, unknown_context


def stranger_with_our_peers_address(network: Network) -> Station:
    """Host x, whose name lists B1 beside its own address; B1 itself does not speak M6."""
    stranger = Station("x.example", (X1,), 77)
    network.stations.remove(network.b)
    network.stations.append(stranger)
    network.names["x.example"] = [B1, X1]
    network.reverse[X1] = "x.example"
    network.give(stranger, LocatorsChanged((B1, X1)))
    return stranger


def test_a_name_that_lists_a_foreign_address_does_not_get_its_traffic() -> None:
    network = Network()
    stranger = stranger_with_our_peers_address(network)
    network.give(network.a, PeerResolved("x.example", B1, (B1, X1)))
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    secret = packet(A1, B1, b"secret for b")
    network.ulp_sends(network.a, secret)
    network.run(SECOND)
    assert secret not in stranger.delivered


def test_an_initiator_announces_locators_missing_in_the_dns() -> None:
    network = Network()
    del network.reverse[B2]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.peer_verified == {B1}
    assert network.b.context.own_set == (B1,)


def without_second_address() -> Network:
    """A network whose a has two addresses, of which the DNS lists one."""
    network = Network()
    network.names["a.example"] = [A1]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_verified == {A1}
    return network


def announce(network: Network, *locators: Locator) -> None:
    network.give(network.a, LocatorsChanged(locators))
    network.run(SECOND)


def test_a_locator_added_to_the_dns_later_is_found_when_the_peer_announces_it() -> None:
    network = without_second_address()
    announce(network, A1)
    network.names["a.example"] = [A1, A2]
    network.run(LOOK_AGAIN_MIN)
    announce(network, A1, A2)
    assert network.b.context.peer_verified == {A1, A2}


def test_it_is_looked_up_no_sooner_than_the_last_answer_allows() -> None:
    network = without_second_address()
    network.names["a.example"] = [A1, A2]
    network.b.outputs.clear()
    announce(network, A1)
    announce(network, A1, A2)
    assert not any(isinstance(output, AskDns) for output in network.b.outputs)
    network.run(LOOK_AGAIN_MIN)
    assert network.b.context.peer_verified == {A1, A2}


def test_what_is_proven_stays_so_while_it_is_looked_up_again() -> None:
    network = without_second_address()
    network.dns_works = False
    network.run(LOOK_AGAIN_MIN)
    announce(network, A1)
    announce(network, A1, A2)
    network.run(MINUTE)
    assert network.b.context.peer_verified == {A1}
    network.names["a.example"] = [A1, A2]
    network.dns_works = True
    network.run(5 * MINUTE)
    assert network.b.context.peer_verified == {A1, A2}


def test_a_rebooted_peers_updates_count_from_one_again() -> None:
    network = established()
    for _ in range(3):
        for locators in ((B1,), (B1, B2)):
            network.give(network.b, LocatorsChanged(locators))
            network.run(SECOND)
    lose_context(network)
    network.give(network.b, LocatorsChanged((B1, B2)))
    unknown_context(network, sent_data(network))
    network.run(SECOND)
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(SECOND)
    assert network.a.context.peer_acceptable == {B1}


def test_a_packet_on_an_init_for_an_existing_context_is_not_delivered() -> None:
    network = established()
    network.b.delivered.clear()
    init = dataclasses.replace(init_on(network), piggyback=Piggyback(6, b"SYN"))
    receive(network, network.b, init, A1, B1)
    assert network.b.delivered == []


def test_a_packet_that_an_init_brought_does_not_ride_again() -> None:
    network = Network()
    network.dead |= {(A1, B1), (A2, B1)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.delivered == [packet(A1, B1)]


def half_proven() -> Network:
    """The DNS has said nothing yet about the second locator of b but that it is in its name."""
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.dns_works = False
    network.run(SECOND)
    assert network.a.context.peer_verified == {B1}
    network.a.outputs.clear()
    return network


def moved(network: Network, source: Locator) -> list[Question]:
    event = SourceMoved(network.a.context.local_label, source, followed=False)
    outputs = network.give(network.a, event)
    return [output.question for output in outputs if isinstance(output, AskDns)]


def test_a_source_that_is_not_proven_is_asked_about_first() -> None:
    network = half_proven()
    first, second = moved(network, B2)
    assert (first.name, second.name) == (reverse_name(B2), reverse_name(B1))
    network.dns_works = True
    network.run(10 * MILLISECOND)
    assert network.a.context.peer_verified == {B1, B2}


def test_an_update_request_from_it_asks_too_once_a_second() -> None:
    network = half_proven()
    for number, asked in ((6, True), (7, False)):
        packet_of_b = encode_packet(network.b.request(number), B2, A1, CODEPOINTS, in_slot=True)
        network.arrive(packet_of_b)
        network.run(100 * MILLISECOND)
        assert any(isinstance(one, AskDns) for one in network.a.outputs) is asked
        network.a.outputs.clear()


def test_while_it_is_asked_about_it_is_not_asked_about_again() -> None:
    network = half_proven()
    assert moved(network, B2)
    assert moved(network, B2) == []


def test_a_source_that_the_dns_did_not_list_is_looked_up_when_its_ttl_allows() -> None:
    network = without_second_address()
    network.names["a.example"] = [A1, A2]
    network.give(network.b, SourceMoved(network.b.context.local_label, A2, followed=False))
    network.run(LOOK_AGAIN_MIN)
    assert network.b.context.peer_verified == {A1, A2}


def test_a_source_outside_the_set_of_the_peer_asks_nothing() -> None:
    assert moved(half_proven(), X1) == []


# --- verified again -------------------------------------------------------------------------------


def questions(station: Station) -> int:
    return sum(isinstance(output, AskDns) for output in station.outputs)


def used(network: Network, duration_ns: int) -> None:
    """Lets time pass in which both hosts go on talking."""
    network.a.in_use = network.b.in_use = True
    network.run(duration_ns)


def test_a_context_in_use_is_verified_again_after_a_while_at_both_ends() -> None:
    network = established()
    for station in network.stations:
        station.outputs.clear()
    used(network, VERIFY_AGAIN_MIN - MINUTE)
    assert questions(network.a) == questions(network.b) == 0
    used(network, VERIFY_AGAIN_MIN + 2 * MINUTE)
    assert questions(network.a) > 0
    assert questions(network.b) > 0
    assert network.a.context.peer_verified == {B1, B2}


def test_a_longer_ttl_is_waited_for() -> None:
    network = Network()
    network.ttl_seconds = 3600
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.a.outputs.clear()
    used(network, 59 * MINUTE)
    assert questions(network.a) == 0
    used(network, 61 * MINUTE)
    assert questions(network.a) > 0


def test_what_the_dns_has_lost_is_used_no_more_and_the_peer_is_told() -> None:
    network = established()
    del network.reverse[B2]
    used(network, 11 * MINUTE)
    assert network.a.context.peer_verified == {B1}
    assert network.b.context.own_set == (B1,)
    assert network.b.context.flow().usable_locators == {B1}
    assert network.a.context.state is State.ESTABLISHED


def test_what_has_come_back_is_used_again_and_the_peer_is_told() -> None:
    network = established()
    del network.reverse[B2]
    used(network, 11 * MINUTE)
    network.reverse[B2] = "b.example"
    used(network, 11 * MINUTE)
    assert network.a.context.peer_verified == {B1, B2}
    assert network.b.context.own_set == (B1, B2)


def test_nothing_is_told_when_nothing_has_changed() -> None:
    network = established()
    del network.reverse[B2]
    used(network, 11 * MINUTE)
    nonce = network.a.context.update_nonce
    used(network, 40 * MINUTE)
    assert network.a.context.update_nonce == nonce


def test_a_dns_that_fails_then_takes_nothing_away() -> None:
    network = established()
    network.dns_works = False
    used(network, 30 * MINUTE)
    assert network.a.context.peer_verified == {B1, B2}
    network.dns_works = True
    del network.reverse[B2]
    used(network, 21 * MINUTE)
    assert network.a.context.peer_verified == {B1}


def test_a_repeated_look_up_waits_while_many_queries_are_outstanding() -> None:
    network = established()
    core = network.a.host.core
    for number in range(VERIFY_AGAIN_QUESTIONS_MAX):
        core.questions[Question(Kind.NAMES, f"{number}.example")] = {}
    network.a.outputs.clear()
    used(network, 11 * MINUTE)
    assert questions(network.a) == 0
    core.questions.popitem()
    used(network, 2 * VERIFY_AGAIN_WAITING)
    assert questions(network.a) > 0


def test_of_a_peer_with_its_proven_aid_alone_nothing_is_asked() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1,)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    used(network, 11 * MINUTE)
    assert network.b.context.peer_verified == {A1}
    assert questions(network.b) == 0
