# SPDX-License-Identifier: MIT
"""A local user holds every connection to the metrics and to ``noid web`` [D46]."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.registry import Collector

from noid.control.web.server import CONNECTIONS_MAX, PAGES_MAX, WebServer
from noid.control.web.watch import Watch
from noid.roles.metrics import CLIENTS_MAX, MetricsServer
from tests.attacks.test_local_users import as_user
from tests.waiting import until

MALLORY, ALICE = 1_001, 1_002
PATIENCE_S = 60.0
GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
METRICS, STREAM, PAGE = GET % b"/metrics", GET % b"/events", GET % b"/"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sockets of other users need root")


class Nothing(Collector):
    """No metric."""

    def collect(self) -> list[Any]:
        return []


async def connect(user: int, port: int, request: bytes = b"") -> socket.socket:
    """A connection of a user."""
    with as_user(user):
        client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("::1", port))
    await loop.sock_sendall(client, request)
    return client


async def said(client: socket.socket, octets: int = 12) -> bytes:
    """The first octets of an answer; fewer if the connection is closed."""
    loop = asyncio.get_running_loop()
    heard = b""
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionError):
            while len(heard) < octets and (more := await loop.sock_recv(client, octets)):
                heard += more
    return heard[:octets]


@contextlib.asynccontextmanager
async def held(
    user: int, port: int, count: int, request: bytes, is_full: Callable[[], bool]
) -> AsyncIterator[list[socket.socket]]:
    """A user holds so many connections, which is as many as there are."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(await connect(user, port, request)) for _ in range(count)]
        await until(is_full)
        yield clients


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_one_user_leaves_connections_to_the_metrics_to_others() -> None:
    async def scenario() -> None:
        server = MetricsServer("[::1]:0", Nothing(), wait_s=PATIENCE_S)
        await server.start()
        clients, port = server.clients, server.port
        async with held(MALLORY, port, CLIENTS_MAX, b"", lambda: clients.count == CLIENTS_MAX):
            with await connect(MALLORY, port) as refused:
                assert await said(refused) == b"HTTP/1.1 503"
            for _ in range(2):
                with await connect(ALICE, port, METRICS) as client:
                    assert await said(client) == b"HTTP/1.1 200"
        await server.stop()

    run(scenario)


def test_one_user_takes_no_connection_of_one_that_has_fewer() -> None:
    async def scenario() -> None:
        server = MetricsServer("[::1]:0", Nothing(), wait_s=PATIENCE_S)
        await server.start()
        clients, port = server.clients, server.port
        with await connect(ALICE, port) as client:
            await until(lambda: clients.count == 1)
            others = CLIENTS_MAX - 1
            async with held(MALLORY, port, others, b"", lambda: clients.count == CLIENTS_MAX):
                with await connect(MALLORY, port) as refused:
                    assert await said(refused) == b"HTTP/1.1 503"
                await asyncio.get_running_loop().sock_sendall(client, METRICS)
                assert await said(client) == b"HTTP/1.1 200"
        await server.stop()

    run(scenario)


@pytest.mark.parametrize(
    ("request_held", "limit"), [(b"", CONNECTIONS_MAX), (STREAM, PAGES_MAX)], ids=["idle", "pages"]
)
def test_one_user_leaves_the_page_to_others(
    tmp_path: Path, request_held: bytes, limit: int
) -> None:
    async def scenario() -> None:
        page = WebServer("::1", 0, Watch(tmp_path / "no.sock"), wait_s=PATIENCE_S)
        await page.start()
        port = int(page.url.rstrip("/").rpartition(":")[2])
        full = page.pages if request_held else page.clients
        async with held(MALLORY, port, limit, request_held, lambda: full.count == limit):
            with await connect(ALICE, port, PAGE) as client:
                assert await said(client) == b"HTTP/1.1 200"
            with await connect(ALICE, port, STREAM) as client:
                assert await said(client) == b"HTTP/1.1 200"
                assert full.count <= limit
        await page.stop()

    run(scenario)
