# SPDX-License-Identifier: MIT
"""Histories that violated a law once, each as short as it can be; they violate none any more."""

from pathlib import Path

import pytest

from noid.sim.history import History, decode
from noid.sim.runs import play, play_again

PLACE = Path(__file__).with_name("histories.jsonl")
HISTORIES = [decode(line) for line in PLACE.read_bytes().splitlines()]
SEEDS = {
    "swarm": (93, 96, 156, 343, 645, 968, 1681, 1727, 2844, 2996, 3380, 3677, 5875),
    "distrusted": (423, 485, 797),
    "healthy": (30, 35, 155, 726, 744),
    "lost-plain": (18, 86, 123, 182, 189),
    "rolled-back": (204,),
    "selective": (19, 20011, 20113, 30029),
    "spelled": (30036,),
    "starved": (5, 147, 182, 212),
    "turning": (5, 18, 24, 47, 49, 55, 123, 147, 210, 233, 391, 30093, 40037, 40087, 40138, 40214),
    "uneven": (327,),
    "walk-2x2": (177, 178, 192, 224),
    "walk-2x8": (61, 66, 78),
    "walk-4x4": (7, 21, 50),
    "walk-1x6": (30, 34, 43, 109),
}
"""Seeds that violated a law once."""


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES, ids=range(len(HISTORIES)))
def test_a_history_that_violated_a_law_once_violates_none(history: History) -> None:
    assert not play_again(history, PLACE.name).violation


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "seed"), [(name, one) for name in SEEDS for one in SEEDS[name]]
)
def test_a_seed_that_violated_a_law_once_violates_none(scenario: str, seed: int) -> None:
    run = play(seed, scenario)
    assert not run.violation, run.violation
