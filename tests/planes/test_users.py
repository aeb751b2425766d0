# SPDX-License-Identifier: MIT
"""The kernel plane knows whose program sent a packet, and reports by shares of users [D46]."""

import asyncio
import contextlib
import os
import random
import socket
import time
from pathlib import Path

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.flows.events import DatapathEvent, UlpPacketSeen, UnansweredPacket
from noid.flows.flow import Flow
from noid.host import subordinates
from noid.identifiers import Label
from noid.locators import Locator, format_locator, parse_locator
from noid.planes.bpf import layout
from tests.namespaces import ip
from tests.planes.keeping import AID, Kept, keeping
from tests.planes.test_bpf import random_flow
from tests.planes.test_layout import Structures, structures
from tests.waiting import until

__all__ = ["structures"]

MALLORY, ALICE, BOB = 1_001, 1_002, 1_003
MANY = range(2_001, 2_009)
PEERS, OTHERS = (
    [parse_locator(f"2001:db8:9:{subnet}::{number:x}") for number in range(1, 1_101)]
    for subnet in (0, 1)
)
LAST = parse_locator("2001:db8:9:2::1")
SILENT_S = 0.1
"""A silence that is reported, even of what is not TCP."""
OF_ALL = 1_000
"""The reports of a second, if the same users report in each."""
OF_TWO = OF_ALL // 2
"""What each of two users gets."""


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
    ip("route add 2001:db8:9::/48 via 2001:db8:1::2 dev up1")


def noted(kept: Kept, peers: tuple[Locator, ...]) -> list[DatapathEvent]:
    """What the plane reports from now on; these peers are watched, and lie behind an uplink."""
    events: list[DatapathEvent] = []
    kept.plane.notify = events.append
    lead_out()
    for peer in peers:
        kept.plane.watch(peer)
    return events


