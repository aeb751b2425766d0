"""Families of histories, each a function from a number to a history.

The exhaustive ones have as many histories as there are: every cut of every pair, every two control
messages that are lost. The others draw a history from the number, for ever.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from noid.sim.history import History, Step, Traffic

CUT_MS, HEAL_MS, END_MS = 1_000, 3_500, 6_000
"""When a cut begins and ends, and the history."""
MESSAGES = 10
"""Which control messages are lost: any two of so many."""
IDLE_MS = 16 * 60_000
"""Longer than an idle context lives."""
FEW_PAIRS = 16


@dataclass(frozen=True, slots=True)
class Family:
    """Histories of one kind.

    Attributes:
        summary: what they are.
        history: the one with a number.
        count: how many there are; 0 for as many as one likes.
        is_first: whether a history is the first of those that differ in the order of locators
            alone; of these one is enough.
    """

    summary: str
    history: Callable[[int], History]
    count: int = 0
    is_first: Callable[[int], bool] = lambda number: True

    def numbers(self) -> Iterator[int]:
        """The numbers of an exhaustive family, one of those that differ in order alone."""
        return filter(self.is_first, range(self.count))


# --- exhaustive -----------------------------------------------------------------------------------


def _cuts(a: int, b: int) -> Family:
    pairs = list(itertools.product(range(a), range(b)))

    def history(number: int) -> History:
        ways = [number >> 2 * index & 3 for index in range(len(pairs))]
        cuts = [
            Step(CUT_MS, "cut", (*pair, way)) for pair, way in zip(pairs, ways, strict=True) if way
        ]
        return History(
            seed=number,
            locators=(a, b),
            duration_ms=END_MS,
            steps=(*cuts, Step(HEAL_MS, "heal")),
        )

    orders = [
        [pairs.index((one[i], other[j])) for i, j in pairs]
        for one in _orders(a)
        for other in _orders(b)
    ]

    def is_first(number: int) -> bool:
        return all(number <= _in_order(number, order) for order in orders)

    summary = f"every cut of the pairs of {a}x{b} locators, one way and both ways, and healing"
    return Family(summary, history, 4 ** len(pairs), is_first)


def _orders(count: int) -> list[tuple[int, ...]]:
    """Every order of locators that leaves the AID the first."""
    return [(0, *others) for others in itertools.permutations(range(1, count))]


def _in_order(number: int, order: list[int]) -> int:
    """The cut that a cut is when the pairs are in another order."""
    return sum((number >> 2 * at & 3) << 2 * index for index, at in enumerate(order))


def _born(what: str, kinds: tuple[str, ...]) -> Family:
    """From the beginning each pair of 2x2 is as it should be or not, in one of a few ways."""
    pairs = list(itertools.product(range(2), range(2)))
    ways = 1 + len(kinds)

    def history(number: int) -> History:
        steps = []
        for index, pair in enumerate(pairs):
            way = number // ways**index % ways
            steps += [Step(0, kind, (*pair, 3)) for kind in kinds[way - 1].split("+") if way]
        return History(
            seed=number,
            locators=(2, 2),
            duration_ms=30_000,
            steps=(*steps, Step(22_000, "heal")),
        )

    return Family(f"from the beginning, {what}; healing", history, ways ** len(pairs))


def _born_cut() -> Family:
    family = _cuts(2, 2)

    def history(number: int) -> History:
        cuts = [Step(0, step.kind, step.arguments) for step in family.history(number).steps[:-1]]
        return History(
            seed=number,
            locators=(2, 2),
            duration_ms=30_000,
            steps=(*cuts, Step(22_000, "heal")),
        )

    return Family("every cut of the pairs of 2x2 locators from the beginning", history, 256)


LOSSES = list(itertools.combinations_with_replacement(range(1, MESSAGES + 1), 2))


def _losses(
    phase: str, beginning: tuple[Step, ...], duration_ms: int, *, lossless_ms: int = 0
) -> Family:
    def history(number: int) -> History:
        doomed = tuple(sorted(set(LOSSES[number % len(LOSSES)])))
        at_ms = beginning[0].at_ms if beginning else 0
        # The cut afterwards shows whether what was lost has left anything behind.
        at_last_ms = duration_ms - 5_000
        last = (Step(at_last_ms, "doom"), Step(at_last_ms, "cut", (0, 0, 3)))
        return History(
            seed=number,
            locators=(2, 2),
            duration_ms=duration_ms,
            steps=(Step(at_ms, "doom", doomed), *beginning, *last),
            lossless_ms=lossless_ms,
        )

    return Family(f"any two control messages of {phase} are lost", history, len(LOSSES))


# --- random ---------------------------------------------------------------------------------------


def _walk(a: int, b: int) -> Family:
    def history(number: int) -> History:
        source = random.Random(f"{number}/walk-{a}x{b}")
        # More locators than a few need more time to be searched, and so fewer steps in it.
        gaps_ms = (30, 300, 2_000, 6_000, 20_000)
        steps: list[Step] = []
        at_ms = 2_000
        for _ in range(source.randint(1, 12)):
            steps += _drawn(source, a, b, at_ms)
            at_ms += source.choice(gaps_ms)
        steps.append(Step(at_ms, "heal"))
        steps += [Step(at_ms, "start", (side,)) for side in (0, 1)]
        return History(
            seed=number,
            locators=(a, b),
            duration_ms=at_ms + (6_000 if a * b <= FEW_PAIRS else 12_000),
            steps=tuple(steps),
            delay_ms=source.choice((1, 10, 40, 120)),
            jitter_ms=source.choice((0, 0, 2, 20)),
            traffic=_some_traffic(source),
        )

    return Family(f"random walks with {a}x{b} locators", history)


def _some_traffic(source: random.Random) -> Traffic:
    return Traffic(
        interval_us=source.choice((10_000, 50_000, 50_000, 200_000)),
        replies=source.random() < 0.7,
        server_talks=source.random() < 0.2,
    )


def _drawn(source: random.Random, a: int, b: int, at_ms: int) -> Iterator[Step]:
    """One thing that happens, in one step or more."""
    side = source.randrange(2)
    counts = (a, b)
    pair = (source.randrange(a), source.randrange(b))
    way = source.choice((1, 2, 3, 3))
    everything = (1 << counts[side]) - 1
    some = source.randrange(1, everything + 1)
    kind = source.choice(KINDS)
    match kind:
        case "only":  # one pair is left, or one each way
            there, back = _pick(source, a, b), _pick(source, a, b)
            for one in itertools.product(range(a), range(b)):
                cut = 3 & ~(1 if one == there else 0) & ~(2 if one == back else 0)
                yield Step(at_ms, "restore", (*one, 3))
                yield Step(at_ms, "cut", (*one, cut))
        case "cut" | "restore" | "filter" | "filter-control" | "unfilter":
            yield Step(at_ms, kind, (*pair, way))
        case "delay":
            yield Step(at_ms, kind, (*pair, way, source.choice((1, 30, 150))))
        case "loss":
            yield Step(at_ms, kind, (*pair, way, source.choice((0, 5, 20))))
        case "provider":
            yield Step(at_ms, kind, (side, source.randrange(counts[side]), source.randrange(2)))
        case "reboot":
            yield Step(at_ms, kind, (side, source.randrange(2)))
        case "restart":
            yield Step(at_ms, kind, (side,))
        case "have" | "publish":
            # The AID stays: what becomes of it is the family of renumberings.
            yield Step(at_ms, kind, (side, some | 1))
        case "mark":
            yield Step(at_ms, kind, (side, some & ~1, source.choice((0, some & ~1))))
        case "weather":
            yield Step(at_ms, kind, (source.choice((0, 20)),))
        case "flash":  # from now on it has these, and no others, and no warning was given
            yield Step(at_ms, "have", (side, some))
            yield Step(at_ms, "publish", (side, some))
        case "alias":
            yield Step(at_ms, kind, (side, source.randrange(2)))
        case "dns":
            yield Step(at_ms, kind, (source.randrange(2),))
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


LONG_MS = (3_000, 60_000, 10 * 60_000, 16 * 60_000, 40 * 60_000)
SLOW_US = 5_000_000


def _partition(number: int) -> History:
    """Nothing passes for a while, in which things change at both ends; then everything does."""
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


def _unable(number: int) -> History:
    """The shim of an end is away for a while; later the other end uses it again."""
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


def _healthy(number: int) -> History:
    source = random.Random(f"{number}/healthy")
    a, b = source.choice(((1, 1), (1, 2), (2, 2), (2, 2), (3, 3)))
    delays = (1, 10, 60, 150)
    apart = [
        Step(0, "delay", (one, other, way, source.choice(delays)))
        for one in range(a)
        for other in range(b)
        for way in (1, 2)
        if source.random() < 0.5
    ]
    return History(
        seed=number,
        locators=(a, b),
        duration_ms=source.choice((30_000, 60_000, 120_000)),
        steps=tuple(apart) if source.random() < 0.5 else (),
        delay_ms=source.choice(delays),
        jitter_ms=source.choice((0, 0, 2, 50)),
        loss_percent=source.choice((0, 0, 0, 5, 20)),
        traffic=Traffic(
            interval_us=source.choice((5_000, 10_000, 20_000, 50_000, 200_000, 1_000_000)),
            replies=source.random() < 0.6,
            turnaround_ms=source.choice((1, 3, 50, 300)),
            server_talks=source.random() < 0.2,
            burst=source.choice((1, 1, 1, 5)),
        ),
    )


MINUTES = 60_000
BOTH_BY_BOTH = tuple(itertools.product(range(2), range(2)))
EXPIRED_MS = 20 * MINUTES
"""Longer than an Update Request is repeated [D16]."""


def _expired(number: int) -> History:
    """A change is told in vain until that is given up; then it must be told again [D45]."""
    source = random.Random(f"{number}/expired")
    side = source.randrange(2)
    kind = source.choice(("have", "mark"))
    change = (side, 1) if kind == "have" else (side, 2, 0)
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
        traffic=Traffic(replies=source.random() < 0.5),
    )


def _slots_alone(number: int) -> History:
    """Plain control messages are dropped, and those in the form of data pass."""
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


def _restored(number: int) -> History:
    """Data does not pass, a UC casts doubt on the context, and the peer has it still [D39]."""
    source = random.Random(f"{number}/restored")
    side = source.randrange(2)
    doubt_ms = source.choice((3_000, 8_000, 15_000))
    back_ms = doubt_ms + source.choice((1_200, 2_000, 5_000, 30_000))
    heal_ms = back_ms + source.choice((100, 3_000, 70_000))
    steps = [
        *[Step(2_000, "filter", (*pair, 3)) for pair in BOTH_BY_BOTH],
        *[Step(doubt_ms, "filter-control", (*pair, 3)) for pair in BOTH_BY_BOTH],
        Step(doubt_ms, "forge-uc", (side,)),
        # Of the set-up that begins nothing arrives; of the other end's messages something does.
        *[Step(back_ms, "unfilter", (*pair, 2 - side)) for pair in BOTH_BY_BOTH],
        Step(back_ms, "doom"),  # for the laws: an end may be without its context
        Step(heal_ms, "heal"),
        Step(heal_ms + 3 * MINUTES, "cut", (0, 0, 3)),
    ]
    return History(
        seed=number,
        locators=(2, 2),
        duration_ms=heal_ms + 3 * MINUTES + 6_000,
        steps=tuple(steps),
        traffic=Traffic(interval_us=200_000),
    )


SECONDS = 1_000
TTL_MS = 60 * SECONDS
VERIFIED_MS = 11 * 60 * SECONDS
"""After this time every context has been verified again [D31]."""


def _renumbering(number: int) -> History:
    """Steps by D25: an address is published, added, used; deprecated, withdrawn, removed."""
    source = random.Random(f"{number}/renumbering")
    side = source.randrange(2)
    locators = (source.randint(2, 4), source.randint(2, 4))
    count = locators[side]
    has = published = source.randrange(1, 1 << (count - 1)) | 1
    steps = [Step(0, "publish", (side, published)), Step(0, "have", (side, has))]
    if source.random() < 0.4:
        steps.append(Step(0, "alias", (source.randrange(2), source.randrange(2))))
    at_ms = 5 * SECONDS
    for _ in range(source.randint(2, 6)):
        index = source.randrange(count)
        bit = 1 << index
        if not has & bit:
            published |= bit
            steps.append(Step(at_ms, "publish", (side, published)))
            at_ms += TTL_MS + SECONDS
            has |= bit
            steps.append(Step(at_ms, "have", (side, has)))
        elif has & ~bit:
            steps.append(Step(at_ms, "mark", (side, bit, 0)))
            at_ms += 2 * TTL_MS + SECONDS
            published &= ~bit
            steps.append(Step(at_ms, "publish", (side, published)))
            at_ms += 2 * TTL_MS + SECONDS
            has &= ~bit
            steps.append(Step(at_ms, "have", (side, has)))
        at_ms += source.choice((SECONDS, 2 * TTL_MS, VERIFIED_MS))
    return History(
        seed=number,
        locators=locators,
        duration_ms=at_ms + VERIFIED_MS,
        steps=tuple(steps),
        traffic=Traffic(interval_us=2_000_000, replies=source.random() < 0.8),
        lossless_ms=at_ms + VERIFIED_MS,
        caches=True,
    )


FAMILIES: dict[str, Family] = {
    "renumbering-by-rules": Family(
        "addresses come and go by the rules: no packet is lost", _renumbering
    ),
    "unable": Family("the shim of an end is away for a while", _unable),
    "partition": Family("nothing passes for a while, and things change meanwhile", _partition),
    "expired": Family("a change is told in vain for a quarter of an hour", _expired, 16),
    "slots-alone": Family("plain control messages are dropped", _slots_alone, 16),
    "restored": Family("a firewall and a forged UC, then the peer is heard", _restored, 48),
    "healthy": Family("nothing fails, whatever programs say", _healthy),
    **{f"walk-{a}x{b}": _walk(a, b) for a, b in ((2, 2), (1, 6), (4, 4), (2, 8), (16, 16))},
    "lost-setup": _losses("set-up", (), 22_000, lossless_ms=15_000),
    "lost-update": _losses("an update", (Step(2_000, "have", (1, 1)),), 32_000),
    "lost-close": _losses("a close", (Step(2_000, "pause", (IDLE_MS,)),), IDLE_MS + 25_000),
    "lost-recovery": _losses("a recovery", (Step(2_000, "reboot", (1, 1)),), 22_000),
    "born-cut": _born_cut(),
    "born-filtered": _born(
        "data, control messages or both are filtered between any locators of 2x2",
        ("filter", "filter-control", "filter+filter-control"),
    ),
    **{f"cuts-{a}x{b}": _cuts(a, b) for a, b in ((1, 2), (2, 1), (1, 3), (2, 2), (2, 3), (3, 3))},
}
"""By name; those that are drawn first, since they find most."""
