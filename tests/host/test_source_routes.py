# SPDX-License-Identifier: MIT
"""Routes by source, and rules, as the kernel has them."""

from ipaddress import IPv6Network

import pytest

from noid.errors import PlatformError
from noid.host import gateways, source_routes
from noid.host.gateways import Gateway
from noid.host.messages import MAIN_TABLE, THROW, UNICAST, UNREACHABLE
from noid.host.source_routes import SourceRoute, SourceRule
from noid.locators import parse_locator
from tests.host.test_gateways import ROUTER, prepare
from tests.namespaces import in_network_namespace, ip

TABLE = 0x6D3700
SITE = IPv6Network("2001:db8:1::/48")


def default(device: int, gateway: Gateway) -> SourceRoute:
    """The default route of sources of the site."""
    return SourceRoute(UNICAST, SITE, device=device, gateway=gateway)


def test_routes_of_a_table_come_and_go() -> None:
    def run() -> None:
        device = prepare()
        assert source_routes.routes(TABLE) == set()
        wanted = {
            SourceRoute(THROW, destination=SITE),
            SourceRoute(UNREACHABLE, SITE),
            default(device, Gateway(ROUTER)),
        }
        for _ in range(2):
            for route in wanted:
                source_routes.put_route(TABLE, route)
        assert source_routes.routes(TABLE) == wanted
        for _ in range(2):
            for route in wanted:
                source_routes.delete_route(TABLE, route)
        assert source_routes.routes(TABLE) == set()
        with pytest.raises(PlatformError, match="route by source"):
            source_routes.put_route(TABLE, default(9999, Gateway(ROUTER)))

    in_network_namespace(run)


def test_a_default_route_takes_the_place_of_another_by_any_device() -> None:
    def run() -> None:
        device = prepare()
        far = gateways.links()["far1"].index
        other = Gateway(parse_locator("2001:db8:f::9"))
        point_to_point = Gateway(None)
        for route in (
            default(device, Gateway(ROUTER)),
            default(device, other),
            default(far, point_to_point),
            default(device, other),
            default(device, point_to_point),
        ):
            source_routes.put_route(TABLE, route)
            assert source_routes.routes(TABLE) == {route}

    in_network_namespace(run)


def test_the_routes_of_others_are_not_removed() -> None:
    """The table may be one of the operator by mistake."""

    def run() -> None:
        prepare()
        ip(f"route add default via 2001:db8:f::1 dev up1 table {TABLE} proto static")
        ip(f"route add unreachable default metric 2000 table {TABLE}")
        assert not source_routes.clear(TABLE)
        assert len(source_routes.routes(TABLE)) == 1
        source_routes.put_route(TABLE, SourceRoute(UNREACHABLE, SITE))
        assert source_routes.clear(TABLE)
        assert source_routes.routes(TABLE) == set()

    in_network_namespace(run)


def test_a_gateway_to_which_another_route_leads_is_not_forgotten() -> None:
    """As when a provider has replaced its prefix: its former route goes, its gateway stays."""

    def run() -> None:
        device = prepare()
        for table in (TABLE, TABLE + 1):
            source_routes.put_route(table, SourceRoute(UNREACHABLE, SITE))
            source_routes.put_route(table, default(device, Gateway(ROUTER)))
        ip("neigh replace 2001:db8:f::1 lladdr 02:00:00:00:00:01 dev up1 nud stale")
        assert source_routes.clear(TABLE, (TABLE + 1, TABLE + 2))
        assert source_routes.routes(TABLE) == set()
        assert gateways.neighbour(device, ROUTER).answers is True
        renumbered = default(device, Gateway(ROUTER))._replace(
            source=IPv6Network("2001:db8:2::/48")
        )
        source_routes.put_route(TABLE + 1, renumbered)
        source_routes.delete_routes(TABLE + 1, [default(device, Gateway(ROUTER))])
        assert gateways.neighbour(device, ROUTER).answers is True
        assert source_routes.clear(TABLE + 1)
        assert gateways.neighbour(device, ROUTER).answers is None

    in_network_namespace(run)


def test_rules_come_and_go_once() -> None:
    def run() -> None:
        wanted = {
            SourceRule(50, MAIN_TABLE, destination=IPv6Network("fc00::/7"), longer_than=0),
            SourceRule(51, TABLE, source=SITE),
            SourceRule(51, TABLE),
            SourceRule(52, TABLE),
            SourceRule(52, MAIN_TABLE, longer_than=47),
        }
        for rule in sorted(wanted, key=lambda one: one.count(None)):  # all packets last
            source_routes.add_rule(rule)
        ip("rule add from 2001:db8:1::1/48 lookup 100 pref 51")  # the kernel keeps the last bit
        assert source_routes.rules((50, 51, 52)) == wanted
        for _ in range(2):
            source_routes.delete_rules(wanted)
        assert source_routes.rules((50, 51, 52)) == set()

    in_network_namespace(run)


def test_rules_with_conditions_that_ours_never_have_are_those_of_others() -> None:
    def run() -> None:
        prepare()
        for words in (
            "fwmark 5",
            "iif up1",
            "oif up1",
            "not from 2001:db8:1::/48",
            "ipproto tcp",
            "sport 7",
            "dport 7",
            "uidrange 1-2",
            "tos 0x10",
            "suppress_ifgroup 3",
            "l3mdev",
        ):
            where = "" if words == "l3mdev" else "lookup main"
            ip(f"rule add {words} {where} pref 52")
        assert source_routes.rules((50, 51, 52)) == set()

    in_network_namespace(run)
