# SPDX-License-Identifier: MIT
"""Random walks: histories of all kinds of events, one after another or several at once."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from noid.sim.history import History, Step
from noid.sim.ordinary import some_traffic

FEW_PAIRS = 16
SECONDS = 1_000
SLEEPS_MS = (200, 3 * SECONDS, 30 * SECONDS)
LONG_SLEEPS_MS = (*SLEEPS_MS, 4 * 60 * SECONDS, 16 * 60 * SECONDS, 40 * 60 * SECONDS)
AMOUNTS: dict[str, tuple[int, ...]] = {
    "delay": (1, 30, 150),
    "loss": (0, 5, 20),
    "weather": (0, 20),
    "dns": (0, 1),
    "pace": (20_000, 50_000, 200_000, 1_000_000),
    "reboot": (0, 1),
    "alias": (0, 1),
    "sleep": SLEEPS_MS,
}
"""The values that each kind of step draws from, in its own unit."""
UNSEEN_MS = 90 * SECONDS
BEGIN_MS = 2 * SECONDS
"""When a context is set up."""


def walk(a: int, b: int) -> Callable[[int], History]:
    """Random steps of every kind, for these numbers of locators."""

    def history(number: int) -> History:
        source = random.Random(f"{number}/walk-{a}x{b}")
        # A search over many locators takes longer, so there are fewer steps.
        gaps_ms = (30, 300, 2_000, 6_000, 20_000)
        steps: list[Step] = []
        at_ms = BEGIN_MS
        for _ in range(source.randint(1, 12)):
            steps += _drawn(source, a, b, at_ms, KINDS)
            at_ms += source.choice(gaps_ms)
        return _ending(source, number, (a, b), steps, at_ms)

    return history


def storm(number: int) -> History:
    """Several things happen at one time: faults of one direction, renumbering, restarts, sleep."""
    source = random.Random(f"{number}/storm")
    a, b = source.choice(((2, 2), (2, 3), (3, 2), (3, 3), (1, 3)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 5)):
        for _ in range(source.randint(2, 6)):
            steps += _drawn(source, a, b, at_ms + source.choice((0, 0, 5, 40, 150)), STORM_KINDS)
        at_ms += source.choice((300, 1_500, 6_000, 20_000, 70_000))
    steps.sort(key=lambda step: step.at_ms)
    return _ending(source, number, (a, b), steps, at_ms)


def turning(number: int) -> History:
    """Of the directions of all pairs, others work every few moments; one each way always does."""
    source = random.Random(f"{number}/turning")
    a, b = source.choice(((2, 2), (2, 2), (2, 3), (3, 2), (3, 3)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(3, 15)):
        steps += _drawn(source, a, b, at_ms, ("only", "only", "turn"))
        at_ms += source.randint(700, 5_000)
    return _ending(source, number, (a, b), steps, at_ms)


def selective(number: int) -> History:
    """Some pairs lose data and pass messages in its form, among cuts, restarts and healing."""
    source = random.Random(f"{number}/selective")
    a, b = source.choice(((1, 1), (1, 2), (2, 2), (2, 2), (2, 3), (3, 2)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 4)):
        for _ in range(source.choice((1, 1, 2, 3, a * b))):
            steps += _drawn(source, a, b, at_ms, ("filter-data",))
        at_ms += source.choice((0, 300, 2_000, 6_000, 70_000))
        for _ in range(source.randint(0, 3)):
            steps += _drawn(source, a, b, at_ms, SELECTIVE_KINDS)
            at_ms += source.choice((0, 30, 300, 2_000, 6_000, 20_000))
    if unasked := number % 4 == 3:
        at_ms += UNSEEN_MS  # the loss of what one end sends alone is noticed late
    history = _ending(source, number, (a, b), steps, at_ms)
    return replace(history, traffic=replace(history.traffic, server_talks=unasked))


def asleep(number: int) -> History:
    """A host sleeps, as a laptop does; its clock stops, and everything else continues."""
    source = random.Random(f"{number}/asleep")
    a, b = source.choice(((1, 2), (2, 2), (2, 3), (3, 2)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 3)):
        side, sleep_ms = source.randrange(2), source.choice(LONG_SLEEPS_MS)
        begin_ms, at_ms = at_ms, at_ms + sleep_ms
        steps.append(Step(begin_ms, "sleep", (side, sleep_ms)))
        if sleep_ms > SLEEPS_MS[-1]:
            pace_us = source.choice((1_000_000, 5_000_000))
            steps += [Step(begin_ms, "pace", (pace_us,)), Step(at_ms, "pace", (50_000,))]
        for _ in range(source.randint(0, 2)):
            kind = source.choice(("cut", "only", "provider", "publish", "heal"))
            moment_ms = source.randrange(begin_ms, at_ms + 200)
            steps += _drawn(source, a, b, moment_ms, (kind,))
        at_ms += source.choice((300, 5_000, 30_000))
    steps.sort(key=lambda step: step.at_ms)
    return _ending(source, number, (a, b), steps, at_ms)


def _ending(
    source: random.Random, number: int, locators: tuple[int, int], steps: list[Step], at_ms: int
) -> History:
    """The history of these steps, with everything working again at the end."""
    a, b = locators
    ending = [Step(at_ms, "heal"), *[Step(at_ms, "start", (side,)) for side in (0, 1)]]
    return History(
        seed=number,
        locators=locators,
        duration_ms=at_ms + (6_000 if a * b <= FEW_PAIRS else 12_000),
        steps=(*steps, *ending),
        delay_ms=source.choice((1, 10, 40, 120)),
        jitter_ms=source.choice((0, 0, 2, 20)),
        traffic=some_traffic(source),
    )


def _drawn(
    source: random.Random, a: int, b: int, at_ms: int, kinds: tuple[str, ...]
) -> Iterator[Step]:
    """Adds one event, of one step or more."""
    side = source.randrange(2)
    counts = (a, b)
    pair = (source.randrange(a), source.randrange(b))
    way = source.choice((1, 2, 3, 3))
    everything = (1 << counts[side]) - 1
    some = source.randrange(1, everything + 1)
    kind = source.choice(kinds)
    match kind:
        case "only":  # one pair remains, or one in each direction
            there, back = _pick(source, a, b), _pick(source, a, b)
            for one in itertools.product(range(a), range(b)):
                cut = 3 & ~(1 if one == there else 0) & ~(2 if one == back else 0)
                yield Step(at_ms, "restore", (*one, 3))
                yield Step(at_ms, "cut", (*one, cut))
        case "turn":  # each direction of each pair works or does not
            for one in itertools.product(range(a), range(b)):
                cut = source.randrange(4)
                yield Step(at_ms, "restore", (*one, 3))
                yield Step(at_ms, "cut", (*one, cut))
        case "cut" | "restore" | "filter" | "filter-data" | "filter-control" | "unfilter":
            yield Step(at_ms, kind, (*pair, way))
        case "delay" | "loss":
            yield Step(at_ms, kind, (*pair, way, source.choice(AMOUNTS[kind])))
        case "weather" | "dns" | "pace":
            yield Step(at_ms, kind, (source.choice(AMOUNTS[kind]),))
        case "reboot" | "alias" | "sleep":
            yield Step(at_ms, kind, (side, source.choice(AMOUNTS[kind])))
        case "provider":
            yield Step(at_ms, kind, (side, source.randrange(counts[side]), source.randrange(2)))
        case "restart" | "forge-uc":
            yield Step(at_ms, kind, (side,))
        case "have" | "publish":
            # The AID stays: the family of renumberings tests its removal.
            yield Step(at_ms, kind, (side, some | 1))
        case "mark":
            yield Step(at_ms, kind, (side, some & ~1, source.choice((0, some & ~1))))
        case "keep-back":
            yield Step(at_ms, kind, (side, some & ~1))
        case "flash":  # from now on it has only these, without a warning
            yield Step(at_ms, "have", (side, some))
            yield Step(at_ms, "publish", (side, some))
        case _:
            yield Step(at_ms, kind)


def _pick(source: random.Random, a: int, b: int) -> tuple[int, int]:
    return source.randrange(a), source.randrange(b)


KINDS = (
    *("cut",) * 4,
    *("only",) * 3,
    *("provider",) * 3,
    *("restore", "filter", "filter-control", "unfilter", "delay", "loss"),
    *("reboot", "restart", "have", "publish", "mark", "dns", "heal", "heal"),
    *("weather", "flash", "alias"),
)
STORM_KINDS = (
    *KINDS,
    *("cut", "have", "publish", "reboot", "restart", "mark") * 2,
    *("keep-back", "sleep", "pace", "forge-uc"),
)
SELECTIVE_KINDS = (
    *("filter-data", "cut", "provider", "restart") * 2,
    *("restore", "unfilter", "reboot", "only", "delay", "sleep"),
)
