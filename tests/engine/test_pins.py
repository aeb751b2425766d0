# SPDX-License-Identifier: MIT
"""A pinned peer is reached by one uplink while it works, and by the others otherwise."""

from ipaddress import IPv6Address, IPv6Network

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.engine.events import LocatorsChanged
from noid.engine.options import Pin, Policy
from noid.locators import Locator
from noid.wire.options import LocatorFlag
from tests.engine.network import A1, A2, B1, B2, Network, established, packet
from tests.engine.test_reachability import silence

ROUND_TRIP = 25 * MILLISECOND
BY_ADDRESS = Policy(prefixes=(IPv6Network(IPv6Address(B1)),))
BY_NAME = Policy(names=frozenset({"b.example"}))
OTHER = Policy(names=frozenset({"c.example"}))
EACH = pytest.mark.parametrize("peers", [BY_ADDRESS, BY_NAME])


def pinning(peers: Policy, *locators: Locator) -> LocatorsChanged:
    return LocatorsChanged((A1, A2), pins=(Pin(peers, frozenset(locators)),))


@EACH
def test_a_context_moves_to_the_uplink_that_its_peer_is_pinned_to(peers: Policy) -> None:
    network = established()
    network.give(network.a, pinning(peers, A2))
    network.run(3 * ROUND_TRIP)
    assert network.a.context.local_locator == A2
    assert network.b.context.peer_locator == A2, "the peer is told"


def test_a_pin_of_another_peer_changes_nothing() -> None:
    network = established()
    network.give(network.a, pinning(OTHER, A2))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)
    assert not network.a.context.own_marks


def test_a_pinned_peer_uses_another_uplink_while_its_own_fails_and_then_returns() -> None:
    network = established()
    network.give(network.a, pinning(BY_NAME, A2))
    network.run(3 * ROUND_TRIP)
    network.kill_provider(2)
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)
    network.dead.clear()
    network.run(100 * SECOND)
    assert network.a.context.local_locator == A2


def test_the_responder_pins_a_peer_whose_name_the_dns_tells_it() -> None:
    network = Network()
    network.give(
        network.b,
        LocatorsChanged((B1, B2), pins=(Pin(Policy(domains=("example",)), frozenset({B2})),)),
    )
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.verification.name == "a.example"
    assert network.b.context.own_marks_of(B1) == LocatorFlag.BACKUP
    assert network.a.context.peer_locator == B2


@EACH
def test_the_sources_for_a_pinned_peer_are_on_its_uplink(peers: Policy) -> None:
    network = Network()
    network.give(network.a, pinning(peers, A2))
    network.resolve(network.a, network.b)
    assert network.a.host.pinned(B1) == {A2}
    assert network.a.host.pinned(A1) == frozenset()


def test_a_pin_to_an_uplink_without_a_locator_changes_nothing() -> None:
    network = established()
    network.give(network.a, pinning(BY_NAME))
    network.run(SECOND)
    assert network.a.host.pinned(B1) == frozenset()
    assert network.a.context.pair == (A1, B1)


def test_an_avoided_uplink_is_left_by_pinned_peers_too() -> None:
    network = established()
    network.give(network.a, pinning(BY_NAME, A2))
    network.run(3 * ROUND_TRIP)
    left = LocatorsChanged((A1, A2), deprecated=frozenset({A2}), pins=pinning(BY_NAME, A2).pins)
    network.give(network.a, left)
    network.run(3 * ROUND_TRIP)
    assert network.a.context.local_locator == A1
