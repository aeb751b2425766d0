# SPDX-License-Identifier: MIT
"""The routes by source of a border, and the rule that leads to them."""

import errno
import subprocess
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from noid.border_config import BorderConfig, parse_border_config
from noid.doctor.border import examine_border
from noid.doctor.findings import Health
from noid.errors import PlatformError, Unsupported
from noid.flows.border import Site
from noid.host import gateways, source_routes
from noid.host.gateways import Gateway
from noid.host.messages import NEW_ROUTE, UNICAST, UNREACHABLE
from noid.host.netlink import HostNetwork
from noid.host.source_routes import SourceRoute
from noid.locators import parse_locator
from noid.roles import border_host
from noid.roles.border_placed import Place
from tests.host.test_gateways import ROUTER, prepare
from tests.namespaces import in_network_namespace, ip

SOURCE_BITS_AT = 2
FAR = "2001:db8:ffff::1"
ONE, TWO, NEW = (f"2001:db8:{number}::/48" for number in (1, 2, 3))


def config(**providers: str) -> BorderConfig:
    """A configuration: the prefixes of each provider, as a word each."""
    text = '[border]\nlans = ["lan0"]\n'
    for name, prefixes in providers.items():
        text += f'[[border.providers]]\nname = "{name}"\nuplink = "{name}"\n'
        text += f"prefixes = {prefixes.split()}\n"
    return parse_border_config(text)


