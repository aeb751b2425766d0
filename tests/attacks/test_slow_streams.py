# SPDX-License-Identifier: MIT
"""TCP connections over which octets arrive slowly, or in thousands of parts [D46].

Attacker: a local user, and the name servers of a zone, for which a resolver waits while noid waits
for the resolver. Guaranteed: others get answers over TCP, and each connection ends in time.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import dns.flags
import dns.message

from noid.constants import Codepoints
from noid.dns.messages import MESSAGE_OCTETS_MAX
from noid.dns.queries import Query, read_query
from noid.dns.records import Answer, Kind, Question, Status
from noid.lab.resolution import LOOPBACK, free_port
from noid.resolver.exchange import LENGTH
from noid.resolver.port import STREAMS_SHARE, Server
from noid.resolver.upstream import Upstream
from tests.dns.conftest import response
from tests.waiting import LIMIT_S, until

SLOW, TINY = "slow", "tiny"
MALLORY, ALICE = "mallory", "alice"
SOCKETS = 64
STREAMS = SOCKETS // STREAMS_SHARE
DRIP_S = 0.05
RECORDS = 2_000
Result = TypeVar("Result")


class Resolver:
    """A resolver whose answers are all long, so that they are asked for over TCP.

    Those of one zone arrive an octet at a time, with pauses, and those of another without.

    Args:
        place: where it listens.

    Attributes:
        streams: how many connections are open.
    """

    def __init__(self, place: Server) -> None:
        self.place = place
        self.streams = 0

    async def __aenter__(self) -> "Resolver":
        self._datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self._datagrams.setblocking(False)
        self._datagrams.bind(self.place)
        asyncio.get_running_loop().add_reader(self._datagrams, self._refer)
        self._server = await asyncio.start_server(self._serve, *self.place)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._datagrams)
        self._datagrams.close()
        self._server.close()
        await until(lambda: not self.streams)

    def _refer(self) -> None:
        """Says to each query that the answer is too long."""
        with contextlib.suppress(BlockingIOError):
            while True:
                octets, client = self._datagrams.recvfrom(MESSAGE_OCTETS_MAX)
                self._datagrams.sendto(response(octets, flags=dns.flags.TC), client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            (octets,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            await self._answer(await reader.readexactly(octets), writer)
        with contextlib.suppress(OSError):
            writer.close()
            await writer.wait_closed()
        self.streams -= 1

    async def _answer(self, query: bytes, writer: asyncio.StreamWriter) -> None:
        name = dns.message.from_wire(query).question[0].name.to_text().lower()
        records = RECORDS if name.endswith(f"{TINY}.") else 1
        answer = response(
            query, *(f"{name} 60 IN AAAA 2001:db8::{number:x}" for number in range(1, records + 1))
        )
        octets = LENGTH.pack(len(answer)) + answer
        if not name.endswith((f"{SLOW}.", f"{TINY}.")):
            writer.write(octets)
            return
        pause_s = DRIP_S if name.endswith(f"{SLOW}.") else 0.0
        for octet in octets:
            writer.write(bytes((octet,)))
            await writer.drain()
            await asyncio.sleep(pause_s)


def query_for(name: str) -> Query:
    query = read_query(dns.message.make_query(name, "AAAA").to_wire())
    assert query is not None
    return query


def played(
    scenario: Callable[[Upstream, Resolver], Awaitable[Result]], *, total_s: float = LIMIT_S
) -> Result:
    async def run() -> Result:
        async with Resolver((LOOPBACK, free_port())) as resolver:
            upstream = Upstream(
                *([resolver.place], Codepoints(), tuple, 0),
                total_s=total_s,
                sockets_max=SOCKETS,
            )
            try:
                return await scenario(upstream, resolver)
            finally:
                left = upstream.resolvers.ports.left
                await upstream.close()
                await until(lambda: sum(left.values()) == SOCKETS)

    return asyncio.run(run())


def test_slow_answers_to_one_user_leave_connections_to_another() -> None:
    async def scenario(upstream: Upstream, resolver: Resolver) -> list[bool]:
        slow = [
            asyncio.create_task(upstream.forward(query_for(f"x{number}.{SLOW}"), MALLORY))
            for number in range(2 * STREAMS)
        ]
        await until(lambda: resolver.streams >= STREAMS)
        names = [f"h{number}.test" for number in range(5)]
        answers = [await upstream.forward(query_for(name), ALICE) for name in names]
        for task in slow:
            task.cancel()
        return [answer is not None and answer.found for answer in answers]

    assert played(scenario) == [True] * 5


def test_slow_answers_about_peers_leave_connections_to_programs() -> None:
    site = bytes(5)

    async def scenario(upstream: Upstream, resolver: Resolver) -> bool:
        slow = [
            asyncio.create_task(
                upstream.ask(Question(Kind.LOCATORS, f"x.{number}.{SLOW}", bytes((number, *site))))
            )
            for number in range(2 * STREAMS)
        ]
        await until(lambda: resolver.streams >= STREAMS)
        answer = await upstream.forward(query_for("h.test"), ALICE)
        for task in slow:
            task.cancel()
        return answer is not None and answer.found

    assert played(scenario)


def test_a_slow_answer_ends_with_its_query() -> None:
    async def scenario(upstream: Upstream, resolver: Resolver) -> Answer:
        answer = await upstream.ask(Question(Kind.LOCATORS, f"x.{SLOW}"))
        await until(lambda: not resolver.streams)
        return answer

    assert played(scenario, total_s=1.0).status is Status.UNREACHABLE


def test_an_answer_in_thousands_of_segments_arrives() -> None:
    async def scenario(upstream: Upstream, resolver: Resolver) -> bool:
        tiny = asyncio.create_task(upstream.forward(query_for(f"x.{TINY}"), MALLORY))
        await until(lambda: resolver.streams)
        assert await upstream.forward(query_for("h.test"), ALICE) is not None
        assert not tiny.done()
        answer = await tiny
        return answer is not None and len(answer.octets) > RECORDS * 28

    assert played(scenario)
