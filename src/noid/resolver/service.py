# SPDX-License-Identifier: MIT
"""Queries of local programs as they arrive on UDP and TCP, served in rotation of the clients [D46].

A client is a user of this host. Queries of a client wait only behind its own queries: UDP queries,
TCP connections, and queries being answered each have a table, from which entries of the client with
the most are removed. No input raises, blocks, or lets a table grow without limit.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import dns.rcode

from noid.counters import StubCounter
from noid.dns.messages import MESSAGE_OCTETS_MAX
from noid.dns.queries import Query, brief_response
from noid.errors import PlatformError
from noid.resolver.clients import Clients
from noid.resolver.exchange import LENGTH, receive_exactly
from noid.resolver.fairness import FairQueue
from noid.shares.tenants import Tenants

BACKLOG_MAX: Final = 256
"""TCP connections not yet accepted."""
REST_S: Final = 0.5
"""How long no connection is accepted after the system could not, in seconds."""
ACCEPTED_AT_ONCE_MAX: Final = 64
RECEIVED_AT_ONCE_MAX: Final = 512
"""Connections and datagrams read before other events."""
SERVED_AT_ONCE_MAX: Final = 16
"""Queries served before other events."""
ARRIVED_MAX: Final = 4_096
ARRIVED_EACH_MAX: Final = 512
"""The maximum of waiting queries in all, and of one client; one more is dropped."""
BUFFER_OCTETS: Final = 4 * 2**20
"""The buffer of the kernel for datagrams that are not read yet."""


Pair = tuple[socket.socket, socket.socket]
"""Sockets that listen, for UDP and TCP."""


class Limits(NamedTuple):
    """How much is served at one time.

    Attributes:
        answered: UDP queries being answered; one more ends the oldest of the client that has most.
        connections: TCP connections; one more ends the oldest of the client that has most.
        idle_s: a TCP client that sends no whole query, or reads no answer, for so long is closed.
        kept_s: a connection is not ended so soon to make room for another of the same client.
    """

    answered: int = 512
    connections: int = 64
    idle_s: float = 10.0
    kept_s: float = 1.0


LIMITS: Final = Limits()


class Answerer(Protocol):
    """Answers queries: the ``Stub``."""

    def read(self, octets: bytes) -> Query | bytes | None:
        """The query in a message, or the refusal of one that is none; None for neither."""

    def at_once(self, query: Query, client: Hashable) -> bytes | None:
        """The UDP response, if no resolver has to be asked."""

    async def later(self, query: Query, client: Hashable) -> bytes:
        """The UDP response, from the resolvers."""

    async def answer(
        self, octets: bytes, client: Hashable = None, *, response_octets_max: int | None = None
    ) -> bytes | None:
        """The response to any message; None for what deserves none."""


class Service:
    """The sockets of the stub.

    Args:
        listen: address to listen on.
        port: port, for both.
        answerer: answers the queries.
        counters: those of the stub.
        limits: how much is served at one time.
    """

    def __init__(
        self,
        listen: str,
        port: int,
        answerer: Answerer,
        counters: Counter[StubCounter],
        limits: Limits,
    ) -> None:
        self.listen = listen
        self.port = port
        self.answerer = answerer
        self.counters = counters
        self.limits = limits
        self._open = contextlib.ExitStack()
        self._arrived: FairQueue[Callable[[], None]] = FairQueue()
        self._serving: asyncio.Handle | None = None
        self._answering: Tenants[asyncio.Task[None]] = Tenants()
        self._connections: Tenants[asyncio.Task[None]] = Tenants()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, passed: Pair | None = None) -> None:
        """Begins to listen.

        Args:
            passed: sockets for UDP and TCP that a service manager has opened.

        Raises:
            PlatformError: the address or the port is not available.
        """
        with contextlib.ExitStack() as stack:
            try:
                datagrams, stream = map(stack.enter_context, passed or self._bound())
                self.listen, self.port, *_ = datagrams.getsockname()
                stream.listen(BACKLOG_MAX)
                clients = Clients(self.listen, self.port)
            except OSError as error:
                raise self._refusal(error) from None
            stack.callback(clients.close)
            self._open = stack.pop_all()
        self._widen(datagrams)
        loop = asyncio.get_running_loop()
        for listener, take in ((datagrams, self._receive), (stream, self._accept)):
            loop.add_reader(listener, take, listener, clients)
            self._open.callback(loop.remove_reader, listener)

    def _bound(self) -> Pair:
        """Sockets of our own for UDP and TCP.

        Raises:
            OSError: the address or the port is not available.
        """
        version = ipaddress.ip_address(self.listen).version
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        with contextlib.ExitStack() as stack:
            datagrams = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            stream = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            # On TCP this takes over from connections that are closing; on UDP it would let two
            # resolvers share the port and each get some of the queries.
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for listener in (datagrams, stream):
                listener.setblocking(False)
                listener.bind((self.listen, self.port))
            stack.pop_all()
        return datagrams, stream

    async def stop(self) -> None:
        """Stops listening, and drops the queries that are not answered yet."""
        self._open.close()
        if self._serving is not None:
            self._serving.cancel()
            self._serving = None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _widen(self, datagrams: socket.socket) -> None:
        """Enlarges the buffer, so that a flood of one client does not block others."""
        for option in (SO_RCVBUFFORCE, socket.SO_RCVBUF):
            with contextlib.suppress(OSError):
                datagrams.setsockopt(socket.SOL_SOCKET, option, BUFFER_OCTETS)
                return

    def _begin(
        self, tenants: "Tenants[asyncio.Task[None]]", client: Hashable, task: asyncio.Task[None]
    ) -> None:
        tenants.add(client, task, asyncio.get_running_loop().time())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(tenants.remove)

    # --- in rotation ---

    def _arrive(self, client: Hashable, serve: Callable[[], None]) -> bool:
        """Queues a query of a client; returns False if a queue is full."""
        count, all_max = self._arrived.count_of(client), self._arrived.count >= ARRIVED_MAX
        if all_max or count >= ARRIVED_EACH_MAX:
            self.counters[StubCounter.OVERFLOW] += 1
            return False
        self._arrived.put(client, None, serve)
        return True

    def _serve(self) -> None:
        """Serves a batch of what has arrived, and the rest after other events."""
        self._serving = None
        for _ in range(SERVED_AT_ONCE_MAX):
            taken = self._arrived.take()
            if taken is None:
                return
            taken[1]()
        self._serve_soon()

    def _serve_soon(self) -> None:
        if self._serving is None and self._arrived.count:
            self._serving = asyncio.get_running_loop().call_soon(self._serve)

    # --- UDP ---

    def _receive(self, datagrams: socket.socket, clients: Clients) -> None:
        """Reads datagrams, queues them by client, and serves some of them."""
        clients.forget()
        for _ in range(RECEIVED_AT_ONCE_MAX):
            try:
                octets, address = datagrams.recvfrom(MESSAGE_OCTETS_MAX)
            except OSError:
                break  # no more datagrams, or an error of an earlier response
            client = clients.of_datagram(address)
            if client is None:
                self.counters[StubCounter.STRANGERS] += 1
            else:
                self._arrive(client, partial(self._take, datagrams, octets, address, client))
        if self._serving is None:
            self._serve()

    def _take(
        self, datagrams: socket.socket, octets: bytes, address: tuple[Any, ...], client: Hashable
    ) -> None:
        """Answers one datagram at once, or in a task."""
        query = self.answerer.read(octets)
        if not isinstance(query, Query):
            if query is not None:
                _send(datagrams, query, address)
            return
        response = self.answerer.at_once(query, client)
        if response is not None:
            _send(datagrams, response, address)
            return
        if self._answering.count >= self.limits.answered:
            self.counters[StubCounter.OVERFLOW] += 1
            oldest = self._answering.oldest_of_largest(client)
            self._answering.remove(oldest)
            oldest.cancel()
        task = asyncio.create_task(self._answer(datagrams, query, address, client))
        self._begin(self._answering, client, task)

    async def _answer(
        self, datagrams: socket.socket, query: Query, address: tuple[Any, ...], client: Hashable
    ) -> None:
        try:
            response = await self.answerer.later(query, client)
        except asyncio.CancelledError:
            response = brief_response(query, dns.rcode.SERVFAIL)
        _send(datagrams, response, address)

    # --- TCP ---

    def _accept(self, stream: socket.socket, clients: Clients) -> None:
        """Accepts connections up to the limit, each served in a task."""
        for _ in range(ACCEPTED_AT_ONCE_MAX):
            try:
                connection, address = stream.accept()
            except BlockingIOError:
                return
            except OSError:
                self._rest(stream, clients)
                return
            client = clients.of_stream(address)
            if client is None:
                self.counters[StubCounter.STRANGERS] += 1
                connection.close()
            elif not self._make_room(client):
                self.counters[StubCounter.OVERFLOW] += 1
                connection.close()
            else:
                connection.setblocking(False)
                task = asyncio.create_task(self._serve_connection(connection, client))
                self._begin(self._connections, client, task)

    def _rest(self, stream: socket.socket, clients: Clients) -> None:
        """Accepts nothing for a time, because the system has no descriptor or memory."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(stream)
        again = loop.call_later(REST_S, loop.add_reader, stream, self._accept, stream, clients)
        self._open.callback(again.cancel)

    def _make_room(self, client: Hashable) -> bool:
        """Whether there is room for one more connection; may end an old one."""
        if self._connections.count < self.limits.connections:
            return True
        oldest = self._connections.oldest_of_largest(client)
        is_own = self._connections.tenant(oldest) == client
        age_s = asyncio.get_running_loop().time() - self._connections.since(oldest)
        if is_own and age_s < self.limits.kept_s:
            return False
        self.counters[StubCounter.OVERFLOW] += 1
        self._connections.remove(oldest)
        oldest.cancel()
        return True

    async def _serve_connection(self, connection: socket.socket, client: Hashable) -> None:
        # An OSError means that the client has closed, or was idle for too long.
        with connection, contextlib.suppress(OSError):
            await self._converse(connection, client)

    async def _converse(self, connection: socket.socket, client: Hashable) -> None:
        """Answers the queries of one connection in the order they came [RFC 7766 §6.2.1].

        Raises:
            OSError: the client has closed, or was idle for too long.
        """
        loop = asyncio.get_running_loop()
        while True:
            async with asyncio.timeout(self.limits.idle_s):
                (octets,) = LENGTH.unpack(await receive_exactly(connection, LENGTH.size))
                query = await receive_exactly(connection, octets)
            turn = loop.create_future()
            if not self._arrive(client, partial(_resolve, turn)):
                return
            self._serve_soon()
            await turn
            response = await self.answerer.answer(
                query, client, response_octets_max=MESSAGE_OCTETS_MAX
            )
            if response is None:
                return
            async with asyncio.timeout(self.limits.idle_s):
                await loop.sock_sendall(connection, LENGTH.pack(len(response)) + response)

    def _refusal(self, error: OSError) -> PlatformError:
        """Why the stub cannot listen, with a remedy."""
        advice = {
            errno.EADDRINUSE: "is in use; set dns.port or stop what listens there",
            errno.EACCES: "permission denied (lacking: CAP_NET_BIND_SERVICE); "
            "start noid by noid.socket, or as root, or set dns.port above 1023",
            errno.EADDRNOTAVAIL: "this host has no such address; set dns.listen",
        }.get(error.errno or 0, f"{error.strerror}; set dns.listen and dns.port")
        return PlatformError(f"DNS on {self.listen} port {self.port}", error.errno or 0, advice)


SO_RCVBUFFORCE: Final = 33
"""SO_RCVBUF beyond the limit of the system, which CAP_NET_ADMIN allows (socket(7))."""


def _resolve(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_result(None)


def _send(datagrams: socket.socket, response: bytes, address: tuple[Any, ...]) -> None:
    """Sends a response; drops it if the system accepts no more: the client repeats its query."""
    with contextlib.suppress(OSError):
        datagrams.sendto(response, address)
