"""Whose turn it is to ask: so many queries at one time, and no dead server in the way of others."""

import asyncio
from collections import deque
from typing import Final, Protocol

from noid.dns.messages import Query

SLOW_S: Final = 0.3
"""After so long without a response a query of a program is slow."""
SITE_QUERIES_MAX: Final = 64
"""Queries on their way for the reverse names of one site, slow ones included."""
REVERSE_ZONE: Final = b"\x03ip6\x04arpa\x00"
SITE_OCTETS: Final = 12 * 2 + len(REVERSE_ZONE)
"""Of a name in wire form: 12 labels of a digit each, and what is behind them."""


class Exchange(Protocol):
    """A query that takes its turn."""

    response: "asyncio.Future[bytes | None]"

    def begin(self) -> None:
        """It is its turn."""


class Turns:
    """So many queries on their way at one time; the others wait, in order.

    A query that is slow no longer counts: those that a dead server leaves unanswered must not hold
    up the others. Whoever asks sees to it that there are not too many in all.

    Args:
        at_once_max: queries on their way that are not slow.
        slow_s: after this long without a response a query is.
    """

    def __init__(self, at_once_max: int, slow_s: float = SLOW_S) -> None:
        self.at_once_max = at_once_max
        self.slow_s = slow_s
        self._running: dict[Exchange, float] = {}
        self._waiting: deque[Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, exchange: Exchange) -> None:
        """Begins the exchange, now or when it is its turn."""
        self._waiting.append(exchange)
        self._admit()

    def leave(self, exchange: Exchange) -> None:
        """The exchange is over."""
        self._running.pop(exchange, None)
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if len(self._running) >= self.at_once_max:
                oldest = next(iter(self._running))
                slow_at = self._running[oldest] + self.slow_s
                if loop.time() < slow_at:
                    self._timer = loop.call_at(slow_at, self._admit)
                    return
                del self._running[oldest]
            exchange = self._waiting.popleft()
            if not exchange.response.done():
                self._running[exchange] = loop.time()
                exchange.begin()


class Sites:
    """Of one site's reverse names so many are asked for at one time; the others wait, in order.

    One server knows them all. Where it is dead, queries for them must not use up what the resolver
    itself can have on its way (Unbound: about 1,000), nor cost the living much: what waits here is
    a future and no more.
    """

    def __init__(self) -> None:
        self._on_their_way: dict[bytes, int] = {}
        self._behind: dict[bytes, deque[asyncio.Future[bool]]] = {}

    async def enter(self, site: bytes, until_s: float) -> bool:
        """Waits for the turn of one query.

        Args:
            site: whose names it is about, as ``site_of`` has it.
            until_s: when to give up, by the clock of the loop.

        Returns:
            Whether it may begin; it then has to ``leave``.
        """
        count = self._on_their_way.get(site, 0)
        if count < SITE_QUERIES_MAX:
            self._on_their_way[site] = count + 1
            return True
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._behind.setdefault(site, deque()).append(turn)
        timer = loop.call_at(until_s, _refuse, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self.leave(site)
            raise
        finally:
            timer.cancel()

    def leave(self, site: bytes) -> None:
        """A query is over: the next of those behind comes forward, if there is one."""
        behind = self._behind.get(site, ())
        while behind:
            turn = behind.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._behind.pop(site, None)
        self._on_their_way[site] -= 1
        if not self._on_their_way[site]:
            del self._on_their_way[site]

    def close(self) -> None:
        """Whoever waits hears that nothing will come of it."""
        for behind in self._behind.values():
            for turn in behind:
                _refuse(turn)


def _refuse(turn: "asyncio.Future[bool]") -> None:
    if not turn.done():
        turn.set_result(False)


def site_of(query: Query) -> bytes | None:
    """The part of a name under ip6.arpa that a site of 48 bits has; None for any other name."""
    name = query.name.lower()
    return name[-SITE_OCTETS:] if name.endswith(REVERSE_ZONE) else None
