# SPDX-License-Identifier: MIT
"""A daemon stands still for seconds while its kernel goes on; then a pair fails [D20, D43]."""

import pytest

from noid.constants import MILLISECOND
from noid.sim.history import History, Step, Traffic, play
from noid.sim.runs import play_again
from noid.sim.world import World

STALLED_MS = 5_000
AFTER_MS = 100
"""From the end of that to the failure."""
LONG_MS = 25_000
RUNS_MS = 20
"""How long a daemon runs between two times that it stands still: no request is answered in time."""
BRIEF = Traffic(interval_us=10_000, turnaround_ms=1)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("begins_ms", [1_000, 2_500, 4_500])
def test_a_failure_after_a_daemon_stood_still_is_noticed_as_soon(side: int, begins_ms: int) -> None:
    """The peer asks for a proof in that time, and gets all answers seconds late."""
    failure_ms = begins_ms + STALLED_MS + AFTER_MS
    history = History(
        seed=1,
        locators=(2, 2),
        duration_ms=failure_ms + 8_000,
        steps=(
            Step(begins_ms, "stall", (side, STALLED_MS)),
            Step(failure_ms, "provider", (0, 0, 0)),
        ),
        delay_ms=1,
        traffic=BRIEF,
    )
    run = play_again(history, __name__)
    assert not run.violation, f"{run.violation}\n{run.ladder}"
    assert run.judged["liveness"]


@pytest.mark.slow
def test_a_peer_that_stood_still_again_and_again_measures_nothing() -> None:
    """Its data came, and requests went over all pairs, over most for the first time."""
    begins_ms = range(2_500, 90_000, LONG_MS + RUNS_MS)
    history = History(
        seed=1,
        locators=(2, 2),
        duration_ms=100_000,
        steps=tuple(Step(at_ms, "stall", (1, LONG_MS)) for at_ms in begins_ms),
        delay_ms=40,
    )
    world = World(history.seed)
    play(world, history)
    (context,) = world.nodes["a"].host.contexts
    assert len(context.history) == 4
    measured = {pair: one.round_trip_ns for pair, one in context.history.items()}
    assert measured.pop(context.pair) == 2 * history.delay_ms * MILLISECOND
    assert not any(measured.values())
