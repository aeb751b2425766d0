# SPDX-License-Identifier: MIT
"""Shortens a history with a violation, as long as the violation stays."""

import dataclasses
from collections.abc import Callable, Iterator

from noid.sim.history import History, Step, Traffic, play
from noid.sim.node import MakeHost
from noid.sim.violation import Violation
from noid.sim.world import World

TRIES_MAX = 200
"""The number of histories that are played to shorten one."""
BEGIN_MS = 2_000
"""When a context is set up and the first step may happen."""
AFTER_MS = 1_000
"""How long after the violation a history may end."""


def violation_of(history: History, make_host: MakeHost) -> tuple[str, int]:
    """The check or law that a history violates, if any; and when, in ms from its beginning."""
    world = World(history.seed, make_host)
    begin_ns = world.now_ns
    try:
        play(world, history)
    except Violation as violation:
        return violation.check, (world.now_ns - begin_ns) // 1_000_000
    return "", 0


def shrink(history: History, make_host: MakeHost) -> History:
    """The shortest history found that violates the same check or law.

    Args:
        history: a history with a violation.
        make_host: creates the engines.
    """
    check, at_ms = violation_of(history, make_host)
    assert check, "nothing fails"
    tries = 0
    better = True
    while better and tries < TRIES_MAX:
        better = False
        for shorter in _shorter(history, at_ms):
            tries += 1
            found, found_at_ms = violation_of(shorter, make_host)
            if found == check:
                history, at_ms, better = shorter, found_at_ms, True
                break
            if tries >= TRIES_MAX:
                break
    return history


def _shorter(history: History, at_ms: int) -> Iterator[History]:
    """Shorter histories, the shortest first."""
    if history.duration_ms > at_ms + AFTER_MS:
        until_ms = at_ms + AFTER_MS
        steps = tuple(step for step in history.steps if step.at_ms <= at_ms)
        yield dataclasses.replace(history, duration_ms=until_ms, steps=steps)
    early = min((step.at_ms for step in history.steps), default=0) - BEGIN_MS
    if early > 0:
        steps = tuple(Step(one.at_ms - early, one.kind, one.arguments) for one in history.steps)
        yield dataclasses.replace(history, duration_ms=history.duration_ms - early, steps=steps)
    yield from map(_with(history), _without_some(history))
    if history.jitter_ms:
        yield dataclasses.replace(history, jitter_ms=0)
    plain = Traffic(interval_us=history.traffic.interval_us)
    if history.traffic != plain:
        yield dataclasses.replace(history, traffic=plain)


def _with(history: History) -> Callable[[tuple[int, int]], History]:
    def without(bounds: tuple[int, int]) -> History:
        first, last = bounds
        return dataclasses.replace(history, steps=history.steps[:first] + history.steps[last:])

    return without


def _without_some(history: History) -> Iterator[tuple[int, int]]:
    """Parts of the steps that may be left out, the longest first."""
    size = len(history.steps)
    while size:
        for first in range(0, len(history.steps) - size + 1, size):
            yield first, first + size
        size //= 2
