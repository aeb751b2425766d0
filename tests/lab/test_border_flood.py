# SPDX-License-Identifier: MIT
"""A host floods a border with packets that no uplink carries: others still hear of their own."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.counters import BorderCounter
from noid.lab.borders import BorderDaemon, start_borders
from noid.lab.lab import Lab
from noid.lab.namespaces import namespace
from noid.lab.processes import Process
from noid.lab.sites import LAN_DEVICE
from noid.lab.topology import BORDER, NAME_SERVER, locators
from tests.lab.conversations import PATIENCE_S

pytestmark = pytest.mark.alone  # a flood fills the queues of the processors

FLOOD = """
import itertools, socket, sys
source, destination = (socket.inet_pton(socket.AF_INET6, one) for one in sys.argv[1:3])
first, count = 1 << 28, int(sys.argv[3])
sources = [source[:12] + one.to_bytes(4, "big") for one in range(first, first + count)]
packets = [bytes.fromhex("6000000000083240") + one + destination + bytes(8) for one in sources]
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as one:
    for packet in itertools.cycle(packets):
        try:
            one.sendto(packet, (sys.argv[2], 0))
        except OSError:
            pass
"""
"""Packets of ESP, which has no checksum to verify, from so many sources of a link."""
ASK = """
import errno, socket, sys, time
heard = 0
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
    one.bind((sys.argv[1], 0))
    one.connect((sys.argv[2], 9))
    one.settimeout(0.15)
    for _ in range(int(sys.argv[3])):
        try:
            one.send(b"?")
            one.recv(1)
        except TimeoutError:
            pass
        except OSError as error:
            heard += error.errno == errno.EACCES
            time.sleep(0.15)
