# SPDX-License-Identifier: MIT
"""The client of the resolvers, against a real server and against servers that misbehave."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from noid.constants import Codepoints
from noid.counters import UpstreamCounter
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.resolver import lookup, turns
from noid.resolver.port import Server
from noid.resolver.upstream import ANSWER_FLOOR_S, Upstream
from tests.dns.conftest import (
    HOST,
    NAME,
    Pretend,
    ShiftedLoop,
    answering,
    asked,
    forwarded,
    locators,
    refusing,
    response,
    silent,
    with_upstream,
)
from tests.waiting import until

# --- what the protocol asks, answered by a real server ---


def test_the_locators_of_a_name_are_found_with_their_ttl(nsd: Server) -> None:
    answer = asked(Question(Kind.LOCATORS, "m6.example.test"), nsd)
    assert answer.status is Status.FOUND
    assert sorted(answer.locators) == sorted(locators("2001:db8:1::1", "2001:db8:2::1"))
    assert answer.ttl_seconds == 300


def test_locators_stay_in_the_order_received(pretend: Pretend) -> None:
    texts = ("2001:db8::9", "2001:db8::1", "2001:db8::5")
    server = pretend(answering(*(f"{NAME}. 60 IN AAAA {text}" for text in texts)))
    assert asked(HOST, server).locators == locators(*texts)


def test_the_names_of_a_locator_are_canonical(nsd: Server) -> None:
    (locator,) = locators("2001:db8:1::1")
    answer = asked(Question(Kind.NAMES, reverse_name(locator)), nsd)
    assert sorted(answer.names) == ["m6.example.test", "www.example.test"]


def test_a_name_that_is_not_there_is_absent_for_the_negative_ttl(nsd: Server) -> None:
    answer = asked(Question(Kind.LOCATORS, "nobody.example.test"), nsd)
    assert answer == Answer(status=Status.ABSENT, ttl_seconds=120)


def test_a_name_without_such_a_record_is_absent(nsd: Server) -> None:
    assert asked(Question(Kind.NAMES, "m6.example.test"), nsd).status is Status.ABSENT


@pytest.mark.parametrize(
    ("name", "status"),
    [
        pytest.param("m6", Status.FOUND, id="the record"),
        pytest.param("alias", Status.FOUND, id="the record behind an alias"),
        pytest.param("text", Status.FOUND, id="the text"),
        pytest.param("textalias", Status.FOUND, id="the text of what an alias names"),
        pytest.param("othertext", Status.ABSENT, id="a text that says something else"),
        pytest.param("plain", Status.ABSENT, id="neither"),
        pytest.param("nobody", Status.ABSENT, id="no such name"),
    ],
)
def test_a_name_speaks_m6_if_the_record_or_the_text_says_so(
    nsd: Server, name: str, status: Status
) -> None:
    assert asked(Question(Kind.CAPABILITY, f"{name}.example.test"), nsd).status is status


def test_the_text_counts_where_the_private_type_is_not_served(pretend: Pretend) -> None:
    def handle(query: bytes, _: bool) -> bytes:
        if dns.message.from_wire(query).question[0].name.labels[0].lower() == b"_m6":
            return response(query, f"_m6.{NAME}. 60 IN TXT v=m6")
        return response(query, code=dns.rcode.NOTIMP)

    assert asked(Question(Kind.CAPABILITY, NAME), pretend(handle)).status is Status.FOUND


def test_capability_is_not_denied_while_one_of_its_questions_fails(pretend: Pretend) -> None:
    def handle(query: bytes, _: bool) -> bytes:
        refused = dns.message.from_wire(query).question[0].name.labels[0].lower() == b"_m6"
        return response(query, code=dns.rcode.SERVFAIL if refused else dns.rcode.NOERROR)

    assert asked(Question(Kind.CAPABILITY, NAME), pretend(handle)).status is Status.UNREACHABLE


class Forwarder:
    """A resolver that drops the M6 type; only the text of names that begin with t says M6."""

    def __init__(self) -> None:
        self.drops = True
        self.records: set[str] = set()

    def __call__(self, query: bytes, _stream: bool) -> bytes | None:
        question = dns.message.from_wire(query).question[0]
        name = question.name.to_text().lower()
        if question.rdtype == Codepoints().m6_rrtype:
            self.records.add(name)
            return None if self.drops else response(query)
        return response(query, f"{name} 60 IN TXT v=m6") if name[4] == "t" else response(query)


async def learn(client: Upstream) -> list[asyncio.Task[Answer]]:
    """Asks until the client knows that its resolver drops the type; these are still waiting."""
    asks = [Question(Kind.CAPABILITY, f"{letter}.test") for letter in "abc"]
    begun = [asyncio.create_task(client.ask(one)) for one in asks]
    unanswered = UpstreamCounter.RECORD_UNANSWERED
    await until(lambda: client.counters[unanswered] == lookup.RECORD_UNANSWERED_MAX)
    return begun


def test_a_resolver_that_drops_the_m6_type_is_not_waited_for_again(pretend: Pretend) -> None:
    forwarder = Forwarder()

    async def scenario(client: Upstream) -> None:
        client.record_wait_s = 0.0
        await learn(client)
        for name, status in (("d", Status.ABSENT), ("e", Status.ABSENT), ("t", Status.FOUND)):
            answer = await client.ask(Question(Kind.CAPABILITY, f"{name}.test"))
            assert answer.status is status
        assert forwarder.records <= {"a.test.", "b.test.", "c.test.", "."}
        assert client.counters[UpstreamCounter.RECORD_UNANSWERED] == lookup.RECORD_UNANSWERED_MAX

    with_upstream(scenario, pretend(forwarder), total_s=60, repeat_s=60)


def test_a_resolver_that_drops_the_m6_type_costs_one_wait_not_one_a_name(
    pretend: Pretend,
) -> None:
    forwarder = Forwarder()

    async def scenario(client: Upstream) -> None:
        client.lookup.record_wait_s = 0.0
        first = asyncio.create_task(client.ask(Question(Kind.CAPABILITY, "a.test")))
        await until(lambda: "." in forwarder.records)
        for name in ("b.test", "c.test"):
            answer = await client.ask(Question(Kind.CAPABILITY, name))
            assert answer.status is Status.UNREACHABLE  # not known yet: asked again soon
        assert forwarder.records == {"a.test.", "."}
        await first
        await until(lambda: not client.lookup.is_suspected)
        assert client.drops_record
        assert (await client.ask(Question(Kind.CAPABILITY, "d.test"))).status is Status.ABSENT
        assert forwarder.records == {"a.test.", "."}

    with_upstream(scenario, pretend(forwarder), total_s=3)


def test_a_resolver_that_answers_the_m6_type_again_is_waited_for(pretend: Pretend) -> None:
    forwarder = Forwarder()
    server = pretend(forwarder)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ShiftedLoop)
        client = Upstream([server], Codepoints(), tuple, 0, total_s=600, record_wait_s=0.0)
        await learn(client)
        forwarder.drops = False
        loop.shift_s += lookup.RECORD_AGAIN_S
        await client.ask(Question(Kind.CAPABILITY, "d.test"))
        await until(lambda: not client.drops_record)
        await client.close()

    with asyncio.Runner(loop_factory=ShiftedLoop) as runner:
        runner.run(scenario())


def test_one_zone_that_drops_the_m6_type_does_not_count_for_the_resolver(pretend: Pretend) -> None:
    dropping, passing = Forwarder(), Forwarder()
    passing.drops = False

    def handle(query: bytes, stream: bool) -> bytes | None:
        return (dropping if b"dropping" in query.lower() else passing)(query, stream)

    async def scenario(client: Upstream) -> None:
        begun = set()
        for number in range(lookup.RECORD_UNANSWERED_MAX + 1):
            client.record_wait_s = 0.0
            question = Question(Kind.CAPABILITY, f"n{number}.dropping.test")
            begun.add(asyncio.create_task(client.ask(question)))
            await until(lambda: client.counters[UpstreamCounter.RECORD_UNANSWERED] == len(begun))
            client.record_wait_s = 30.0
            await until(lambda: not client.drops_record)
            answer = await client.ask(Question(Kind.CAPABILITY, f"n{number}.test"))
            assert answer.status is Status.ABSENT
        assert not client.drops_record

    with_upstream(scenario, pretend(handle), total_s=60)


def test_a_name_too_long_for_an_m6_label_has_no_text_record(pretend: Pretend) -> None:
    name = ".".join(["x" * 61] * 4)
    answer = asked(Question(Kind.CAPABILITY, f"{name}.test"), pretend(answering()))
    assert answer.status is Status.ABSENT


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "y." * 200, "\\300", "\udcff"])
def test_what_cannot_be_a_name_is_absent(nsd: Server, name: str) -> None:
    assert asked(Question(Kind.LOCATORS, name), nsd).status is Status.ABSENT


def test_a_truncated_answer_is_fetched_over_tcp(nsd: Server) -> None:
    query = dns.message.make_query("big.example.test", "TXT")

    octets = with_upstream(lambda client: forwarded(client, query.to_wire()), nsd)
    assert octets is not None
    message = dns.message.from_wire(octets)
    assert message.id == query.id
    assert not message.flags & dns.flags.TC
    assert len(message.answer[0]) == 20


def test_a_query_is_passed_through_as_it_stands_but_for_its_id(pretend: Pretend) -> None:
    seen: list[bytes] = []

    def handle(query: bytes, _: bool) -> bytes:
        seen.append(query)
        return response(query)

    message = dns.message.make_query(NAME, "TYPE4711", want_dnssec=True, payload=1400)
    message.flags |= dns.flags.CD
    query = message.to_wire()
    with_upstream(lambda client: forwarded(client, query), pretend(handle))
    assert [octets[2:12] + octets[12:].lower() for octets in seen] == [query[2:]]


# --- coalescing, cache, limits ---


def test_equal_questions_at_one_time_are_asked_once(pretend: Pretend) -> None:
    seen: list[bytes] = []

    def handle(query: bytes, _: bool) -> bytes:
        seen.append(query)
        return response(query, f"{NAME}. 60 IN AAAA 2001:db8::1")

    async def scenario(client: Upstream) -> tuple[list[Answer], Counter[UpstreamCounter]]:
        answers = await asyncio.gather(*(client.ask(HOST) for _ in range(3)))
        return answers, client.counters

    answers, counters = with_upstream(scenario, pretend(handle))
    assert len(set(answers)) == 1
    assert len(seen) == 1
    assert counters[UpstreamCounter.COALESCED] == 2


def test_a_caller_that_goes_away_does_not_take_the_question_with_it(pretend: Pretend) -> None:
    async def scenario(client: Upstream) -> Answer:
        hasty = asyncio.create_task(client.ask(HOST))
        patient = asyncio.create_task(client.ask(HOST))
        await asyncio.wait({hasty}, timeout=0)
        hasty.cancel()
        return await patient

    server = pretend(answering(f"{NAME}. 60 IN AAAA 2001:db8::1"))
    assert with_upstream(scenario, server).status is Status.FOUND


def test_an_answer_is_remembered_for_its_ttl_but_at_least_for_the_floor(pretend: Pretend) -> None:
    seen: list[bytes] = []

    def handle(query: bytes, _: bool) -> bytes:
        seen.append(query)
        return response(query, f"{NAME}. 0 IN AAAA 2001:db8::1")

    server = pretend(handle)

    async def scenario() -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ShiftedLoop)
        client = Upstream([server], Codepoints(), tuple, 0)
        asked_in_all = []
        for forward_s in (0, ANSWER_FLOOR_S - 1, 2):
            loop.shift_s += forward_s
            await client.ask(HOST)
            asked_in_all.append(len(seen))
        await client.close()
        return asked_in_all

    with asyncio.Runner(loop_factory=ShiftedLoop) as runner:
        assert runner.run(scenario()) == [1, 1, 2]


def test_a_remembered_answer_has_grown_older(pretend: Pretend) -> None:
    server = pretend(answering(f"{NAME}. 300 IN AAAA 2001:db8::1"))

    async def scenario() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ShiftedLoop)
        client = Upstream([server], Codepoints(), tuple, 0)
        await client.ask(HOST)
        loop.shift_s += 100.5
        answer = await client.ask(HOST)
        await client.close()
        return answer.ttl_seconds

    with asyncio.Runner(loop_factory=ShiftedLoop) as runner:
        assert runner.run(scenario()) == 200


def test_that_a_verification_failed_is_not_remembered(pretend: Pretend) -> None:
    async def scenario(client: Upstream) -> int:
        await client.ask(HOST)
        await client.ask(HOST)
        return client.counters[UpstreamCounter.ASKED]

    assert with_upstream(scenario, pretend(refusing())) == 2


def test_that_capability_failed_is_remembered_briefly(pretend: Pretend) -> None:
    async def scenario(client: Upstream) -> Counter[UpstreamCounter]:
        question = Question(Kind.CAPABILITY, NAME)
        assert [(await client.ask(question)).status for _ in "ab"] == [Status.UNREACHABLE] * 2
        return client.counters

    assert with_upstream(scenario, pretend(refusing()))[UpstreamCounter.CACHE_HITS] == 1


def test_the_cache_lets_the_oldest_go(pretend: Pretend) -> None:
    async def scenario(client: Upstream) -> Counter[UpstreamCounter]:
        for name in ("a.test", "b.test", "c.test", "b.test", "a.test"):
            await client.ask(Question(Kind.LOCATORS, name))
        return client.counters

    counters = with_upstream(scenario, pretend(answering()), answers_max=2)
    assert counters[UpstreamCounter.ASKED] == 4
    assert counters[UpstreamCounter.CACHE_HITS] == 1


NAMES = ("a.test", "b.test", "c.test")
MAY_BE = 2


def names_on_the_way(
    pretend: Pretend,
    begin: Callable[[Upstream, str], Awaitable[object]],
    *,
    programs: turns.Limits = turns.PROGRAMS,
    own: turns.Limits = turns.OWN,
) -> set[str]:
    """The names of which a silent server heard while all of them were to be asked for."""
    seen: set[str] = set()

    def handle(query: bytes, _: bool) -> None:
        name = dns.message.from_wire(query).question[0].name
        seen.add(name.to_text(omit_final_dot=True).lower())

    async def scenario(client: Upstream) -> None:
        begun = [asyncio.ensure_future(begin(client, name)) for name in NAMES]
        await until(lambda: len(seen) >= MAY_BE)
        await asyncio.wait(begun, timeout=0.1)
        first.update(seen)  # when all is given up, the next ones get their turn

    first: set[str] = set()
    with_upstream(scenario, pretend(handle), programs=programs, own=own)
    return first


def test_no_more_questions_are_on_the_way_than_may_be(pretend: Pretend) -> None:
    seen = names_on_the_way(
        pretend,
        lambda client, name: client.ask(Question(Kind.LOCATORS, name)),
        own=turns.OWN._replace(quick=MAY_BE, slow_s=60),
    )
    assert seen == set(NAMES[:MAY_BE])


def test_the_number_of_queries_passed_through_is_limited(pretend: Pretend) -> None:
    seen = names_on_the_way(
        pretend,
        lambda client, name: forwarded(client, dns.message.make_query(name, "AAAA").to_wire()),
        programs=turns.PROGRAMS._replace(quick_each=MAY_BE, slow_s=60),
    )
    assert seen == set(NAMES[:MAY_BE])


def test_a_question_that_is_slow_does_not_hold_up_the_others(pretend: Pretend) -> None:
    own = turns.OWN._replace(quick=1)

    def handle(query: bytes, _: bool) -> bytes | None:
        name = dns.message.from_wire(query).question[0].name
        return None if name.labels[0].lower() == b"a" else response(query)

    async def scenario(client: Upstream) -> list[Status]:
        questions = [Question(Kind.LOCATORS, name) for name in NAMES]
        return [one.status for one in await asyncio.gather(*map(client.ask, questions))]

    statuses = with_upstream(scenario, pretend(handle), total_s=3, own=own)
    assert statuses == [Status.UNREACHABLE, Status.ABSENT, Status.ABSENT]


def test_closing_ends_every_wait(pretend: Pretend) -> None:
    query = dns.message.make_query(NAME, "AAAA").to_wire()

    async def scenario(client: Upstream) -> tuple[Answer, bytes | None]:
        asking = asyncio.create_task(client.ask(HOST))
        forwarding = asyncio.create_task(forwarded(client, query))
        await asyncio.wait({asking, forwarding}, timeout=0.02)
        await client.close()
        return await asking, await forwarding

    answer, octets = with_upstream(scenario, pretend(silent), total_s=30)
    assert answer.status is Status.UNREACHABLE
    assert octets is None


def test_after_closing_nothing_is_asked(pretend: Pretend) -> None:
    async def scenario(client: Upstream) -> Status:
        await client.close()
        return (await client.ask(HOST)).status

    assert with_upstream(scenario, pretend(answering())) is Status.UNREACHABLE
