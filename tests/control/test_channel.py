# SPDX-License-Identifier: MIT
"""The server of the control socket, over a real unix socket; the client: ``test_client``."""

import asyncio
import itertools
import json
import os
import resource
import socket
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noid.control.schema import ANSWER_OCTETS_MAX, LINE_S, REQUEST_OCTETS_MAX, ROWS_PER_LINE
from noid.control.server import CLIENTS_MAX, MONITOR_BACKLOG_MAX, ControlServer, parts
from noid.errors import PlatformError
from tests.control.conftest import ANSWER, WAIT_S, commands
from tests.waiting import until

MONITORING = b'{"event":"monitoring"}\n'
Scenario = Callable[[ControlServer, Path], Awaitable[None]]
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def play(path: Path, scenario: Scenario) -> None:
    """Runs a scenario against a server of its own; none takes longer than so long."""

    async def whole() -> None:
        server = ControlServer(path, commands())
        await server.start()
        try:
            await scenario(server, path)
        finally:
            await server.stop()

    asyncio.run(asyncio.wait_for(whole(), WAIT_S))


async def connected(path: Path) -> Client:
    return await asyncio.open_unix_connection(str(path))


async def conversation(path: Path, *lines: bytes) -> bytes:
    """Everything the server says to these octets, until it closes."""
    reader, writer = await connected(path)
    writer.write(b"".join(lines))
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def monitoring(server: ControlServer, path: Path) -> Client:
    """A monitor that the server knows."""
    reader, writer = await connected(path)
    writer.write(b'{"command":"monitor"}\n')
    assert await reader.readline() == MONITORING
    return reader, writer


# --- requests -------------------------------------------------------------------------------------


