# SPDX-License-Identifier: MIT
"""Peers with names in zones that do not answer cost few queries, and delay no other peer [D46].

A peer that completes the set-up chooses what is asked because of it: its reverse zone may name four
hosts in any zones, and their servers need not answer.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

import dns.message
import pytest

from noid.constants import NAMES_PER_LOCATOR_MAX, Codepoints
from noid.dns.queries import read_query
from noid.dns.records import Kind, Question, Status
from noid.lab.resolution import LOOPBACK
from noid.resolver.budget import FAILURES_MAX, PEER_ASKED_MAX
from noid.resolver.resolvers import TRIES_MAX
from noid.resolver.upstream import Upstream
from noid.shares.policy import INQUIRIES
from tests.dns.conftest import response
from tests.waiting import until

ATTACKER, OTHER = bytes.fromhex("20010db80bad"), bytes.fromhex("20010db90001")
PEERS = 100
Result = TypeVar("Result")


class World:
    """A resolver that answers for ``.test`` alone, and who asks it."""

    def __init__(self, upstream: Upstream, resolver: socket.socket) -> None:
        self.upstream = upstream
        self.asked: Counter[str] = Counter()
        self._resolver = resolver

    def answer(self) -> None:
        """What the resolver does with one query."""
        octets, client = self._resolver.recvfrom(512)
        name = dns.message.from_wire(octets).question[0].name.to_text(omit_final_dot=True).lower()
        self.asked[name] += 1
        if name.endswith(".test"):
            self._resolver.sendto(response(octets, f"{name}. 60 IN AAAA 2001:db8::1"), client)

    async def program_asks(self, name: str) -> bool:
        """Whether a program of this host gets an answer."""
        query = read_query(dns.message.make_query(name, "AAAA").to_wire())
        assert query is not None
        return await self.upstream.forward(query, "a user") is not None


def played(scenario: Callable[[World], Awaitable[Result]], total_s: float) -> Result:
    async def run() -> Result:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as resolver:
            resolver.bind((LOOPBACK, 0))
            server = LOOPBACK, int(resolver.getsockname()[1])
            upstream = Upstream([server], Codepoints(), tuple, 0, total_s=total_s)
            world = World(upstream, resolver)
            asyncio.get_running_loop().add_reader(resolver, world.answer)
            try:
                return await scenario(world)
            finally:
                asyncio.get_running_loop().remove_reader(resolver)
                await upstream.close()

    return asyncio.run(run())


@pytest.mark.slow
def test_a_silent_zone_of_many_peers_costs_few_queries_and_delays_no_program() -> None:
    async def scenario(world: World) -> int:
        names = [f"n{i}-{k}.silent" for k in range(PEERS) for i in range(NAMES_PER_LOCATOR_MAX)]
        asking = [
            asyncio.create_task(
                world.upstream.ask(Question(Kind.LOCATORS, f"{name}.example", ATTACKER))
            )
            for name in names
        ]
        number = 0
        while not all(task.done() for task in asking):
            assert await world.program_asks(f"h{number}.test")
            number += 1
            await asyncio.sleep(0.01)
        assert {task.result().status for task in asking} == {Status.UNREACHABLE}
        return sum(count for name, count in world.asked.items() if name.endswith(".example"))

    assert played(scenario, total_s=2) <= (FAILURES_MAX + PEER_ASKED_MAX + 2) * TRIES_MAX


def test_one_prefix_with_many_silent_zones_has_few_outstanding_queries() -> None:
    async def scenario(world: World) -> set[str]:
        for number in range(PEERS * NAMES_PER_LOCATOR_MAX):
            question = Question(Kind.LOCATORS, f"n.silent{number}", ATTACKER)
            asking.append(asyncio.create_task(world.upstream.ask(question)))
        await until(lambda: len(world.asked) >= PEER_ASKED_MAX)
        honest = await world.upstream.ask(Question(Kind.LOCATORS, "peer.test", OTHER))
        assert honest.status is Status.FOUND
        ours = await world.upstream.ask(Question(Kind.LOCATORS, "n.ours.test"))
        assert ours.status is Status.FOUND
        assert await world.program_asks("h.test")
        return {name for name in world.asked if ".silent" in name}

    asking: list[asyncio.Task[object]] = []
    assert len(played(scenario, total_s=60)) == PEER_ASKED_MAX


def test_many_prefixes_with_silent_zones_do_not_delay_another_nor_programs() -> None:
    async def scenario(world: World) -> int:
        for site in range(2_000):
            behalf = ATTACKER[:4] + site.to_bytes(2)
            question = Question(Kind.LOCATORS, f"n.silent{site}", behalf)
            asking.append(asyncio.create_task(world.upstream.ask(question)))
        await until(lambda: len(world.asked) >= INQUIRIES.share // 2)
        honest = await world.upstream.ask(Question(Kind.LOCATORS, "peer.test", OTHER))
        assert honest.status is Status.FOUND
        assert await world.program_asks("h.test")
        return len(world.asked)

    asking: list[asyncio.Task[object]] = []
    assert played(scenario, total_s=60) <= INQUIRIES.limit + 2
