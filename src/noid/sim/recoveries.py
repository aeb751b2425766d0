# SPDX-License-Identifier: MIT
"""Histories of long outages, after which everything must work again."""

import itertools
import random

from noid.sim.history import History, Step, Traffic

MINUTES = 60_000
BOTH_BY_BOTH = tuple(itertools.product(range(2), range(2)))
EXPIRED_MS = 20 * MINUTES
"""Longer than an Update Request is repeated [D16]."""
LONG_MS = (3_000, 60_000, 10 * 60_000, 16 * 60_000, 40 * 60_000)
SLOW_US = 5_000_000


def partition(number: int) -> History:
    """Nothing passes for a time in which both ends change; then everything passes."""
    source = random.Random(f"{number}/partition")
    locators = source.choice(((1, 2), (2, 2), (3, 2)))
    lasts_ms = source.choice(LONG_MS)
    begin_ms = 5_000
    end_ms = begin_ms + lasts_ms
    steps = [Step(begin_ms, "provider", (0, index, 0)) for index in range(locators[0])]
    slowly = lasts_ms > LONG_MS[1]
    if slowly:
        steps.append(Step(begin_ms + 2_000, "pace", (SLOW_US,)))
    for _ in range(source.randint(1, 4)):
        steps.append(_changed(source, locators, source.randrange(begin_ms, end_ms)))
    steps.append(Step(end_ms, "heal"))
    if slowly:
        steps.append(Step(end_ms, "pace", (50_000,)))
    return History(
        seed=number,
        locators=locators,
        duration_ms=end_ms + 8_000,
        steps=tuple(sorted(steps, key=lambda step: step.at_ms)),
        delay_ms=source.choice((1, 10, 60)),
        traffic=Traffic(replies=source.random() < 0.7),
    )


def _changed(source: random.Random, locators: tuple[int, int], at_ms: int) -> Step:
    side = source.randrange(2)
    some = source.randrange(1 << locators[side]) | 1
    kind = source.choice(("have", "have", "mark", "publish", "restart"))
    arguments: dict[str, tuple[int, ...]] = {
        "have": (side, some),
        "mark": (side, some & ~1, 0),
        "publish": (side, some),
        "restart": (side,),
    }
    return Step(at_ms, kind, arguments[kind])


def unable(number: int) -> History:
    """The shim of an end is stopped for a time; later the other end uses it again."""
    source = random.Random(f"{number}/unable")
    side = source.randrange(2)
    stop_ms = source.choice((0, 5_000))
    start_ms = stop_ms + source.choice((10_000, 2 * 60_000, 12 * 60_000))
    cut_ms = start_ms + 16 * 60_000
    steps = (
        Step(stop_ms, "stop", (side,)),
        Step(stop_ms + 5_000, "pace", (SLOW_US // 5,)),
        Step(start_ms, "start", (side,)),
        Step(cut_ms, "pace", (50_000,)),
        Step(cut_ms + 2_000, "cut", (0, 0, 3)),
    )
    return History(seed=number, locators=(2, 2), duration_ms=cut_ms + 6_000, steps=steps)


def expired(number: int) -> History:
    """Updates about a change are unanswered until they expire; they must be repeated [D45]."""
    source = random.Random(f"{number}/expired")
    kind = source.choice(("have", "mark"))
    change = (0, 1) if kind == "have" else (0, 2, 0)
    steps = [
        *[Step(2_000, "use", (one, 1)) for one in (0, 1)],
        Step(2_000, "pause", (EXPIRED_MS,)),
        *[Step(4_000, "provider", (0, index, 0)) for index in (0, 1)],
        Step(5_000, kind, change),
        Step(EXPIRED_MS - MINUTES, "heal"),
    ]
    return History(
        seed=number,
        locators=(2, 2),
        duration_ms=EXPIRED_MS + 12_000,
        steps=tuple(steps),
        traffic=Traffic(replies=False),
    )


def slots_alone(number: int) -> History:
    """Plain control messages are dropped, and messages in the form of data pass."""
    ways = [number >> 2 * index & 3 or 3 for index in range(len(BOTH_BY_BOTH))]
    pairs = zip(BOTH_BY_BOTH, ways, strict=True)
    steps = [Step(0, "filter-control", (*pair, way)) for pair, way in pairs]
    return History(
        seed=number,
        locators=(2, 2),
        duration_ms=17 * MINUTES,
        steps=tuple(steps),
        traffic=Traffic(interval_us=SLOW_US),
    )


def restored(number: int) -> History:
    """Data does not pass, and a UC starts a test of the context, which the peer still has [D39]."""
    source = random.Random(f"{number}/restored")
    doubt_ms = source.choice((3_000, 8_000, 15_000))
    heal_ms = doubt_ms + source.choice((1_100, 1_500, 5_000, 30_000))
    cut_ms = heal_ms + 2 * MINUTES
    steps = [
        *[Step(2_000, "filter", (*pair, 3)) for pair in BOTH_BY_BOTH],
        *[Step(doubt_ms, "filter-control", (*pair, 3)) for pair in BOTH_BY_BOTH],
        Step(doubt_ms, "forge-uc", (source.randrange(2),)),
        Step(heal_ms, "heal"),
        Step(cut_ms, "cut", (0, 0, 3)),
    ]
    return History(
        seed=number,
        locators=(2, 2),
        duration_ms=cut_ms + 6_000,
        steps=tuple(steps),
        traffic=Traffic(interval_us=100_000),
    )


def restarted(number: int) -> History:
    """A firewall passes only one form; the daemon of an end is replaced [D36, D47]."""
    kind = ("filter", "filter-control")[number & 1]
    restart_ms = (4_000, 9_000, 30_000, 90_000)[number >> 2 & 3]
    is_plain = restart_ms > 4_000  # by then, or the form of data passes: a restart loses nothing
    steps = [
        *[Step(2_000, kind, (*pair, 3)) for pair in BOTH_BY_BOTH],
        Step(restart_ms, "restart", (number >> 1 & 1,)),
        Step(restart_ms + 10_000, "heal"),
    ]
    return History(
        seed=number,
        locators=(2, 2),
        duration_ms=restart_ms + 16_000,
        steps=tuple(steps),
        traffic=Traffic(interval_us=1_000_000, replies=False, server_talks=True),
        lossless_from_ms=restart_ms if is_plain else 0,
        lossless_ms=restart_ms + 10_000 if is_plain else 0,
    )
