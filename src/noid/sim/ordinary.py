# SPDX-License-Identifier: MIT
"""Histories of common events: flapping uplinks, preferences of operators, restarts."""

import itertools
import random

from noid.sim.history import History, Step, Traffic

SECONDS = 1_000
BEGIN_MS = 4 * SECONDS
"""When a context is set up."""
QUIET_MS = 170 * SECONDS
"""Longer than a change of marks can have effects; see ``quiet.CALM_AGAIN_NS``."""
SOME_LOCATORS = ((2, 1), (2, 2), (2, 2), (2, 3), (3, 2))


def some_traffic(source: random.Random) -> Traffic:
    """Random traffic of programs."""
    return Traffic(
        interval_us=source.choice((10_000, 50_000, 50_000, 200_000)),
        replies=source.random() < 0.7,
        server_talks=source.random() < 0.2,
    )


def preferring(number: int) -> History:
    """``noid use``, ``avoid`` and ``auto`` while nothing fails: no packet is lost [D22, D25]."""
    source = random.Random(f"{number}/preferring")
    locators = source.choice(SOME_LOCATORS)
    delays = (1, 10, 60, 150)
    steps = [
        Step(0, "delay", (one, other, 3, source.choice(delays)))
        for one, other in itertools.product(*map(range, locators))
        if source.random() < 0.3
    ]
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 4)):
        steps += _preferred(source, locators, at_ms)
        at_ms += source.choice((500, 3 * SECONDS, 40 * SECONDS, QUIET_MS))
    duration_ms = at_ms + QUIET_MS
    return History(
        seed=number,
        locators=locators,
        duration_ms=duration_ms,
        steps=tuple(steps),
        delay_ms=source.choice(delays),
        jitter_ms=source.choice((0, 0, 2, 20)),
        traffic=Traffic(
            interval_us=source.choice((100_000, 300_000, 1_000_000)),
            replies=source.random() < 0.6,
            turnaround_ms=source.choice((1, 50)),
            server_talks=source.random() < 0.2,
        ),
        lossless_ms=duration_ms,
    )


def _preferred(source: random.Random, locators: tuple[int, int], at_ms: int) -> list[Step]:
    """One command, on a host that has at least two uplinks."""
    side = source.choice([one for one in (0, 1) if locators[one] > 1])
    everything = (1 << locators[side]) - 1
    one = 1 << source.randrange(locators[side])
    match source.choice(("avoid", "avoid", "use", "auto")):
        case "avoid":
            return [Step(at_ms, "mark", (side, one, 0))]
        case "use":
            return [Step(at_ms, "keep-back", (side, everything & ~one))]
        case _:
            return [Step(at_ms, "mark", (side, 0, 0)), Step(at_ms, "keep-back", (side, 0))]


def flapping(number: int) -> History:
    """An uplink flaps every few seconds; the DNS follows some changes later."""
    source = random.Random(f"{number}/flapping")
    locators = source.choice(SOME_LOCATORS)
    side = source.choice([one for one in (0, 1) if locators[one] > 1])
    everything = (1 << locators[side]) - 1
    index = source.randrange(locators[side])
    without = everything & ~(1 << index)
    how = source.choice(("have", "have", "mark", "provider"))
    lag = source.choice((0, 1, 2, 5, 20))
    gaps_ms = source.choice(((1_500, 2_500), (3_000, 4_000), (2_000, 8_000), (400, 6_000)))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for turn in range(2 * source.randint(2, 10)):
        is_up = turn % 2
        arguments = {
            "have": (side, everything if is_up else without),
            "mark": (side, 0, 0 if is_up else 1 << index),
            "provider": (side, index, is_up),
        }
        steps.append(Step(at_ms, how, arguments[how]))
        if how == "mark":
            steps.append(Step(at_ms, "provider", arguments["provider"]))
        if lag and turn >= lag:
            steps.append(
                Step(at_ms, "publish", (side, everything if (turn - lag) % 2 else without))
            )
        at_ms += source.randint(*gaps_ms)
    steps.append(Step(at_ms, "publish", (side, everything)))
    return History(
        seed=number,
        locators=locators,
        duration_ms=at_ms + 8 * SECONDS,
        steps=tuple(steps),
        delay_ms=source.choice((1, 10, 40, 120)),
        jitter_ms=source.choice((0, 0, 2, 20)),
        traffic=some_traffic(source),
        caches=source.random() < 0.5,
    )


def congested(number: int) -> History:
    """The delay of some pairs grows to seconds and shrinks again; no packet is lost."""
    source = random.Random(f"{number}/congested")
    locators = source.choice(((1, 1), *SOME_LOCATORS))
    pairs = list(itertools.product(*map(range, locators)))
    usual_ms = source.choice((1, 10, 40))
    steps: list[Step] = []
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 4)):
        slow = [one for one in pairs if one == (0, 0) or source.random() < 0.4]
        way, delay_ms = source.choice((1, 2, 3)), source.choice((150, 400, 1_000, 2_500))
        steps += [Step(at_ms, "delay", (*pair, way, delay_ms)) for pair in slow]
        at_ms += source.choice((300, 2_000, 10_000))
        if source.random() < 0.3:
            steps += [Step(at_ms, "delay", (*pair, way, delay_ms // 3)) for pair in slow]
            at_ms += 2_000
        steps += [Step(at_ms, "delay", (*pair, way, usual_ms)) for pair in slow]
        at_ms += source.choice((500, 5_000, 30_000))
    duration_ms = at_ms + 10 * SECONDS
    return History(
        seed=number,
        locators=locators,
        duration_ms=duration_ms,
        steps=tuple(steps),
        delay_ms=usual_ms,
        jitter_ms=source.choice((0, 0, 2, 20)),
        traffic=some_traffic(source),
        lossless_ms=duration_ms,
    )


def half_dead(number: int) -> History:
    """A host restarts without its contexts, while one direction of some pairs is dead."""
    source = random.Random(f"{number}/half-dead")
    locators = source.choice(((1, 1), *SOME_LOCATORS))
    side, remembers = source.randrange(2), source.randrange(2)
    pairs = list(itertools.product(*map(range, locators)))
    kept = source.choice(pairs)
    way = source.choice((1, 2))
    some = source.random() < 0.3
    dead = [one for one in pairs if one != kept and not (some and source.random() < 0.5)] or pairs
    cut_ms = BEGIN_MS
    reboot_ms = max(BEGIN_MS, cut_ms + source.choice((-300, 0, 30, 300, 2_000, 10_000)))
    heal_ms = reboot_ms + source.choice((5_000, 20_000, 90_000))
    steps = [Step(cut_ms, "cut", (*pair, way)) for pair in dead]
    steps.append(Step(reboot_ms, "reboot", (side, remembers)))
    if source.random() < 0.3:
        steps.append(Step(reboot_ms + source.choice((100, 1_000)), "reboot", (side, remembers)))
    steps.append(Step(heal_ms, "heal"))
    return History(
        seed=number,
        locators=locators,
        duration_ms=heal_ms + 10 * SECONDS,
        steps=tuple(sorted(steps, key=lambda step: step.at_ms)),
        delay_ms=source.choice((1, 10, 40, 120)),
        jitter_ms=source.choice((0, 0, 2)),
        traffic=some_traffic(source),
    )
