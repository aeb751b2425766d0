# SPDX-License-Identifier: MIT
"""Random histories of sites with borders: faults of uplinks, routers, daemons and prefixes.

They are combined with faults of hosts, of their daemons and of the network beyond the providers. A
host with one locator sends packets that no border rewrites.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

from noid.sim.border_steps import NONE
from noid.sim.history import History, Step, Traffic

GAPS_MS = (30, 300, 2_000, 6_000, 20_000)
BEGIN_MS = 4_000
AFTER_MS = 8_000
LEARNED_MS = (0, 0, 60, 400, 3_000)
"""The times until a border detects a failure: carrier, BFD, neighbour discovery, checks."""
CALM_MS = 180_000
"""Longer than a change can have effects; see ``quiet.CALM_AGAIN_NS``."""
HOLD_MS = (0, 200, 3_000)
"""The times until an uplink that works again is used again."""


class Plan(NamedTuple):
    """What a history begins with.

    Attributes:
        locators: of the hosts.
        uplinks: of the borders.
        more: locators of hosts in other LANs behind the first border.
    """

    locators: tuple[int, int]
    uplinks: tuple[int, int]
    more: tuple[int, ...] = ()


PLANS = (
    *(Plan((2, 2), (2, 2)),) * 3,
    *(Plan((2, 2), (2, 0)),) * 3,
    Plan((3, 2), (3, 0)),
    Plan((3, 2), (2, 2)),
    Plan((4, 2), (2, 0)),
    Plan((1, 2), (2, 2)),
    Plan((2, 1), (2, 2)),
    Plan((1, 2), (2, 0)),
    Plan((1, 1), (1, 2)),
    Plan((2, 2), (1, 2)),
)

LAN_PLANS = (
    *(Plan((2, 2), (2, 0), (2,)),) * 2,
    Plan((2, 2), (2, 2), (2, 2)),
    Plan((2, 2), (2, 2), (2, 1)),
    Plan((2, 2), (2, 0), (1, 2)),
    Plan((3, 2), (3, 0), (3,)),
    Plan((4, 2), (2, 0), (2,)),
)


def bordered(number: int) -> History:
    """A random history with borders at one or both sites."""
    source = random.Random(f"{number}/bordered")
    plan = source.choice(PLANS)
    if source.random() < 0.3:
        plan = Plan(plan.locators[::-1], plan.uplinks[::-1])
    return _drawn(source, number, plan)


def lans(number: int) -> History:
    """A random history with hosts in several LANs behind one border, which also talk within."""
    source = random.Random(f"{number}/lans")
    return _drawn(source, number, source.choice(LAN_PLANS))


def _drawn(source: random.Random, number: int, plan: Plan) -> History:
    steps: list[Step] = []
    at_ms = source.choice((0, 500, BEGIN_MS, BEGIN_MS))
    for _ in range(source.randint(1, 10)):
        kind = source.choice(KINDS)
        at_border = kind in BORDER_KINDS
        sides = (0, 1) if at_border else range(2 + len(plan.more))
        side = source.choice([side for side in sides if not at_border or plan.uplinks[side]])
        steps += (_at_border if at_border else _elsewhere)(source, plan, kind, side, at_ms)
        at_ms += source.choice(GAPS_MS)
    steps.append(Step(at_ms, "heal"))
    return History(
        seed=number,
        locators=plan.locators,
        uplinks=plan.uplinks,
        more=plan.more,
        duration_ms=at_ms + AFTER_MS,
        steps=tuple(sorted(steps, key=lambda one: one.at_ms)),
        delay_ms=source.choice((1, 10, 40, 120)),
        jitter_ms=source.choice((0, 0, 2, 20)),
        traffic=Traffic(
            interval_us=source.choice((10_000, 50_000, 50_000, 200_000)),
            replies=source.random() < 0.7,
            server_talks=source.random() < 0.2,
        ),
    )


CALM: list[tuple[Plan, int, int]] = [
    (plan, side, uplink)
    for plan in (Plan((2, 2), (2, 0)), Plan((2, 2), (2, 2)), Plan((1, 2), (2, 2)))
    for side, uplinks in enumerate(plan.uplinks)
    for uplink in range(uplinks)
]
"""Lets the operator of a border choose an uplink."""


def calm(number: int) -> History:
    """A border rewrites all rewritable packets while nothing fails."""
    plan, side, uplink = CALM[number % len(CALM)]
    return History(
        seed=number,
        locators=plan.locators,
        uplinks=plan.uplinks,
        duration_ms=BEGIN_MS + CALM_MS,
        steps=(Step(BEGIN_MS, "border-use", (side, uplink)),),
        traffic=Traffic(interval_us=300_000),
    )


def _at_border(
    source: random.Random, plan: Plan, kind: str, side: int, at_ms: int
) -> Iterator[Step]:
    """Adds an event at a border, and often its end."""
    uplinks = plan.uplinks[side]
    uplink = source.randrange(uplinks)
    end_ms = at_ms + source.choice(GAPS_MS)
    ends = source.random() < 0.6
    match kind:
        case "uplink":
            yield Step(at_ms, kind, (side, uplink, 0, source.choice(LEARNED_MS)))
            if ends:
                yield Step(end_ms, kind, (side, uplink, 1, source.choice(HOLD_MS)))
        case "border-use" | "border-priority":
            yield Step(at_ms, kind, (side, uplink))
            if ends:
                yield Step(end_ms, kind, (side, NONE))
        case "border-daemon" | "router":
            yield Step(at_ms, kind, (side, 0))
            yield Step(end_ms, kind, (side, 1))
        case _:
            yield from _delegated(source, plan, side, at_ms)


def _delegated(source: random.Random, plan: Plan, side: int, at_ms: int) -> Iterator[Step]:
    """A provider delegates another prefix, which replaces the former at the border and at the host.

    The border is first, and DNS and host follow later; or the other way round.
    """
    hosts = (1 << plan.locators[side]) - 1
    everything = hosts | (1 << plan.uplinks[side]) - 1
    mask = source.randrange(1, everything + 1)
    lag_ms = source.choice((0, 0, 100, 3_000))
    yield Step(at_ms + source.choice((0, lag_ms)), "delegate", (side, mask))
    counts = {side: plan.locators[side]}
    if side == 0:
        counts |= dict(enumerate(plan.more, 2))
    for host, count in counts.items():
        some = mask & (1 << count) - 1
        for kind in ("have", "publish") if some else ():
            yield Step(at_ms + source.choice((0, lag_ms)), kind, (host, some))


def _elsewhere(
    source: random.Random, plan: Plan, kind: str, side: int, at_ms: int
) -> Iterator[Step]:
    """Adds an event at a host or beyond the providers."""
    a, b = plan.locators
    pair = (source.randrange(a), source.randrange(b))
    everything = (1 << (*plan.locators, *plan.more)[side]) - 1
    some = source.randrange(1, everything + 1)
    match kind:
        case "cut" | "restore":
            yield Step(at_ms, kind, (*pair, source.choice((1, 2, 3, 3))))
        case "provider":
            end = side % 2
            yield Step(at_ms, kind, (end, pair[end], source.randrange(2)))
        case "reboot":
            yield Step(at_ms, kind, (side, source.randrange(2)))
        case "restart":
            yield Step(at_ms, kind, (side,))
        case "mark":
            yield Step(at_ms, kind, (side, some & ~1, source.choice((0, some & ~1))))
        case "dns":
            yield Step(at_ms, kind, (source.randrange(2),))
        case "weather":
            yield Step(at_ms, kind, (source.choice((0, 20)),))
        case _:
            yield Step(at_ms, kind)


BORDER_KINDS = (
    *("uplink",) * 6,
    *("border-use",) * 2,
    *("border-priority", "border-daemon", "border-daemon", "router", "delegate"),
)
KINDS = (
    *BORDER_KINDS,
    *("cut", "cut", "restore", "provider", "provider"),
    *("reboot", "restart", "mark", "dns", "weather", "heal"),
)
