# SPDX-License-Identifier: MIT
"""Queries the configured resolvers over the path that answers.

The shim does not protect the host's own DNS: queries to a resolver are plain, and may leave through
the provider that failed. So a query is tried over the resolvers *and* over the host's own locators
as sources. The next try begins before the last is given up (as in RFC 8305 for connections), and
the path that answered is used first the next time.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from noid.counters import UpstreamCounter
from noid.dns.queries import Query
from noid.errors import UsageError
from noid.locators import Locator, in_turn, is_global_unicast, parse_locator
from noid.resolver.exchange import Exchange
from noid.resolver.port import SOCKETS_MAX, Path, Ports, Server
from noid.resolver.turns import Claim

TRIES_MAX: Final = 6
"""The maximum of tries of one query, over all resolvers and sources together."""
HEDGE_S: Final = 0.3
"""The longest wait before the next path is tried in addition to the last."""
REPEAT_S: Final = 0.8
"""The wait before the paths are tried again, doubled each time; less than a program waits for the
M6 question, so that one lost datagram does not make a peer plain."""
PATHS_MAX: Final = 64
"""The maximum of paths of a query that is sent over all paths."""
RACE_S: Final = 0.01
"""Wait between two tries of such a query."""
RACE_ROUNDS_MAX: Final = 4
"""How often it is sent over each path."""
TOTAL_S: Final = 4.5
"""The wait for one query, including all tries and the queue: less than the 5 s after which the
resolver libraries of programs repeat it, so that they get an error instead of no answer."""


class Resolvers:
    """Sends queries to the configured resolvers.

    Args:
        servers: the resolvers, in the order of preference.
        sources: returns the present locators of the host.
        mark: firewall mark of the sockets, which keeps them out of the shim; 0 for none.
        hedge_s: wait before another path is tried too.
        repeat_s: wait before the same paths are tried again.
        total_s: wait for one query in all.
        sockets_max: sockets open at one time.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        sources: Callable[[], Sequence[Locator]],
        mark: int,
        *,
        hedge_s: float = HEDGE_S,
        repeat_s: float = REPEAT_S,
        total_s: float = TOTAL_S,
        sockets_max: int = SOCKETS_MAX,
    ) -> None:
        self.sources = sources
        self.hedge_s = hedge_s
        self.repeat_s = repeat_s
        self.total_s = total_s
        self.counters = Counter[UpstreamCounter]()
        self.ports = Ports(mark, self.counters, sockets_max)
        self.last_good: Path | None = None
        self.on_outcome: Callable[[bool], None] = lambda answered: None
        """Called when a query has ended: whether a resolver answered."""
        self.exchanges: set[Exchange] = set()
        self._closed = False
        self.use(servers)

    def use(self, servers: Sequence[Server]) -> None:
        """Uses these resolvers from now on."""
        self.servers = tuple(servers)
        self._distant = frozenset(server for server in self.servers if _is_distant(server))

    async def ask(
        self,
        query: Query,
        claim: Claim,
        *,
        only: frozenset[Server] | None = None,
        deadline_s: float | None = None,
        everywhere: bool = False,
    ) -> bytes | None:
        """Sends a query to the resolvers.

        Args:
            query: the query.
            claim: its place in a table.
            only: the resolvers that may be asked; None for all.
            deadline_s: when to give up, by the clock of the loop; None for the usual wait from now.
            everywhere: whether to ask over all paths at once, rather than over one after the other.

        Returns:
            The response, with any id and case; if every resolver refuses, the last refusal; None if
            there was no response.
        """
        if self._closed:
            return None
        self.counters[UpstreamCounter.ASKED] += 1
        schedule = self.race() if everywhere else self.schedule(only)
        user = claim.turns, claim.user
        exchange = Exchange(self.ports, query, schedule, deadline_s or self.deadline_s(), user)
        self.exchanges.add(exchange)
        try:
            claim.turns.enter(exchange, claim.user, claim.lane)
            response = await exchange.response
            self.last_good = exchange.answered_by or self.last_good
            self.on_outcome(response is not None)
            return response
        finally:
            exchange.end()
            self.exchanges.discard(exchange)
            claim.turns.leave(exchange)

    def deadline_s(self) -> float:
        """The deadline of a query that starts now, by the clock of the loop."""
        return asyncio.get_running_loop().time() + self.total_s

    async def close(self) -> None:
        """Abandons all outstanding queries; their callers get no response."""
        self._closed = True
        streams = [task for exchange in self.exchanges for task in exchange.streams]
        for exchange in tuple(self.exchanges):
            exchange.give_up()
        await asyncio.gather(*streams, return_exceptions=True)

    def schedule(self, only: frozenset[Server] | None) -> Iterator[tuple[Path, float]]:
        """The paths in the order of tries, and the wait before the next."""
        paths = self._paths()
        if only is not None:
            paths = [path for path in paths if path.server in only]
        paths = paths[:TRIES_MAX]
        for index in range(TRIES_MAX if paths else 0):
            rounds, place = divmod(index, len(paths))
            patience_s = self.hedge_s
            if place == len(paths) - 1:
                patience_s = self.repeat_s * 2**rounds
            # Random, so that queries to one dead server are not all repeated at the same time.
            yield paths[place], patience_s * (1 + random.random()) / 2

    def race(self) -> Iterator[tuple[Path, float]]:
        """All paths in parallel, repeated after a delay, until the deadline of the query."""
        paths = self._paths()[:PATHS_MAX]
        for round_number in range(RACE_ROUNDS_MAX if paths else 0):
            for path in paths[:-1]:
                yield path, RACE_S
            yield paths[-1], self.repeat_s * 2**round_number

    def _paths(self) -> list[Path]:
        """The kernel's choice of source for every resolver, then our own choices.

        The preferred source is the second of these, because the kernel usually chooses it too.
        Resolvers take turns over the sources, so that every source gets a try before any resolver
        gets all of them; and links do, since of very many addresses of one only some are tried.
        """
        paths = [Path(server, None) for server in self.servers]
        distant = [server for server in self.servers if server in self._distant]
        own = in_turn(self.sources()) if distant else ()
        sources = (*own[1:2], *own[:1], *own[2:])
        for turn in range(len(distant)):
            for index, source in enumerate(sources):
                paths.append(Path(distant[(index + turn) % len(distant)], source))
        if self.last_good in paths:
            paths.remove(self.last_good)
            paths.insert(0, self.last_good)
        return paths


def _is_distant(server: Server) -> bool:
    """Whether the source address matters for a resolver."""
    try:
        return is_global_unicast(parse_locator(server[0]))
    except UsageError:
        return False
