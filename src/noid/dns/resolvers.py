"""The configured resolvers, asked over whichever path answers.

The shim does not protect the host's own DNS: a resolver is plain IPv6 to it, and the provider that
just died may be the one its queries leave through. So a query is tried over the resolvers *and*
over the host's own locators as sources, each next try beginning before the last one is given up (as
RFC 8305 does for connections), and the path that answered goes first the next time.

Whoever cannot see a query cannot answer it: its response has to come from the resolver's address to
a port that few queries share, and to repeat a random id and the random case of the name
[RFC 5452]. Nothing that arrives raises, and every table, retry and wait has its limit below.
"""

import asyncio
import contextlib
import random
import secrets
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from noid.dns.messages import (
    MESSAGE_OCTETS_MAX,
    REFUSALS,
    TC,
    Echo,
    Query,
    disguised,
    echo,
    message_flags,
    response_code,
)
from noid.dns.turns import Turns
from noid.errors import UsageError
from noid.locators import Locator, format_locator, is_global_unicast, parse_locator

TRIES_MAX: Final = 6
"""Tries of one query, over all resolvers and sources together."""
HEDGE_S: Final = 0.3
"""Longest wait before the next path is tried too, without giving up on the last."""
REPEAT_S: Final = 0.8
"""The same where every path has been tried and the first is taken again, doubled each time; less
than a program waits for the M6 question, so that one lost datagram does not make a peer plain."""
PATHS_MAX: Final = 64
"""Paths of a query that is asked over all of them."""
RACE_S: Final = 0.01
"""Wait between two tries of such a query."""
RACE_ROUNDS_MAX: Final = 4
"""How often it is sent over each path."""
TOTAL_S: Final = 4.5
"""Wait for one query, all tries and the queue included: less than the 5 s after which the resolver
libraries of programs ask again, so that they hear a failure rather than nothing."""
PORTS_MAX: Final = 64
"""Ports open to one resolver from one source; beyond that, queries share them at random."""
PORT_QUERIES_MAX: Final = 256
"""Queries sent from one port, so that none is worth finding out."""
STRAYS_MAX: Final = 16
"""Messages on one port that answer nothing asked there, before it is given up. Each query sent
from it may bring another: the response to its repetition."""
RECEIVED_AT_ONCE_MAX: Final = 64
"""Messages taken from one port before others get their turn."""

LENGTH: Final = struct.Struct("!H")
"""Before each message on a stream [RFC 1035 §4.2.2]."""

Server = tuple[str, int]
"""A resolver: address text, port."""
Address = tuple[str | int | bytes, ...]
"""The same as the system calls want it."""

COUNTED: Final = {
    "asked": "queries begun, those passed through for programs included",
    "answered": "queries that ended with a usable response",
    "timed_out": "queries that ended with none in time",
    "refused": "responses that say SERVFAIL, NOTIMP or REFUSED",
    "failed": "tries that the network or the system refused",
    "malformed": "messages that were not DNS or answered something else",
}
"""The counters, for ``noid status``."""


@dataclass(frozen=True, slots=True)
class _Path:
    """One way to ask: a resolver, and the source to ask it from (None: the kernel's choice)."""

    server: Server
    source: Locator | None


