# SPDX-License-Identifier: MIT
"""Accepts the clients of a server, and answers a request that is there already in the same turn.

By a stream an answer takes six turns of the loop. While very many contexts change, turns are long.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

ACCEPT_AGAIN_S: Final = 1.0
"""How long after a client could not be accepted it is tried again."""

AnswerNow = Callable[[socket.socket], bytes | None]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, bytes], Awaitable[None]]


class PromptListener:
    """Accepts clients until it is closed.

    Args:
        listener: the socket; it does not block.
        answer_now: answers a request that is there and needs no waiting. Returns what could not be
            sent, which is nothing if there is no such request, or None if the client is done with.
        serve: serves a client by a stream; sends first what is owed to it.
        limit: the maximum of octets of a request by a stream.
    """

    def __init__(
        self, listener: socket.socket, answer_now: AnswerNow, serve: Serve, limit: int
    ) -> None:
        self.listener = listener
        self._answer_now, self._serve, self._limit = answer_now, serve, limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._later: asyncio.TimerHandle | None = None
        self._hear()

    def close(self) -> None:
        """Accepts no more clients; those that it has are served."""
        if self._later is not None:
            self._later.cancel()
        asyncio.get_running_loop().remove_reader(self.listener)
        self.listener.close()

    def _hear(self) -> None:
        self._later = None
        asyncio.get_running_loop().add_reader(self.listener, self._accept)

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # such as that no descriptor is left
            loop.remove_reader(self.listener)
            self._later = loop.call_later(ACCEPT_AGAIN_S, self._hear)
            return
        connection.setblocking(False)
        owed = self._answer_now(connection)
        if owed is None:
            connection.close()
            return
        task = loop.create_task(self._take(connection, owed))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, connection: socket.socket, owed: bytes) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection, limit=self._limit)
        except OSError:
            connection.close()
            return
        await self._serve(reader, writer, owed)


def send_now(connection: socket.socket, octets: bytes) -> bytes:
    """Sends what can be sent without waiting; returns the rest, which is nothing after an error."""
    try:
        return octets[connection.send(octets) :]
    except BlockingIOError:
        return octets
    except OSError:
        return b""
