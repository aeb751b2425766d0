# SPDX-License-Identifier: MIT
"""Forged answers in the name of the resolver are dropped and counted [RFC 5452]."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable

import dns.message
import dns.rdatatype

from noid.constants import Codepoints
from noid.counters import UpstreamCounter
from noid.dns.queries import DATAGRAM_OCTETS_MAX
from noid.dns.records import Answer, Kind, Question
from noid.lab.resolution import LOOPBACK
from noid.locators import parse_locator
from noid.resolver.port import PORTS_MAX
from noid.resolver.upstream import Upstream
from tests.attacks.spoofing import spoofed_datagram
from tests.dns.conftest import (
    NAME,
    RESOLVER,
    Pretend,
    Program,
    as_program,
    locators,
    prepare_loopback,
    response,
)
from tests.namespaces import in_network_namespace
from tests.waiting import until

TRUE, FALSE = "2001:db8::1", "2001:db8:bad::1"
GUESSES = 12
"""Forged messages for each query, fewer than those at which a port is given up."""


class OffPath:
    """A resolver, and an attacker that spoofs its address and has guessed the port of a query."""

    def __init__(self, forge: Callable[[bytes, int], bytes]) -> None:
        self.forge = forge
        self.asked: list[tuple[bytes, int]] = []
        self.raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.resolver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        self.resolver.bind((RESOLVER, 53))

    def answer(self) -> None:
        """The attacker is first, the resolver second."""
        query, client = self.resolver.recvfrom(512)
        self.asked.append((query, client[1]))
        for number in range(GUESSES):
            self._spoof(self.forge(query, number), client[0], client[1])
        self.resolver.sendto(response(query, f"{NAME}. 60 IN AAAA {TRUE}"), client)

    def _spoof(self, message: bytes, host: str, port: int) -> None:
        source, destination = parse_locator(RESOLVER), parse_locator(host)
        packet = spoofed_datagram(source, destination, (53, port), message)
        self.raw.sendto(packet, (host, 0))

    def close(self) -> None:
        self.raw.close()
        self.resolver.close()


def attacked(forge: Callable[[bytes, int], bytes]) -> tuple[Answer, Counter[UpstreamCounter]]:
    """What the stub believes, and what it counted, with such an attacker."""

    async def run() -> tuple[Answer, Counter[UpstreamCounter]]:
        world = OffPath(forge)
        upstream = Upstream([(RESOLVER, 53)], Codepoints(), tuple, 0, repeat_s=120, total_s=60)
        asyncio.get_running_loop().add_reader(world.resolver, world.answer)
        try:
            answer = await upstream.ask(Question(Kind.LOCATORS, NAME))
            return answer, upstream.counters
        finally:
            asyncio.get_running_loop().remove_reader(world.resolver)
            world.close()
            await upstream.close()

    def scenario() -> tuple[Answer, Counter[UpstreamCounter]]:
        prepare_loopback()
        return asyncio.run(run())

    return in_network_namespace(scenario)


def lie(query: bytes) -> bytes:
    return response(query, f"{NAME}. 60 IN AAAA {FALSE}")


def test_a_guessed_id_is_dropped() -> None:
    def forge(query: bytes, number: int) -> bytes:
        return ((int.from_bytes(query[:2]) + 1 + number) % 65_536).to_bytes(2) + lie(query)[2:]

    answer, counters = attacked(forge)
    assert answer.locators == locators(TRUE)
    assert counters[UpstreamCounter.MALFORMED] == GUESSES


def test_another_question_is_dropped() -> None:
    """Even under the right id: Kaminsky's attack adds records of other names."""

    def forge(query: bytes, number: int) -> bytes:
        other = dns.message.make_query(f"x{number}.example.test", "AAAA")
        other.id = int.from_bytes(query[:2])
        return response(other.to_wire(), f"x{number}.example.test. 60 IN AAAA {FALSE}")

    answer, counters = attacked(forge)
    assert answer.locators == locators(TRUE)
    assert counters[UpstreamCounter.MALFORMED] == GUESSES


