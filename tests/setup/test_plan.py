# SPDX-License-Identifier: MIT
"""From what ``ip`` says to the steps, without a host."""

import tomllib
from ipaddress import IPv6Network
from typing import Any

import pytest

from noid.errors import ConfigError
from noid.setup.detection import Routing, Uplink, routing, uplinks
from noid.setup.plan import FIRST_TABLE, TABLES_MAX, config_step, ip_commands, tables_for

UPLINK = Uplink("eth0", "fe80::1", (IPv6Network("2001:db8:1::/64"),), ("2001:db8:1::a",))


def link(name: str, *addresses: tuple[str, int]) -> dict[str, Any]:
    return {
        "ifname": name,
        "addr_info": [{"local": one, "prefixlen": length} for one, length in addresses],
    }


def found(addresses: list[Any], routes: list[Any], rules: list[Any] | None = None) -> Routing:
    return routing(addresses, routes, rules or [])


def default(device: str, **more: str | int) -> dict[str, Any]:
    return {"dst": "default", "dev": device, **more}


def test_the_best_default_route_of_the_main_table_is_used() -> None:
    host = found(
        [link("eth0", ("2001:db8:1::a", 64))],
        [
            default("eth0", gateway="fe80::3", metric=1, table="7"),
            default("eth0", gateway="fe80::2", metric=20),
            default("eth0", gateway="fe80::1", metric=10),
        ],
    )
    assert uplinks(host, [("2001:db8:1::a", "eth0")]) == (UPLINK,)


def test_each_next_hop_of_a_route_with_several_is_a_gateway() -> None:
    hops = [{"dev": "eth0", "gateway": "fe80::1"}, {"dev": "ppp0"}]
    host = found(
        [link("eth0", ("2001:db8:1::a", 64)), link("ppp0", ("2001:db8:2::a", 64))],
        [{"dst": "default", "nexthops": hops}],
    )
    both = uplinks(host, [("2001:db8:1::a", "eth0"), ("2001:db8:2::a", "ppp0")])
    assert [(one.device, one.gateway) for one in both] == [("eth0", "fe80::1"), ("ppp0", "")]
    via, *_ = ip_commands(both[1], both[1].prefixes, 101)
    assert via.lines() == ["ip -6 route replace default dev ppp0 table 101"]


def test_a_device_with_default_routes_only_in_our_tables_is_no_uplink() -> None:
    host = found(
        [link("lan", ("2001:db8:1::a", 64))],
        [default("lan", gateway="fe80::1", table="101"), default("lan", type="7")],
    )
    assert uplinks(host, [("2001:db8:1::a", "lan")], {"101"}) == ()


def test_of_a_prefix_on_two_devices_the_addresses_are_routed() -> None:
    host = found(
        [link("eth0", ("2001:db8:1::a", 64)), link("eth1", ("2001:db8:1::b", 64))],
        [default("eth0", gateway="fe80::1"), default("eth1", gateway="fe80::2")],
    )
    both = uplinks(host, [("2001:db8:1::a", "eth0"), ("2001:db8:1::b", "eth1")])
    assert [str(one.prefixes[0]) for one in both] == ["2001:db8:1::a/128", "2001:db8:1::b/128"]


def test_tables_are_free_ones_and_stay_the_same() -> None:
    second = Uplink("eth1", "", (), ())
    host = found([], [default("eth7", table=str(FIRST_TABLE))])
    tables = tables_for(host, (UPLINK, second), {})
    assert tables == {"eth0": FIRST_TABLE + 1, "eth1": FIRST_TABLE + 2}
    assert tables_for(host, (second,), tables) == {"eth1": FIRST_TABLE + 2}


def test_a_host_without_a_free_table_is_refused() -> None:
    routes = [default("x", table=str(FIRST_TABLE + number)) for number in range(TABLES_MAX)]
    assert tables_for(found([], routes[:-1]), (UPLINK,), {}) == {
        "eth0": FIRST_TABLE + TABLES_MAX - 1
    }
    with pytest.raises(ConfigError, match="flush one"):
        tables_for(found([], routes), (UPLINK,), {})


@pytest.mark.parametrize(
    "before",
    [
        None,
        "",
        "# mine",
        "[plane]\nkind = 'tun'",
        "[host]\n# name = 'x'\n\n[dns]\nport = 5353\n",
        "[dns]\nport = 5353\n\n[host] # who\n",
    ],
)
def test_the_configuration_keeps_what_the_file_has(before: str | None) -> None:
    step = config_step("noid.toml", 'a"b.example', (UPLINK,), lambda _: before)
    assert step is not None
    expected = tomllib.loads(before or "")
    expected["host"] = {"name": 'a"b.example', "interfaces": ["eth0"]}
    assert tomllib.loads(step.after) == expected


@pytest.mark.parametrize("before", ["[host", "host = {}"])
def test_a_configuration_that_cannot_be_added_to_is_refused(before: str) -> None:
    with pytest.raises(ConfigError):
        config_step("noid.toml", "a.example", (UPLINK,), lambda _: before)
