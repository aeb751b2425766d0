# SPDX-License-Identifier: MIT
"""Resolvers that misbehave, and the sources they are asked from."""

import asyncio
import socket
import threading
from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from noid.constants import Codepoints
from noid.counters import UpstreamCounter
from noid.dns.records import Answer, Kind, Question, Status
from noid.dns.responses import NEGATIVE_TTL_MAX
from noid.resolver import lookup as room
from noid.resolver.port import STRAYS_MAX
from noid.resolver.resolvers import TRIES_MAX, Resolvers
from noid.resolver.upstream import Upstream
from tests.dns.conftest import (
    ALIVE,
    DEAD,
    HOST,
    MARK,
    NAME,
    RESOLVER,
    SILENCE_S,
    STRAYS,
    Pretend,
    answer_only,
    answering,
    asked,
    asked_and_counted,
    forwarded,
    locators,
    prepare_loopback,
    refusing,
    response,
    silent,
    with_upstream,
    wrong_id,
)
from tests.namespaces import in_network_namespace, ip

# --- servers that misbehave ---


@pytest.mark.parametrize("stray", STRAYS)
def test_what_does_not_answer_the_question_is_ignored(
    pretend: Pretend, stray: Callable[[bytes], bytes]
) -> None:
    good = f"{NAME}. 60 IN AAAA 2001:db8::1"
    server = pretend(lambda query, _: [stray(query), response(query, good)])
    answer, counters = asked_and_counted(HOST, server)
    assert answer.locators == locators("2001:db8::1")
    assert counters[UpstreamCounter.MALFORMED] == 1


@pytest.mark.parametrize("stray", STRAYS[:3])
def test_a_tcp_response_to_another_question_is_ignored(
    pretend: Pretend, stray: Callable[[bytes], bytes]
) -> None:
    def handle(query: bytes, stream: bool) -> bytes:
        return stray(query) if stream else response(query, flags=dns.flags.TC)

    answer, counters = asked_and_counted(HOST, pretend(handle))
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.MALFORMED] == 1


@pytest.mark.parametrize("part", [b"", b"\x00", b"\x12\x34"])
def test_a_resolver_that_hangs_up_over_tcp_is_no_answer(pretend: Pretend, part: bytes) -> None:
    def handle(query: bytes, stream: bool) -> bytes | None:
        if not stream:
            return response(query, flags=dns.flags.TC)
        return part or None

    answer, counters = asked_and_counted(HOST, pretend(handle))
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.FAILED] + counters[UpstreamCounter.MALFORMED] == 1


def test_an_answer_that_is_truncated_even_over_tcp_is_not_believed(pretend: Pretend) -> None:
    half = f"{NAME}. 60 IN AAAA 2001:db8::1"
    server = pretend(lambda query, _: response(query, half, flags=dns.flags.TC))
    assert asked(HOST, server).status is Status.UNREACHABLE


def test_a_flood_of_strays_ends_the_try(pretend: Pretend) -> None:
    server = pretend(lambda query, _: [wrong_id(query)] * (STRAYS_MAX + 5))
    answer, counters = asked_and_counted(HOST, server)
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.MALFORMED] == STRAYS_MAX


def test_silence_ends_as_unreachable_after_the_whole_wait(pretend: Pretend) -> None:
    answer, counters = asked_and_counted(HOST, pretend(silent), total_s=SILENCE_S)
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.TIMED_OUT] == 1


def test_a_port_where_nobody_listens_is_unreachable_at_once(pretend: Pretend) -> None:
    answer, counters = asked_and_counted(HOST, ("::1", 9))
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.TIMED_OUT] == 0


def test_an_address_that_is_none_is_unreachable() -> None:
    answer, counters = asked_and_counted(HOST, ("resolver", 53))
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.FAILED] == 1


def test_without_a_resolver_everything_is_unreachable() -> None:
    assert asked(HOST).status is Status.UNREACHABLE


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.NOTIMP])
def test_where_one_resolver_refuses_the_next_is_asked(
    pretend: Pretend, code: dns.rcode.Rcode
) -> None:
    good = pretend(answering(f"{NAME}. 60 IN AAAA 2001:db8::1"))
    answer, counters = asked_and_counted(HOST, pretend(refusing(code)), good, hedge_s=30)
    assert answer.status is Status.FOUND
    assert counters[UpstreamCounter.REFUSED] == 1


