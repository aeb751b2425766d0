# SPDX-License-Identifier: MIT
"""Families of histories, each a function from a number to a history.

Exhaustive families contain all histories of a kind: every cut of every pair, every two lost control
messages. The others draw a history from the number, without a limit.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from noid.sim import ordinary, recoveries, uneven, unusual, walks
from noid.sim.bordered import CALM, bordered, calm, lans
from noid.sim.history import History, Step, Traffic

CUT_MS, HEAL_MS, END_MS = 1_000, 3_500, 6_000
"""When a cut begins and ends, and the history."""
MESSAGES = 10
"""The numbers of lost control messages: any two of these."""
IDLE_MS = 16 * 60_000
"""Longer than an idle context lives."""


@dataclass(frozen=True, slots=True)
class Family:
    """Histories of one kind.

    Attributes:
        summary: what they are.
        history: the one with a number.
        count: how many there are; 0 if there is no limit.
        is_first: whether a history is the first of those that differ only in the order of locators,
            of which one is enough.
    """

    summary: str
    history: Callable[[int], History]
    count: int = 0
    is_first: Callable[[int], bool] = lambda number: True

    def numbers(self) -> Iterator[int]:
        """The numbers of an exhaustive family, without those that differ only in order."""
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
    """Every order of locators with the AID first."""
    return [(0, *others) for others in itertools.permutations(range(1, count))]


def _in_order(number: int, order: list[int]) -> int:
    """The equivalent of a cut when the pairs are in another order."""
    return sum((number >> 2 * at & 3) << 2 * index for index, at in enumerate(order))


def _faulty_from_start(what: str, kinds: tuple[str, ...]) -> Family:
    """Each pair of 2x2 works, or has one of a few faults, from the start."""
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


def _of_cuts(what: str, kind: str, at_ms: int) -> Family:
    """The faults of the pairs in each cut of 2x2, at one time; then everything works."""
    family = _cuts(2, 2)

    def history(number: int) -> History:
        cuts = family.history(number).steps[:-1]
        steps = [Step(at_ms, kind, step.arguments) for step in cuts]
        return History(
            seed=number,
            locators=(2, 2),
            duration_ms=30_000,
            steps=(*steps, Step(22_000, "heal")),
        )

    return Family(what, history, 256)


def _cut_while_plain(what: str, kind: str) -> Family:
    """All pairs of 2x2 drop something, so that data is plain; they pass it again; then cuts."""

    def history(number: int) -> History:
        at_ms = 12_000 + number * 37 % 2_500
        pairs = itertools.product(range(2), range(2))
        return History(
            seed=number,
            locators=(2, 2),
            duration_ms=at_ms + 5_000,
            steps=(
                *(Step(3_000, kind, (*pair, 3)) for pair in pairs),
                Step(10_000, "heal"),
                *(Step(at_ms, "cut", one.arguments) for one in cuts.history(number).steps[:-1]),
            ),
            traffic=Traffic(replies=number % 2 == 0, server_talks=number % 3 == 0),
        )

    cuts = _cuts(2, 2)
    return Family(f"every cut of 2x2 while data is plain, since {what}", history, cuts.count)


def _distrusted() -> Family:
    """A pair of 2x2 has lost data, so that it is used last, and passes it again; then cuts."""
    cuts = _cuts(2, 2)
    pairs = list(itertools.product(range(2), range(2)))

    def history(number: int) -> History:
        index, cut = divmod(number, cuts.count)
        others = [pair for pair in pairs if pair != pairs[index]]
        return History(
            seed=number,
            locators=(2, 2),
            duration_ms=16_000,
            steps=(
                *(Step(2_000, "cut", (*pair, 3)) for pair in others),
                Step(4_000, "filter-data", (*pairs[index], 3)),
                *(Step(4_000, "restore", (*pair, 3)) for pair in others),
                Step(8_000, "heal"),
                *(Step(12_000, "cut", step.arguments) for step in cuts.history(cut).steps[:-1]),
            ),
            traffic=Traffic(replies=number % 2 == 0, server_talks=number % 3 == 0),
        )

    what = "every cut of 2x2 after data was lost over one pair, which passes it again"
    return Family(what, history, len(pairs) * cuts.count)


LOSSES = list(itertools.combinations_with_replacement(range(1, MESSAGES + 1), 2))


def _losses(
    phase: str, beginning: tuple[Step, ...], duration_ms: int, *, lossless_ms: int = 0
) -> Family:
    def history(number: int) -> History:
        doomed = tuple(sorted(set(LOSSES[number % len(LOSSES)])))
        at_ms = beginning[0].at_ms if beginning else 0
        # The later cut shows whether the loss has had lasting effects.
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


RUNS = list(itertools.product(range(1, 7), (3, 4, 5, 6), (4_000, 6_000, 9_000, 12_000)))
"""The first lost control message, their number, and the time of the cut."""


def _lost_run(number: int) -> History:
    """Several control messages of a set-up are lost in sequence, and soon after a pair is cut."""
    first, count, cut_ms = RUNS[number % len(RUNS)]
    doom = Step(0, "doom", tuple(range(first, first + count)))
    return History(
        seed=number,
        locators=(2, 2),
        duration_ms=cut_ms + 5_000,
        steps=(doom, Step(cut_ms, "doom"), Step(cut_ms, "cut", (0, 0, 3))),
    )


# --- random ---------------------------------------------------------------------------------------


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
            is_tcp=source.random() < 0.3,
        ),
    )


SECONDS = 1_000
TTL_MS = 60 * SECONDS
VERIFIED_MS = 11 * 60 * SECONDS
"""After this time every context has been verified again [D31]."""


def _renumbering(number: int) -> History:
    """Steps of D25: an address is published, added, used, deprecated, withdrawn, removed."""
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
    "bordered": Family(
        "sites with borders: uplinks, routers, daemons and prefixes fail and change", bordered
    ),
    "bordered-lans": Family(
        "hosts in several LANs behind one border, which talk outside and within the site", lans
    ),
    "bordered-calm": Family(
        "a border rewrites all that it may while nothing fails: nothing changes afterwards",
        calm,
        len(CALM),
    ),
    "unable": Family("the shim of an end is away for a while", recoveries.unable),
    "partition": Family(
        "nothing passes for a while, during which addresses, marks, names and daemons change",
        recoveries.partition,
    ),
    "expired": Family(
        "updates about a change get no answer for a quarter of an hour", recoveries.expired, 8
    ),
    "slots-alone": Family("plain control messages are dropped", recoveries.slots_alone, 16),
    "restored": Family(
        "a firewall and a forged UC, then the peer is heard", recoveries.restored, 24
    ),
    "restarted": Family(
        "a firewall that passes one form alone, and a daemon that is replaced",
        recoveries.restarted,
        16,
    ),
    "preferring": Family(
        "uplinks are used, avoided and neither again: no packet is lost", ordinary.preferring
    ),
    "flapping": Family(
        "an uplink comes and goes every few seconds, the DNS follows slowly", ordinary.flapping
    ),
    "congested": Family(
        "queues grow to seconds and shrink again: no packet is lost", ordinary.congested
    ),
    "half-dead": Family(
        "a host loses its contexts while pairs are dead in one direction", ordinary.half_dead
    ),
    "interrupted": Family(
        "a daemon is replaced or a host restarts while a context searches", unusual.interrupted
    ),
    "blind": Family("the DNS fails for minutes while hosts are renumbered", unusual.blind),
    "frozen": Family("a host stands still for a time while its clock goes on", unusual.frozen),
    "starved": Family(
        "the daemon of a host stands still for a time while its kernel goes on", unusual.starved
    ),
    "rolled-back": Family("a host returns to an earlier state", unusual.rolled_back),
    "spelled": Family("names in other cases, addresses in any order, some twice", unusual.spelled),
    "uneven": Family(
        "one-way loss, reordering, copies and delays of seconds; hosts start twice, names change",
        uneven.uneven,
    ),
    "healthy": Family("nothing fails, with any traffic", _healthy),
    "storm": Family("several things happen at one time, again and again", walks.storm),
    "selective": Family(
        "data alone is filtered between some locators, among cuts and restarts", walks.selective
    ),
    "turning": Family("the directions of pairs that work change all the time", walks.turning),
    "asleep": Family("a host sleeps, and everything goes on without it", walks.asleep),
    **{
        f"walk-{a}x{b}": Family(f"random walks with {a}x{b} locators", walks.walk(a, b))
        for a, b in ((2, 2), (1, 6), (3, 3), (4, 4), (2, 8), (16, 16))
    },
    "lost-setup": _losses("set-up", (), 22_000, lossless_ms=15_000),
    "lost-run": Family(
        "several control messages of set-up are lost in a row", _lost_run, len(RUNS)
    ),
    "lost-update": _losses("an update", (Step(2_000, "have", (1, 1)),), 32_000),
    "lost-close": _losses("a close", (Step(2_000, "pause", (IDLE_MS,)),), IDLE_MS + 25_000),
    "lost-recovery": _losses("a recovery", (Step(2_000, "reboot", (1, 1)),), 22_000),
    "lost-amnesia": _losses("a recovery without storage", (Step(2_000, "reboot", (1, 0)),), 30_000),
    "cut-from-start": _of_cuts("every cut of the pairs of 2x2 locators from the start", "cut", 0),
    "filtered-from-start": _faulty_from_start(
        "data, control messages or both are filtered between any locators of 2x2",
        ("filter", "filter-control", "filter+filter-control"),
    ),
    "data-filtered": _of_cuts(
        "data alone is filtered between any locators of 2x2; healing", "filter-data", 3_000
    ),
    "distrusted": _distrusted(),
    "lost-plain": _cut_while_plain("it was lost over all pairs", "filter-data"),
    "filtered-plain": _cut_while_plain("all pairs dropped M6 packets", "filter"),
    **{f"cuts-{a}x{b}": _cuts(a, b) for a, b in ((1, 2), (2, 1), (1, 3), (2, 2), (2, 3), (3, 3))},
}
"""The families by name; those that find most come first."""
