# SPDX-License-Identifier: MIT
"""Requests over pairs of locators, and the wait for their answers.

Each pair is waited for by its own round trip: one uplink of a host may be a fibre and another one a
satellite. An answer that comes too late still tells how long the next one is waited for.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from noid.control.uplinks import Asked, Pair
from noid.dns.records import canonical_name
from noid.engine.context import Context
from noid.engine.events import Input, MeasurePairs, PairMeasured
from noid.errors import UsageError
from noid.identifiers import Label
from noid.locators import Locator, format_locator, parse_locator

PEER_LOCATORS_ASKED_MAX: Final = 3
"""Of one peer, so many locators are asked over each of ours."""
TIMES_APART_S: Final = 0.04
"""Between two requests over one pair in one measurement, at least."""
TIMES_APART_MAX_S: Final = 0.1
"""The same at most. A peer that notices the failure, too, switches after about this time, and then
its answers to the last request tell the directions of a path apart."""
ROUND_TRIPS_WAITED: Final = 2
"""How long an answer is waited for, in round trips: the mean of the last one and those before."""
ROUND_TRIPS_IN_DOUBT: Final = 10
"""How long where the uplink would be down without it: a queue that fills makes the round trip
many times as long at once."""
ANSWER_WAIT_MIN_S: Final = 0.1
ANSWER_WAIT_IN_DOUBT_S: Final = 0.3
"""The longest such wait, unless the usual one is longer: an outage is to be shown in a second."""
ANSWER_WAIT_MAX_S: Final = 2.0
PING_WAIT_S: Final = 1.0
"""How long ``noid ping`` waits for the answers of one time."""
ANSWER_WAIT_UNMEASURED_S: Final = 1.0
"""How long where no round trip is known; over a satellite it takes 0.6 s."""
ROUND_TRIPS_MAX: Final = 4_096
"""Round trips that are kept; the oldest are forgotten."""
ROUND_TRIP_KEPT_S: Final = 5.0
"""How long a round trip of a pair counts, since packets that waited for a router are late. Later,
the round trip over its uplink counts, which is measured all the time."""

Answers = dict[Pair, int | None]


@dataclass(slots=True, eq=False)
class Round:
    """Requests to one context that wait for their answers.

    Attributes:
        label: of the context.
        answers: the round trip of each pair in ns; None while there is no answer.
        here: whether each answer is to use the pair of its request.
        waits_s: how long each answer is waited for after the last request.
        returned: our locators at which an answer arrived to a request from them.
        gives_way: whether it ends when something is suspected.
        is_ended: whether no answer is waited for any more.
        heard_s: when the last answer came; 0 if none did.
        news: is set at each answer.
    """

    label: Label
    answers: Answers = field(default_factory=dict)
    here: bool = False
    waits_s: dict[Pair, float] = field(default_factory=dict)
    returned: set[Locator] = field(default_factory=set)
    gives_way: bool = False
    is_ended: bool = False
    heard_s: float = 0.0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, output: PairMeasured) -> bool:
        """An answer; returns whether it was waited for."""
        if output.here != self.here or self.answers.get(output.pair, 0) is not None:
            return False
        self.answers[output.pair] = output.round_trip_ns
        if output.returned:
            self.returned.add(output.pair[0])
        self.heard_s = time.monotonic()
        self.news.set()
        return True

    @property
    def unanswered(self) -> list[Pair]:
        """The pairs without an answer."""
        return [pair for pair, answer in self.answers.items() if answer is None]

    def returns_over(self, pair: Pair) -> bool:
        """Whether a pair was answered, and an answer arrived over its uplink."""
        return self.answers.get(pair) is not None and pair[0] in self.returned

    @property
    def is_answered(self) -> bool:
        """Whether the peer has answered over any pair."""
        return len(self.unanswered) < len(self.answers)

    @property
    def wait_s(self) -> float:
        """How long an answer is waited for after the last request; 0 if none is."""
        if self.is_ended:
            return 0.0
        return max((self.waits_s.get(pair, 0.0) for pair in self.unanswered), default=0.0)

    @property
    def asked(self) -> Asked:
        """What the peer answered over each locator of ours."""
        answered: dict[Locator, int] = {}
        for pair, round_trip_ns in self.answers.items():
            if round_trip_ns is not None:
                answered[pair[0]] = min(round_trip_ns, answered.get(pair[0], round_trip_ns))
        return Asked(answered, frozenset(pair[0] for pair in self.answers) - answered.keys())


def both_ways(there: Round, back: Round) -> Asked:
    """What a peer answered when it was asked over each uplink, and to answer over each.

    An answer over the pair of its request has the round trip of that pair alone, and shows that the
    pair works also if all others are lost.
    """
    asked, here = there.asked, back.asked
    returned = frozenset(there.returned | back.returned)
    unreturned = (here.unanswered & asked.answered.keys()) - returned
    return asked._replace(
        answered={**asked.answered, **here.answered},
        unanswered=asked.unanswered - here.answered.keys(),
        returned=returned,
        unreturned=unreturned if back.returned else frozenset(),
    )


class Measuring:
    """The requests of one host that wait for answers.

    Args:
        handle: takes events for the engine.
        usual_ns: the round trip over the uplink of a locator of ours; 0 if it is not known.
    """

    def __init__(self, handle: Callable[[Input], None], usual_ns: Callable[[Locator], int]) -> None:
        self.handle = handle
        self.usual_ns = usual_ns
        self.rounds: list[Round] = []
        self._round_trips: dict[tuple[int, Pair, bool], tuple[int, float]] = {}

    def take(self, output: PairMeasured) -> bool:
        """An answer; returns whether it was waited for, or came late."""
        key = output.local_label, output.pair, output.here
        before_ns = self._kept_ns(key) or output.round_trip_ns
        self._round_trips.pop(key, None)
        self._round_trips[key] = (before_ns + output.round_trip_ns) // 2, time.monotonic()
        while len(self._round_trips) > ROUND_TRIPS_MAX:
            del self._round_trips[next(iter(self._round_trips))]
        rounds = (one for one in self.rounds if one.label == output.local_label)
        are_waited_for = [one.take(output) for one in rounds]  # each round takes it
        return any(are_waited_for)

    async def measure(
        self,
        contexts: Iterable[Context],
        pairs: Sequence[Pair] = (),
        *,
        times: int,
        wait_s: float = 0.0,
        here: bool = False,
        gives_way: bool = False,
        in_doubt: bool = False,
    ) -> list[Round]:
        """Sends requests over the pairs of contexts, and waits for the answers.

        Args:
            contexts: whose pairs.
            pairs: these alone; without them, all that ``pairs_of`` gives.
            times: how often each pair is asked.
            wait_s: how long the last answer is waited for; 0 for as long as it may well take.
            here: whether each answer is to use the pair of its request.
            gives_way: whether ``give_way`` ends it.
            in_doubt: whether an uplink is down without an answer.
        """
        rounds = []
        news = asyncio.Event()
        for context in contexts:
            asked = pairs or pairs_of(context)
            waits = {
                pair: wait_s or self.wait_s(context, pair, here=here, in_doubt=in_doubt)
                for pair in asked
            }
            one = Round(context.local_label, dict.fromkeys(asked), here, waits, news=news)
            one.gives_way = gives_way
            rounds.append(one)
        self.rounds += rounds
        longest_s = max((one.wait_s for one in rounds), default=0.0)
        apart_s = min(max(TIMES_APART_S, longest_s / times), TIMES_APART_MAX_S)
        last_s = longest_s - (times - 1) * (apart_s - TIMES_APART_S)
        try:
            for most_s in [apart_s] * (times - 1) + [last_s]:
                for one in rounds:
                    self._send(one)
                await _answered(rounds, news, most_s)
        finally:
            self.rounds = [one for one in self.rounds if one not in rounds]
        return rounds

    async def ping(self, contexts: Sequence[Context]) -> list[dict[str, Any]]:
        """Asks peers once over every pair of contexts; returns the pairs for ``noid ping``."""
        results = await self.measure(contexts, times=1, wait_s=PING_WAIT_S)
        return [
            pair_report(context, pair, round_trip_ns)
            for context, one in zip(contexts, results, strict=True)
            for pair, round_trip_ns in one.answers.items()
        ]

    def give_way(self) -> None:
        """Ends the measurements that give way: there is a more important one to make."""
        for one in self.rounds:
            if one.gives_way:
                one.is_ended = True
                one.news.set()

    def wait_s(self, context: Context, pair: Pair, *, here: bool, in_doubt: bool = False) -> float:
        """How long an answer is waited for."""
        label = context.local_label
        known_ns = self._kept_ns((label, pair, here))
        if not known_ns:
            others = self._kept_ns((label, pair, not here)), self.usual_ns(pair[0])
            known_ns = max(*others, context.expected.round_trip_ns) if any(others) else 0
        if not known_ns:
            return ANSWER_WAIT_UNMEASURED_S
        known_s, wait_s = known_ns / 1e9, ANSWER_WAIT_MIN_S
        if in_doubt:
            wait_s = max(wait_s, min(ROUND_TRIPS_IN_DOUBT * known_s, ANSWER_WAIT_IN_DOUBT_S))
        return min(max(ROUND_TRIPS_WAITED * known_s, wait_s), ANSWER_WAIT_MAX_S)

    def _kept_ns(self, key: tuple[int, Pair, bool]) -> int:
        """The round trip of a pair lately; 0 if it is not known."""
        round_trip_ns, at_s = self._round_trips.get(key, (0, 0.0))
        return round_trip_ns if time.monotonic() < at_s + ROUND_TRIP_KEPT_S else 0

    def _send(self, one: Round) -> None:
        if one.unanswered and not one.is_ended:
            self.handle(MeasurePairs(one.label, tuple(one.unanswered), one.here))


def pairs_of(context: Context) -> list[Pair]:
    """The pairs of a context that are asked: each locator of ours with a few of the peer's."""
    peer = [one for one in context.peer_set if context.is_verified(one)]
    peer = peer[:PEER_LOCATORS_ASKED_MAX]
    return [(local, one) for local in context.own_set for one in peer]


