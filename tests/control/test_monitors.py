# SPDX-License-Identifier: MIT
"""Monitors of the control socket: every event, to clients that read."""

import socket
from pathlib import Path

from noid.control.server import MONITOR_BACKLOG_MAX, ControlServer
from tests.control.conftest import WAIT_S
from tests.control.test_channel import monitoring, play
from tests.waiting import until


def test_every_monitor_gets_every_event_from_then_on(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        server.publish({"event": "too early"})
        clients = [await monitoring(server, path) for _ in range(2)]
        server.publish({"event": "switched"})
        server.publish({"event": "dropped"})
        for reader, writer in clients:
            assert await reader.readline() == b'{"event":"switched"}\n'
            assert await reader.readline() == b'{"event":"dropped"}\n'
            writer.close()

    play(path, scenario)


def test_a_monitor_that_closes_is_gone_without_an_event(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        _, writer = await monitoring(server, path)
        writer.write(b"some words of a monitor\n")
        writer.close()
        await until(lambda: not server.clients and not server.monitors)

    play(path, scenario)


def test_a_monitor_that_does_not_read_is_closed_at_its_limit(path: Path) -> None:
    event = {"event": "dropped", "reason": "x" * 1000}

    async def scenario(server: ControlServer, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(str(path))
            slow.sendall(b'{"command":"monitor"}\n')
            await until(lambda: bool(server.monitors))
            quick, writer = await monitoring(server, path)
            published = 0
            while len(server.monitors) == 2:
                server.publish(event)
                published += 1
                await quick.readline()
            assert published > MONITOR_BACKLOG_MAX
            await until(lambda: len(server.clients) == 1)
            slow.settimeout(WAIT_S)
            while slow.recv(1 << 20):
                pass
        server.publish({"event": "switched"})
        assert await quick.readline() == b'{"event":"switched"}\n'
        writer.close()

    play(path, scenario)


def test_no_more_events_wait_for_a_monitor_than_its_limit(path: Path) -> None:
    async def scenario(server: ControlServer, path: Path) -> None:
        _, writer = await monitoring(server, path)
        for _ in range(MONITOR_BACKLOG_MAX):
            server.publish({"event": "dropped"})
        assert len(server.monitors) == 1
        server.publish({"event": "dropped"})
        assert len(server.monitors) == 0
        writer.close()

    play(path, scenario)
