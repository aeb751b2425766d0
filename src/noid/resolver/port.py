# SPDX-License-Identifier: MIT
"""UDP ports and TCP connections to the configured resolvers.

A sender that does not see a query cannot answer it: the response must have the resolver's address,
a port that few queries share, a random id, and the random case of the name [RFC 5452]. Nothing that
arrives raises; messages that answer no query are counted.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Protocol

from noid.counters import UpstreamCounter
from noid.dns.messages import MESSAGE_OCTETS_MAX
from noid.dns.queries import Query, disguised
from noid.dns.responses import Echo, echo
from noid.locators import Locator, format_locator
from noid.shares.tenants import Tenants

PORTS_MAX: Final = 64
"""The maximum of ports to one resolver from one source; more queries share them at random."""
SOCKETS_MAX: Final = 4_096
"""The maximum of sockets to the resolvers; at the limit, queries share ports."""
STREAMS_SHARE: Final = 4
"""One of this number of sockets may be a TCP connection."""
PORT_QUERIES_MAX: Final = 256
"""The maximum of queries from one port, so that guessing a port gains little."""
STRAYS_MAX: Final = 16
"""The maximum of messages on one port that answer no query, before it is closed. Each query permits
one more: the response to its repetition."""
RECEIVED_AT_ONCE_MAX: Final = 64
"""Messages read from one port before other ports are read."""

Server = tuple[str, int]
"""A resolver: address text, port."""
Address = tuple[str | int | bytes, ...]
"""The same in the form of the system calls."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path of a query: a resolver, and a source address (None: the kernel selects it)."""

    server: Server
    source: Locator | None


class Asker(Protocol):
    """The owner of a query: an ``Exchange``."""

    query: Query

    def received(self, attempt: "Attempt", octets: bytes, case: Echo) -> None:
        """Called when a response to one of its attempts arrives."""

    def failed(self, path: Path) -> None:
        """Called when the network or the system refuses one of its attempts."""


@dataclass(eq=False, slots=True)
class Attempt:
    """An outstanding query over one path.

    Attributes:
        exchange: its owner.
        path: its path.
        port: the port at which its response arrives.
        octets: the message as it is sent.
    """

    exchange: Asker
    path: Path
    port: "Port"
    octets: bytes

    @property
    def identifier(self) -> bytes:
        """The id of the query on the wire."""
        return self.octets[:2]