def pair_report(context: Context, pair: Pair, round_trip_ns: int | None) -> dict[str, Any]:
    """A pair as ``noid ping --json`` has it."""
    return {
        "peer_aid": format_locator(context.peer_aid),
        "local_locator": format_locator(pair[0]),
        "peer_locator": format_locator(pair[1]),
        "in_use": pair == context.pair,
        "round_trip_us": None if round_trip_ns is None else round_trip_ns // 1000,
    }


def with_peer(contexts: Iterable[Context], text: str) -> Iterator[Context]:
    """The contexts whose peer has that name, AID or locator, and can be asked."""
    name, locator = canonical_name(text), None
    with contextlib.suppress(UsageError):
        locator = parse_locator(text)
    for one in contexts:
        is_named = name and name == one.verification.name
        is_there = locator and (locator == one.peer_aid or locator in one.peer_set)
        if (is_named or is_there) and one.is_settled:
            yield one


async def _answered(rounds: Iterable[Round], news: asyncio.Event, most_s: float) -> None:
    """Waits until each pair has answered or its time is over, and no longer than so long.

    After an answer, others may well follow: a peer that was stopped answers over all pairs at once.
    """
    sent_s = time.monotonic()
    while True:
        news.clear()
        unanswered = [one for one in rounds if one.wait_s]
        until_s = max((sent_s + one.wait_s for one in unanswered), default=0.0)
        late_s = max((one.heard_s + ANSWER_WAIT_MIN_S for one in unanswered), default=0.0)
        left_s = min(max(until_s, late_s), sent_s + most_s) - time.monotonic()
        if left_s <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await news.wait()