def way(source: str, to: str = FAR) -> str:
    """How the kernel would forward a packet."""
    words = ["ip", "-6", "route", "get", to, "from", source, "iif", "far1"]
    done = subprocess.run(words, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def test_packets_leave_by_the_provider_of_their_source_or_are_answered() -> None:
    def run() -> None:
        up1, far1 = prepare(), gateways.links()["far1"].index
        subprocess.run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"], check=True)
        ip("addr add 2001:db8:e::2/64 dev far1 nodad")
        ip("route add 2001:db8:1:7::/64 dev up1")
        ip("route add default via 2001:db8:f::9 dev up1")
        ip("rule add from 2001:db8:2::/48 lookup 200 pref 1000")  # of the operator
        ip("route add default via 2001:db8:e::7 dev far1 table 200")
        site = Site(48, ())
        second = Gateway(parse_locator("2001:db8:e::1"))
        both = config(one=ONE, two=TWO)
        border_host.keep_routes(both, {"one": (up1, Gateway(ROUTER)), "two": (far1, second)})
        assert border_host.keep_rules(both, site) == 3
        assert border_host.keep_rules(both, site) == 0
        assert "via 2001:db8:f::1 dev up1" in way("2001:db8:1:7::a")
        assert "via 2001:db8:e::1 dev far1" in way("2001:db8:2:7::a")
        assert "via 2001:db8:f::9 dev up1" in way("2001:db8:3::a"), "not of the site"
        assert "dev up1 " in way("2001:db8:2:7::a", "2001:db8:1:7::b"), "stays inside"
        # A bad uplink keeps its route; one whose device is gone has none.
        border_host.keep_routes(both, {"one": (up1, None), "two": (0, None)})
        assert "via 2001:db8:f::1 dev up1" in way("2001:db8:1:7::a")
        assert "No route to host" in way("2001:db8:2:7::a")
        # A provider moves to another device, and replaces its prefix.
        moved = config(one=NEW, two=TWO)
        border_host.keep_routes(moved, {"one": (far1, second), "two": (up1, Gateway(ROUTER))})
        assert "via 2001:db8:e::1 dev far1" in way("2001:db8:3:7::a")
        assert "via 2001:db8:f::1 dev up1" in way("2001:db8:2:7::a")
        assert "via 2001:db8:f::9 dev up1" in way("2001:db8:1:7::a"), "no longer of the site"

    in_network_namespace(run)


def test_rules_of_an_earlier_version_and_of_others_make_room_for_ours() -> None:
    def run() -> None:
        prepare()
        site, one = Site(48, ()), config(one=ONE)
        table = one.border.table
        others = "from all fwmark 0x5 lookup 200"
        ip(f"rule add from {ONE} lookup {table} pref 51")
        ip("rule add fwmark 5 lookup 200 pref 52")
        wanted = border_host.wanted_rules(one, site)
        border_host.keep_rules(one, site)
        assert source_routes.rules((50, 51, 52)) == wanted
        ip("rule add lookup main pref 52")  # to delete it is to delete ours
        border_host.keep_rules(one, site)
        assert wanted <= source_routes.rules((50, 51, 52))
        border_host.keep_rules(one, site)
        assert source_routes.rules((50, 51, 52)) == wanted
        shown = subprocess.run(["ip", "-6", "rule"], capture_output=True, text=True, check=True)
        assert shown.stdout.count(others) == 1

    in_network_namespace(run)


def test_rules_that_are_there_twice_are_removed(tmp_path: Path) -> None:
    def run() -> None:
        one, network = config(one=ONE), HostNetwork()
        wanted = border_host.wanted_rules(one, Site(48, ()))
        for rule in [*wanted] * 3:
            source_routes.add_rule(rule)
        pins, control = str(tmp_path / "pins"), str(tmp_path / "border.sock")
        place = Place(one.border.rule_priority, one.border.table, pins, control)
        assert len(place.take_down(network)) == 3 * len(wanted)
        network.close()
        assert source_routes.rules(place.priorities) == set()
        shown = subprocess.run(["ip", "-6", "rule"], capture_output=True, text=True, check=True)
        assert [line.split(":")[0] for line in shown.stdout.splitlines()] == ["0", "32766"]

    in_network_namespace(run)


def test_the_tables_of_an_earlier_version_are_cleared() -> None:
    def run() -> None:
        prepare()
        place = Place.of(config(one=ONE).border)
        first, later, others = place.table, place.table + 2, place.table + 3
        for table in (first, later):
            source_routes.put_route(table, SourceRoute(UNREACHABLE))
            ip(f"route add default via 2001:db8:f::1 dev up1 proto static table {table}")
        ip(f"route add default via 2001:db8:f::1 dev up1 table {others}")
        assert place.clear_former_tables([first]) == [f"routes of table {later}"]
        assert place.clear_former_tables([first]) == []
        assert source_routes.routes(later) == set()
        assert len(source_routes.routes(first)) == 2
        assert len(source_routes.routes(others)) == 1

    in_network_namespace(run)


def test_the_entry_of_a_gateway_that_was_replaced_is_forgotten() -> None:
    def run() -> None:
        up1 = prepare()
        one = config(one=ONE)
        former, before = parse_locator("2001:db8:f::9"), None
        for gateway in (None, former, ROUTER, None, former, None):
            entry = "2001:db8:f::9 lladdr 02:00:00:00:00:09 dev up1 nud stale extern_learn"
            ip(f"neigh replace {entry}")
            border_host.keep_routes(one, {"one": (up1, Gateway(gateway))})
            default = SourceRoute(UNICAST, IPv6Network(ONE), device=up1, gateway=Gateway(gateway))
            assert default in source_routes.routes(one.border.table)
            known = gateways.neighbour(up1, former).answers
            assert known is (None if before == former else True)
            before = gateway

    in_network_namespace(run)


def test_a_kernel_without_routes_by_source_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(
        what: str, kind: int, flags: int, body: bytes, harmless: tuple[int, ...] = ()
    ) -> None:
        if kind == NEW_ROUTE and body[SOURCE_BITS_AT]:
            raise PlatformError(what, errno.EINVAL, "Invalid argument")
        gateways.tell(what, kind, flags, body, harmless)

    def said() -> Health:
        """By the doctor."""
        found = examine_border(config(one=ONE))
        return next(one.health for one in found if one.check == "routes by source")

    def run() -> None:
        prepare()
        table = config(one=ONE).border.table
        source_routes.check_support(table)
        assert said() is Health.OK
        assert source_routes.routes(table) == set()
        monkeypatch.setattr(source_routes, "tell", refuse)
        with pytest.raises(Unsupported, match="CONFIG_IPV6_SUBTREES"):
            source_routes.check_support(table)
        assert said() is Health.WRONG
        with pytest.raises(PlatformError):
            border_host.keep_routes(config(one=ONE), {"one": (0, None)})
        assert source_routes.routes(table) == set(), "by which it is recognised comes first"

    in_network_namespace(run)
