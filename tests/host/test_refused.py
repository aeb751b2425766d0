# SPDX-License-Identifier: MIT
"""Of many objects, one that the kernel refuses keeps no other out, wherever it stands."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from noid.errors import PlatformError
from noid.host.netlink import HostNetwork
from noid.host.routes import PeerRoute
from noid.host.rules import GOTO, Rule
from noid.locators import parse_locator
from tests.namespaces import in_network_namespace, ip

COUNT = 5
TABLE = 4711
NO_DEVICE = 12345
PLACES = pytest.mark.parametrize("place", range(COUNT))


@contextmanager
def a_network() -> Iterator[HostNetwork]:
    network = HostNetwork()
    try:
        yield network
    finally:
        network.close()


def rules(place: int) -> tuple[list[Rule], Rule]:
    """Some rules, and the one among them that is refused: it would lead back."""
    bad = Rule(100 + place, action=GOTO, target=99)
    found = [Rule(100 + number, table=TABLE) for number in range(COUNT)]
    found[place] = bad
    return found, bad


@PLACES
def test_a_refused_rule_is_reported_and_all_others_are_there(place: int) -> None:
    def scenario() -> None:
        wanted, bad = rules(place)
        with a_network() as network:
            before = set(network.rules())
            with pytest.raises(PlatformError, match=f"priority {bad.priority}"):
                network.add_rules(wanted)
            assert set(network.rules()) - before == {*wanted} - {bad}
            network.remove_rules(wanted)
            assert set(network.rules()) == before, "one that is not there keeps none there"

    in_network_namespace(scenario)


@PLACES
def test_a_refused_route_is_counted_and_all_others_are_there(place: int) -> None:
    def scenario() -> None:
        ip("link add one type veth peer name two")
        for name in ("one", "two"):
            ip(f"link set {name} up")
        device = socket.if_nametoindex("one")
        wanted = [
            PeerRoute(parse_locator(f"2001:db8::{number:x}"), TABLE, device, 100)
            for number in range(1, COUNT + 1)
        ]
        bad = wanted[place] = wanted[place]._replace(device=NO_DEVICE)
        with a_network() as network:
            assert network.add_routes(wanted) == 1
            assert network.routes(TABLE) == {*wanted} - {bad}
            network.remove_routes(wanted)
            assert network.routes(TABLE) == set()

    in_network_namespace(scenario)