def test_a_resolver_that_refuses_is_asked_once(pretend: Pretend) -> None:
    answer, counters = asked_and_counted(HOST, pretend(refusing()))
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.REFUSED] == 1


def test_a_program_is_told_what_the_last_resolver_said(pretend: Pretend) -> None:
    query = dns.message.make_query(NAME, "AAAA").to_wire()
    octets = with_upstream(
        lambda client: forwarded(client, query), pretend(refusing(dns.rcode.REFUSED))
    )
    assert octets is not None
    assert dns.message.from_wire(octets).rcode() == dns.rcode.REFUSED


def test_a_silent_resolver_delays_only_until_the_next_is_tried(pretend: Pretend) -> None:
    good = pretend(answering(f"{NAME}. 60 IN AAAA 2001:db8::1"))
    answer, counters = asked_and_counted(HOST, pretend(silent), good)
    assert answer.status is Status.FOUND
    assert counters[UpstreamCounter.TIMED_OUT] == 0


def test_the_resolver_that_answered_goes_first_the_next_time(pretend: Pretend) -> None:
    seen: list[str] = []

    def dead(query: bytes, _: bool) -> None:
        seen.append("dead")

    def good(query: bytes, _: bool) -> bytes:
        seen.append("good")
        return response(query)

    async def scenario(client: Upstream) -> None:
        await client.ask(HOST)
        await client.ask(Question(Kind.LOCATORS, "other.example.test"))

    with_upstream(scenario, pretend(dead), pretend(good), hedge_s=1.0)
    assert seen == ["dead", "good", "good"]


def test_a_slow_answer_to_the_first_try_still_counts(pretend: Pretend) -> None:
    second = threading.Event()
    tries: list[bytes] = []

    def handle(query: bytes, _: bool) -> bytes | None:
        tries.append(query)
        if len(tries) > 1:
            second.set()
            return None
        assert second.wait(30)
        return response(query, f"{NAME}. 60 IN AAAA 2001:db8::1")

    assert asked(HOST, pretend(handle), repeat_s=0.2).status is Status.FOUND


def test_a_circle_of_aliases_is_no_answer(pretend: Pretend) -> None:
    server = pretend(answering(f"{NAME}. 60 IN CNAME b.test.", f"b.test. 60 IN CNAME {NAME}."))
    answer, counters = asked_and_counted(HOST, server)
    assert answer.status is Status.UNREACHABLE
    assert counters[UpstreamCounter.MALFORMED] == 1


def test_no_more_records_are_kept_than_the_limit(pretend: Pretend) -> None:
    many = [f"{NAME}. 60 IN AAAA 2001:db8::{index:x}" for index in range(1, 301)]

    def handle(query: bytes, stream: bool) -> bytes:
        return response(query, *many) if stream else response(query, flags=dns.flags.TC)

    assert len(asked(HOST, pretend(handle)).locators) == room.RECORDS_MAX


@pytest.mark.parametrize(("ttl", "taken"), [(2**31 - 1, 2**31 - 1), (2**31, 0), (2**32 - 1, 0)])
def test_a_ttl_with_the_top_bit_is_none(pretend: Pretend, ttl: int, taken: int) -> None:
    answer = asked(HOST, pretend(answering(f"{NAME}. {ttl} IN AAAA 2001:db8::1")))
    assert answer.ttl_seconds == taken


def test_what_is_absent_without_an_soa_is_so_for_a_bounded_time(pretend: Pretend) -> None:
    answer = asked(HOST, pretend(answering()))
    assert answer.status is Status.ABSENT
    assert 0 <= answer.ttl_seconds <= NEGATIVE_TTL_MAX


def test_records_beside_the_question_are_not_taken(pretend: Pretend) -> None:
    answer = asked(HOST, pretend(answering("other.example.test. 60 IN AAAA 2001:db8::bad")))
    assert answer.locators == ()


def test_any_word_of_a_resolver_shows_that_it_can_be_reached(pretend: Pretend) -> None:
    assert with_upstream(lambda client: client.reachable(), pretend(refusing()))