def test_a_packet_is_reported_with_the_user_whose_program_sent_it(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        events = noted(kept, (*PEERS[:2], LAST))
        send(MALLORY, PEERS[:1])
        send(ALICE, PEERS[1:2])
        send(0, [LAST])
        wanted = {PEERS[0]: MALLORY, PEERS[1]: ALICE, LAST: 0}
        await until(lambda: users(events) == wanted)

    keeping(pins, scenario)


def test_one_user_takes_all_reports_of_a_second_and_another_its_share(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        events = noted(kept, (*PEERS, LAST))
        began_s = time.monotonic()
        await asyncio.to_thread(send, MALLORY, PEERS)
        seconds = int(time.monotonic() - began_s) + 2  # of the clock, a part of one counts
        send(ALICE, [LAST])
        await until(lambda: LAST in users(events))
        of_mallory = sum(one == MALLORY for one in users(events).values())
        assert OF_TWO < of_mallory <= seconds * OF_ALL

    keeping(pins, scenario)


def test_users_that_report_by_surprise_leave_some_to_the_next(pins: Path) -> None:
    """They did not report in the second before, so nothing is kept for others."""

    async def scenario(kept: Kept) -> None:
        events = noted(kept, (*PEERS, LAST))
        await asyncio.to_thread(_surprise, events)
        await until(lambda: LAST in users(events))

    keeping(pins, scenario)


def _surprise(events: list[DatapathEvent]) -> None:
    """Many users send to all peers in one second of the clock, and then one to another peer."""
    while True:
        second = time.monotonic_ns() // SECOND + 2
        while time.monotonic_ns() // SECOND < second:
            time.sleep(SILENT_S / 10)
        events.clear()
        for user in MANY:
            send(user, PEERS)
            time.sleep(SILENT_S / 5)  # a peer may be reported again
        send(ALICE, [LAST])
        if time.monotonic_ns() // SECOND == second:
            return


def flow_to(peer: Locator, label: Label) -> Flow:
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
        reports = Reports(kept, [*PEERS, LAST])
        await asyncio.to_thread(reports.flood, [(MALLORY, PEERS), (ALICE, [LAST])])
        await until(lambda: reports.of([LAST]))
        assert OF_TWO < reports.of(PEERS) <= OF_ALL, "no other user needed them"

    keeping(pins, scenario, contexts=2_000)


def test_users_that_want_all_reports_get_the_same_number(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        reports = Reports(kept, [*PEERS, *OTHERS, LAST])
        wanted = [(MALLORY, PEERS), (ALICE, OTHERS), (BOB, [LAST])]
        await asyncio.to_thread(reports.flood, wanted, seconds=3)
        await until(lambda: reports.of([LAST]) and reports.of(OTHERS) >= OF_TWO * 9 // 10)
        assert OF_TWO * 9 // 10 <= reports.of(PEERS) <= OF_TWO * 11 // 10

    keeping(pins, scenario, contexts=4_000)


def test_a_report_that_the_rate_refuses_is_not_held_for_ever(
    pins: Path, structures: Structures
) -> None:
    """Its flow would never keep a segment again, and its timer never rest."""
    place = structures.places("activity")["writers"]

    async def scenario(kept: Kept) -> None:
        def is_held() -> bool:
            key = layout.label_key(Label(reports.labels[LAST]))
            entry = kept.bpf.tables["activities"].find(key)
            assert entry is not None
            return any(entry[place])

        reports = Reports(kept, [*PEERS, LAST])
        while not await asyncio.to_thread(_refused_by_the_timer, reports):
            pass
        await until(lambda: not is_held())

    keeping(pins, scenario, contexts=2_000)


def _refused_by_the_timer(reports: "Reports") -> bool:
    """A user has had all reports of a second when the first segment of its connection is missed.

    Returns:
        Whether all of that was in one second of the clock.
    """
    reports.flood([(MALLORY, PEERS)])
    second = time.monotonic_ns() // SECOND
    send(MALLORY, PEERS)
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as client:
        os.fchown(client.fileno(), MALLORY, -1)
        client.setblocking(False)
        client.bind((format_locator(AID), 0))
        with contextlib.suppress(BlockingIOError):
            client.connect((format_locator(LAST), 80))
        time.sleep(2 * SILENT_S)
    return time.monotonic_ns() // SECOND == second and not reports.of([LAST])


class Reports:
    """Flows of this host to peers that are silent, and what is reported of them."""

    def __init__(self, kept: Kept, peers: list[Locator]) -> None:
        self.labels = {peer: label for label, peer in enumerate(peers, 1)}
        self.events: list[DatapathEvent] = []
        kept.plane.notify = self.events.append
        lead_out()
        for peer, label in self.labels.items():
            kept.plane.install(flow_to(peer, Label(label)))

    def of(self, peers: list[Locator]) -> int:
        """Of how many of these peers the silence is reported."""
        silent = {one.local_label for one in self.events if isinstance(one, UnansweredPacket)}
        return len(silent & {self.labels[peer] for peer in peers})

    def flood(self, wanted: list[tuple[int, list[Locator]]], seconds: int = 1) -> None:
        """Each user sends to its silent peers, one after the other, in successive seconds.

        They are seconds of the clock. What is reported in the last of them is kept.
        """
        while True:
            for _ in range(4):  # all are silent after that
                _send_all(wanted)
                time.sleep(SILENT_S)
            first = time.monotonic_ns() // SECOND + 1
            if all(self._sent_in(first + number, wanted) for number in range(seconds)):
                return

    def _sent_in(self, second: int, wanted: list[tuple[int, list[Locator]]]) -> bool:
        """Whether all was sent in this second, which has not begun, and nothing before."""
        if time.monotonic_ns() // SECOND >= second:
            return False
        while time.monotonic_ns() // SECOND < second:
            time.sleep(SILENT_S / 10)
        self.events.clear()
        _send_all(wanted)
        return time.monotonic_ns() // SECOND == second


def _send_all(wanted: list[tuple[int, list[Locator]]]) -> None:
    for user, peers in wanted:
        send(user, peers)


def test_the_containers_of_a_user_are_one_user(
    pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "subuid"
    path.write_text("mallory:100000:65536\n")
    monkeypatch.setattr(subordinates, "SUBUID", path)

    async def scenario(kept: Kept) -> None:
        events = noted(kept, (*PEERS[:2], LAST))
        send(100_000, PEERS[:1])
        send(165_535, PEERS[1:2])
        send(165_536, [LAST])
        wanted = {PEERS[0]: 100_000, PEERS[1]: 100_000, LAST: 165_536}
        await until(lambda: users(events).keys() == wanted.keys())
        assert users(events) == wanted

    keeping(pins, scenario)