class Ports:
    """The ports that are open, by path.

    Args:
        mark: firewall mark of the sockets, which keeps them out of the shim; 0 for none.
        counters: those of the resolvers.
        sockets_max: the maximum of sockets, including those of TCP connections.

    Attributes:
        caseless: resolvers that do not repeat the case of a name.
        left: how many more sockets of each kind may be opened.
    """

    def __init__(
        self, mark: int, counters: Counter[UpstreamCounter], sockets_max: int = SOCKETS_MAX
    ) -> None:
        streams = max(1, sockets_max // STREAMS_SHARE)
        self.left = {socket.SOCK_STREAM: streams, socket.SOCK_DGRAM: sockets_max - streams}
        self._streams: Tenants[asyncio.Task[None]] = Tenants()
        self._streams_max = streams
        self.mark = mark
        self.counters = counters
        self.caseless: set[Server] = set()
        self._ports: dict[Path, list[Port]] = {}

    def port(self, path: Path) -> "Port":
        """A port for a query: a new one, unless there are many.

        Raises:
            OSError: the address, the source or the mark is not available.
        """
        ports = self._ports.setdefault(path, [])
        if not ports or (len(ports) < PORTS_MAX and self.left[socket.SOCK_DGRAM]):
            port = Port(self, path)
            ports.append(port)
            return port
        return secrets.choice(ports)

    def disguise(self, query: Query, server: Server) -> bytes:
        """The query with a random id and the name in random case."""
        octets = len(query.name)
        if server in self.caseless:
            return disguised(query, secrets.token_bytes(2) + bytes(octets))
        return disguised(query, secrets.token_bytes(2 + octets))

    def retire(self, port: "Port") -> None:
        """Stops sending from this port."""
        ports = self._ports.get(port.path, [])
        if port in ports:
            ports.remove(port)

    def stream(self, user: Hashable, converse: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Starts a conversation over TCP; may end another one to make room.

        A resolver may be slow to answer, as it waits for servers of others. At the limit the oldest
        conversation of the user with the most is ended [D46].

        Args:
            user: for whom.
            converse: opens one connection, and closes it.
        """
        ended = None
        if self._streams.count >= self._streams_max:
            ended = self._streams.oldest_of_largest(user)
            self._streams.remove(ended)
            ended.cancel()
        task = asyncio.create_task(_converse_after(ended, converse))
        self._streams.add(user, task, asyncio.get_running_loop().time())
        task.add_done_callback(self._streams.remove)
        return task

    def open(self, path: Path, kind: socket.SocketKind) -> tuple[socket.socket, Address]:
        """A socket for a path, and the address of the resolver for it; ``release`` closes it.

        Raises:
            OSError: the address, the source or the mark is not available, or too many are open.
        """
        if self.left[kind] <= 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
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
            stack.pop_all()  # the caller closes it
        self.left[kind] -= 1
        return connection, address

    def release(self, connection: socket.socket) -> None:
        """Closes a socket that ``open`` has opened."""
        connection.close()
        self.left[connection.type] += 1


async def _converse_after(
    ended: asyncio.Task[None] | None, converse: Callable[[], Awaitable[None]]
) -> None:
    """Converses once the socket of a conversation that was ended is closed."""
    if ended is not None:
        await asyncio.wait({ended})
    await converse()


class Port:
    """A UDP port that asks one resolver; open while a response is outstanding.

    Args:
        ports: its owner.
        path: the resolver and the source; connected, so that the kernel drops other packets.
    """

    def __init__(self, ports: Ports, path: Path) -> None:
        self.ports = ports
        self.path = path
        self.connection, address = ports.open(path, socket.SOCK_DGRAM)
        try:
            self.connection.connect(address)
        except OSError:
            ports.release(self.connection)
            raise
        asyncio.get_running_loop().add_reader(self.connection.fileno(), self._receive)
        self._waiting: dict[bytes, Attempt] = {}
        self._queries = 0
        self._strays_left = STRAYS_MAX - 1

    def begin(self, exchange: Asker) -> Attempt:
        """Begins a try with an id that is unique on this port, and waits for its response."""
        octets = self.ports.disguise(exchange.query, self.path.server)
        while octets[:2] in self._waiting:
            octets = self.ports.disguise(exchange.query, self.path.server)
        attempt = Attempt(exchange, self.path, self, octets)
        self._waiting[attempt.identifier] = attempt
        self._queries += 1
        if self._queries >= PORT_QUERIES_MAX:
            self.ports.retire(self)
        return attempt

    def send(self, attempt: Attempt) -> None:
        """Sends or repeats a query.

        Raises:
            OSError: the system or the network refuses.
        """
        self._strays_left += 1
        with contextlib.suppress(BlockingIOError):  # the same as a lost packet
            self.connection.send(attempt.octets)

    def forget(self, attempt: Attempt) -> None:
        """Cancels the wait for this response; closes the port if it was the last."""
        self._waiting.pop(attempt.identifier, None)
        if not self._waiting:
            self._close()

    def _close(self) -> None:
        if self.connection.fileno() >= 0:
            self.ports.retire(self)
            asyncio.get_running_loop().remove_reader(self.connection.fileno())
            self.ports.release(self.connection)

    def _receive(self) -> None:
        """Reads a limited number of messages."""
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
        self.ports.counters[UpstreamCounter.MALFORMED] += 1
        self._strays_left -= 1
        if self._strays_left <= 0:
            self._fail()

    def _fail(self) -> None:
        """This port will receive nothing useful: every query tries its next path."""
        self.ports.retire(self)
        for attempt in tuple(self._waiting.values()):
            attempt.exchange.failed(self.path)