def test_a_resolver_that_is_silent_cannot_be_reached(pretend: Pretend) -> None:
    server = pretend(silent)
    assert not with_upstream(lambda client: client.reachable(), server, total_s=SILENCE_S)


# --- sources ---


async def ask_through_a_dead_provider(mark: int) -> tuple[list[Answer], list[str]]:
    """Two questions to a resolver that hears only what comes from the preferred locator."""
    sources: list[str] = []
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        listening.bind((RESOLVER, 53))
        server = asyncio.create_task(answer_only(listening, ALIVE, sources))
        client = Upstream(
            [(RESOLVER, 53)], Codepoints(), lambda: locators(ALIVE, DEAD), mark, hedge_s=1.0
        )
        questions = [HOST, Question(Kind.LOCATORS, f"again.{NAME}")]
        answers = [await client.ask(question) for question in questions]
        await client.close()
        server.cancel()
        await asyncio.wait({server})
    return answers, sources


@pytest.mark.lab
def test_if_the_first_provider_fails_the_next_locator_queries_and_is_remembered() -> None:
    def scenario() -> tuple[list[Answer], list[str]]:
        prepare_loopback()
        return asyncio.run(ask_through_a_dead_provider(0))

    answers, sources = in_network_namespace(scenario)
    assert [answer.status for answer in answers] == [Status.FOUND, Status.ABSENT]
    assert sources == [RESOLVER, DEAD, ALIVE, ALIVE]


@pytest.mark.lab
def test_every_query_carries_the_mark() -> None:
    def scenario() -> tuple[list[Answer], list[str]]:
        prepare_loopback()
        ip(f"rule add preference 1 fwmark {MARK:#x} lookup local")
        ip("rule delete preference 0")
        return asyncio.run(ask_through_a_dead_provider(MARK))

    answers, _ = in_network_namespace(scenario)
    assert answers[0].status is Status.FOUND


def test_a_resolver_is_asked_over_ipv4_too() -> None:
    async def scenario() -> tuple[Answer, list[str]]:
        sources: list[str] = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.setblocking(False)
            listening.bind(("127.0.0.1", 0))
            server = asyncio.create_task(answer_only(listening, "127.0.0.1", sources))
            client = Upstream([listening.getsockname()], Codepoints(), lambda: locators(ALIVE), 0)
            answer = await client.ask(HOST)
            await client.close()
            server.cancel()
            await asyncio.wait({server})
        return answer, sources

    answer, sources = asyncio.run(scenario())
    assert answer.status is Status.FOUND
    assert set(sources) == {"127.0.0.1"}


def failed_tries(*sources: str) -> int:
    """Tries at a resolver far away that the system refuses: none of the sources is ours."""

    async def scenario(client: Upstream) -> int:
        await client.ask(HOST)
        return client.counters[UpstreamCounter.FAILED]

    return with_upstream(scenario, (RESOLVER, 53), sources=locators(*sources), total_s=3)


def test_every_locator_is_tried_as_a_source() -> None:
    assert failed_tries("2001:db8:a::1", "2001:db8:b::1") >= 2


def test_links_take_turns_as_sources() -> None:
    """Of an uplink with very many addresses only some are tried, and those of others too."""
    many = locators(*(f"2001:db8:a::{index}" for index in range(1, 10)), ALIVE)
    resolvers = Resolvers([(RESOLVER, 53)], lambda: many, 0)
    assert [path.source for path, _ in resolvers.schedule(None)][:4] == [
        None, many[-1], many[0], many[1],
    ]  # fmt: skip


@pytest.mark.parametrize("count", [2, 9])
def test_the_preferred_locator_comes_after_another_since_the_kernel_tries_it_first(
    count: int,
) -> None:
    many = locators(*(f"2001:db8:{index}::1" for index in range(1, count + 1)))
    resolvers = Resolvers([(RESOLVER, 53)], lambda: many, 0)
    assert [path.source for path, _ in resolvers.schedule(None)][:3] == [None, many[1], many[0]]


def test_there_are_no_more_tries_than_the_limit() -> None:
    failed = failed_tries(*(f"2001:db8:a::{index}" for index in range(1, 10)))
    assert TRIES_MAX - 1 <= failed <= TRIES_MAX
