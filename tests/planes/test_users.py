# SPDX-License-Identifier: MIT
"""The kernel plane knows whose program sent a packet, and reports by shares of users [D46]."""

import asyncio
import os
import random
import socket
import time
from pathlib import Path

from noid.constants import MILLISECOND, SECOND
from noid.flows.events import DatapathEvent, UlpPacketSeen, UnansweredPacket
from noid.flows.flow import Flow
from noid.locators import Locator, format_locator, parse_locator
from tests.dns.conftest import ip
from tests.planes.keeping import AID, Kept, keeping
from tests.planes.test_bpf import random_flow
from tests.waiting import until

MALLORY, ALICE = 1_001, 1_002
PEERS = [parse_locator(f"2001:db8:9::{number:x}") for number in range(1, 1_101)]
LAST = parse_locator("2001:db8:9::ffff")
SILENT_S = 0.1
"""A silence that is reported, even of what is not TCP."""
OF_ONE_USER = 500
"""Half of the reports of a second."""


def send(user: int, peers: list[Locator]) -> None:
    """A socket of a user sends a datagram to each."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        os.fchown(sender.fileno(), user, -1)  # as if that user had created it
        sender.bind((format_locator(AID), 0))
        for peer in peers:
            sender.sendto(b"hello", (format_locator(peer), 9))


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
        send(ALICE, [LAST])
        await until(lambda: LAST in users(events))
        of_mallory = sum(one == MALLORY for one in users(events).values())
        assert 0 < of_mallory <= seconds * OF_ONE_USER

    keeping(pins, scenario)


def flow_to(peer: Locator, label: int) -> Flow:
    flow = random_flow(random.Random(label))
    flow.local_label, flow.peer_aid, flow.peer_locator = label, peer, peer
    flow.local_aid = flow.local_locator = AID
    flow.local_locators = frozenset({AID})
    flow.peer_locators = flow.verified_locators = frozenset({peer})
    flow.aside, flow.holds, flow.transmits, flow.silence_ns = False, False, True, MILLISECOND
    return flow


def test_silent_peers_of_one_user_hide_no_failure_from_another(pins: Path) -> None:
    """An accomplice answers no data: each of its flows reports that again and again [D20]."""

    async def scenario(kept: Kept) -> None:
        events: list[DatapathEvent] = []
        kept.plane.notify = events.append
        lead_out()
        for label, peer in enumerate((LAST, *PEERS), 1):
            kept.plane.install(flow_to(peer, label))
        await asyncio.to_thread(flood, events)
        await until(lambda: 1 in unanswered(events))
        assert len(unanswered(events)) > OF_ONE_USER / 2, "there was a flood"

    keeping(pins, scenario, contexts=2_000)


def flood(events: list[DatapathEvent]) -> None:
    """In some second of the clock all of the flood comes before the packet of another user."""
    while True:
        for _ in range(4):  # all are silent after that
            send(MALLORY, PEERS)
            send(ALICE, [LAST])
            time.sleep(SILENT_S)
        second = time.monotonic_ns() // SECOND
        while time.monotonic_ns() // SECOND == second:
            time.sleep(SILENT_S / 10)
        second = time.monotonic_ns() // SECOND
        events.clear()
        send(MALLORY, PEERS)
        send(ALICE, [LAST])
        if time.monotonic_ns() // SECOND == second:
            return


def unanswered(events: list[DatapathEvent]) -> list[int]:
    return [one.local_label for one in events if isinstance(one, UnansweredPacket)]
