# SPDX-License-Identifier: MIT
"""After any questions, answered or not, the client of the resolvers is as before the first one."""

import asyncio
import random
from collections.abc import Awaitable

import pytest

from noid.constants import Codepoints
from noid.dns.queries import make_query
from noid.dns.records import Kind, Question
from noid.locators import parse_locator
from noid.resolver.port import Server
from noid.resolver.turns import Limits
from noid.resolver.upstream import Upstream
from tests.contents import attributes
from tests.dns.conftest import NOBODY, Handle, Pretend, refusing, response, silent
from tests.waiting import until

SEEDS = range(4)
QUESTIONS = 80
SOCKETS = 12
TOTAL_S = 0.3
FEW = Limits(quick=4, quick_each=3, begun=6, waiting=8, slow_s=0.05)
GONE = parse_locator("2001:db8:ff::1")
"""No address of this host: nothing can be sent from there."""
FAR: Server = ("2001:db8:9::53", 53)
"""It is asked from every locator of the host."""
NOWHERE: Server = ("fe80::53", 53)
"""No link is named, so no socket is connected to it."""
SITES = [bytes((0x20, 1, 0xD, 0xB8, 0, number)) for number in range(3)]
CLIENTS = (None, 1, 2)
TYPE_AAAA = 28
KNOWN = frozenset({"counters", "caseless", "_ports"})
"""What is known of the resolvers, and the paths on which there were ports."""


def cutting(query: bytes, is_stream: bool) -> bytes | None:
    """Too much for UDP; over TCP nothing comes."""
    return None if is_stream else query[:2] + bytes((0x83, 0x80)) + query[4:]


def answering(query: bytes, _: bool) -> bytes | list[bytes] | None:
    return response(query)


ANSWERS: tuple[Handle, ...] = (silent, answering, cutting, refusing())


def mixed(query: bytes, is_stream: bool) -> bytes | list[bytes] | None:
    """The first octet of the name says what becomes of a query."""
    return ANSWERS[query[13] % len(ANSWERS)](query, is_stream)


def under_way(upstream: Upstream) -> dict[str, object]:
    """What there is of questions that are not over."""
    turns = (upstream.program_turns, upstream.own_turns, upstream.peer_turns)
    ports = upstream.resolvers.ports
    return {
        "ports": attributes(ports, without=KNOWN),
        "open ports": {path: ports for path, ports in ports._ports.items() if ports},
        "exchanges": set(upstream.resolvers.exchanges),
        "turns": [attributes(one, without=KNOWN) for one in turns],
        "budget": attributes(upstream._budget, without=frozenset({"turns", "_silence"})),
        "tasks": [dict(upstream._asking), dict(upstream._forwarding)],
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_a_client_whose_questions_are_over_is_as_a_new_one(pretend: Pretend, seed: int) -> None:
    """They have answers or none, were given up, or could not be sent: nothing of them is left."""
    chance, server = random.Random(seed), pretend(mixed)

    def make() -> Upstream:
        return Upstream(
            [server, FAR, NOWHERE],
            Codepoints(),
            lambda: (GONE,),
            0,
            hedge_s=0.01,
            repeat_s=0.1,
            total_s=TOTAL_S,
            sockets_max=SOCKETS,
            programs=FEW,
            own=FEW,
        )

    def one_of(upstream: Upstream) -> Awaitable[object]:
        name = f"{chance.choice('abcd')}{chance.randrange(20)}.{chance.choice('xy')}.example"
        if chance.random() < 0.2:
            query = make_query(bytes((len(name[:2]),)) + name[:2].encode() + b"\0", TYPE_AAAA)
            return upstream.forward(query, chance.choice(CLIENTS))
        kind = chance.choice((Kind.LOCATORS, Kind.NAMES, Kind.CAPABILITY))
        behalf = chance.choice((b"", *SITES))
        client = None if behalf else chance.choice(CLIENTS)
        return upstream.ask(Question(kind, name, behalf), client)

    async def play() -> None:
        new, upstream = make(), make()
        first = under_way(new)
        waiting: list[asyncio.Future[object]] = []
        for _ in range(QUESTIONS):
            waiting.append(asyncio.ensure_future(one_of(upstream)))
            if chance.random() < 0.1:
                chance.choice(waiting).cancel()
            if chance.random() < 0.1:
                servers = [server, FAR, NOBODY, NOWHERE]
                upstream.resolvers.use(chance.sample(servers, chance.randint(1, 4)))
            await asyncio.sleep(chance.choice((0, 0, 0, 0.02)))
        await asyncio.wait(waiting)
        timers = (upstream.program_turns, upstream.own_turns, upstream.peer_turns)
        await until(lambda: not (upstream._asking or upstream._forwarding))
        await until(lambda: all(one._timer is None for one in timers))
        await until(lambda: not upstream.resolvers.exchanges)
        await until(lambda: not upstream.resolvers.ports._streams.count)
        assert under_way(upstream) == first
        for client in (new, upstream):
            await client.close()

    asyncio.run(play())
