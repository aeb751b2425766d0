# SPDX-License-Identifier: MIT
"""The kernel plane knows whose program sent a packet, and reports by shares of users [D46]."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

from noid.flows.events import DatapathEvent, UlpPacketSeen
from noid.locators import Locator, format_locator, parse_locator
from tests.dns.conftest import ip
from tests.planes.keeping import AID, Kept, keeping
from tests.waiting import until

MALLORY, ALICE = 1_001, 1_002
PEERS = [parse_locator(f"2001:db8:9::{number:x}") for number in range(1, 1_101)]
LAST = parse_locator("2001:db8:9::ffff")
OF_ONE_USER = 500
"""Half of the reports of a second."""
SEND = """\
import socket, sys
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 0))
    for address in sys.stdin.read().split():
        sender.sendto(b"hello", (address, 9))
"""


def send(user: int, peers: list[Locator]) -> None:
    """A program of a user sends a datagram to each."""
    subprocess.run(
        [sys.executable, "-c", SEND, format_locator(AID)],
        input="\n".join(map(format_locator, peers)).encode(),
        user=user,
        check=True,
    )


def users(events: list[DatapathEvent]) -> dict[Locator, int]:
    """Whose packets to which peer were reported."""
    seen = [one for one in events if isinstance(one, UlpPacketSeen)]
    return {Locator(one.packet[24:40]): one.user for one in seen}


def lead_out() -> None:
    ip("neigh add 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev up1 nud permanent")
    ip("route add 2001:db8:9::/64 via 2001:db8:1::2 dev up1")


def test_a_packet_is_reported_with_the_user_whose_program_sent_it(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        events: list[DatapathEvent] = []
        kept.plane.notify = events.append
        lead_out()
        for peer in (*PEERS[:2], LAST):
            kept.plane.watch(peer)
        send(MALLORY, PEERS[:1])
        send(ALICE, PEERS[1:2])
        send(0, [LAST])
        wanted = {PEERS[0]: MALLORY, PEERS[1]: ALICE, LAST: 0}
        await until(lambda: users(events) == wanted)

    keeping(pins, scenario)


def test_one_user_takes_half_of_the_reports_of_a_second(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        events: list[DatapathEvent] = []
        kept.plane.notify = events.append
        lead_out()
        for peer in (*PEERS, LAST):
            kept.plane.watch(peer)
        began_s = time.monotonic()
        await asyncio.to_thread(send, MALLORY, PEERS)
        seconds = int(time.monotonic() - began_s) + 2  # of the clock, a part of one counts
        await asyncio.to_thread(send, ALICE, [LAST])
        await until(lambda: LAST in users(events))
        of_mallory = sum(one == MALLORY for one in users(events).values())
        assert 0 < of_mallory <= seconds * OF_ONE_USER

    keeping(pins, scenario)
