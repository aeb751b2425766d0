# SPDX-License-Identifier: MIT
"""Which addresses programs have connections between, by the real kernel and by tables it wrote."""

import asyncio
import socket
from pathlib import Path

import pytest

from noid.host.connections import Connections
from noid.locators import Locator, parse_locator

HERE = parse_locator("::1")
PEER = parse_locator("2001:db8::1")
HEADING = (
    "  sl  local_address                         remote_address                        st ...\n"
)
LINE = "   0: {local}:1F90 {peer}:9C40 {state} 00000000:00000000 00:00000000 00000000     0  ...\n"
LISTED = {HERE: "00000000000000000000000001000000", PEER: "B80D0120000000000000000001000000"}


def exist(connections: Connections, local: Locator, peer: Locator) -> bool:
    return asyncio.run(connections.exist(local, peer))


def write(table: Path, peer: Locator, state: str) -> None:
    line = LINE.format(local=LISTED[HERE], peer=LISTED[peer], state=state)
    table.write_text(HEADING + line, encoding="ascii")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_an_open_connection_of_a_program_is_seen(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET6, kind) as server, socket.socket(socket.AF_INET6, kind) as it:
        server.bind(("::1", 0))
        if kind is socket.SOCK_STREAM:
            server.listen()
        it.connect(server.getsockname())
        assert exist(Connections(), HERE, HERE)
        assert not exist(Connections(), HERE, PEER)


@pytest.mark.parametrize(("state", "seen"), [("01", True), ("06", False), ("07", False)])
def test_what_nobody_waits_for_is_no_connection(tmp_path: Path, state: str, seen: bool) -> None:
    write(tmp_path / "tcp6", PEER, state)
    connections = Connections([tmp_path / "tcp6", tmp_path / "absent"])
    assert exist(connections, HERE, PEER) is seen
    assert not exist(connections, PEER, HERE)


def test_one_look_answers_for_a_while(tmp_path: Path) -> None:
    async def asked(connections: Connections) -> list[bool]:
        write(tmp_path / "tcp6", PEER, "01")
        at_once = await asyncio.gather(*(connections.exist(HERE, PEER) for _ in range(1000)))
        assert all(at_once)
        write(tmp_path / "tcp6", HERE, "01")
        return [await connections.exist(HERE, PEER), await connections.exist(HERE, HERE)]

    tables = [tmp_path / "tcp6"]
    assert asyncio.run(asked(Connections(tables))) == [True, False]
    assert asyncio.run(asked(Connections(tables, look_age_s=0))) == [False, True]


def test_a_question_that_is_given_up_does_not_end_the_look_of_another(tmp_path: Path) -> None:
    async def given_up() -> bool:
        connections = Connections([tmp_path / "tcp6"])
        first = asyncio.create_task(connections.exist(HERE, PEER))
        second = asyncio.create_task(connections.exist(HERE, PEER))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    write(tmp_path / "tcp6", PEER, "01")
    assert asyncio.run(given_up())


def test_there_may_be_connections_while_the_kernel_cannot_be_asked(tmp_path: Path) -> None:
    """A context that a program needs must not end because no descriptor is left."""
    tables = [tmp_path / "tcp6", tmp_path / "udp6"]
    write(tables[0], PEER, "06")
    tables[1].mkdir()  # reading it fails, also for root
    connections = Connections(tables, look_age_s=0)
    assert exist(connections, HERE, PEER)
    tables[1].rmdir()
    assert not exist(connections, HERE, PEER)
