# SPDX-License-Identifier: MIT
"""One outstanding query to the resolvers, over the paths in sequence or over all in parallel."""

import asyncio
import socket
import struct
from collections.abc import Hashable, Iterator
from functools import partial
from typing import Final

from noid.counters import UpstreamCounter
from noid.dns.messages import REFUSALS, TC, message_flags, response_code
from noid.dns.queries import Query
from noid.dns.responses import Echo, echo
from noid.resolver.port import Attempt, Path, Ports, Server

LENGTH: Final = struct.Struct("!H")
"""The length before each message on a stream [RFC 1035 §4.2.2]."""


class Exchange:
    """A query that is tried over one path after another; the first usable response ends it.

    Args:
        ports: the open ports.
        query: the query.
        schedule: the paths to try, and how long to wait after each.
        deadline_s: when it is given up, by the clock of the loop.
        user: for whom it is; the users share the connections over TCP.
    """

    def __init__(
        self,
        ports: Ports,
        query: Query,
        schedule: Iterator[tuple[Path, float]],
        deadline_s: float,
        user: Hashable = None,
    ) -> None:
        self.ports = ports
        self.user = user
        self.answered_by: Path | None = None
        self.query = query
        self.streams: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[bytes | None] = loop.create_future()
        self._deadline = deadline_s
        self._timer = loop.call_at(self._deadline, self._next)
        self._schedule = schedule
        self._refusal: bytes | None = None
        self._refusing: set[Server] = set()
        self._failed: set[Path] = set()
        self._tries: dict[Path, Attempt] = {}

    def begin(self) -> None:
        """Starts the exchange with the first path."""
        self._next()

    def end(self) -> None:
        """Releases its resources, when there is a response or no caller waits."""
        self._timer.cancel()
        for attempt in self._tries.values():
            attempt.port.forget(attempt)
        self._tries.clear()
        for task in self.streams:
            task.cancel()

    def give_up(self) -> None:
        """Ends without a response, or with a refusal."""
        if not self.response.done():
            self.response.set_result(self._refusal)

    def received(self, attempt: "Attempt", octets: bytes, case: Echo) -> None:
        """A response to one of the tries arrived, with the right source and id."""
        if self.response.done():
            return
        guessed = case is Echo.OTHER_CASE and attempt.path.server not in self.ports.caseless
        if guessed or message_flags(octets) & TC:
            # TCP carries the whole response, and off-path hosts cannot inject into it.
            del self._tries[attempt.path]
            attempt.port.forget(attempt)
            task = self.ports.stream(self.user, partial(self._over_stream, attempt.path))
            self.streams.add(task)
            task.add_done_callback(self.streams.discard)
        else:
            self._take(attempt.path, octets)

    def failed(self, path: Path) -> None:
        """The network or the system refused one of the tries."""
        self.ports.counters[UpstreamCounter.FAILED] += 1
        self._give_up(path)

    def _take(self, path: Path, octets: bytes) -> None:
        if self.response.done():
            return
        if response_code(octets) in REFUSALS:
            self.ports.counters[UpstreamCounter.REFUSED] += 1
            self._refusing.add(path.server)
            self._refusal = octets
            self._give_up(path)
            return
        self.ports.counters[UpstreamCounter.ANSWERED] += 1
        self.answered_by = path
        self.response.set_result(octets)
        self.end()

    def _give_up(self, path: Path) -> None:
        """This path will return nothing: tries the next one at once."""
        self._drop(path)
        if not self.response.done():
            self._next()

    def _drop(self, path: Path) -> None:
        self._failed.add(path)
        attempt = self._tries.pop(path, None)
        if attempt is not None:
            attempt.port.forget(attempt)

    def _next(self) -> None:
        """Tries the next path; ends if there is none and no response is expected."""
        loop = asyncio.get_running_loop()
        self._timer.cancel()
        if loop.time() >= self._deadline:
            self.ports.counters[UpstreamCounter.TIMED_OUT] += 1
            self.give_up()
            return
        for path, patience_s in self._schedule:
            if path in self._failed or path.server in self._refusing:
                continue
            try:
                self._send(path)
            except OSError:
                self.ports.counters[UpstreamCounter.FAILED] += 1
                self._drop(path)
                continue
            self._timer = loop.call_at(min(loop.time() + patience_s, self._deadline), self._next)
            return
        if self._tries or self.streams:
            self._timer = loop.call_at(self._deadline, self._next)
        else:
            self.give_up()

    def _send(self, path: Path) -> None:
        """Sends the query, or sends it again, from the same port under the same id.

        Raises:
            OSError: it cannot be sent.
        """
        attempt = self._tries.get(path)
        if attempt is None:
            attempt = self.ports.port(path).begin(self)
            self._tries[path] = attempt
        attempt.port.send(attempt)

    async def _over_stream(self, path: Path) -> None:
        query = self.ports.disguise(self.query, path.server)
        try:
            response = await self._converse(path, query)
        except OSError:
            self._stream_over()
            self.failed(path)
            return
        self._stream_over()
        case = echo(query, self.query.end, response)
        if case is Echo.NONE:
            self.ports.counters[UpstreamCounter.MALFORMED] += 1
            self._give_up(path)
            return
        if case is Echo.OTHER_CASE:
            self.ports.caseless.add(path.server)
        self._take(path, response)

    def _stream_over(self) -> None:
        """A task that still runs will return nothing useful."""
        task = asyncio.current_task()
        assert task is not None
        self.streams.discard(task)

    async def _converse(self, path: Path, query: bytes) -> bytes:
        """Sends one message over TCP and reads one.

        Raises:
            OSError: the connection fails, or ends too soon.
        """
        loop = asyncio.get_running_loop()
        connection, address = self.ports.open(path, socket.SOCK_STREAM)
        try:
            await loop.sock_connect(connection, address)
            await loop.sock_sendall(connection, LENGTH.pack(len(query)) + query)
            (octets,) = LENGTH.unpack(await receive_exactly(connection, LENGTH.size))
            return await receive_exactly(connection, octets)
        finally:
            self.ports.release(connection)


async def receive_exactly(connection: socket.socket, octets: int) -> bytes:
    """Reads from a stream.

    Raises:
        ConnectionError: the stream ended before.
    """
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < octets:
        part = await loop.sock_recv(connection, octets - len(received))
        if not part:
            raise ConnectionError
        received += part
    return bytes(received)
