# SPDX-License-Identifier: MIT
"""What others send takes no room from the packets that BFD and echo requests wait for."""

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Iterable

import pytest

from noid.host.bfd_socket import ON_LINK, BfdSocket, Reach, beyond
from noid.host.changes import READS_MAX, NetworkChanges
from noid.host.echo import REPLY, Echo
from noid.host.routes import EVERYWHERE
from noid.lab.waiting import wait_for
from noid.locators import parse_locator
from tests.namespaces import in_network_namespace

ROUTER, OTHER = "::1", "2001:db8::7"
FLOOD = 5_000
"""More than the buffer of a socket holds."""
ROUTES, SMALL_BUFFER_OCTETS = 3_000, 1 << 18
"""More messages about routes than such a buffer holds, which are more than one reading takes."""
GOOD = bytes(24)
SETTLED_MS = 200
"""Without a message of the kernel, what a new device causes is over."""


def prepare() -> None:
    for words in ("link set lo up", f"addr add {OTHER}/128 dev lo nodad"):
        subprocess.run(["ip", "-6", *words.split()], check=True)


def send(reach: Reach, source: str, hops: int, count: int) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        sender.bind((source, 0))
        for _ in range(count):
            sender.sendto(GOOD, (ROUTER, reach.port))


@pytest.mark.parametrize(
    ("reach", "source", "hops", "good_hops"),
    [
        (ON_LINK, ROUTER, 254, 255),
        (ON_LINK, OTHER, 255, 255),
        (beyond(200), ROUTER, 199, 200),
        (beyond(1), OTHER, 255, 1),
    ],
)
def test_a_flood_of_other_packets_does_not_displace_those_of_the_router(
    reach: Reach, source: str, hops: int, good_hops: int
) -> None:
    def run() -> None:
        prepare()
        with contextlib.closing(BfdSocket("lo", reach)) as made:
            router = parse_locator(ROUTER)
            assert list(made.packets(router)) == []
            send(reach, source, hops, FLOOD)
            send(reach, ROUTER, good_hops, 1)
            assert list(made.packets(router)) == [GOOD]

    in_network_namespace(run)


def test_a_flood_of_echo_replies_does_not_displace_those_of_the_target() -> None:
    def run() -> None:
        prepare()
        target, loopback = parse_locator(ROUTER), socket.if_nametoindex("lo")
        reply = bytes((REPLY, 0)) + bytes(6)
        with contextlib.closing(Echo("lo")) as echo:
            echo.send(target, loopback, 1)
            wait_for("the first answer", lambda: list(echo.answers(target)) == [1], 30)
            with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as other:
                other.bind((OTHER, 0))
                for _ in range(FLOOD):
                    other.sendto(reply, (ROUTER, 0))
            echo.send(target, loopback, 2)
            wait_for("the second answer", lambda: list(echo.answers(target)) == [2], 30)

    in_network_namespace(run)


def test_the_kernel_is_not_asked_about_neighbours_where_none_matters() -> None:
    def run() -> None:
        for words in ("link add up0 type veth", "link set up0 addrgenmode none up"):
            subprocess.run(["ip", *words.split()], check=True)
        neighbour = ["fe80::9", "dev", "up0", "lladdr", "02:00:00:00:00:09"]
        with contextlib.closing(NetworkChanges(None)) as changes:
            poll = select.poll()
            poll.register(changes.fileno(), select.POLLIN)
            while poll.poll(SETTLED_MS):
                changes.read()
            for word in ("add", "del"):
                subprocess.run(["ip", "-6", "neigh", word, *neighbour], check=True)
            assert not poll.poll(0)
            subprocess.run(["ip", "link", "set", "up0", "down"], check=True)
            assert poll.poll(60_000)
            assert changes.read().matters

    in_network_namespace(run)


def test_after_lost_messages_about_routes_every_peer_may_be_concerned() -> None:
    """While messages wait, the kernel drops further ones, and does not say so again."""

    def run() -> None:
        prepare()
        with contextlib.closing(NetworkChanges(None)) as changes:
            with socket.socket(fileno=os.dup(changes.fileno())) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_OCTETS)
            change_routes("add", range(ROUTES))
            first, *others = (changes.read() for _ in range(ROUTES // READS_MAX))
            assert (first.overflows, first.matters) == (1, True)
            assert EVERYWHERE not in first.prefixes, "some still wait"
            assert [EVERYWHERE in one.prefixes for one in others].count(True) == 1
            assert not any(one.overflows for one in others)

    in_network_namespace(run)


def change_routes(word: str, numbers: Iterable[int]) -> None:
    lines = (f"route {word} unreachable 2001:db8:7:{one:x}::/64" for one in numbers)
    batch = ["ip", "-6", "-batch", "-"]
    subprocess.run(batch, input="\n".join(lines), text=True, check=True)
