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
    site: bytes | None
    counts: bool

    def begin(self) -> None:
        """It is its turn."""


class Turns:
    """So many queries on their way at one time; the others wait, in order.

    A query that is slow no longer counts: those that a dead server leaves unanswered must not hold
    up the others. Nor may they use up what the resolver itself can have on its way (Unbound: about
    1,000): of the reverse names of one site, which one server knows, only some are asked for at a
    time. Whoever asks sees to it that there are not too many in all.

    Args:
        at_once_max: queries on their way that are not slow.
        slow_s: after this long without a response a query is.
    """

    def __init__(self, at_once_max: int, slow_s: float = SLOW_S) -> None:
        self.at_once_max = at_once_max
        self.slow_s = slow_s
        self._sites: dict[bytes, int] = {}
        self._behind: dict[bytes, deque[Exchange]] = {}
        self._running: dict[Exchange, float] = {}
        self._waiting: deque[Exchange] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, exchange: Exchange) -> None:
        """Begins the exchange, now or when it is its turn."""
        site = exchange.site
        if site is not None:
            if self._sites.get(site, 0) >= SITE_QUERIES_MAX:
                self._behind.setdefault(site, deque()).append(exchange)
                return
            self._sites[site] = self._sites.get(site, 0) + 1
            exchange.counts = True
        self._waiting.append(exchange)
        self._admit()

    def leave(self, exchange: Exchange) -> None:
        """The exchange is over."""
        self._running.pop(exchange, None)
        if exchange.site is not None and exchange.counts:
            self._leave_site(exchange.site)
        if self._waiting:
            self._admit()

    def _leave_site(self, site: bytes) -> None:
        """The next of those behind comes forward, if there is one that is still wanted."""
        self._sites[site] -= 1
        behind = self._behind.get(site)
        while behind:
            exchange = behind.popleft()
            if not exchange.response.done():
                self._sites[site] += 1
                exchange.counts = True
                self._waiting.append(exchange)
                return
        self._behind.pop(site, None)
        if not self._sites[site]:
            del self._sites[site]

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


def site_of(query: Query) -> bytes | None:
    """The part of a name under ip6.arpa that a site of 48 bits has; None for any other name."""
    name = query.name.lower()
    return name[-SITE_OCTETS:] if name.endswith(REVERSE_ZONE) else None
