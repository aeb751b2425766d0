# SPDX-License-Identifier: MIT
"""The order in which queries are sent to the resolvers, and how many are open [D46].

Three tables share the capacity of a resolver (Unbound: 1,024 queries): queries of local programs,
questions about peers of local programs, and questions about peers that began the context. No table
uses the places of another. In each table the users wait in rotation, and one user has a limited
share.
"""

import asyncio
from collections import Counter
from collections.abc import Hashable
from typing import Final, NamedTuple, Protocol

from noid.counters import UpstreamCounter
from noid.resolver.fairness import FairQueue
from noid.shares.policy import INQUIRIES


class Limits(NamedTuple):
    """The size of a table.

    Attributes:
        quick: open queries that are not slow.
        quick_each: those of one user.
        begun: open queries, including slow ones.
        waiting: queries that are not sent yet.
        slow_s: a query without a response for so long is slow, in seconds.
    """

    quick: int
    quick_each: int
    begun: int
    waiting: int
    slow_s: float


PROGRAMS: Final = Limits(quick=256, quick_each=128, begun=640, waiting=4_096, slow_s=0.3)
"""Queries of local programs; the users are those of the host."""
OWN: Final = Limits(quick=96, quick_each=96, begun=128, waiting=4_096, slow_s=0.1)
"""Questions about peers that local programs talk to; one user."""
PEERS: Final = Limits(
    quick=INQUIRIES.limit * 3 // 4,
    quick_each=INQUIRIES.share * 3 // 4,
    begun=INQUIRIES.limit,
    waiting=4_096,
    slow_s=0.1,
)
"""Questions about peers that began the context; the users are /32s, each with one eighth."""


class Exchange(Protocol):
    """A query that waits in the queue."""

    response: "asyncio.Future[bytes | None]"

    def begin(self) -> None:
        """The query may start."""

    def give_up(self) -> None:
        """The table is full: it ends without a response."""


class Claim(NamedTuple):
    """The table of a query, its user, and the lane in which it waits."""

    turns: "Turns"
    user: Hashable = None
    lane: Hashable = None


class Turns:
    """The queries of one table.

    A slow query keeps its place until the table is full; then the oldest slow query of the user
    with the most open queries is given up. So slow names do not delay names of other users, and
    delay other names of the same user only briefly.

    Args:
        limits: the size of the table.
        counters: those of the resolvers; ``overflow`` counts what is given up.
    """

    def __init__(self, limits: Limits, counters: Counter[UpstreamCounter]) -> None:
        self.limits = limits
        self.counters = counters
        self._waiting: FairQueue[Exchange] = FairQueue()
        self._quick: dict[Exchange, tuple[Hashable, float]] = {}
        self._slow: dict[Exchange, Hashable] = {}
        self._quick_counts: Counter[Hashable] = Counter()
        self._counts: Counter[Hashable] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, exchange: Exchange, user: Hashable = None, lane: Hashable = None) -> None:
        """Starts the exchange, now or when the queue permits it.

        Args:
            exchange: the query.
            user: its user.
            lane: queries of one user in one lane wait behind each other: those for one zone.
        """
        if self._waiting.count >= self.limits.waiting:
            self._give_up(self._waiting.take_of_largest())
        self._waiting.put(user, lane, exchange)
        self._admit()

    def leave(self, exchange: Exchange) -> None:
        """The exchange has ended."""
        self._remove(exchange)
        if self._waiting.count:
            self._admit()

    def _remove(self, exchange: Exchange) -> None:
        if exchange in self._quick:
            user, _ = self._quick.pop(exchange)
            self._quick_counts[user] -= 1
        elif exchange in self._slow:
            user = self._slow.pop(exchange)
        else:
            return
        self._counts[user] -= 1
        if not self._counts[user]:
            del self._counts[user], self._quick_counts[user]

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._note_slow(loop.time())
        while self._waiting.count and len(self._quick) < self.limits.quick and self._has_room():
            taken = self._waiting.take(self._may_begin)
            if taken is None:
                break
            user, exchange = taken
            if not exchange.response.done():
                self._quick[exchange] = user, loop.time()
                self._quick_counts[user] += 1
                self._counts[user] += 1
                exchange.begin()
        if self._waiting.count and self._quick:
            _, since_s = next(iter(self._quick.values()))
            self._timer = loop.call_at(since_s + self.limits.slow_s, self._admit)

    def _may_begin(self, user: Hashable) -> bool:
        return self._quick_counts[user] < self.limits.quick_each

    def _note_slow(self, now_s: float) -> None:
        while self._quick:
            exchange, (user, since_s) = next(iter(self._quick.items()))
            if now_s < since_s + self.limits.slow_s:
                return
            del self._quick[exchange]
            self._quick_counts[user] -= 1
            self._slow[exchange] = user

    def _has_room(self) -> bool:
        """Whether one more may begin; may give up a slow one."""
        if len(self._quick) + len(self._slow) < self.limits.begun:
            return True
        largest = max(set(self._slow.values()), key=self._counts.__getitem__, default=None)
        oldest = next((one for one, user in self._slow.items() if user == largest), None)
        if oldest is None:
            return False
        self._remove(oldest)
        self._give_up(oldest)
        return True

    def _give_up(self, exchange: Exchange) -> None:
        self.counters[UpstreamCounter.OVERFLOW] += 1
        exchange.give_up()