print(heard)
"""
"""How many of some packets, at 7 a second, are answered with what Linux makes of code 5."""
ROOT = Path(__file__).parents[2]
PYTHON = (sys.executable, "-c")
SOME = 5_000
"""Packets that the border has refused when the flood counts as one."""
MANY_SOURCES = 50_000
ASKED, HEARD = 20, 14
"""Packets of which so many are answered. A busy machine loses packets of any sender in a flood."""
ATTEMPTS = 10
KERNEL_LIMIT = ("icmp_msgs_per_sec=200", "icmp_msgs_burst=20")
"""Of errors of this router to all hosts together: a flood uses it up soon."""
NEIGHBOUR = "2001:db8:1:a::b"
"""Another host of the LAN."""
OTHER_LAN = "2001:db8:1:c::"
AWAY = "b"
"""Stands in for a host in another LAN of the site."""


def run(lab: Lab, node: str, *commands: str) -> None:
    for one in commands:
        done = lab.run(node, one.split())
        assert done.returncode == 0, (one, done.stderr)


def add_lan(lab: Lab) -> None:
    """A second LAN of the border, with one host in it."""
    run(
        lab,
        BORDER,
        f"ip link add lan9 type veth peer name up9 netns {namespace(lab.name, AWAY)}",
        "ip link set lan9 up",
        f"ip addr add {OTHER_LAN}1/64 dev lan9 nodad",
    )
    run(
        lab,
        AWAY,
        "ip link set up9 up",
        f"ip addr add {OTHER_LAN}9/64 dev up9 nodad",
        f"ip -6 rule add from {OTHER_LAN}9 lookup 109",
        f"ip -6 route add default via {OTHER_LAN}1 dev up9 table 109",
    )


@pytest.fixture(scope="module")
def border(lab_machine: None) -> Iterator[BorderDaemon]:
    """A border with two LANs, whose uplink to provider 1 is dead."""
    with Lab.create(plane="none", sites="one") as lab:
        (border,) = start_borders(lab)
        add_lan(lab)
        run(lab, "a", f"ip addr add {NEIGHBOUR}/64 dev up0 nodad")
        text = border.config.read_text(encoding="utf-8")
        lans = text.replace(f'"{LAN_DEVICE}"]', f'"{LAN_DEVICE}", "lan9"]')
        assert lans != text
        for number in (1, 2):
            prefix = f'"2001:db8:{number}:a::/64"'
            assert prefix in lans
            lans = lans.replace(prefix, f'{prefix}, "2001:db8:{number}:c::/64"')
        border.reload(lans)
        run(lab, "isp1", "ip link set custa down")
        border.await_leaves_by("isp2", "isp2", "isp2", "isp2")
        run(lab, BORDER, *(f"sysctl -qw net.ipv4.{one}" for one in KERNEL_LIMIT))
        yield border


def flooded(border: BorderDaemon, sources: int) -> Process:
    """Host a floods from now on."""
    words = [*PYTHON, FLOOD, locators("a")[0], NAME_SERVER, str(sources)]
    flood = border.lab.spawn("a", words)
    before = border.count(BorderCounter.REFUSED_NO_UPLINK)
    border.lab.wait_for(
        "the flood is there",
        lambda: border.count(BorderCounter.REFUSED_NO_UPLINK) > before + SOME,
        PATIENCE_S,
    )
    return flood


def hears(border: BorderDaemon, node: str, source: str) -> bool:
    """Whether a sender of plain packets hears that most of them are refused."""
    words = [*PYTHON, ASK, source, NAME_SERVER, str(ASKED)]
    return any(int(border.lab.run(node, words).stdout) >= HEARD for _ in range(ATTEMPTS))


def test_a_flood_from_many_sources_takes_no_errors_from_hosts_of_other_lans(
    border: BorderDaemon,
) -> None:
    flood = flooded(border, MANY_SOURCES)
    try:
        assert hears(border, AWAY, f"{OTHER_LAN}9")
    finally:
        flood.end()


def test_a_flood_from_one_source_takes_no_errors_from_others_of_its_lan(
    border: BorderDaemon,
) -> None:
    flood = flooded(border, 1)
    try:
        assert hears(border, "a", NEIGHBOUR)
    finally:
        flood.end()


def test_a_refused_reload_is_shown_until_one_is_applied(border: BorderDaemon) -> None:
    text = border.config.read_text(encoding="utf-8")
    border.reload(text.replace("2001:db8:1:a::/64", "2001:db8:1::/48"))
    (trouble,) = border.status()["troubles"]
    assert "has not the length of 2001:db8:1::/48, as all must" in trouble
    border.reload(text)
    border.lab.wait_for("it is", lambda: not border.status()["troubles"], PATIENCE_S)


def test_a_gateway_makes_no_room_for_others_in_a_full_table_of_neighbours(
    border: BorderDaemon,
) -> None:
    words = ["ip", "-6", "neigh", "show", "2001:db8:2:fa::1", "dev", "up2"]
    assert "extern_learn" in border.lab.run(BORDER, words).stdout


def test_the_rules_of_the_guide_drop_sources_of_other_lans_and_no_others(
    border: BorderDaemon,
) -> None:
    text = (ROOT / "docs" / "border.md").read_text(encoding="utf-8")
    rules = re.findall(r"^ +(nft add (?:.*\\\n)*.*)$", text, re.MULTILINE)
    lab, (_, own) = border.lab, locators("a")
    other = "2001:db8:2:c::7"
    run(lab, BORDER, "ip addr add 2001:db8:2:c::1/64 dev lan9 nodad")
    run(
        lab, "a", f"ip addr add {other}/128 dev lo nodad", f"ip -6 rule add from {other} lookup 102"
    )

    def forwarded(source: str) -> int:
        """How many of three packets with a source the border forwards."""
        before = border.count(BorderCounter.PACKETS_FORWARDED)
        lab.run("a", ["ping", "-c3", "-i0.2", "-W1", "-I", source, NAME_SERVER])
        return border.count(BorderCounter.PACKETS_FORWARDED) - before

    try:
        assert forwarded(other) == 3
        for one in rules:
            done = lab.run(BORDER, ["sh", "-c", one])
            assert done.returncode == 0, done.stderr
        assert forwarded(other) == 0
        run(lab, "a", "ip neigh flush dev up0")
        assert forwarded(own) == 3
    finally:
        lab.run(BORDER, ["nft", "delete", "table", "ip6", "lans"])
        lab.run("a", ["ip", "-6", "rule", "del", "from", other])
        lab.run("a", ["ip", "addr", "del", f"{other}/128", "dev", "lo"])
