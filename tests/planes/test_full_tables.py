# SPDX-License-Identifier: MIT
"""A table of the kernel that is full is counted, and used again once there is room."""

from pathlib import Path

from noid.counters import PlaneCounter
from noid.locators import Locator
from noid.planes.bpf.limits import Limits
from tests.planes.keeping import PEER, UPLINKS, Kept, keeping
from tests.waiting import until


def test_a_peer_over_the_limit_is_counted_and_watched_later(pins: Path) -> None:
    room = 16 + 3
    peers = [Locator(PEER[:14] + number.to_bytes(2, "big")) for number in range(2, room + 4)]

    async def scenario(kept: Kept) -> None:
        table = kept.bpf.tables["watched"]
        for peer in peers[:8]:
            kept.plane.watch(peer)
        kept.plane.take_up([], [], peers[8:])
        assert len(list(table.keys())) == room
        assert kept.plane.counts[PlaneCounter.PEERS_WITHOUT_ROOM] == 1 + len(peers) - room
        assert not table.find(peers[-1])
        kept.plane.watch(peers[-1])
        assert kept.plane.counts[PlaneCounter.PEERS_WITHOUT_ROOM] == 1 + len(peers) - room, (
            "it is no other"
        )
        for peer in peers[:4]:
            kept.plane.unwatch(peer)
        kept.watching.compare_soon()
        await until(lambda: bool(table.find(peers[-1])))

    keeping(pins, scenario, limits=Limits(known_peers=3))


def test_one_peer_too_many_is_counted(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        for number in range(2, 18):
            kept.plane.watch(Locator(PEER[:14] + number.to_bytes(2, "big")))
        assert kept.plane.counts[PlaneCounter.PEERS_WITHOUT_ROOM] == 1
        kept.plane.unwatch(Locator(PEER[:14] + (17).to_bytes(2, "big")))
        kept.watching.compare_soon()
        assert kept.plane.counts[PlaneCounter.PEERS_WITHOUT_ROOM] == 1

    keeping(pins, scenario, limits=Limits(known_peers=0))


def test_an_uplink_without_a_row_is_counted(pins: Path) -> None:
    async def scenario(kept: Kept) -> None:
        assert kept.plane.counts[PlaneCounter.UPLINKS_WITHOUT_ROOM] == 1
        kept.watching.take(kept.watching.survey())
        assert kept.plane.counts[PlaneCounter.UPLINKS_WITHOUT_ROOM] == 1
        assert set(kept.plane.modes()) == set(UPLINKS)

    keeping(pins, scenario, limits=Limits(uplinks=1))
