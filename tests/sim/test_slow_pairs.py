# SPDX-License-Identifier: MIT
"""A switch to a pair that is much slower than the one before, and was never measured [D43]."""

import itertools

import pytest

from noid.constants import MILLISECOND
from noid.sim.history import History, Step, Traffic, play
from noid.sim.world import World

CUT_MS = 10_000
INTERVAL_MS = 20
SWITCH_MS = 80
"""From the failure to the first request over another pair, and the packets around both ends."""


@pytest.mark.slow
@pytest.mark.parametrize("round_trip_ms", [200, 300, 600, 900, 1_200, 2_000])
@pytest.mark.parametrize("seed", [1, 2])
def test_packets_are_lost_for_little_more_than_its_round_trip(
    seed: int, round_trip_ms: int
) -> None:
    pairs = list(itertools.product(range(2), range(2)))
    slow = [Step(0, "delay", (*pair, 3, round_trip_ms // 2)) for pair in pairs[1:]]
    history = History(
        seed=seed,
        locators=(2, 2),
        duration_ms=CUT_MS + 10_000,
        steps=(*slow, Step(CUT_MS, "cut", (0, 0, 3))),
        delay_ms=10,
        traffic=Traffic(interval_us=INTERVAL_MS * 1_000, replies=False, server_talks=True),
    )
    world = World(seed)
    begun_ns = world.now_ns
    play(world, history)
    lost = {"a": 0, "b": 0}
    for sent in world.ledger.sent.values():
        is_early = sent.at_ns < begun_ns + (CUT_MS + 5_000) * MILLISECOND
        lost[sent.sender] += is_early and not sent.copies
    most = (round_trip_ms + SWITCH_MS) // INTERVAL_MS
    assert all(most // 2 < one <= most for one in lost.values()), lost
