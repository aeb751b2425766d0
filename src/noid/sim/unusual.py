# SPDX-License-Identifier: MIT
"""Histories that ordinary networks rarely have: what stands still, returns, or is written oddly."""

import itertools
import random

from noid.sim.history import History, Step
from noid.sim.ordinary import BEGIN_MS, SECONDS, SOME_LOCATORS, some_traffic

MINUTES = 60 * SECONDS
FEW_LOCATORS = ((1, 2), (2, 2), (2, 3), (3, 2))
SLOW_US = 2_000_000
PACED_MS = 4_000
"""After a slow conversation, a fast one is known to be fast within this time."""


def ended(
    source: random.Random,
    number: int,
    locators: tuple[int, int],
    steps: list[Step],
    at_ms: int,
    *,
    caches: bool = False,
) -> History:
    """The history of these steps, with everything working again at the end."""
    ending = [Step(at_ms, "heal"), *[Step(at_ms, "start", (side,)) for side in (0, 1)]]
    return History(
        seed=number,
        locators=locators,
        duration_ms=at_ms + 8 * SECONDS,
        steps=(*sorted(steps, key=lambda step: step.at_ms), *ending),
        delay_ms=source.choice((1, 10, 40, 120)),
        jitter_ms=source.choice((0, 0, 2, 20)),
        traffic=some_traffic(source),
        caches=caches,
    )


def interrupted(number: int) -> History:
    """A daemon is replaced, or a host restarts, while a context searches for a pair."""
    source = random.Random(f"{number}/interrupted")
    locators = source.choice(FEW_LOCATORS)
    pairs = list(itertools.product(*map(range, locators)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 3)):
        works = source.sample(pairs, source.choice((0, 0, 1)))
        steps += [
            Step(at_ms, "cut", (*pair, source.choice((1, 2, 3, 3))))
            for pair in pairs
            if pair not in works
        ]
        for _ in range(source.randint(1, 3)):
            kind = source.choice(("restart", "restart", "reboot"))
            arguments = (source.randrange(2), *([source.randrange(2)] if kind == "reboot" else []))
            moment_ms = at_ms + source.choice((50, 150, 260, 400, 900, 2_500))
            steps.append(Step(moment_ms, kind, arguments))
        at_ms += source.choice((500, 1_500, 6_000, 40_000))
        back = source.choice(pairs)
        steps.append(Step(at_ms, "restore", (*back, 3)))
        at_ms += source.choice((1_500, 6_000, 20_000))
        steps.append(Step(at_ms, "heal"))
        at_ms += source.choice((300, 6_000))
    return ended(source, number, locators, steps, at_ms)


def blind(number: int) -> History:
    """The DNS fails for minutes while hosts are renumbered."""
    source = random.Random(f"{number}/blind")
    locators = source.choice(SOME_LOCATORS)
    side = source.choice([one for one in (0, 1) if locators[one] > 1])
    everything = (1 << locators[side]) - 1
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 3)):
        steps.append(Step(at_ms, "dns", (0,)))
        lasts_ms = source.choice((3_000, 60 * SECONDS, 6 * MINUTES))
        for _ in range(source.randint(1, 3)):
            moment_ms = at_ms + source.randrange(lasts_ms)
            some = source.randrange(1, everything + 1) | (1 if source.random() < 0.7 else 0)
            steps.append(Step(moment_ms, "have", (side, some)))
            steps.append(Step(moment_ms + source.choice((0, 2_000)), "publish", (side, some)))
        if source.random() < 0.5:
            moment_ms = at_ms + source.randrange(lasts_ms)
            steps.append(Step(moment_ms, source.choice(("restart", "forge-uc")), (1 - side,)))
        if lasts_ms > 60 * SECONDS:
            steps += [Step(at_ms, "pace", (SLOW_US,)), Step(at_ms + lasts_ms, "pace", (50_000,))]
        at_ms += lasts_ms
        steps.append(Step(at_ms, "dns", (1,)))
        at_ms += source.choice((2_000, 70 * SECONDS))
        steps += [
            Step(at_ms, "have", (side, everything)),
            Step(at_ms, "publish", (side, everything)),
        ]
        at_ms += source.choice((2_000, 70 * SECONDS))
    return ended(source, number, locators, steps, at_ms, caches=source.random() < 0.5)


