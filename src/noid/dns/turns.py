"""Whose turn it is to ask: so many queries at one time, and no dead server in the way of others."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from noid.dns.queries import Query
from noid.dns.records import REVERSE_ZONE as REVERSE_ZONE_TEXT
from noid.dns.records import Kind, Question

SLOW_S: Final = 0.3
"""After so long without a response a query of a program is slow."""
SITE_QUERIES_MAX: Final = 64
"""Queries on their way for the reverse names of one site, slow ones included."""
SITE_QUERIES_FIRST: Final = 8
"""The same of a site whose server has not answered yet; each answer allows one more."""
REVERSE_ZONE: Final = b"\x03ip6\x04arpa\x00"
SITE_OCTETS: Final = 12 * 2 + len(REVERSE_ZONE)
"""Of a name in wire form: 12 labels of a digit each, and what is behind them."""
SITE_CHARACTERS: Final = 12 * 2 - 1 + len(REVERSE_ZONE_TEXT)
"""The same of its text."""


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


@dataclass(slots=True)
class _Site:
    """One site's queries.

    Attributes:
        allowed: so many may be on their way.
        count: so many are.
        behind: those that wait.
    """

    allowed: int
    count: int = 0
    behind: "deque[asyncio.Future[bool]]" = field(default_factory=deque)


class Sites:
    """Of one site's reverse names so many are asked for at one time; the others wait, in order.

    One server knows them all. Where it is dead, queries for them must not use up what the resolver
    itself can have on its way (Unbound: about 1,000), nor cost the living much: few are asked until
    one is answered, and what waits here is a future and no more.
    """

    def __init__(self) -> None:
        self._sites: dict[bytes, _Site] = {}

    async def enter(self, name: bytes, until_s: float) -> bool:
        """Waits for the turn of one query.

        Args:
            name: whose names it is about, as ``site_of`` has it.
            until_s: when to give up, by the clock of the loop.

        Returns:
            Whether it may begin; it then has to ``leave``.
        """
        site = self._sites.setdefault(name, _Site(SITE_QUERIES_FIRST))
        if site.count < site.allowed:
            site.count += 1
            return True
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        site.behind.append(turn)
        timer = loop.call_at(until_s, _refuse, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.result():
                self.leave(name, answered=False)
            raise
        finally:
            timer.cancel()

    def leave(self, name: bytes, *, answered: bool) -> None:
        """A query is over: the next of those behind comes forward, and one more if it may."""
        site = self._sites[name]
        site.count -= 1
        if answered:
            site.allowed = min(site.allowed + 1, SITE_QUERIES_MAX)
        while site.behind and site.count < site.allowed:
            turn = site.behind.popleft()
            if not turn.done():
                site.count += 1
                turn.set_result(True)
        if not site.count:
            del self._sites[name]

    def close(self) -> None:
        """Whoever waits hears that nothing will come of it."""
        for site in self._sites.values():
            for turn in site.behind:
                _refuse(turn)


def _refuse(turn: "asyncio.Future[bool]") -> None:
    if not turn.done():
        turn.set_result(False)


def site_of(query: Query) -> bytes | None:
    """The site of a name under ip6.arpa, its 12 digits of 48 bits; None for any other name."""
    name = query.name.lower()
    return name[-SITE_OCTETS : -len(REVERSE_ZONE)][1::2] if name.endswith(REVERSE_ZONE) else None


def site_asked(question: Question) -> bytes | None:
    """The same of a question of the protocol's, before anything is made of it."""
    name = question.name
    if question.kind is not Kind.NAMES or not name.endswith(REVERSE_ZONE_TEXT):
        return None
    return name[-SITE_CHARACTERS : -len(REVERSE_ZONE_TEXT)][::2].encode(errors="replace")