class Resolvers:
    """The way to the configured resolvers.

    Args:
        servers: the resolvers, in the order of preference.
        sources: the host's locators of this moment.
        mark: firewall mark of the sockets, which keeps them out of the shim; 0 for none.
        hedge_s: wait before another path is tried too.
        repeat_s: wait before the same paths are tried again.
        total_s: wait for one query in all.
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
    ) -> None:
        self.sources = sources
        self.mark = mark
        self.hedge_s = hedge_s
        self.repeat_s = repeat_s
        self.total_s = total_s
        self.counters = dict.fromkeys(COUNTED, 0)
        self.last_good: _Path | None = None
        self.caseless: set[Server] = set()
        """Resolvers that do not repeat the case of a name."""
        self.on_outcome: Callable[[bool], None] = lambda answered: None
        """Told of each query that has ended: whether a resolver said anything."""
        self.exchanges: set[Exchange] = set()
        self._ports: dict[_Path, list[Port]] = {}
        self._closed = False
        self.use(servers)

    def use(self, servers: Sequence[Server]) -> None:
        """Asks these resolvers from now on."""
        self.servers = tuple(servers)
        self._distant = frozenset(server for server in self.servers if _is_distant(server))

    async def ask(
        self,
        query: Query,
        turns: Turns,
        *,
        only: frozenset[Server] | None = None,
        deadline_s: float | None = None,
        everywhere: bool = False,
    ) -> bytes | None:
        """Puts a query to the resolvers.

        Args:
            query: what to ask.
            turns: those among whom it has to wait.
            only: the resolvers that may be asked; None for all.
            deadline_s: when to give up, by the clock of the loop; None for the usual wait from now.
            everywhere: whether to ask over all paths at once, rather than over one after the other.

        Returns:
            The response, under some id and case; where every resolver refuses, what the last one
            said; None if there was no response.
        """
        if self._closed:
            return None
        self.counters["asked"] += 1
        schedule = self.race() if everywhere else self.schedule(only)
        exchange = Exchange(self, query, schedule, deadline_s or self.deadline_s())
        self.exchanges.add(exchange)
        try:
            turns.enter(exchange)
            response = await exchange.response
            self.on_outcome(response is not None)
            return response
        finally:
            exchange.end()
            self.exchanges.discard(exchange)
            turns.leave(exchange)

    def deadline_s(self) -> float:
        """When a query that begins now is given up, by the clock of the loop."""
        return asyncio.get_running_loop().time() + self.total_s

    async def close(self) -> None:
        """Gives up everything on the way; whoever waits hears that there was no response."""
        self._closed = True
        streams = [task for exchange in self.exchanges for task in exchange.streams]
        for exchange in tuple(self.exchanges):
            exchange.give_up()
        await asyncio.gather(*streams, return_exceptions=True)

    def schedule(self, only: frozenset[Server] | None) -> Iterator[tuple[_Path, float]]:
        """Paths in the order to try them, and how long to wait before the next."""
        paths = self._paths()
        if only is not None:
            paths = [path for path in paths if path.server in only]
        paths = paths[:TRIES_MAX]
        for index in range(TRIES_MAX if paths else 0):
            rounds, place = divmod(index, len(paths))
            patience_s = self.hedge_s
            if place == len(paths) - 1:
                patience_s = self.repeat_s * 2**rounds
            # By chance, lest those that wait for one dead server all come again at one time.
            yield paths[place], patience_s * (1 + random.random()) / 2

    def race(self) -> Iterator[tuple[_Path, float]]:
        """Every path at once, and again after a while, for as long as the query may take."""
        paths = self._paths()[:PATHS_MAX]
        for round_number in range(RACE_ROUNDS_MAX if paths else 0):
            for path in paths[:-1]:
                yield path, RACE_S
            yield paths[-1], self.repeat_s * 2**round_number

    def port(self, path: _Path) -> "Port":
        """A port to ask from: a new one, unless there are many.

        Raises:
            OSError: the address, the source or the mark cannot be had.
        """
        ports = self._ports.setdefault(path, [])
        if len(ports) < PORTS_MAX:
            port = Port(self, path)
            ports.append(port)
            return port
        return secrets.choice(ports)

    def disguise(self, query: Query, server: Server) -> bytes:
        """A query as it is sent: under a random id, the name in random case."""
        octets = len(query.name)
        if server in self.caseless:
            return disguised(query, secrets.token_bytes(2) + bytes(octets))
        return disguised(query, secrets.token_bytes(2 + octets))

    def retire(self, port: "Port") -> None:
        """No more is sent from this port."""
        ports = self._ports.get(port.path, [])
        if port in ports:
            ports.remove(port)

    def open(self, path: _Path, kind: socket.SocketKind) -> tuple[socket.socket, Address]:
        """A socket for a path, and the resolver's address as it wants it.

        Raises:
            OSError: the address, the source or the mark cannot be had.
        """
        host, port = path.server
        family, *_, address = socket.getaddrinfo(
            host, port, type=kind, flags=socket.AI_NUMERICHOST
        )[0]
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.socket(family, kind))
            connection.setblocking(False)
            if self.mark:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            if path.source is not None:
                connection.bind((format_locator(path.source), 0))
            stack.pop_all()  # it is the caller's now
        return connection, address

    def _paths(self) -> list[_Path]:
        """The kernel's choice of source for every resolver, then our own choices.

        Resolvers take turns over the sources, so that every source gets a try before any resolver
        gets all of them.
        """
        paths = [_Path(server, None) for server in self.servers]
        distant = [server for server in self.servers if server in self._distant]
        sources = self.sources() if distant else ()
        for turn in range(len(distant)):
            for index, source in enumerate(sources):
                paths.append(_Path(distant[(index + turn) % len(distant)], source))
        if self.last_good in paths:
            paths.remove(self.last_good)
            paths.insert(0, self.last_good)
        return paths


class Exchange:
    """A query on its way over one path after the other; the first usable response ends it.

    Args:
        resolvers: the way to them.
        query: what is asked.
        schedule: the paths to try, and how long to wait after each.
        deadline_s: when it is given up, by the clock of the loop.
    """

    def __init__(
        self,
        resolvers: Resolvers,
        query: Query,
        schedule: Iterator[tuple[_Path, float]],
        deadline_s: float,
    ) -> None:
        self.resolvers = resolvers
        self.query = query
        self.streams: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[bytes | None] = loop.create_future()
        self._deadline = deadline_s
        self._timer = loop.call_at(self._deadline, self._next)
        self._schedule = schedule
        self._refusal: bytes | None = None
        self._refusing: set[Server] = set()
        self._failed: set[_Path] = set()
        self._tries: dict[_Path, _Try] = {}

    def begin(self) -> None:
        """It is its turn: the first path is tried."""
        self._next()

    def end(self) -> None:
        """Gives back what it holds: there is a response, or nobody waits for it any more."""
        self._timer.cancel()
        for attempt in self._tries.values():
            attempt.port.forget(attempt)
        self._tries.clear()
        for task in self.streams:
            task.cancel()

    def give_up(self) -> None:
        """Ends without a response, or with what a resolver said that refused."""
        if not self.response.done():
            self.response.set_result(self._refusal)

    def received(self, attempt: "_Try", octets: bytes, case: Echo) -> None:
        """A response came to one of the tries, from the right place and under the right id."""
        if self.response.done():
            return
        guessed = case is Echo.OTHER_CASE and attempt.path.server not in self.resolvers.caseless
        if guessed or message_flags(octets) & TC:
            # Over TCP there is room for all of it, and nobody can slip anything in.
            del self._tries[attempt.path]
            attempt.port.forget(attempt)
            task = asyncio.create_task(self._over_stream(attempt.path))
            self.streams.add(task)
            task.add_done_callback(self.streams.discard)
        else:
            self._take(attempt.path, octets)

    def failed(self, path: _Path) -> None:
        """The network or the system refused one of the tries."""
        self.resolvers.counters["failed"] += 1
        self._give_up(path)

    def _take(self, path: _Path, octets: bytes) -> None:
        if self.response.done():
            return
        if response_code(octets) in REFUSALS:
            self.resolvers.counters["refused"] += 1
            self._refusing.add(path.server)
            self._refusal = octets
            self._give_up(path)
            return
        self.resolvers.counters["answered"] += 1
        self.resolvers.last_good = path
        self.response.set_result(octets)
        self.end()

    def _give_up(self, path: _Path) -> None:
        """Nothing will come over this path: the next one begins without waiting."""
        self._drop(path)
        if not self.response.done():
            self._next()

    def _drop(self, path: _Path) -> None:
        self._failed.add(path)
        attempt = self._tries.pop(path, None)
        if attempt is not None:
            attempt.port.forget(attempt)

    def _next(self) -> None:
        """Tries the next path, or ends if there is none and nothing is expected any more."""
        loop = asyncio.get_running_loop()
        self._timer.cancel()
        if loop.time() >= self._deadline:
            self.resolvers.counters["timed_out"] += 1
            self.give_up()
            return
        for path, patience_s in self._schedule:
            if path in self._failed or path.server in self._refusing:
                continue
            try:
                self._send(path)
            except OSError:
                self.resolvers.counters["failed"] += 1
                self._drop(path)
                continue
            self._timer = loop.call_at(min(loop.time() + patience_s, self._deadline), self._next)
            return
        if self._tries or self.streams:
            self._timer = loop.call_at(self._deadline, self._next)
        else:
            self.give_up()

    def _send(self, path: _Path) -> None:
        """Sends the query, or sends it again, from the same port under the same id.

        Raises:
            OSError: it cannot be sent.
        """
        attempt = self._tries.get(path)
        if attempt is None:
            attempt = self.resolvers.port(path).begin(self)
            self._tries[path] = attempt
        attempt.port.send(attempt)

    async def _over_stream(self, path: _Path) -> None:
        query = self.resolvers.disguise(self.query, path.server)
        try:
            response = await self._converse(path, query)
        except OSError:
            self._stream_over()
            self.failed(path)
            return
        self._stream_over()
        case = echo(query, self.query.end, response)
        if case is Echo.NONE:
            self.resolvers.counters["malformed"] += 1
            self._give_up(path)
            return
        if case is Echo.OTHER_CASE:
            self.resolvers.caseless.add(path.server)
        self._take(path, response)

    def _stream_over(self) -> None:
        """Nothing is expected of this task any more, although it is still running."""
        task = asyncio.current_task()
        assert task is not None
        self.streams.discard(task)

    async def _converse(self, path: _Path, query: bytes) -> bytes:
        """Sends one message over TCP and reads one.

        Raises:
            OSError: the connection cannot be had, or ends too soon.
        """
        loop = asyncio.get_running_loop()
        connection, address = self.resolvers.open(path, socket.SOCK_STREAM)
        with connection:
            await loop.sock_connect(connection, address)
            await loop.sock_sendall(connection, LENGTH.pack(len(query)) + query)
            (octets,) = LENGTH.unpack(await _receive_exactly(connection, LENGTH.size))
            return await _receive_exactly(connection, octets)


@dataclass(eq=False, slots=True)
class _Try:
    """A query on its way over one path.

    Attributes:
        exchange: whose it is.
        path: the way it goes.
        port: where its response arrives.
        octets: the message as it is sent.
    """

    exchange: Exchange
    path: _Path
    port: "Port"
    octets: bytes

    @property
    def identifier(self) -> bytes:
        """The id it was sent under."""
        return self.octets[:2]


class Port:
    """A UDP port that asks one resolver; open for as long as somebody waits for a response.

    Args:
        resolvers: whose it is.
        path: the resolver and the source; connected, so that the kernel lets nothing else in.
    """

    def __init__(self, resolvers: Resolvers, path: _Path) -> None:
        self.resolvers = resolvers
        self.path = path
        self.connection, address = resolvers.open(path, socket.SOCK_DGRAM)
        try:
            self.connection.connect(address)
        except OSError:
            self.connection.close()
            raise
        asyncio.get_running_loop().add_reader(self.connection.fileno(), self._receive)
        self._waiting: dict[bytes, _Try] = {}
        self._queries = 0
        self._strays_left = STRAYS_MAX - 1

    def begin(self, exchange: Exchange) -> _Try:
        """A try under an id that no other on this port has; its response will be told."""
        octets = self.resolvers.disguise(exchange.query, self.path.server)
        while octets[:2] in self._waiting:
            octets = self.resolvers.disguise(exchange.query, self.path.server)
        attempt = _Try(exchange, self.path, self, octets)
        self._waiting[attempt.identifier] = attempt
        self._queries += 1
        if self._queries >= PORT_QUERIES_MAX:
            self.resolvers.retire(self)
        return attempt

    def send(self, attempt: _Try) -> None:
        """Sends a query, once more perhaps.

        Raises:
            OSError: the system or the network refuses.
        """
        self._strays_left += 1
        with contextlib.suppress(BlockingIOError):  # as good as lost on the way
            self.connection.send(attempt.octets)

    def forget(self, attempt: _Try) -> None:
        """Nobody waits for this response any more; the last one out closes the port."""
        self._waiting.pop(attempt.identifier, None)
        if not self._waiting:
            self._close()

    def _close(self) -> None:
        if self.connection.fileno() >= 0:
            self.resolvers.retire(self)
            asyncio.get_running_loop().remove_reader(self.connection.fileno())
            self.connection.close()

    def _receive(self) -> None:
        """Takes what has come, as far as it is the turn of this port."""
        for _ in range(RECEIVED_AT_ONCE_MAX):
            if self.connection.fileno() < 0:
                return
            try:
                octets = self.connection.recv(MESSAGE_OCTETS_MAX)
            except BlockingIOError:
                return
            except OSError:
                self._fail()
                return
            self._take(octets)

    def _take(self, octets: bytes) -> None:
        attempt = self._waiting.get(octets[:2])
        if attempt is not None:
            case = echo(attempt.octets, attempt.exchange.query.end, octets)
            if case is not Echo.NONE:
                attempt.exchange.received(attempt, octets, case)
                return
        self.resolvers.counters["malformed"] += 1
        self._strays_left -= 1
        if self._strays_left <= 0:
            self._fail()

    def _fail(self) -> None:
        """Nothing useful will come here: every query tries its next path."""
        self.resolvers.retire(self)
        for attempt in tuple(self._waiting.values()):
            attempt.exchange.failed(self.path)


def _is_distant(server: Server) -> bool:
    """Whether the choice of a source can matter on the way to a resolver."""
    try:
        return is_global_unicast(parse_locator(server[0]))
    except UsageError:
        return False


async def _receive_exactly(connection: socket.socket, octets: int) -> bytes:
    """Reads from a stream.

    Raises:
        ConnectionError: it ended before.
    """
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < octets:
        part = await loop.sock_recv(connection, octets - len(received))
        if not part:
            raise ConnectionError
        received += part
    return bytes(received)