def frozen(number: int) -> History:
    """A host stands still for a time, as a paused virtual machine; its clock goes on."""
    source = random.Random(f"{number}/frozen")
    locators = source.choice(FEW_LOCATORS)
    pairs = list(itertools.product(*map(range, locators)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 3)):
        lasts_ms = source.choice((100, 400, 2_000, 20_000, 4 * MINUTES, 20 * MINUTES))
        if lasts_ms > 20_000:
            steps += [Step(at_ms, "pace", (SLOW_US,)), Step(at_ms + lasts_ms, "pace", (50_000,))]
        steps.append(Step(at_ms, "freeze", (source.randrange(2), lasts_ms)))
        for _ in range(source.randint(0, 2)):
            moment_ms = at_ms + source.randrange(lasts_ms + 300)
            way = source.choice((1, 2, 3, 3))
            steps.append(Step(moment_ms, "cut", (*source.choice(pairs), way)))
        at_ms += lasts_ms + source.choice((300, 5_000, 30_000))
        steps.append(Step(at_ms, "heal"))
        at_ms += source.choice((300, 5_000))
    return ended(source, number, locators, steps, at_ms)


def starved(number: int) -> History:
    """The daemon of a host stands still for a time, perhaps again and again; its kernel goes on."""
    source = random.Random(f"{number}/starved")
    locators = source.choice(FEW_LOCATORS)
    pairs = list(itertools.product(*map(range, locators)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 3)):
        at_ms += source.choice((0, 2_000, 4_500))
        side, begun_ms = source.randrange(2), at_ms
        for _ in range(source.choice((1, 1, 1, 4))):
            lasts_ms = source.choice((50, 300, 1_000, 3_000, 6_000, 20_000))
            steps.append(Step(at_ms, "stall", (side, lasts_ms)))
            at_ms += lasts_ms + source.choice((1, 20))
        for _ in range(source.randint(0, 2)):
            moment_ms = source.choice((source.randrange(begun_ms, at_ms), at_ms)) + 100
            way = source.choice((1, 2, 3, 3))
            steps.append(Step(moment_ms, "cut", (*source.choice(pairs), way)))
        at_ms += source.choice((300, 5_000, 30_000))
        steps.append(Step(at_ms, "heal"))
        at_ms += source.choice((300, 5_000))
    return ended(source, number, locators, steps, at_ms)


def rolled_back(number: int) -> History:
    """A host returns to an earlier state, as a virtual machine does that is set back.

    It does not know what its peer told it in between, until the next UR of that. So the sets of the
    peer do not change in this time.
    """
    source = random.Random(f"{number}/rolled-back")
    locators = source.choice(FEW_LOCATORS)
    pairs = list(itertools.product(*map(range, locators)))
    side = source.randrange(2)
    save_ms = BEGIN_MS + source.choice((0, 1_000, 20_000))
    back_ms = save_ms + source.choice((500, 8_000, 70_000, 10 * MINUTES))
    steps = [Step(save_ms, "save", (side,)), Step(back_ms, "roll-back", (side,))]
    if back_ms - save_ms > 70_000:
        steps += [Step(save_ms, "pace", (SLOW_US,)), Step(back_ms, "pace", (50_000,))]
    for _ in range(source.randint(0, 4)):
        moment_ms = source.randrange(save_ms, back_ms)
        kind = source.choice(("cut", "have", "mark", "reboot", "heal"))
        some = source.randrange(1 << locators[side]) | 1
        arguments: dict[str, tuple[int, ...]] = {
            "cut": (*source.choice(pairs), source.choice((1, 2, 3))),
            "have": (side, some),
            "mark": (side, some & ~1, 0),
            "reboot": (1 - side, source.randrange(2)),
            "heal": (),
        }
        steps.append(Step(moment_ms, kind, arguments[kind]))
    at_ms = back_ms + source.choice((2_000, 10_000))
    steps.append(Step(at_ms, "cut", (*source.choice(pairs), 3)))
    at_ms += source.choice((2_000, 10_000))
    return ended(source, number, locators, steps, at_ms)


def spelled(number: int) -> History:
    """The DNS writes names in other cases, and lists addresses in any order, some twice."""
    source = random.Random(f"{number}/spelled")
    locators = source.choice(SOME_LOCATORS)
    pairs = list(itertools.product(*map(range, locators)))
    steps = [Step(0, "spell", (side, source.randrange(1 << 16))) for side in (0, 1)]
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 4)):
        side = source.randrange(2)
        steps.append(Step(at_ms, "spell", (side, source.randrange(1 << 16))))
        if source.random() < 0.4:
            steps.append(Step(at_ms, "reboot", (side, source.randrange(2))))
        lasts_ms = source.choice((5_000, 70_000, 11 * MINUTES))
        if lasts_ms > 5_000:
            steps += [Step(at_ms, "pace", (SLOW_US,)), Step(at_ms + lasts_ms, "pace", (50_000,))]
        at_ms += lasts_ms + PACED_MS
        steps.append(Step(at_ms, "cut", (*source.choice(pairs), 3)))
        at_ms += 3_000
        steps.append(Step(at_ms, "heal"))
        at_ms += 1_000
    return ended(source, number, locators, steps, at_ms, caches=source.random() < 0.5)
