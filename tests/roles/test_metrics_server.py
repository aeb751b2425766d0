# SPDX-License-Identifier: MIT
"""The server of metrics: clients, what they cost, and what is kept."""

import asyncio
import os
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest

from noid.roles.metrics import (
    CLIENTS_MAX,
    KEPT_MAX_S,
    KEPT_S,
    KEPT_TIMES,
    Facts,
    MetricsServer,
)
from tests.roles.test_metrics import ANY, OCTETS_MAX, WAIT_S, fetched, paths, served, status
from tests.waiting import until


def test_metrics_are_served_over_http_and_nothing_else_is() -> None:
    def use(port: int) -> None:
        assert fetched(port).endswith("# EOF\n")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetched(port, "/etc/passwd")
        posted = urllib.request.Request(f"http://[::1]:{port}/metrics", data=b"x")
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(posted, timeout=WAIT_S)
        assert fetched(port)

    served(use)


def asking(port: int) -> socket.socket:
    """A client that has connected and asked, and whose turn has not come."""
    client = socket.create_connection(("::1", port))
    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: [::1]\r\n\r\n")
    client.setblocking(False)
    return client


def test_an_answer_takes_two_turns_of_the_loop_at_most() -> None:
    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(status, paths))
        await server.start()
        with asking(server.port) as client:
            for _ in range(2):
                await asyncio.sleep(0)
            octets = b""
            while part := client.recv(OCTETS_MAX):  # it is closed behind the answer
                octets += part
            head, _, body = octets.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert body == server.text(is_open=False)
        await server.stop()

    asyncio.run(play())


def test_a_request_in_parts_is_answered() -> None:
    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(status, paths))
        await server.start()
        reader, writer = await asyncio.open_connection("::1", server.port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        await until(lambda: server.clients.count == 1)
        writer.write(b"\r\n")
        assert b"noid_contexts" in await reader.read()
        writer.close()
        await server.stop()

    asyncio.run(play())


def test_so_many_clients_are_answered_at_one_time() -> None:
    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(status, paths))
        await server.start()
        others = [await asyncio.open_connection("::1", server.port) for _ in range(CLIENTS_MAX)]
        await until(lambda: server.clients.count == CLIENTS_MAX)
        reader, writer = await asyncio.open_connection("::1", server.port)
        assert b"503" in await reader.readline(), "before it has said anything"
        for _, one in [*others, (reader, writer)]:
            one.close()
        await server.stop()

    asyncio.run(play())


def test_clients_that_do_not_read_leave_no_connection_open() -> None:
    """They take little at once, so that the rest of the answer waits in the daemon."""

    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(status, paths), wait_s=0.1)
        await server.start()
        before = len(os.listdir("/proc/self/fd"))
        clients = [await asyncio.to_thread(_slow_reader, server.port) for _ in range(CLIENTS_MAX)]
        open_max = before + len(clients)
        async with asyncio.timeout(WAIT_S):
            while server.clients.count or len(os.listdir("/proc/self/fd")) > open_max:
                await asyncio.sleep(0.01)
        for one in clients:
            one.close()
        await server.stop()

    asyncio.run(play())


def _slow_reader(port: int) -> socket.socket:
    client = socket.socket(socket.AF_INET6)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
    client.connect(("::1", port))
    client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
    return client


def test_who_asks_all_the_time_gets_what_was_made_once() -> None:
    made: list[int] = []

    def counted() -> dict[str, Any]:
        made.append(1)
        return status()

    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(counted, paths))
        await server.start()
        began_s = time.monotonic()
        for _ in range(50):
            assert await asyncio.to_thread(fetched, server.port)
        assert len(made) <= 1 + (time.monotonic() - began_s) / KEPT_S
        await server.stop()

    asyncio.run(play())


def test_no_text_is_kept_for_more_than_a_second() -> None:
    def waiting_status() -> dict[str, Any]:
        time.sleep(2 * KEPT_S)
        return status()

    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(waiting_status, paths))
        await server.start()
        assert await asyncio.to_thread(fetched, server.port)
        assert server._kept_until_s <= time.monotonic() + KEPT_MAX_S
        await server.stop()

    asyncio.run(play())


def test_both_formats_share_what_may_be_spent() -> None:
    made: list[int] = []

    def slow_status() -> dict[str, Any]:
        made.append(1)
        time.sleep(KEPT_S)
        return status()

    server = MetricsServer("[::1]:0", Facts(slow_status, paths))
    plain, open_one = ANY, ANY + b"\r\nAccept: application/openmetrics-text"
    assert not server._answer(plain).endswith(b"# EOF\n")
    one_s = server._spent_s
    server._kept_until_s += WAIT_S
    assert server._answer(open_one).endswith(b"# EOF\n")
    assert server._spent_s >= one_s + KEPT_S, "what both took is summed"
    assert server._kept_until_s <= time.monotonic() + KEPT_MAX_S
    server._kept_until_s += WAIT_S
    for _ in range(10):
        assert server._answer(open_one).endswith(b"# EOF\n")
        assert not server._answer(plain).endswith(b"# EOF\n")
    assert len(made) == 2


@pytest.mark.parametrize(
    ("accept", "is_open"),
    [
        (b"application/openmetrics-text;q=0", False),
        (b"application/openmetrics-text; version=1.0.0; q=0.000, */*", False),
        (b"application/openmetrics-text;q=0.001", True),
        (b"text/plain;q=1, application/openmetrics-text;q=1", True),
        (b"\xff\xff,;q,;;q=", False),
    ],
)
def test_a_format_that_is_refused_is_not_served(accept: bytes, is_open: bool) -> None:
    server = MetricsServer("[::1]:0", Facts(status, paths))
    answer = server._answer(ANY + b"\r\nAccept: " + accept)
    assert answer.endswith(b"# EOF\n") == is_open


@pytest.mark.slow
def test_a_text_that_takes_long_is_kept_longer() -> None:
    spent_s: list[float] = []

    def slow_status() -> dict[str, Any]:
        end_s = time.thread_time() + KEPT_S
        while time.thread_time() < end_s:
            pass  # very many contexts are counted
        spent_s.append(KEPT_S)
        return status()

    async def play() -> None:
        server = MetricsServer("[::1]:0", Facts(slow_status, paths))
        await server.start()
        began_s = time.monotonic()
        while time.monotonic() < began_s + 3 * KEPT_TIMES * KEPT_S:
            assert await asyncio.to_thread(fetched, server.port)
        elapsed_s = time.monotonic() - began_s
        assert sum(spent_s[1:]) <= elapsed_s / (1 + KEPT_TIMES)
        await server.stop()

    asyncio.run(play())
