# SPDX-License-Identifier: MIT
"""A local user that asks much does not make the names of another user fail [D46]."""

import asyncio
import contextlib
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator
from functools import partial
from typing import TypeVar

import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from noid.constants import Codepoints
from noid.counters import StubCounter, UpstreamCounter
from noid.dns.queries import Query
from noid.lab.resolution import LOOPBACK, free_port
from noid.locators import parse_locator
from noid.resolver import turns
from noid.resolver.exchange import LENGTH
from noid.resolver.service import (
    ARRIVED_EACH_MAX,
    LIMITS,
    SERVED_AT_ONCE_MAX,
)
from noid.resolver.stub import Stub
from noid.resolver.upstream import Upstream
from tests.attacks.spoofing import spoofed_datagram
from tests.dns.conftest import response
from tests.namespaces import in_network_namespace, ip
from tests.waiting import LIMIT_S, until

NOBODY, VICTIM = 65534, 12345
SLOW = "slow.test"
Result = TypeVar("Result")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sockets of other users need root")


@contextlib.contextmanager
def as_user(user: int) -> Iterator[None]:
    """Sockets opened in this block are those of another user."""
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


class Local:
    """The stub, a resolver that never answers for one zone, and users of the host."""

    def __init__(self, stub: Stub, resolver: socket.socket) -> None:
        self.stub = stub
        self.counters = stub.counters
        self.asked: list[str] = []
        self._resolver = resolver

    def answer(self) -> None:
        """What the resolver does with all queries that have arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                octets, client = self._resolver.recvfrom(512)
                question = dns.message.from_wire(octets).question[0]
                name = question.name.to_text(omit_final_dot=True).lower()
                self.asked.append(name)
                if not name.endswith(SLOW):
                    answer = response(octets, f"{name}. 60 IN AAAA 2001:db8::1")
                    self._resolver.sendto(answer, client)

    def datagrams(self, user: int) -> socket.socket:
        """A UDP socket of a user."""
        with as_user(user):
            client = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        client.setblocking(False)
        client.connect((LOOPBACK, self.stub.port))
        return client

    async def connection(self, user: int) -> socket.socket:
        """A TCP connection of a user."""
        with as_user(user):
            client = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (LOOPBACK, self.stub.port))
        return client

    async def ask(self, client: socket.socket, name: str) -> dns.rcode.Rcode:
        """Asks once, and waits for the response."""
        loop = asyncio.get_running_loop()
        query = dns.message.make_query(name, "AAAA").to_wire()
        async with asyncio.timeout(LIMIT_S):
            if client.type == socket.SOCK_DGRAM:
                client.send(query)
                return dns.message.from_wire(await loop.sock_recv(client, 4096)).rcode()
            await loop.sock_sendall(client, LENGTH.pack(len(query)) + query)
            return dns.message.from_wire((await loop.sock_recv(client, 4096))[2:]).rcode()

    async def ask_slow_names(self, client: socket.socket, count: int) -> None:
        """Sends queries that no server answers, as fast as the stub reads them."""
        for number in range(count):
            before = self.counters[StubCounter.QUERIES]
            client.send(dns.message.make_query(f"x{number}.{SLOW}", "AAAA").to_wire())
            if number % 50 == 0:
                await until(partial(self._has_read_more, before))

    def _has_read_more(self, before: int) -> bool:
        return self.counters[StubCounter.QUERIES] > before


def attacked(
    scenario: Callable[[Local], Awaitable[Result]], programs: turns.Limits = turns.PROGRAMS
) -> Result:
    async def run() -> Result:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as resolver:
            resolver.bind((LOOPBACK, 0))
            resolver.setblocking(False)
            resolver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            server = LOOPBACK, int(resolver.getsockname()[1])
            upstream = Upstream(
                *([server], Codepoints(), tuple, 0),
                total_s=LIMIT_S,  # no query ends because the machine is busy
                programs=programs,
            )
            stub = Stub(LOOPBACK, free_port(), upstream, lambda *_: True, tuple)
            local = Local(stub, resolver)
            asyncio.get_running_loop().add_reader(resolver, local.answer)
            await stub.start()
            try:
                return await scenario(local)
            finally:
                await stub.stop()
                await upstream.close()

    return asyncio.run(run())


@pytest.mark.parametrize("user", [VICTIM, NOBODY])
def test_slow_names_of_one_user_do_not_make_other_names_fail(user: int) -> None:
    async def scenario(local: Local) -> list[dns.rcode.Rcode]:
        with local.datagrams(NOBODY) as attacker, local.datagrams(user) as victim:
            await local.ask_slow_names(attacker, 2 * LIMITS.answered)
            return [await local.ask(victim, f"h{number}.fast.test") for number in range(20)]

    assert attacked(scenario) == [dns.rcode.NOERROR] * 20


def test_a_query_over_the_limit_ends_one_of_the_largest_user() -> None:
    async def scenario(local: Local) -> tuple[int, str]:
        with local.datagrams(NOBODY) as attacker, local.datagrams(VICTIM) as victim:
            waiting = asyncio.create_task(local.ask(victim, f"mine.{SLOW}"))
            await until(lambda: bool(local.asked))
            await local.ask_slow_names(attacker, 2 * LIMITS.answered)
            await until(lambda: local.counters[StubCounter.OVERFLOW] >= LIMITS.answered)
            done = waiting.done()
            waiting.cancel()
            return local.counters[StubCounter.OVERFLOW], f"given up: {done}"

    none_is_slow = turns.PROGRAMS._replace(slow_s=LIMIT_S)  # and is given up for that
    overflow, said = attacked(scenario, none_is_slow)
    assert overflow >= LIMITS.answered
    assert said == "given up: False"


def test_a_silent_zone_costs_one_query_for_each_name() -> None:
    """Whether a name speaks M6 is asked once its addresses are known."""

    async def scenario(local: Local) -> set[str]:
        with local.datagrams(NOBODY) as attacker:
            await local.ask_slow_names(attacker, 3 * LIMITS.answered)
            await until(
                lambda: local.stub.upstream.counters[UpstreamCounter.OVERFLOW] > LIMITS.answered
            )
            local.asked.clear()
            with local.datagrams(VICTIM) as victim:
                waiting = asyncio.create_task(local.ask(victim, f"last.{SLOW}"))
                await until(lambda: f"last.{SLOW}" in local.asked)
                assert await local.ask(victim, "h.fast.test") == dns.rcode.NOERROR
                waiting.cancel()
            return {name for name in local.asked if name.endswith(f"last.{SLOW}")}

    assert attacked(scenario) == {f"last.{SLOW}"}


def test_idle_connections_of_one_user_do_not_keep_another_from_tcp() -> None:
    async def scenario(local: Local) -> list[dns.rcode.Rcode]:
        idle = [await local.connection(NOBODY) for _ in range(2 * LIMITS.connections)]
        codes = []
        for number in range(5):
            with await local.connection(VICTIM) as victim:
                codes.append(await local.ask(victim, f"h{number}.fast.test"))
        for connection in idle:
            connection.close()
        return codes

    assert attacked(scenario) == [dns.rcode.NOERROR] * 5


def test_a_flood_of_one_user_delays_another_by_one_turn() -> None:
    """The query of the victim comes last, and is answered among the first."""

    async def scenario(local: Local) -> int:
        with local.datagrams(NOBODY) as attacker, local.datagrams(VICTIM) as victim:
            assert await local.ask(victim, "h.fast.test") == dns.rcode.NOERROR
            before = local.counters[StubCounter.QUERIES]
            query = dns.message.make_query("h.fast.test", "AAAA").to_wire()
            for _ in range(400):
                attacker.send(query)
            assert await local.ask(victim, "h.fast.test") == dns.rcode.NOERROR
            return local.counters[StubCounter.QUERIES] - before

    assert attacked(scenario) <= 6 * SERVED_AT_ONCE_MAX


def test_the_waiting_queries_of_one_user_are_limited() -> None:
    async def scenario(local: Local) -> int:
        with local.datagrams(NOBODY) as attacker:
            query = dns.message.make_query("h.fast.test", "A").to_wire()
            for _ in range(3 * ARRIVED_EACH_MAX):
                attacker.send(query)
            await until(lambda: local.counters[StubCounter.OVERFLOW] > 0)
            return local.counters[StubCounter.OVERFLOW]

    assert attacked(scenario) > 0


def test_a_user_is_not_blamed_for_who_had_the_port_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local user opens many ports, asks from each and closes it; others get them next."""
    users: list[Hashable] = []
    later = Stub.later

    async def noted(stub: Stub, query: Query, client: Hashable) -> bytes:
        users.append(client)
        return await later(stub, query, client)

    monkeypatch.setattr(Stub, "later", noted)

    async def scenario(local: Local) -> list[Hashable]:
        with local.datagrams(NOBODY) as attacker:
            await local.ask(attacker, "h1.fast.test")
            port = attacker.getsockname()[1]
        with as_user(VICTIM), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as victim:
            victim.setblocking(False)
            victim.bind((LOOPBACK, port))
            victim.connect((LOOPBACK, local.stub.port))
            await local.ask(victim, "h2.fast.test")
        return users

    assert attacked(scenario) == [NOBODY, VICTIM]


def test_a_query_whose_program_is_gone_is_not_answered() -> None:
    async def scenario(local: Local) -> Counter[StubCounter]:
        with local.datagrams(NOBODY) as gone:
            gone.send(dns.message.make_query("h.fast.test", "AAAA").to_wire())
        await until(lambda: local.counters[StubCounter.STRANGERS] == 1)
        return local.counters

    assert attacked(scenario)[StubCounter.QUERIES] == 0


def test_a_query_with_the_address_of_another_host_is_not_answered() -> None:
    """The stub answers programs of this host alone, so it amplifies nothing."""
    stranger, loopback = parse_locator("2001:db8:bad::1"), parse_locator(LOOPBACK)

    async def scenario(local: Local) -> Counter[StubCounter]:
        query = dns.message.make_query("h.fast.test", "TXT").to_wire()
        packet = spoofed_datagram(stranger, loopback, (4000, local.stub.port), query)
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(packet, (LOOPBACK, 0))
        await until(lambda: local.counters[StubCounter.STRANGERS] == 1)
        return local.counters

    def in_namespace() -> Counter[StubCounter]:
        ip("link set lo up")
        return attacked(scenario)

    assert in_network_namespace(in_namespace)[StubCounter.QUERIES] == 0
