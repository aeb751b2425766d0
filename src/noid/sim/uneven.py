# SPDX-License-Identifier: MIT
"""Histories in which pairs differ much, and hosts and names change while a context recovers."""

import itertools
import random
from dataclasses import replace

from noid.sim.history import History, Step
from noid.sim.ordinary import BEGIN_MS, SECONDS
from noid.sim.unusual import FEW_LOCATORS, ended

Pair = tuple[int, int]
LONG_OCTETS = 1_420
"""The payload of a packet that some lines do not carry."""


def uneven(number: int) -> History:
    """Some directions of pairs lose, copy, reorder or delay packets, or do not carry long ones."""
    source = random.Random(f"{number}/uneven")
    locators = source.choice(FEW_LOCATORS)
    pairs = list(itertools.product(range(locators[0]), range(locators[1])))
    steps: list[Step] = []
    for pair in pairs:
        if source.random() < 0.6:
            steps += _made_worse(source, pair, 0)
    at_ms = BEGIN_MS
    for _ in range(source.randint(1, 5)):
        for _ in range(source.randint(1, 4)):
            moment_ms = at_ms + source.choice((0, 0, 20, 150, 600))
            steps += _drawn(source, locators, source.choice(pairs), moment_ms)
        at_ms += source.choice((300, 1_500, 6_000, 20_000, 70_000))
    history = ended(source, number, locators, steps, at_ms, caches=source.random() < 0.3)
    size = source.choice((100, LONG_OCTETS))
    return replace(history, traffic=replace(history.traffic, size=size))


def _made_worse(source: random.Random, pair: Pair, at_ms: int) -> list[Step]:
    """A pair of which one direction or both are slow, reorder, lose or repeat packets."""
    way = source.choice((1, 2, 3))
    kind, amount = source.choice(
        (
            ("delay", source.choice((60, 500, 1_200, 3_000))),
            ("jitter", source.choice((50, 300, 1_500))),
            ("loss", source.choice((5, 20, 60))),
            ("copies", source.choice((5, 50, 100))),
            ("mtu", source.choice((1280, 1400))),
        )
    )
    return [Step(at_ms, kind, (*pair, way, amount))]


def _drawn(source: random.Random, locators: tuple[int, int], pair: Pair, at_ms: int) -> list[Step]:
    """One event, of one step or more."""
    side = source.randrange(2)
    everything = (1 << locators[side]) - 1
    some = source.randrange(1, everything + 1) | 1
    match source.choice(("worse", "worse", "cut", "cut", "provider", "twice", "name", "heal")):
        case "worse":
            return _made_worse(source, pair, at_ms)
        case "cut":
            return [Step(at_ms, "cut", (*pair, source.choice((1, 2, 3))))]
        case "provider":
            index = source.randrange(locators[side])
            return [Step(at_ms, "provider", (side, index, source.randrange(2)))]
        case "twice":  # a host that starts again while its peer recovers from its first start
            kind = source.choice(("reboot", "restart"))
            arguments = (side, source.randrange(2)) if kind == "reboot" else (side,)
            again_ms = at_ms + source.choice((20, 100, 400, 1_200, 3 * SECONDS))
            return [Step(at_ms, kind, arguments), Step(again_ms, kind, arguments)]
        case "name":
            back_ms = at_ms + source.choice((100, 2 * SECONDS, 70 * SECONDS))
            return [
                Step(at_ms, "publish", (side, some)),
                Step(back_ms, "publish", (side, everything)),
            ]
        case _:
            return [Step(at_ms, "heal")]
