# SPDX-License-Identifier: MIT
"""The name under which a peer was proven is its identity; its AID may leave the DNS [D44]."""

from noid.constants import LOOK_AGAIN_MIN, MINUTE, SECOND, VERIFY_AGAIN_MIN
from noid.dns.records import Kind, Question
from noid.engine.events import AskDns, LocatorsChanged
from noid.engine.state import State, Timer
from noid.flows.events import UnansweredPacket
from noid.locators import Locator
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
    state_of,
)
from tests.engine.test_loss import lose_context

AGAIN = 2 * VERIFY_AGAIN_MIN + SECOND
TWO_TTLS = 2 * LOOK_AGAIN_MIN


def in_use(network: Network, duration_ns: int = AGAIN) -> None:
    """Lets time pass in which a program of each host has a connection open."""
    network.a.in_use = network.b.in_use = True
    network.run(duration_ns)


def remove(network: Network, station: Station, locator: Locator) -> None:
    """Takes a locator out of the DNS, forward and reverse."""
    network.names[station.name].remove(locator)
    del network.reverse[locator]


def verify_now(network: Network) -> None:
    """Lets both hosts verify each other again."""
    for station in network.stations:
        station.host.core.set_timer(station.context, Timer.VERIFY_AGAIN, 0)
    in_use(network, SECOND)


def arrives(network: Network) -> bool:
    """Whether what a program of a sends is delivered."""
    probe = packet(A1, B1, f"at {network.now_ns}".encode())
    network.ulp_sends(network.a, probe)
    network.run(SECOND)
    return probe in network.b.delivered


def on_second_provider() -> Network:
    """A context that uses A2 and B2, because the first provider is dead."""
    network = established()
    network.kill_provider(1)
    for station in network.stations:
        context = station.context
        event = UnansweredPacket(context.local_label, b"", context.silence_ns)
        network.give(station, event)
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    assert network.b.context.pair == (B2, A2)
    return network


def test_an_aid_removed_from_the_dns_does_not_affect_proven_locators() -> None:
    network = established()
    remove(network, network.b, B1)
    in_use(network)
    assert B2 in network.a.context.peer_verified
    assert network.a.context.verification.name == "b.example"
    assert network.a.context.peer_locator == B2
    assert arrives(network)


def test_a_context_is_verified_again_from_its_name() -> None:
    network = established()
    network.a.outputs.clear()
    in_use(network)
    asked = [one.question for one in network.a.outputs if isinstance(one, AskDns)]
    assert asked[0] == Question(Kind.LOCATORS, "b.example")


def test_a_locator_added_after_the_aid_has_left_the_dns_is_found() -> None:
    network = established()
    remove(network, network.b, B1)
    network.names["b.example"].append(A2)
    network.reverse[A2] = "b.example"
    in_use(network)
    assert A2 in network.a.context.peer_remote


def test_a_context_closes_when_its_aid_has_another_name() -> None:
    network = established()
    remove(network, network.b, B1)
    network.names["c.example"], network.reverse[B1] = [B1], "c.example"
    in_use(network)
    assert not [one for one in network.a.host.contexts if one.state is not State.CLOSING]
    assert network.b.host.contexts == []


def test_a_set_up_ends_when_the_aid_has_another_name() -> None:
    network = established()
    remove(network, network.b, B1)
    network.names["c.example"], network.reverse[B1] = [B1], "c.example"
    lose_context(network)
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(2 * DELAY_NS)
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    assert state_of(network.a) is State.INIT_SENT
    network.a.host.core.set_timer(network.a.context, Timer.VERIFY_AGAIN, 0)
    network.run(SECOND)
    assert network.a.host.contexts == []


def test_another_name_that_does_not_list_the_aid_closes_nothing() -> None:
    network = established()
    network.reverse[B1] = "c.example"
    network.names["c.example"] = [B2]
    in_use(network)
    assert state_of(network.a) is State.ESTABLISHED
    assert B2 in network.a.context.peer_verified


def test_a_locator_removed_from_the_dns_is_replaced_by_a_working_one() -> None:
    network = on_second_provider()
    network.dead.clear()
    remove(network, network.b, B2)
    in_use(network)
    assert network.a.context.peer_locator == B1
    assert B2 not in network.b.context.own_set


def test_a_locator_removed_from_the_dns_is_used_for_two_ttls_if_no_other_works() -> None:
    network = on_second_provider()
    remove(network, network.b, B2)
    verify_now(network)
    assert B2 not in network.b.context.own_set
    in_use(network, TWO_TTLS - MINUTE // 4)
    assert network.a.context.pair == (A2, B2)
    in_use(network, MINUTE)
    assert network.a.context.peer_verified == {B1}


def test_a_locator_that_returns_within_two_ttls_is_kept() -> None:
    network = on_second_provider()
    remove(network, network.b, B2)
    verify_now(network)
    network.names["b.example"].append(B2)
    network.reverse[B2] = "b.example"
    in_use(network, TWO_TTLS + MINUTE)
    assert network.a.context.peer_verified == {B1, B2}
    assert network.a.context.pair == (A2, B2)


def test_a_source_removed_from_the_dns_is_kept_if_no_other_works() -> None:
    network = on_second_provider()
    remove(network, network.a, A2)
    verify_now(network)
    assert network.a.context.own_set == (A1,)
    assert network.a.context.local_locator == A2
    assert arrives(network)


def test_a_source_removed_from_the_dns_is_replaced_by_a_working_one() -> None:
    network = on_second_provider()
    network.dead.clear()
    remove(network, network.a, A2)
    in_use(network)
    assert network.a.context.local_locator == A1


def test_a_peer_that_sets_up_anew_is_verified_from_its_name() -> None:
    network = established()
    remove(network, network.b, B1)
    lose_context(network)
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(2 * SECOND)
    assert network.a.context.peer_label == network.b.context.local_label
    assert B2 in network.a.context.peer_verified


# --- what the peer is told of its sets ------------------------------------------------------------


def published(network: Network, locator: Locator) -> None:
    """Adds a locator of a's to the DNS."""
    network.names["a.example"].append(locator)
    network.reverse[locator] = "a.example"


def test_a_locator_listed_in_the_dns_is_used_as_soon_as_the_peer_announces_it() -> None:
    network = established()
    published(network, X1)
    verify_now(network)
    assert network.b.context.told_remote in ((), (A1, A2, X1))
    network.a.locators = (A1, A2, X1)
    network.give(network.a, LocatorsChanged((A1, A2, X1)))
    in_use(network, SECOND)
    assert network.b.context.peer_verified == {A1, A2, X1}
    assert network.a.context.own_set == (A1, A2, X1)


def test_a_locator_added_to_the_dns_after_it_was_excluded_is_used_at_once() -> None:
    network = established()
    remove(network, network.a, A2)
    verify_now(network)
    assert network.a.context.own_set == (A1,)
    network.a.locators = (A1, A2, X1)
    published(network, X1)
    verify_now(network)
    network.give(network.a, LocatorsChanged((A1, A2, X1)))
    in_use(network, SECOND)
    assert X1 in network.a.context.own_set
