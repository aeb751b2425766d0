# SPDX-License-Identifier: MIT
"""What a daemon of a border knows of the time before it, and the order in which it begins."""

import contextlib
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from noid.control.client import ask
from noid.errors import PlatformError
from noid.host.messages import (
    NEW_ROUTE,
    ROUTE,
    RTA_DEVICE,
    RTA_TABLE,
    attributes_of,
    number_in,
    spans,
)
from noid.lab import inventory
from noid.lab.passing import Listener
from noid.lab.topology import BORDER, NAME_SERVER
from tests.lab.border_lab import BorderLab, bordered
from tests.lab.conversations import PATIENCE_S

ROUTES_GROUP, TABLE, LOOPBACK = 0x400, 0x6D3700, 1
"""RTMGRP_IPV6_ROUTE, the routing table of the first provider, and the index of ``lo``."""


@pytest.fixture(scope="module")
def site(lab_machine: None) -> Iterator[BorderLab]:
    with bordered() as made:
        yield made


def test_a_prefix_that_is_new_is_put_into_no_packet(site: BorderLab) -> None:
    """Its peers may not know it yet: those packets would be lost there."""
    text = site.config.read_text(encoding="utf-8")
    new = text.replace("2001:db8:2:a::/64", "2001:db8:2:e::/64")
    site.config.write_text(new.replace("new_prefix_s = 1\n", ""))
    site.run("reload", "--socket", str(site.socket))
    site.lab.wait_for("the new one", lambda: "2001:db8:2:e::/64" in site.prefixes(), PATIENCE_S)
    for _ in range(2):
        assert [row["is_new"] for row in site.status()["prefixes"]] == [False, True]
        assert site.run("status", "--socket", str(site.socket)).count("put into no packet yet") == 1
        ask(site.socket, "use isp2")
        assert site.leaves_by() == ["isp1", "isp2"]
        with site.carrier_lost(1):
            site.wait_leaves_by("", "isp2")
        site.process.end()  # the next daemon knows it, too
        site.start()
    ask(site.socket, "use auto")
    site.config.write_text(text)
    site.run("reload", "--socket", str(site.socket))
    site.lab.wait_for(
        "the prefix again", lambda: "2001:db8:2:a::/64" in site.prefixes(), PATIENCE_S
    )
    site.lab.wait_for(
        "it is put into packets again",
        lambda: not any(row["is_new"] for row in site.status()["prefixes"]),
        PATIENCE_S,
    )


SILENT = """table ip6 mute {
chain c { type filter hook prerouting priority 0; iif custa icmpv6 type echo-request drop; }; }"""


def test_a_dead_uplink_stays_dead_when_its_prefix_is_replaced(site: BorderLab) -> None:
    """As by DHCPv6: a lease ends, and the next one has another prefix."""
    first, old, new = (f"2001:db8:{number}::/64" for number in ("1:a", "2:a", "2:e"))
    delegated = site.lab.directory / "delegated"
    text = site.config.read_text(encoding="utf-8")
    keys = f'prefixes_file = "{delegated}"\ncheck = "{NAME_SERVER}"\n'
    checked = text.replace(f'prefixes = ["{old}"]\n', keys)

    def give(config: str, *prefixes: str) -> None:
        delegated.write_text("\n".join(prefixes), encoding="utf-8")
        site.config.write_text(config, encoding="utf-8")
        site.run("reload", "--socket", str(site.socket))

    def has(prefixes: list[str]) -> bool:
        return site.prefixes() == prefixes

    def is_dead(why: str = f"{NAME_SERVER} does not answer") -> bool:
        with contextlib.suppress(PlatformError):  # it reloads
            return bool(site.status()["providers"][1]["why"] == why)
        return False

    site.lab.run("isp2", ["nft", SILENT])
    give(checked.replace("check =", "check_interval_s = 0.05\ncheck ="), old)
    site.lab.wait_for("it is dead", is_dead, PATIENCE_S)
    for prefixes in ((new,), (), (old,)):
        # The next daemon cannot find that out again itself while this test looks at it.
        give(checked.replace("check =", "check_interval_s = 3600\ncheck ="), *prefixes)
        wanted = [first, *prefixes]
        site.lab.wait_for("they are there", partial(has, wanted), PATIENCE_S)
        assert is_dead()
    site.lab.run("isp2", ["nft", "delete", "table", "ip6", "mute"])
    give(text)
    site.lab.wait_for("no check", lambda: is_dead(""), PATIENCE_S)
    site.wait_leaves_by("isp1", "isp2")


def test_a_bad_line_of_a_file_stops_no_start(site: BorderLab) -> None:
    delegated = site.lab.directory / "delegated"
    text = site.config.read_text(encoding="utf-8")
    keys = f'prefixes_file = "{delegated}"\n'
    site.config.write_text(text.replace('prefixes = ["2001:db8:2:a::/64"]\n', keys))
    delegated.write_text("2001:db8:2:a::/56\n2001:db8:2:a::/64\n", encoding="utf-8")
    site.process.end()
    site.run("down", "--config", str(site.config))
    site.start()
    assert site.prefixes() == ["2001:db8:1:a::/64", "2001:db8:2:a::/64"]
    (trouble,) = site.status()["troubles"]
    assert "has '2001:db8:2:a::/56'" in trouble
    answer = ask(site.socket, "reload")
    assert not answer["reloaded"]
    assert "has '2001:db8:2:a::/56'" in answer["why"]
    site.config.write_text(text)
    site.run("reload", "--socket", str(site.socket))
    site.lab.wait_for("no trouble", lambda: not _troubles(site), PATIENCE_S)
    site.wait_leaves_by("isp1", "isp2")


def _troubles(site: BorderLab) -> list[str]:
    with contextlib.suppress(PlatformError):  # it reloads
        return list(site.status()["troubles"])
    return ["it does not answer"]


class Routes(Listener):
    """Looks at each route that the border adds: whether the filter of its uplink is there."""

    def __init__(self, site: BorderLab) -> None:
        super().__init__(site.lab, BORDER, _hear_routes)
        self.pins = site.lab.directory / inventory.PINS / BORDER
        self.filtered: list[bool] = []

    def hear(self, one: socket.socket) -> None:
        data = one.recv(65536)
        for kind, start, end in spans(data):
            attributes = attributes_of(data[start + ROUTE.size : end])
            table, device = (number_in(attributes, key) for key in (RTA_TABLE, RTA_DEVICE))
            if kind == NEW_ROUTE and table >= TABLE and device > LOOPBACK:
                self.filtered.append((self.pins / f"link-{device}-egress").exists())


def _hear_routes() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    made.settimeout(0.1)
    made.bind((0, ROUTES_GROUP))
    return made


def test_an_uplink_gets_its_filter_before_its_route(site: BorderLab) -> None:
    site.process.end()
    site.run("down", "--config", str(site.config))
    with Routes(site) as routes:
        site.start()
        site.lab.wait_for("two routes", lambda: len(routes.filtered) >= 2, PATIENCE_S)
    assert all(routes.filtered)
