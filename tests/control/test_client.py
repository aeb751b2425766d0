# SPDX-License-Identifier: MIT
"""The client of the control socket, and whether a daemon is there."""

import asyncio
import contextlib
import itertools
import socket
from collections import deque
from pathlib import Path

import pytest

from noid.control import client
from noid.control.client import ask, ask_rows, listens, stream_events
from noid.control.schema import ROWS_PER_LINE
from noid.control.server import CLIENTS_MAX
from noid.errors import PlatformError
from tests.canned import serving
from tests.control.conftest import ANSWER, WAIT_S, commands


def test_asking_gives_the_answer(path: Path) -> None:
    with serving(path, commands()):
        assert ask(path, "status") == ANSWER
        assert list(ask_rows(path, "contexts")) == [ANSWER] * (ROWS_PER_LINE + 1)


def test_a_refusal_is_an_error_with_its_reason(path: Path) -> None:
    with serving(path, commands()), pytest.raises(PlatformError, match="unknown command 'halt'"):
        ask(path, "halt")


def test_where_no_daemon_answers_the_error_says_how_to_start_one(path: Path) -> None:
    with pytest.raises(PlatformError, match="noid run"):
        ask(path, "status")


def listener(path: Path) -> socket.socket:
    """Something that is no noid, and accepts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    return listening


def test_a_daemon_that_does_not_answer_in_time_is_an_error(path: Path) -> None:
    with listener(path), pytest.raises(PlatformError, match=r"no answer within 0\.01 s; .* stuck"):
        ask(path, "status", timeout_s=0.01)


def test_a_daemon_that_reports_no_event_in_time_is_no_error_but_one_that_is_stuck_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT_S", 0.01)
    with listener(path), pytest.raises(PlatformError, match="stuck"):
        next(stream_events(path))


def test_a_daemon_with_too_many_waiting_clients_is_called_stuck(path: Path) -> None:
    with listener(path) as listening, contextlib.ExitStack() as stack:
        listening.listen(0)
        one = stack.enter_context(socket.socket(socket.AF_UNIX))
        one.connect(str(path))
        with pytest.raises(PlatformError, match=r"too many clients wait; .* stuck"):
            ask(path, "status")


@pytest.mark.parametrize("reads", [True, False])
def test_a_daemon_that_closes_without_answering_is_an_error(path: Path, reads: bool) -> None:
    with listener(path) as listening:

        def close() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 10 if reads else 1)

        loop = asyncio.new_event_loop()
        ended = loop.run_in_executor(None, close)
        with pytest.raises(PlatformError, match="closed without answering"):
            ask(path, "status")
        loop.run_until_complete(ended)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a_daemon_that_ends_in_the_middle_of_an_answer_is_an_error(path: Path) -> None:
    with serving(path, {"contexts": lambda: itertools.repeat(ANSWER)}) as canned:
        rows = ask_rows(path, "contexts")
        assert next(rows) == ANSWER
        canned.stop()
        with pytest.raises(PlatformError, match="closed without answering"):
            deque(rows, maxlen=0)


def test_events_come_as_a_stream_that_ends_with_the_daemon(path: Path) -> None:
    with serving(path, commands()) as canned:
        stream = stream_events(path, timeout_s=WAIT_S)
        assert next(stream) == {"event": "monitoring"}
        canned.call(canned.server.publish, {"event": "switched"})
        assert next(stream) == {"event": "switched"}
        canned.stop()
        assert list(stream) == []


@pytest.mark.parametrize("command", ["status", "monitor"])
def test_one_client_too_many_is_told_why(path: Path, command: str) -> None:
    with serving(path, commands()):
        streams = [stream_events(path, timeout_s=WAIT_S) for _ in range(CLIENTS_MAX)]
        assert [next(stream) for stream in streams] == [{"event": "monitoring"}] * CLIENTS_MAX
        with pytest.raises(PlatformError, match="too many clients"):
            ask(path, "status") if command == "status" else next(
                stream_events(path, timeout_s=WAIT_S)
            )
        for stream in streams:
            stream.close()


def test_a_daemon_that_answers_nothing_is_there_until_it_has_ended(path: Path) -> None:
    assert not listens(path)
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.bind(str(path))
        assert not listens(path)
        daemon.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(str(path))
        assert listens(path), "it is there though no other process may wait for it"
        for one in waiting:
            one.close()
    assert path.is_socket()
    assert not listens(path)