def test_a_command_is_answered_with_one_line(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        assert await conversation(path, b'{"command":"status"}\n') == b'{"version":"1"}\n'

    play(path, scenario)


def test_one_client_may_ask_again_and_again(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        said = await conversation(path, b'{"command":"status"}\n', b'{"command":"contexts"}\n')
        status, *lines = [json.loads(line) for line in said.splitlines()]
        assert status == ANSWER
        assert lines.pop() == []
        assert [one for line in lines for one in line] == [ANSWER] * (ROWS_PER_LINE + 1)

    play(path, scenario)


def test_a_long_answer_leaves_others_their_turn_and_ends_with_its_client(path: Path) -> None:
    made = itertools.count()

    async def scenario(server: ControlServer, path: Path) -> None:
        server.commands["contexts"] = lambda: ({"number": number} for number in made)
        reader, writer = await connected(path)
        writer.write(b'{"command":"contexts"}\n')
        assert json.loads(await reader.readline())[0] == {"number": 0}
        assert json.loads(await conversation(path, b'{"command":"status"}\n')) == ANSWER
        writer.close()
        await until(lambda: not server.clients)

    play(path, scenario)
    assert next(made) < 1_000_000


@pytest.mark.parametrize("command", ["status", "contexts", "ping"])
def test_clients_that_ask_without_a_pause_share_the_turns_of_the_loop(
    path: Path, command: str
) -> None:
    made: set[tuple[int, int]] = set()
    requests = itertools.count()
    turn = 0

    def status() -> dict[str, Any]:
        made.add((turn, next(requests)))
        return ANSWER

    async def ping(request: dict[str, Any]) -> dict[str, Any]:
        return status()

    def contexts() -> Iterator[dict[str, Any]]:
        number = next(requests)
        for _ in range(2 * ROWS_PER_LINE):
            made.add((turn, number))
            yield {}

    async def scenario(server: ControlServer, path: Path) -> None:
        nonlocal turn
        server.commands |= {"status": status, "contexts": contexts}
        server.requests["ping"] = ping
        lines = [json.dumps({"command": command}).encode() + b"\n"] * 10
        tasks = [asyncio.create_task(conversation(path, *lines)) for _ in range(CLIENTS_MAX)]
        while not all(task.done() for task in tasks):
            turn += 1
            await asyncio.sleep(0)
        assert all(b"error" not in task.result() for task in tasks)

    play(path, scenario)
    assert next(requests) == 10 * CLIENTS_MAX
    at_once = Counter(turn for turn, _ in made)
    assert max(at_once.values()) <= 2, "one by a stream, and one when its client is accepted"


def test_a_client_that_closes_while_it_waits_for_its_turn_causes_nothing(path: Path) -> None:
    done: list[str] = []

    async def act(request: dict[str, Any]) -> dict[str, Any]:
        done.append(request["command"])
        return ANSWER

    async def scenario(server: ControlServer, path: Path) -> None:
        server.requests |= {"act": act, "late": act}
        lines = [b'{"command":"act"}\n'] * 10
        others = [asyncio.create_task(conversation(path, *lines)) for _ in range(CLIENTS_MAX - 1)]
        await until(lambda: len(server.clients) == CLIENTS_MAX - 1)
        _, writer = await connected(path)
        writer.write(b'{"command":"late"}\n')
        for _ in range(CLIENTS_MAX // 2):
            await asyncio.sleep(0)
        writer.close()
        await asyncio.gather(*others)
        await until(lambda: not server.clients)

    play(path, scenario)
    assert done == ["act"] * len(done)
    assert len(done) == 10 * (CLIENTS_MAX - 1)


def asking(path: Path) -> socket.socket:
    """A client that has connected and asked, and whose turn has not come."""
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    client.sendall(b'{"command":"status"}\n')
    client.setblocking(False)
    return client


def test_an_answer_takes_two_turns_of_the_loop_at_most(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        with asking(path) as client:
            for _ in range(2):
                await asyncio.sleep(0)
            assert client.recv(100) == b'{"version":"1"}\n'

    play(path, scenario)


def test_a_long_answer_arrives_whole_and_once(path: Path) -> None:
    text = "x" * (ANSWER_OCTETS_MAX - 100)

    async def scenario(server: ControlServer, path: Path) -> None:
        server.commands["status"] = lambda: {"text": text}
        lines = [b'{"command":"status"}\n', b'{"command":"halt"}\n']
        answer, refusal = (await conversation(path, *lines)).splitlines()
        assert json.loads(answer) == {"text": text}
        assert "unknown command" in json.loads(refusal)["error"]

    play(path, scenario)


@pytest.mark.slow
def test_a_client_is_accepted_when_there_is_a_descriptor_again(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        with asking(path) as client:
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
            try:
                for _ in range(10):
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            with pytest.raises(BlockingIOError):
                client.recv(100)
            assert await asyncio.get_running_loop().sock_recv(client, 100) == b'{"version":"1"}\n'

    play(path, scenario)


@pytest.mark.parametrize(
    ("row_s", "lengths"),
    [
        (0.0, [ROWS_PER_LINE, ROWS_PER_LINE, 1, 0]),
        (LINE_S / 4, [4] * (ROWS_PER_LINE // 2) + [1, 0]),
        (2 * LINE_S, [1] * (2 * ROWS_PER_LINE + 1) + [0]),
    ],
)
def test_a_line_has_as_many_rows_as_are_made_in_its_time(row_s: float, lengths: list[int]) -> None:
    now_s = 0.0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal now_s
        for _ in range(2 * ROWS_PER_LINE + 1):
            now_s += row_s
            yield ANSWER

    assert [len(part) for part in parts(rows(), lambda: now_s)] == lengths


def test_an_unknown_command_is_named_in_the_refusal(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        said = await conversation(path, b'{"command":"reboot"}\n', b'{"command":"status"}\n')
        refusal, answer = (json.loads(line) for line in said.splitlines())
        assert refusal == {"error": "unknown command 'reboot'"}
        assert answer == ANSWER

    play(path, scenario)


@pytest.mark.parametrize(
    "line",
    [
        b"status",
        b"[]",
        b"{}",
        b"{",
        b"\x00\xff",
        b'{"command":"\xff"}',
        b'{"command":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_garbage_is_refused_and_the_client_closed(path: Path, line: bytes) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        said = await conversation(path, line + b"\n", b'{"command":"status"}\n')
        (refusal,) = said.splitlines()
        assert "one JSON object" in json.loads(refusal)["error"]
        assert await conversation(path, b'{"command":"status"}\n')

    play(path, scenario)


@pytest.mark.parametrize(("octets", "answered"), [(0, True), (1, False)])
def test_a_request_is_so_long_and_no_longer(path: Path, octets: int, answered: bool) -> None:
    request = b'{"command":"status"}'
    request += b" " * (REQUEST_OCTETS_MAX - len(request) + octets) + b"\n"

    async def scenario(server: ControlServer, path: Path) -> None:
        reader, writer = await connected(path)
        writer.write(request)
        try:
            line = await reader.readline()
        except ConnectionResetError:
            line = b""  # it closed with octets of ours unread
        assert bool(line) is answered
        writer.close()
        await until(lambda: not server.clients)

    play(path, scenario)


def test_a_client_that_goes_in_the_middle_of_a_line_leaves_nothing_behind(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        _, writer = await connected(path)
        writer.write(b'{"comm')
        await until(lambda: len(server.clients) == 1)
        writer.close()
        await until(lambda: not server.clients)

    play(path, scenario)


def test_so_many_clients_are_served_and_one_more_is_told(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        clients = [await monitoring(server, path) for _ in range(CLIENTS_MAX)]
        reader, one_more = await connected(path)
        assert json.loads(await reader.read()) == {"error": "too many clients"}
        one_more.close()
        for _, writer in clients:
            writer.close()
        await until(lambda: not server.clients)
        assert await conversation(path, b'{"command":"status"}\n')

    play(path, scenario)


def test_a_command_is_not_carried_out_for_a_client_that_has_gone(path: Path) -> None:
    done: list[str] = []

    async def avoid(request: dict[str, Any]) -> dict[str, Any]:
        done.append(request["uplink"])
        return ANSWER

    async def scenario(server: ControlServer, path: Path) -> None:
        server.requests["avoid"] = avoid
        with socket.socket(socket.AF_UNIX) as gone:
            gone.connect(str(path))  # as while the daemon is stopped: the server takes no turn
            gone.sendall(b'{"command":"avoid","uplink":"up1"}\n')
        said = await conversation(path, b'{"command":"avoid","uplink":"up2"}\n')
        assert json.loads(said) == ANSWER, "it sends no more, but reads"
        await until(lambda: not server.clients)

    play(path, scenario)
    assert done == ["up2"]


# --- monitors -------------------------------------------------------------------------------------


# --- opening and closing --------------------------------------------------------------------------


def test_the_socket_is_its_owners_alone(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0

    play(path, scenario)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "noid.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scenario(server: ControlServer, path: Path) -> None:
        assert await conversation(path, b'{"command":"status"}\n')

    play(path, scenario)


def test_a_live_socket_is_refused_and_left_alone(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        with pytest.raises(PlatformError, match="another noid answers there"):
            await ControlServer(path, {}).start()
        assert await conversation(path, b'{"command":"status"}\n')

    play(path, scenario)


def test_what_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(PlatformError, match="something else stands there"):
        asyncio.run(ControlServer(path, {}).start())
    assert path.read_text() == "data"


def test_a_path_that_cannot_be_used_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PlatformError, match=r"set control\.socket"):
        asyncio.run(ControlServer(tmp_path / "file" / "noid.sock", {}).start())


def test_stopping_removes_the_socket_and_closes_every_client(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        idle, idle_writer = await connected(path)
        monitor, monitor_writer = await monitoring(server, path)
        await until(lambda: len(server.clients) == 2)
        server.publish({"event": "last"})
        await server.stop()
        await server.stop()
        assert not path.exists()
        assert await idle.read() == b""
        assert await monitor.read() == b'{"event":"last"}\n'
        for writer in (idle_writer, monitor_writer):
            writer.close()

    play(path, scenario)


def test_stopping_does_not_wait_for_a_monitor_that_does_not_read(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        reader, writer = await monitoring(server, path)
        for _ in range(MONITOR_BACKLOG_MAX):
            server.publish({"event": "dropped"})
        await server.stop()
        await until(lambda: not server.clients)
        await reader.read()
        writer.close()

    play(path, scenario)
