# SPDX-License-Identifier: MIT
"""What a border keeps does not depend on how many hosts and connections are behind it."""

import contextlib
import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from noid.counters import BorderCounter
from noid.lab import namespaces
from noid.lab.borders import BorderDaemon, start_borders
from noid.lab.lab import Lab
from noid.lab.passing import TCP_OF_CONTEXTS
from noid.lab.topology import BORDER, NAME_SERVER
from tests.lab.conversations import PATIENCE_S

pytestmark = pytest.mark.alone  # bursts fill the queues of the processors

HOSTS = 10_000
AT_ONCE = 500
"""Packets that fit into the backlog of a processor, which drops others (netdev_max_backlog)."""
IPV6_FREEBIND = 78
PACKET_INFO = struct.Struct("=16sI")
FIRST = int(IPv6Address("2001:db8:1:a::1:0"))
GROWTH_MAX = 2 << 20
"""Of the daemon, in octets: it takes no part in what packets do."""


@pytest.fixture(scope="module")
def border(lab_machine: None) -> Iterator[BorderDaemon]:
    with Lab.create(plane="bpf", sites="one") as lab:
        lab.take_noid_down("a")
        # The hosts are not there: an answer would have the router ask for each of them.
        hook = "type filter hook prerouting priority -300;"
        drop = f"table ip6 mute {{ chain c {{ {hook} iif custa meta l4proto 224 drop; }}; }}"
        assert lab.run("isp2", ["nft", drop]).returncode == 0
        (border,) = start_borders(lab)
        yield border


def map_octets(pid: int) -> dict[int, int]:
    """The memory of each table of a process in the kernel, by its number."""
    found = {}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        text = ""
        with contextlib.suppress(OSError):  # it may be closed by now, as no table is
            text = path.read_text(encoding="ascii")
        number = re.search(r"^map_id:\s+(\d+)", text, re.M)
        octets = re.search(r"^memlock:\s+(\d+)", text, re.M)
        if number and octets:
            found[int(number[1])] = int(octets[1])
    return found


def resident_octets(pid: int) -> int:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.M)
    assert found
    return int(found[1]) << 10


def connections(lab: Lab) -> int:
    """What the router's kernel tracks, and the neighbours it knows."""
    words = ["ip", "-6", "neigh", "show"]
    neighbours = lab.run(BORDER, words).stdout.count("\n")
    tracked = lab.run(BORDER, ["cat", "/proc/sys/net/netfilter/nf_conntrack_count"]).stdout
    return neighbours + int(tracked or 0)


def send(hosts: range) -> None:
    """One packet of each of some hosts, which says "rewrite ok", with a label of its own."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, TCP_OF_CONTEXTS) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        for number in hosts:
            source = (FIRST + number).to_bytes(16, "big")
            about = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PACKET_INFO.pack(source, 0))]
            sender.sendmsg([bytes(20)], about, 0, (NAME_SERVER, 0, number + 1, 0))


def test_ten_thousand_hosts_take_the_memory_of_one(border: BorderDaemon) -> None:
    lab, pid = border.lab, border.process.pid
    border.use("isp2")
    border.await_leaves_by("isp2", "isp2")
    inside = namespaces.namespace(lab.name, "a")

    def rewritten() -> int:
        return border.count(BorderCounter.PACKETS_REWRITTEN)

    def sent(hosts: range) -> None:
        """Sends, and waits until each packet has been rewritten."""
        wanted = rewritten() + len(hosts)
        namespaces.inside(inside, lambda: send(hosts))
        lab.wait_for("all were rewritten", lambda: rewritten() >= wanted, PATIENCE_S)

    sent(range(1))
    tables, octets, known = map_octets(pid), resident_octets(pid), connections(lab)
    assert len(tables) >= 4, "the tables of the programs"
    for first in range(0, HOSTS, AT_ONCE):
        sent(range(first, first + AT_ONCE))
    assert map_octets(pid) == tables
    assert resident_octets(pid) - octets < GROWTH_MAX
    assert connections(lab) - known < HOSTS // 100, "of all kinds of entries in the kernel"
    print(f"tables {sum(tables.values())} octets, daemon {octets} octets")
