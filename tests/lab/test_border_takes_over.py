# SPDX-License-Identifier: MIT
"""What a daemon of a border knows of the time before it, and the order in which it begins."""

import contextlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from noid.control.client import ask
from noid.counters import BorderCounter
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
from noid.lab import inventory, namespaces
from noid.lab.passing import Listener
from noid.lab.topology import BORDER, NAME_SERVER, SOURCE_PRIORITY
from tests.lab.border_lab import FIRST, BorderLab, bordered
from tests.lab.conversations import PATIENCE_S, tcp
from tests.lab.test_border import CONNECT, SECOND
from tests.lab.test_rewriting import send_rewritable

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


def test_a_replaced_prefix_is_answered_and_moved_and_soon_as_it_was(site: BorderLab) -> None:
    """A file that is emptied, as when a lease ends, and written again by the next one."""
    old = "2001:db8:2:a::/64"
    delegated = site.lab.directory / "delegated"
    text = site.config.read_text(encoding="utf-8")
    keys = f'prefixes_file = "{delegated}"\n'
    named = text.replace(f'prefixes = ["{old}"]\n', keys).replace("new_prefix_s = 1\n", "")

    def give(config: str, *prefixes: str) -> None:
        delegated.write_text("\n".join(prefixes), encoding="utf-8")
        site.config.write_text(config, encoding="utf-8")
        site.run("reload", "--socket", str(site.socket))
        site.lab.wait_for("they are there", lambda: _has(site, *prefixes), PATIENCE_S)
        assert (old in site.status()["former"]) == (old not in prefixes)

    site.process.end()  # what comes to a site that has just begun is not new
    site.run("down", "--config", str(site.config))
    site.start()
    give(named, old)
    for new in ((), ("2001:db8:2:e::/64",)):
        give(named, *new)
        for _ in range(2):
            done = site.lab.run("a", [sys.executable, "-c", CONNECT, SECOND, NAME_SERVER])
            assert done.stdout == "EACCES\n", "as Linux takes code 5"
            before = site.count(BorderCounter.PACKETS_REWRITTEN)
            namespaces.inside(namespaces.namespace(site.lab.name, "a"), _send_from_second)
            assert site.count(BorderCounter.PACKETS_REWRITTEN) > before
            site.process.end()  # the next daemon knows it, too
            site.start()
        assert f"prefix {old} is a former one" in site.run("status", "--socket", str(site.socket))
        give(named, old)
        assert site.run("status", "--socket", str(site.socket)).count("put into no packet yet") == 0
    give(text, old)
    site.wait_leaves_by("isp1", "isp2")
    done = site.lab.run("a", ["ping", "-c1", "-W20", "-I", SECOND, NAME_SERVER])
    assert done.returncode == 0


def _has(site: BorderLab, *prefixes: str) -> bool:
    """Whether these are the prefixes of the second provider."""
    return site.prefixes() == ["2001:db8:1:a::/64", *prefixes]


def _send_from_second() -> None:
    send_rewritable(SECOND)


ANSWERS = f"""table ip6 answers {{ chain c {{
type filter hook postrouting priority 0;
oifname {{ "up1", "up2" }} icmpv6 type destination-unreachable ip6 daddr {SECOND} counter; }}; }}"""


def test_an_answer_to_a_former_prefix_does_not_leave_the_site(site: BorderLab) -> None:
    """No LAN has it any more: the next owner of the address would get the answer."""
    old, new = "2001:db8:2:a::/64", "2001:db8:2:e::/64"
    text = site.config.read_text(encoding="utf-8")
    address = "2001:db8:2:a::1/64"
    site.config.write_text(text.replace(old, new), encoding="utf-8")
    site.run("reload", "--socket", str(site.socket))
    site.lab.wait_for("it is former", lambda: _has(site, new), PATIENCE_S)
    site.lab.run(BORDER, ["ip", "addr", "del", address, "dev", "lan0"])
    assert site.lab.run(BORDER, ["nft", ANSWERS]).returncode == 0
    site.drops(BorderCounter.REFUSED_NO_UPLINK, "a", SECOND, NAME_SERVER)
    counted = site.lab.run(BORDER, ["nft", "list", "table", "ip6", "answers"]).stdout
    assert "counter packets 0 bytes 0" in counted
    site.lab.run(BORDER, ["nft", "delete", "table", "ip6", "answers"])
    site.lab.run(BORDER, ["ip", "addr", "add", address, "dev", "lan0", "nodad"])
    done = site.lab.run("a", [sys.executable, "-c", CONNECT, SECOND, NAME_SERVER])
    assert done.stdout == "EACCES\n"
    site.config.write_text(text, encoding="utf-8")
    site.run("reload", "--socket", str(site.socket))
    site.lab.wait_for("it is there", lambda: _has(site, old), PATIENCE_S)
    site.wait_leaves_by("isp1", "isp2")


