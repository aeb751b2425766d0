# SPDX-License-Identifier: MIT
"""The server of the control socket; ``noid.control.schema`` describes the protocol."""

import asyncio
import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from noid.control.prompt import PromptListener, send_now
from noid.control.schema import (
    LINE_S,
    MONITOR,
    REQUEST_OCTETS_MAX,
    ROWS_PER_LINE,
    Answer,
    Handler,
    RequestHandler,
    Row,
)
from noid.errors import PlatformError
from noid.text import json_line

CLIENTS_MAX = 32
"""The maximum of clients; one more gets an error and is closed."""
REQUEST_S = 1.0
"""How long a client may take for a request before it can be closed to make room for another."""
BACKLOG = 100
"""The maximum of clients that wait to be accepted."""
MONITOR_BACKLOG_MAX = 1000
"""The maximum of events that wait for a monitor; with more it is closed."""


class ControlServer:
    """Answers commands on a unix socket, readable and writable by its owner alone.

    Args:
        path: the path of the socket; a stale one is replaced, a live one is not.
        commands: the functions that answer commands.
        requests: the functions that answer commands with arguments.
    """

    def __init__(
        self,
        path: Path,
        commands: dict[str, Handler],
        requests: dict[str, RequestHandler] | None = None,
    ) -> None:
        self.path = path
        self.commands = commands
        self.requests = requests or {}
        self.clients: set[asyncio.StreamWriter] = set()
        self._waited_for: dict[asyncio.StreamWriter, float] = {}
        self.monitors: dict[asyncio.Queue[bytes], asyncio.StreamWriter] = {}
        self.listener: PromptListener | None = None
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Opens the socket.

        Raises:
            PlatformError: another daemon answers there, or the path cannot be used.
        """
        if await self._alive():
            raise PlatformError(
                f"control socket {self.path}",
                errno.EADDRINUSE,
                "another noid answers there; stop it first or set control.socket",
            )
        if self.path.exists() and not self.path.is_socket():
            raise PlatformError(
                f"control socket {self.path}",
                errno.EEXIST,
                "something else stands there; move it away or set control.socket",
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            previous = os.umask(0o077)
            try:
                listening = _listening(self.path)
            finally:
                os.umask(previous)
        except OSError as error:
            self._unlink()  # it exists if only listening failed
            raise PlatformError(
                f"control socket {self.path}",
                error.errno or 0,
                f"{error.strerror}; set control.socket to a path that can be written",
            ) from None
        self.listener = PromptListener(listening, self._answer_now, self._serve, REQUEST_OCTETS_MAX)

    async def stop(self) -> None:
        """Closes the socket and every client, and removes the path."""
        if self.listener is not None:
            self.listener.close()
            for writer in self.clients - set(self.monitors.values()):
                writer.close()
            for queue, writer in self.monitors.items():
                _end_monitor(queue, writer)
            self._unlink()
            self.listener = None

    def _unlink(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def publish(self, event: dict[str, Any]) -> None:
        """Sends one event to every monitor; a monitor that does not read is closed."""
        if not self.monitors:
            return
        line = json_line(event).encode() + b"\n"
        for queue, writer in tuple(self.monitors.items()):
            if queue.full():
                del self.monitors[queue]
                _end_monitor(queue, writer)
            else:
                queue.put_nowait(line)

    async def _alive(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(str(self.path))
        except OSError:
            return False
        writer.close()
        return True

    # --- clients ------------------------------------------------------------------------------

    def _answer_now(self, connection: socket.socket) -> bytes:
        """Answers a request that is there and needs no waiting; returns what could not be sent."""
        if len(self.clients) >= CLIENTS_MAX:
            return b""  # it is refused by the stream
        try:
            line, end, _ = connection.recv(REQUEST_OCTETS_MAX, socket.MSG_PEEK).partition(b"\n")
            command = str(msgspec.json.decode(line, type=dict[str, Any])["command"])
        except (OSError, ValueError, KeyError, RecursionError):
            return b""  # nothing yet, or what the stream refuses
        handler = self.commands.get(command)
        if not end or handler is None or command in self.requests or _has_gone(connection):
            return b""
        answer = handler()
        if not isinstance(answer, dict):
            return b""  # rows are sent by the stream
        octets = json_line(answer).encode() + b"\n"
        try:
            connection.recv(len(line) + len(end))
        except OSError:
            return b""
        return send_now(connection, octets)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, owed: bytes
    ) -> None:
        self.clients.add(writer)
        writer.write(owed)
        try:
            if len(self.clients) > CLIENTS_MAX and not self._make_room():
                writer.write(msgspec.json.encode({"error": "too many clients"}) + b"\n")
            else:
                await self._converse(reader, writer)
            await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # the client has closed, or sent a line that is too long for a request
        finally:
            self.clients.discard(writer)
            writer.close()

    def _make_room(self) -> bool:
        """Closes the client that has taken longest for a request; returns whether there is one."""
        slowest = next(iter(self._waited_for), None)
        if slowest is None or time.monotonic() - self._waited_for[slowest] < REQUEST_S:
            return False
        del self._waited_for[slowest]
        self.clients.discard(slowest)
        slowest.transport.abort()
        return True

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        self._waited_for[writer] = time.monotonic()
        try:
            return await reader.readline()
        finally:
            self._waited_for.pop(writer, None)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await self._request(reader, writer):
            try:
                request = msgspec.json.decode(octets, type=dict[str, Any])
                command = str(request["command"])
            except (ValueError, KeyError, RecursionError):
                writer.write(b'{"error":"a request is one JSON object with a command"}\n')
                return
            await self._take_turn()
            if _has_gone(writer.get_extra_info("socket")):
                return  # it has reported a failure: nothing may be changed for it now
            if command == MONITOR:
                await self._monitor(reader, writer)
                return
            answer = await self._answer(command, request)
            for line in [answer] if isinstance(answer, dict) else parts(answer):
                writer.write(json_line(line).encode() + b"\n")
                await writer.drain()
                await asyncio.sleep(0)
                if line and isinstance(line, list):  # another line follows
                    await self._take_turn()

    async def _take_turn(self) -> None:
        """Waits until no other client has made a line in this turn of the loop.

        In one turn the engine treats few contexts. While each client took a turn of its own, 31
        that asked without a pause made the engine fifty times slower.
        """
        await self._turn.acquire()
        asyncio.get_running_loop().call_soon(self._turn.release)

    async def _answer(self, command: str, request: Row) -> Answer:
        if command in self.requests:
            return await self.requests[command](request)
        handler = self.commands.get(command)
        return handler() if handler else {"error": f"unknown command {command!r}"}

    async def _monitor(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue(MONITOR_BACKLOG_MAX)
        self.monitors[queue] = writer
        departure = asyncio.create_task(_await_departure(reader, queue, writer))
        try:
            writer.write(b'{"event":"monitoring"}\n')
            while line := await queue.get():
                writer.write(line)
                await writer.drain()
        finally:
            self.monitors.pop(queue, None)
            departure.cancel()


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _has_gone(connection: socket.socket) -> bool:
    """Whether the client has closed; one that has only ended its requests reads the answers."""
    hangups = select.poll()
    hangups.register(connection, 0)
    return bool(hangups.poll(0))


def parts(rows: Iterator[Row], clock: Callable[[], float] = time.monotonic) -> Iterator[list[Row]]:
    """The lines of an answer, each for LINE_S and ROWS_PER_LINE at most; the last has no row.

    Args:
        rows: all of them, each made when it is taken.
        clock: the time, in seconds.
    """
    part: list[Row] = []
    end_s = clock() + LINE_S
    for row in rows:
        part.append(row)
        if len(part) == ROWS_PER_LINE or clock() >= end_s:
            yield part
            part = []
            end_s = clock() + LINE_S
    if part:
        yield part
    yield []


async def _await_departure(
    reader: asyncio.StreamReader, queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter
) -> None:
    """Removes a monitor when it closes, without waiting for the next event."""
    with contextlib.suppress(OSError):
        while await reader.read(REQUEST_OCTETS_MAX):
            pass  # a monitor sends nothing more
    _end_monitor(queue, writer)


def _end_monitor(queue: asyncio.Queue[bytes], writer: asyncio.StreamWriter) -> None:
    """Ends a monitor after its waiting events, or at once if it does not read."""
    if queue.full():
        writer.transport.abort()
    else:
        queue.put_nowait(b"")
