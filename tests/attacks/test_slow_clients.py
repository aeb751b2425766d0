# SPDX-License-Identifier: MIT
"""Clients of local servers that send their requests an octet at a time, without an end [D46].

Attacker: a local user; at the control socket a program of its owner that has gone wrong.
Guaranteed: others are served.
"""

import asyncio
import contextlib
from pathlib import Path

from noid.control.server import CLIENTS_MAX, ControlServer
from noid.resolver.exchange import LENGTH
from tests.dns.conftest import QUICK, Pretend, Program, as_program, silent
from tests.waiting import until

DRIP_S = 0.02
IDLE_S = 0.5


async def drip(writer: asyncio.StreamWriter, begin: bytes = b"") -> None:
    """Sends octets one after another until the server closes."""
    writer.write(begin)
    with contextlib.suppress(OSError):
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(DRIP_S)


def test_slow_clients_of_the_control_socket_make_room(tmp_path: Path) -> None:
    path = tmp_path / "noid.sock"

    async def answer() -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(path))
        with contextlib.suppress(OSError):
            writer.write(b'{"command":"status"}\n')
        said = await reader.readline()
        writer.close()
        return said

    async def play() -> None:
        server = ControlServer(path, {"status": lambda: {"version": "1"}})
        await server.start()
        async with asyncio.TaskGroup() as group:
            clients = [await asyncio.open_unix_connection(str(path)) for _ in range(CLIENTS_MAX)]
            dripping = [group.create_task(drip(writer)) for _, writer in clients]
            await until(lambda: len(server.clients) == CLIENTS_MAX)
            while await answer() != b'{"version":"1"}\n':
                await asyncio.sleep(DRIP_S)
            for task in dripping:
                task.cancel()
            for _, writer in clients:
                writer.close()
        await server.stop()

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_client_of_the_stub_has_a_limited_time_for_a_query(pretend: Pretend) -> None:
    async def scenario(program: Program) -> None:
        reader, writer = await program.connect()
        dripping = asyncio.create_task(drip(writer, LENGTH.pack(2_000)))
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        await until(dripping.done)
        writer.close()

    as_program(scenario, pretend(silent), limits=QUICK._replace(idle_s=IDLE_S))