def _placed(site: BorderLab) -> tuple[set[str], set[str], set[str]]:
    """The priorities of rules, the routing tables and the directories of pins that are in use."""

    def shown(*words: str) -> list[str]:
        return site.lab.run(BORDER, ["ip", "-6", *words]).stdout.splitlines()

    priorities = (line.partition(":")[0] for line in shown("rule"))
    rules = {one for one in priorities if 0 < int(one) < SOURCE_PRIORITY}
    routes = shown("route", "show", "table", "all")
    tables = {found[1] for line in routes if (found := re.search(r" table (\d{4,})", line))}
    pins = (site.lab.directory / inventory.PINS).glob(f"{BORDER}*/map-in_use-*")
    return rules, tables, {path.parent.name for path in pins}


def test_nothing_stays_at_a_former_place(site: BorderLab) -> None:
    text = site.config.read_text(encoding="utf-8")
    first = ({"50", "51", "52"}, {str(TABLE)}, {BORDER})
    assert _placed(site) == first
    pins = str(site.lab.directory / inventory.PINS / BORDER)
    changes = [
        (51, TABLE + 1, f"{pins}-1"),  # these overlap with those before
        (70, 7000, f"{pins}-1"),
        (70, 7000, f"{pins}-2"),
        (50, TABLE, pins),
    ]
    with tcp(site.lab, "a") as conversation, site.moved() as name:
        conversation.echoes()
        for is_reload in (True, False):
            for priority, table, directory in changes:
                keys = f"rule_priority = {priority}\ntable = {table}\n"
                other = text.replace(f'pins = "{pins}"\n', f'{keys}pins = "{directory}"\n')
                assert other != text
                site.config.write_text(other, encoding="utf-8")
                if is_reload:
                    site.run("reload", "--socket", str(site.socket))
                else:
                    site.process.end()
                    site.start()
                wanted = (
                    {str(priority + one) for one in range(3)},
                    {str(table)},
                    {directory.rpartition("/")[2]},
                )
                site.lab.wait_for(f"{wanted}", partial(_is_placed, site, wanted), PATIENCE_S)
                assert site.leaves_by() == [name, name], "the operator's choice is kept"
                conversation.echoes()
    site.process.end()
    site.config.write_text(text.replace(f'"{pins}"', f'"{pins}-3"'), encoding="utf-8")
    site.run("down", "--config", str(site.config))
    assert _placed(site) == (set(), set(), set())
    assert not site.socket.with_suffix(".place.json").exists()
    site.config.write_text(text, encoding="utf-8")
    site.start()


def _is_placed(site: BorderLab, wanted: tuple[set[str], set[str], set[str]]) -> bool:
    return _placed(site) == wanted


RELOADS = 8


def test_a_reload_that_moves_providers_in_the_file_loses_no_packet(site: BorderLab) -> None:
    text = site.config.read_text(encoding="utf-8")
    head, one, two, tail = re.split(r"(?=\[\[border\.providers\]\]|\[metrics\])", text)
    turned = head + two + one + tail
    words = ["ping", "-n", "-i0.001", "-I"]
    pings = [site.lab.spawn("a", [*words, source, NAME_SERVER]) for source in (FIRST, SECOND)]
    for number in range(RELOADS):
        site.config.write_text((turned, text)[number % 2], encoding="utf-8")
        site.run("reload", "--socket", str(site.socket))
        names = ["isp2", "isp1"][:: 1 - number % 2 * 2]
        site.lab.wait_for(f"{names}", partial(_is_in_order, site, names), PATIENCE_S)
    for ping in pings:
        ping.end()
        answered = {int(one) for one in re.findall(r"icmp_seq=(\d+)", ping.output())}
        lost = set(range(1, max(answered))) - answered
        assert not lost, f"{len(lost)} of {max(answered)}"


def _is_in_order(site: BorderLab, names: list[str]) -> bool:
    with contextlib.suppress(PlatformError):  # it reloads
        return [row["provider"] for row in site.status()["providers"]] == names
    return False


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


def test_what_is_written_while_the_border_begins_is_applied(site: BorderLab) -> None:
    """As by the hooks of two uplinks: as long as no socket is open, no reload has an answer."""
    old, new = "2001:db8:2:a::/64", "2001:db8:2:e::/64"
    delegated = site.lab.directory / "delegated"
    text = site.config.read_text(encoding="utf-8")
    keys = f'prefixes_file = "{delegated}"\n'
    site.process.end()
    site.config.write_text(text.replace(f'prefixes = ["{old}"]\n', keys), encoding="utf-8")
    delegated.unlink(missing_ok=True)
    os.mkfifo(delegated)
    with ThreadPoolExecutor(max_workers=1) as pool:
        given = pool.submit(_give_once, delegated, old, new)
        site.start()
        given.result()
    site.lab.wait_for("the other one", partial(_has, site, new), PATIENCE_S)
    site.config.write_text(text, encoding="utf-8")
    site.run("reload", "--socket", str(site.socket))
    site.lab.wait_for("it is there", lambda: _has(site, old), PATIENCE_S)
    site.wait_leaves_by("isp1", "isp2")


def _give_once(file: Path, first: str, then: str) -> None:
    """Lets the first reader of a file, a pipe until then, have other contents than later ones."""
    with file.open("w", encoding="utf-8") as pipe:  # waits for the reader
        later = file.with_suffix(".later")
        later.write_text(then, encoding="utf-8")
        later.replace(file)
        pipe.write(first)


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
            if kind == NEW_ROUTE and table == TABLE and device > LOOPBACK:
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
