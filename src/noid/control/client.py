# SPDX-License-Identifier: MIT
"""The client of the control socket; ``noid.control.schema`` describes the protocol."""

import contextlib
import errno
import socket
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from noid.control.schema import ANSWER_OCTETS_MAX, MONITOR, Row, refusal_of
from noid.errors import PlatformError

TIMEOUT_S = 5.0
"""How long a client waits for the next octet of an answer."""
STUCK = "the daemon is stopped or stuck; restart it"
"""The remedy where a daemon does not answer."""


def ask(
    path: Path,
    command: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """Sends one command to a running daemon; returns the first line of its answer, decoded.

    Args:
        path: the path of the socket.
        command: the name of the command.
        arguments: further keys of the request.
        timeout_s: how long to wait for the answer.

    Raises:
        PlatformError: no daemon answers there, or it refuses.
    """
    with contextlib.closing(_answered(path, command, timeout_s, arguments)) as lines:
        return next(lines)


def ask_rows(path: Path, command: str, *, timeout_s: float = TIMEOUT_S) -> Generator[Row]:
    """The rows of the answer of a running daemon to a command, as they arrive.

    Raises:
        PlatformError: no daemon answers, it refuses, or it ends before the last row.
    """
    with contextlib.closing(_answered(path, command, timeout_s)) as lines:
        while rows := next(lines):
            yield from rows


def _answered(
    path: Path, command: str, timeout_s: float, arguments: Mapping[str, Any] | None = None
) -> Generator[Any]:
    """The lines of an answer; raises if the daemon closes before the caller stops reading."""
    try:
        yield from _lines(path, command, timeout_s, arguments)
    except TimeoutError:
        raise _stuck(path, timeout_s) from None
    except ConnectionError:
        pass
    raise PlatformError(f"control socket {path}", 0, "the daemon closed without answering")


def answers(path: Path) -> bool:
    """Whether a daemon answers there."""
    try:
        ask(path, "status")
    except (PlatformError, OSError):
        return False
    return True


def listens(path: Path) -> bool:
    """Whether a daemon has the socket open, even while it starts, hangs or is too busy."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            connection.connect(str(path))
        except BlockingIOError:
            return True  # its queue of connections is full
        except OSError:
            return False
    return True


def stream_events(path: Path, *, timeout_s: float | None = None) -> Generator[dict[str, Any]]:
    """The daemon's events as they happen, the first being ``{"event": "monitoring"}``.

    Ends when the daemon stops. With a timeout, raises TimeoutError after that long without one.

    Raises:
        PlatformError: no daemon answers there within TIMEOUT_S, or it refuses.
    """
    with _connection(path, TIMEOUT_S) as (stream, connection):
        lines = _conversation(stream, connection, MONITOR)
        try:
            first = next(lines, None)
        except TimeoutError:
            raise _stuck(path, TIMEOUT_S) from None
        if first is not None:
            connection.settimeout(timeout_s)
            yield first
            yield from lines


def _lines(
    path: Path, command: str, timeout_s: float, arguments: Mapping[str, Any] | None
) -> Generator[Any]:
    """The lines that a daemon sends for a command, until it closes."""
    with _connection(path, timeout_s) as (stream, connection):
        yield from _conversation(stream, connection, command, arguments)


def _conversation(
    stream: Any,
    connection: socket.socket,
    command: str,
    arguments: Mapping[str, Any] | None = None,
) -> Generator[Any]:
    """Sends a command; the lines that answer it, until the daemon closes."""
    # A daemon that refuses has already closed, after an error message.
    with contextlib.suppress(BrokenPipeError):
        request = {**(arguments or {}), "command": command}
        connection.sendall(msgspec.json.encode(request) + b"\n")
    while line := stream.readline(ANSWER_OCTETS_MAX):
        answer = msgspec.json.decode(line)
        if why := refusal_of(answer):
            raise PlatformError(f"command {command}", 0, why)
        yield answer


def _stuck(path: Path, timeout_s: float) -> PlatformError:
    why = f"no answer within {timeout_s:g} s; {STUCK}"
    return PlatformError(f"control socket {path}", errno.ETIMEDOUT, why)


@contextlib.contextmanager
def _connection(path: Path, timeout_s: float) -> Iterator[tuple[Any, socket.socket]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except PermissionError:
            raise PlatformError(
                f"control socket {path}",
                errno.EACCES,
                "permission denied; run as the user of the daemon, or as root",
            ) from None
        except BlockingIOError:
            raise PlatformError(
                f"control socket {path}", errno.EAGAIN, f"too many clients wait; {STUCK}"
            ) from None
        except OSError as error:
            raise PlatformError(
                f"control socket {path}",
                error.errno or 0,
                "no noid answers there; start one with: noid run",
            ) from None
        with connection.makefile("rb") as stream:
            yield stream, connection
