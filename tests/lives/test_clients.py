# SPDX-License-Identifier: MIT
"""A server whose clients have gone is as a new one, after all that they may do."""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from noid.control.server import CLIENTS_MAX, ControlServer
from noid.control.web.server import WebServer
from noid.control.web.watch import Watch
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from noid.roles.metrics import Facts, MetricsServer
from tests.contents import sizes
from tests.control.conftest import commands
from tests.engine.network import A1, CODEPOINTS
from tests.lives.test_lasting_failures import LISTEN, a_client
from tests.roles.test_metrics import paths, status
from tests.waiting import until

SEEDS: Final = range(3)
CLIENTS: Final = 3 * CLIENTS_MAX
"""More than any of these servers has at one time."""
STAYS_MAX: Final = 2 * CLIENTS_MAX
WAIT_S: Final = 60.0
OCTETS_MAX: Final = 65_536
KEPT: Final = ("_made", "watch._tasks", "._answers", "._failures", "._ports")
"""Answers that are kept, what is known of resolvers, and tasks that have ended, until others take
their place."""
ABORTS: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: the end of a connection is a reset."""


class Served(NamedTuple):
    """A server that listens.

    Attributes:
        server: the server.
        place: where it listens.
        requests: what a client may send, of which the first is answered at once.
    """

    server: object
    place: str | tuple[str, int]
    requests: list[bytes]


@contextlib.asynccontextmanager
async def the_control_socket(directory: Path) -> AsyncIterator[Served]:
    server = ControlServer(directory / "socket", commands())
    await server.start()
    names = ("status", "contexts", "monitor", "none")
    requests = [b'{"command":"%s"}\n' % one.encode() for one in names]
    try:
        yield Served(server, str(server.path), requests)
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def the_page(directory: Path) -> AsyncIterator[Served]:
    server = WebServer(LISTEN, 0, Watch(directory / "none"))
    await server.start()
    port = int(server.url.rstrip("/").rpartition(":")[2])
    lines = (b"GET / HTTP/1.1", b"GET /events HTTP/1.1", b"GET /none HTTP/1.1", b"POST / HTTP/1.1")
    try:
        yield Served(
            server, (LISTEN, port), [one + b"\r\nHost: localhost\r\n\r\n" for one in lines]
        )
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def the_metrics(_: Path) -> AsyncIterator[Served]:
    server = MetricsServer(f"[{LISTEN}]:0", Facts(status, paths))
    await server.start()
    lines = (b"GET /metrics HTTP/1.1", b"GET /none HTTP/1.1", b"POST /metrics HTTP/1.1")
    try:
        yield Served(
            server, (LISTEN, server.port), [one + b"\r\nHost: localhost\r\n\r\n" for one in lines]
        )
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def the_stub(_: Path) -> AsyncIterator[Served]:
    upstream = Upstream([(LISTEN, 9)], CODEPOINTS, lambda: (A1,), 0, total_s=0.1)
    stub = Stub(LISTEN, 0, upstream, lambda *_: True, tuple)
    kinds = socket.SOCK_DGRAM, socket.SOCK_STREAM
    passed = [socket.socket(socket.AF_INET6, one | socket.SOCK_NONBLOCK) for one in kinds]
    for one in passed:
        one.bind((LISTEN, 0))
    await stub.start((passed[0], passed[1]))
    # A query of another kind, which it refuses by itself; one that no resolver answers; no query.
    texts = ("1000 0001 0000 0000 0000 00 001c 0001", "0100 0001 0000 0000 0000 00 001c 0001", "80")
    queries = [b"\0\1" + bytes.fromhex(one) for one in texts]
    try:
        yield Served(
            stub,
            (LISTEN, passed[1].getsockname()[1]),
            [len(one).to_bytes(2, "big") + one for one in queries],
        )
    finally:
        await stub.stop()
        await upstream.close()


SERVERS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Served]]]] = {
    "control socket": the_control_socket,
    "web page": the_page,
    "metrics": the_metrics,
    "stub": the_stub,
}


# --- what a client does ---------------------------------------------------------------------------


class Requests(NamedTuple):
    """What a client may send."""

    every: list[bytes]
    chance: random.Random

    def any(self) -> bytes:
        return self.chance.choice(self.every)


async def say_nothing(client: socket.socket, requests: Requests) -> None:
    await asyncio.sleep(0)


async def say_half(client: socket.socket, requests: Requests) -> None:
    whole = requests.any()
    await asyncio.get_running_loop().sock_sendall(client, whole[: len(whole) // 2])


async def say_nonsense(client: socket.socket, requests: Requests) -> None:
    await asyncio.get_running_loop().sock_sendall(client, b"\xff\n\xff\r\n\r\n" * 40)


async def ask(client: socket.socket, requests: Requests) -> None:
    await asyncio.get_running_loop().sock_sendall(client, requests.any())


async def ask_and_read(client: socket.socket, requests: Requests) -> None:
    await asyncio.get_running_loop().sock_sendall(client, requests.every[0])
    await asyncio.get_running_loop().sock_recv(client, OCTETS_MAX)


async def ask_often(client: socket.socket, requests: Requests) -> None:
    for _ in range(5):
        await ask(client, requests)


async def ask_last(client: socket.socket, requests: Requests) -> None:
    await ask(client, requests)
    client.shutdown(socket.SHUT_WR)


DOES: Final[list[Callable[[socket.socket, Requests], Awaitable[None]]]] = [
    say_nothing, say_half, say_nonsense, ask, ask_and_read, ask_often, ask_last,
]  # fmt: skip


async def a_life(served: Served, chance: random.Random, stays: list[socket.socket]) -> None:
    """A client comes, does something, and goes, or stays for a while."""
    client, requests = a_client(served.place), Requests(served.requests, chance)
    with contextlib.suppress(OSError):  # the server has closed, or has no room
        await asyncio.get_running_loop().sock_connect(client, served.place)
        async with asyncio.timeout(WAIT_S):
            await chance.choice(DOES)(client, requests)
    stays.append(client)
    while len(stays) > chance.randrange(STAYS_MAX):
        gone = stays.pop(chance.randrange(len(stays)))
        if chance.random() < 0.3:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTS)
        gone.close()


def there(served: Served) -> dict[str, int]:
    """The containers of the server that are not empty, and how much is in them."""
    found = sizes(served.server)
    return {name: size for name, size in found.items() if size and not name.endswith(KEPT)}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SERVERS)
def test_a_server_whose_clients_have_gone_is_as_a_new_one(
    name: str, seed: int, tmp_path: Path
) -> None:
    chance = random.Random(seed)

    async def play() -> None:
        async with SERVERS[name](tmp_path) as served:
            first, stays = there(served), list[socket.socket]()
            for _ in range(CLIENTS):
                await a_life(served, chance, stays)
            for one in stays:
                one.close()
            with contextlib.suppress(AssertionError):
                await until(lambda: there(served) == first)
            assert there(served) == first
            with a_client(served.place) as client:
                await asyncio.get_running_loop().sock_connect(client, served.place)
                async with asyncio.timeout(WAIT_S):
                    await ask_and_read(client, Requests(served.requests, chance))

    asyncio.run(play())
