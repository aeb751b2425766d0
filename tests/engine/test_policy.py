# SPDX-License-Identifier: MIT
"""Peers that are reached as without M6: never watched, and their INITs are not answered."""

from ipaddress import IPv6Address, IPv6Network

import pytest

from noid.constants import KNOWN_PEERS_MAX, SECOND
from noid.counters import Drop
from noid.engine.events import AskDns, PeerResolved, PolicyChanged, UnwatchPeer, WatchPeer
from noid.engine.options import Policy
from noid.flows.events import UnknownPeerSeen
from noid.locators import Locator
from tests.engine.network import A1, B1, B2, Network, established, packet

OF_A = Policy(prefixes=(IPv6Network(IPv6Address(A1)),))
BY_ADDRESS = Policy(prefixes=(IPv6Network(IPv6Address(B1)),))
BY_NAME = Policy(names=frozenset({"b.example"}))
BELOW = Policy(domains=("example",))
EACH = pytest.mark.parametrize("policy", [BY_ADDRESS, BY_NAME, BELOW])


@EACH
def test_a_peer_of_the_policy_is_never_watched(policy: Policy) -> None:
    network = Network()
    network.give(network.a, PolicyChanged(policy))
    outputs = network.give(network.a, PeerResolved("B.example.", B1, (B1, B2)))
    outputs += network.give(network.a, UnknownPeerSeen(B1))
    assert not [one for one in outputs if isinstance(one, WatchPeer | AskDns)]
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert not network.a.host.contexts
    assert network.a.host.bypasses("b.example", B1)


def test_the_init_of_a_peer_of_the_policy_is_not_answered() -> None:
    network = Network()
    network.give(network.b, PolicyChanged(OF_A))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert not network.b.host.contexts
    assert network.b.host.drops[Drop.BYPASSED_BY_POLICY] > 0


def test_a_change_unwatches_peers_and_leaves_contexts() -> None:
    network = established()
    network.resolve(network.a, network.b)
    outputs = network.give(network.a, PolicyChanged(BY_NAME))
    assert len(network.a.host.contexts) == 1
    assert not [one for one in outputs if isinstance(one, UnwatchPeer) and one.aid == B1]
    other = Network()
    other.resolve(other.a, other.b)
    assert UnwatchPeer(B1) in other.give(other.a, PolicyChanged(BY_NAME))


def test_a_policy_that_ends_lets_the_peer_be_watched_again() -> None:
    network = Network()
    network.give(network.a, PolicyChanged(BY_NAME))
    network.resolve(network.a, network.b)
    network.give(network.a, PolicyChanged(Policy()))
    assert WatchPeer(B1) in network.give(network.a, PeerResolved("b.example", B1, (B1, B2)))


def test_another_name_is_not_meant() -> None:
    for name in ("xexample", "example", "b.example.net"):
        assert not BELOW.names_it(name)
    assert BELOW.names_it("c.b.example")


def test_as_many_addresses_of_such_names_are_kept_as_of_peers() -> None:
    network = Network()
    network.give(network.a, PolicyChanged(BELOW))
    for number in range(KNOWN_PEERS_MAX + 1):
        aid = Locator(b"\x20\x01" + number.to_bytes(4, "big") + bytes(9) + b"\x01")
        network.give(network.a, PeerResolved("c.example", aid, (aid,)))
    assert len(network.a.host.core.bypassing) == KNOWN_PEERS_MAX