def test_the_name_in_another_case_is_not_believed_over_udp() -> None:
    """The attacker knows port and id, and not the case of each letter."""

    def forge(query: bytes, number: int) -> bytes:
        end = 12 + query[12:].index(0)
        return lie(query[:12] + query[12:end].swapcase() + query[end:])

    answer, _ = attacked(forge)
    assert answer.locators != locators(FALSE)


def test_a_message_from_another_address_does_not_arrive() -> None:
    async def run() -> tuple[Answer, int]:
        loop = asyncio.get_running_loop()
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as resolver,
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger,
        ):
            resolver.bind((LOOPBACK, 0))
            stranger.bind((LOOPBACK, 0))

            def serve() -> None:
                query, client = resolver.recvfrom(512)
                for _ in range(GUESSES):
                    stranger.sendto(lie(query), client)
                resolver.sendto(response(query, f"{NAME}. 60 IN AAAA {TRUE}"), client)

            server = LOOPBACK, int(resolver.getsockname()[1])
            upstream = Upstream([server], Codepoints(), tuple, 0, repeat_s=120, total_s=60)
            loop.add_reader(resolver, serve)
            answer = await upstream.ask(Question(Kind.LOCATORS, NAME))
            loop.remove_reader(resolver)
            await upstream.close()
            return answer, upstream.counters[UpstreamCounter.MALFORMED]

    answer, malformed = asyncio.run(run())
    assert answer.locators == locators(TRUE)
    assert malformed == 0, "the kernel drops what comes to a connected socket from elsewhere"


def test_ports_and_ids_are_many() -> None:
    """So many queries at one time leave from as many ports, under ids and cases that differ."""
    seen: list[tuple[bytes, int]] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as resolver:
            resolver.bind((LOOPBACK, 0))

            def take() -> None:
                query, client = resolver.recvfrom(512)
                seen.append((query, client[1]))

            loop.add_reader(resolver, take)
            server = LOOPBACK, int(resolver.getsockname()[1])
            upstream = Upstream([server], Codepoints(), tuple, 0, repeat_s=120, total_s=60)
            names = [f"abcdefghijklmnop{number}.test" for number in range(PORTS_MAX)]
            asking = [
                asyncio.create_task(upstream.ask(Question(Kind.LOCATORS, name))) for name in names
            ]
            await until(lambda: len(seen) >= PORTS_MAX)
            loop.remove_reader(resolver)
            await upstream.close()
            await asyncio.gather(*asking)

    asyncio.run(run())
    assert len({port for _, port in seen}) == PORTS_MAX
    assert len({query[:2] for query, _ in seen}) > PORTS_MAX * 3 // 4
    assert len({query[13:29] for query, _ in seen}) > PORTS_MAX * 3 // 4, "16 letters, 2**16 cases"


def test_a_udp_response_is_at_most_as_large_as_the_limit_for_any_client(
    pretend: Pretend,
) -> None:
    texts = [f'{NAME}. 60 IN TXT "{number:03}{"x" * 240}"' for number in range(60)]
    server = pretend(lambda query, stream: response(query, *texts))

    async def scenario(program: Program) -> list[int]:
        sizes = []
        for payload in (0, 512, 1232, DATAGRAM_OCTETS_MAX, 65_535):
            query = dns.message.make_query(NAME, "TXT", use_edns=0 if payload else -1)
            if payload:
                query.use_edns(payload=payload)
            octets = await program.stub.answer(query.to_wire())
            assert octets is not None
            assert len(octets) <= min(max(payload, 512), DATAGRAM_OCTETS_MAX)
            sizes.append(len((await program.resolve_tcp(query)).answer[0]))
        return sizes

    assert as_program(scenario, server) == [60] * 5
