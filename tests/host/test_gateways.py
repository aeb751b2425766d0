# SPDX-License-Identifier: MIT
"""Links, next hops and neighbours as the kernel has them."""

import os
import subprocess

from noid.border_config import parse_border_config
from noid.host import gateways
from noid.host.gateways import Gateway
from noid.lab.waiting import wait_for
from noid.locators import parse_locator
from noid.roles.border_providers import ProviderState
from tests.namespaces import in_network_namespace, ip

ROUTER = parse_locator("2001:db8:f::1")


def prepare() -> int:
    ip("link add up1 type veth peer name far1")
    for name in ("lo", "up1", "far1"):
        ip(f"link set {name} up")
    ip("addr add 2001:db8:f::2/64 dev up1 nodad")
    return gateways.links()["up1"].index


def test_links_say_whether_they_carry() -> None:
    def run() -> None:
        prepare()
        found = gateways.links()
        assert found["up1"].carries
        assert found["up1"].has_ethernet
        assert not found["lo"].has_ethernet
        ip("link set far1 down")
        wait_for("carrier lost", lambda: not gateways.links()["up1"].carries, 30)

    in_network_namespace(run)


def test_a_device_may_have_any_octets_in_its_name() -> None:
    name = os.fsdecode(b"up\xff")

    def run() -> None:
        subprocess.run(["ip", "link", "add", name, "type", "veth"], check=True)
        assert gateways.links()[name].has_ethernet

    in_network_namespace(run)


def test_the_gateway_is_that_of_the_default_route_of_the_device() -> None:
    def run() -> None:
        device = prepare()
        assert gateways.gateway_of(device) is None
        ip("route add default via 2001:db8:f::1 dev up1")
        assert gateways.gateway_of(device) == Gateway(ROUTER)
        ip("route del default")
        ip("route add default dev up1")
        assert gateways.gateway_of(device) == Gateway(None)
        assert gateways.gateway_of(gateways.links()["far1"].index) is None
        ip("route del default dev up1")
        ip("route add unreachable default")
        assert gateways.gateway_of(device) is None
        assert gateways.gateway_of(9999) is None

    in_network_namespace(run)


def test_the_addresses_of_a_device_are_those_that_can_be_sources() -> None:
    def run() -> None:
        device = prepare()
        ip("addr add 2001:db8:e::2/64 dev far1 nodad")
        found = [one for one in gateways.addresses(device) if one[0] != 0xFE]
        assert found == [parse_locator("2001:db8:f::2")]
        assert gateways.addresses(9999) == []

    in_network_namespace(run)


def test_a_gateway_that_does_not_answer_is_found_out() -> None:
    def run() -> None:
        device = prepare()
        assert gateways.neighbour(device, ROUTER).answers is None
        gateways.ask_for(device, ROUTER)
        wait_for("not found", lambda: gateways.neighbour(device, ROUTER).answers is False, 30)
        ip("neigh replace 2001:db8:f::1 lladdr 02:00:00:00:00:01 dev up1")
        assert gateways.neighbour(device, ROUTER).answers is True

    in_network_namespace(run)


def test_the_entry_that_the_operator_has_set_for_a_gateway_stays() -> None:
    entry = "neigh replace 2001:db8:f::1 lladdr 02:00:00:00:00:01 dev up1 nud"
    config = parse_border_config(
        '[border]\nlans = ["far1"]\n[[border.providers]]\nname = "one"\nuplink = "up1"\n'
        'gateway = "2001:db8:f::1"\nprefixes = ["2001:db8:1::/48"]\n'
    )

    def run() -> None:
        device = prepare()
        ip(f"{entry} permanent")
        provider = ProviderState(config.border.providers[0], config)
        for now_ns in (1, 2):
            provider.look(gateways.links()["up1"], now_ns)
            assert gateways.neighbour(device, ROUTER).is_permanent
        gateways.forget(device, ROUTER)
        assert gateways.neighbour(device, ROUTER).is_permanent
        ip(f"{entry} stale")
        gateways.forget(device, ROUTER)
        assert gateways.neighbour(device, ROUTER).answers is None

    in_network_namespace(run)
