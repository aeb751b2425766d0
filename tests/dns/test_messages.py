# SPDX-License-Identifier: MIT
"""What is read of queries and responses straight from their octets, and what is kept of them."""

import asyncio
import socket
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.dns.queries import Query, disguised, read_query
from noid.dns.responses import LIFETIME_MAX_S, NEGATIVE_TTL_MAX, Echo, Response, Responses, echo
from noid.lab.resolution import LOOPBACK
from tests.dns.conftest import (
    NAME,
    Handle,
    Pretend,
    Program,
    ShiftedLoop,
    answered,
    answering,
    as_program,
    response,
)

TRIES = 20
LONGEST = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
"""255 octets in wire form."""
CIRCLE = [f"{NAME}. 60 IN CNAME b.test.", f"b.test. 60 IN CNAME {NAME}."]
SOA = "example.test. 300 IN SOA ns. root. 1 3600 600 86400 120"


def query_of(
    kind: str = "AAAA",
    *,
    name: str = NAME,
    identifier: int = 1,
    options: list[dns.edns.Option] | None = None,
) -> Query:
    message = dns.message.make_query(name, kind, id=identifier)
    if options is not None:
        message.use_edns(0, options=options)
    query = read_query(message.to_wire())
    assert query is not None
    return query


def lifetime(*records: str, kind: str = "AAAA") -> int:
    query = query_of(kind)
    return Response(query, response(query.octets, *records), 0).lifetime_s


def absent(code: dns.rcode.Rcode, soa: str) -> int:
    query = query_of()
    message = dns.message.make_response(dns.message.from_wire(query.octets))
    message.set_rcode(code)
    name, ttl, record_class, kind, rdata = soa.split(maxsplit=4)
    message.authority.append(dns.rrset.from_text(name, int(ttl), record_class, kind, rdata))
    return Response(query, message.to_wire(), 0).lifetime_s


# --- queries ---


def test_options_between_a_client_and_its_own_server_go_no_further() -> None:
    kept = dns.edns.ECSOption("2001:db8::", 32)
    cookie, padding = dns.edns.OptionType.COOKIE, dns.edns.OptionType.PADDING
    options: list[dns.edns.Option] = [
        dns.edns.GenericOption(cookie, b"x" * 8),
        kept,
        dns.edns.GenericOption(padding, bytes(40)),
    ]
    query = query_of(options=options)
    assert query.octets[2:] == query_of(options=[kept]).octets[2:]


def test_options_that_cannot_be_told_apart_are_left_alone() -> None:
    octets = query_of(options=[]).octets[:-2] + b"\x00\x03abc"
    query = read_query(octets)
    assert query is None or query.octets == octets


def test_queries_are_equal_whatever_their_id_and_case() -> None:
    assert query_of(identifier=1).key == query_of(identifier=2, name=NAME.upper()).key
    assert query_of("TYPE65").key != query_of("TYPE97").key


def test_a_name_of_255_octets_is_read_and_a_longer_one_is_not() -> None:
    query = query_of(name=LONGEST)
    assert len(query.name) == 255
    longer = query.octets[:12] + b"\x01x" + query.octets[12:]
    assert read_query(longer) is None


@given(entropy=st.binary(min_size=300, max_size=300))
def test_a_response_must_repeat_the_id_and_the_case_of_its_query(
    entropy: bytes,
) -> None:
    query = query_of(name="A1-b.Example.test")
    sent = disguised(query, entropy[: 2 + len(query.name)])
    assert sent[:2] == entropy[:2]
    assert sent[2:12] + sent[12:].lower() == query.octets[2:12] + query.octets[12:].lower()
    assert echo(sent, query.end, response(sent)) is Echo.EXACT
    swapped = sent[:12] + sent[12 : query.name_end].swapcase() + sent[query.name_end :]
    assert echo(sent, query.end, response(swapped)) is Echo.OTHER_CASE
    assert echo(sent, query.end, sent) is Echo.NONE


# --- how long a response may be used ---


@pytest.mark.parametrize(
    ("ttl", "kept"), [(0, 0), (1, 1), (2**31 - 1, LIFETIME_MAX_S), (2**31, 0), (2**32 - 1, 0)]
)
def test_a_response_is_kept_as_its_ttl_says(ttl: int, kept: int) -> None:
    assert lifetime(f"{NAME}. {ttl} IN AAAA 2001:db8::1") == kept


def test_the_least_ttl_counts() -> None:
    assert lifetime(f"{NAME}. 60 IN CNAME b.test.", "b.test. 20 IN AAAA 2001:db8::1") == 20


@pytest.mark.parametrize("code", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
@pytest.mark.parametrize(
    ("ttl", "minimum", "kept"),
    [(300, 120, 120), (60, 120, 60), (2**31 - 1, 2**31 - 1, NEGATIVE_TTL_MAX), (2**31, 120, 0)],
)
def test_what_is_absent_is_kept_as_the_soa_says(
    code: dns.rcode.Rcode, ttl: int, minimum: int, kept: int
) -> None:
    assert absent(code, f"example.test. {ttl} IN SOA ns. root. 1 2 3 4 {minimum}") == kept


def test_what_is_absent_without_an_soa_is_not_kept() -> None:
    assert lifetime() == 0
    assert lifetime(*CIRCLE) == 0


@pytest.mark.parametrize("code", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR])
def test_no_failure_is_kept(code: dns.rcode.Rcode) -> None:
    assert absent(code, SOA) == 0


def test_a_kept_response_has_grown_older() -> None:
    query = query_of()
    kept = Response(query, response(query.octets, f"{NAME}. 60 IN AAAA 2001:db8::1"), 100.0)
    later = query_of(name=NAME.upper())
    message = dns.message.from_wire(kept.answer(later, 117.5))
    assert (message.id, message.answer[0].ttl) == (int.from_bytes(later.octets[:2]), 43)
    assert message.question[0].name.to_text() == f"{NAME.upper()}."


@given(octets=st.binary(max_size=300), counts=st.binary(min_size=6, max_size=6))
def test_any_octets_behind_the_question_are_given_as_they_are(octets: bytes, counts: bytes) -> None:
    query = query_of()
    made = query.octets[:2] + b"\x81\x80\x00\x01" + counts + query.octets[12:] + octets
    whole = Response(query, made, 0)
    assert whole.answer(query, 0) == made
    assert len(whole.answer(query, max(whole.lifetime_s - 1, 0))) == len(made)


# --- what is kept ---


def numbered(number: int, *, texts: int = 1) -> tuple[Query, Response]:
    query = query_of("TXT", name=f"h{number}.test")
    records = [f'h{number}.test. 60 IN TXT "{index:0200}"' for index in range(texts)]
    return query, Response(query, response(query.octets, *records), 0)


def test_no_more_responses_are_kept_than_the_limit() -> None:
    kept = Responses(count_max=3)
    pairs = [numbered(number) for number in range(5)]
    for query, whole in pairs:
        kept.keep(query, whole)
    assert [kept.find(query, 1) is not None for query, _ in pairs] == [False] * 2 + [True] * 3


def test_no_more_octets_are_kept_than_the_limit() -> None:
    kept = Responses(octets_max=10_000)
    for number in range(20):
        kept.keep(*numbered(number, texts=10))
    assert 0 < kept.octets <= 10_000
    assert len(kept) == 4


def test_what_is_kept_ends_with_its_time_and_gives_its_room_back() -> None:
    kept = Responses()
    query, whole = numbered(1)
    kept.keep(query, whole)
    kept.keep(query, whole)
    assert kept.find(query, 59.9) is whole
    assert kept.find(query, 60) is None
    assert (len(kept), kept.octets) == (0, 0)


# --- through the stub ---


def counted(handle: Handle) -> tuple[Handle, list[bytes]]:
    seen: list[bytes] = []

    def counting(query: bytes, stream: bool) -> bytes | list[bytes] | None:
        seen.append(query)
        return handle(query, stream)

    return counting, seen


def test_a_program_that_asks_again_is_answered_from_memory(pretend: Pretend) -> None:
    handle, seen = counted(answering(f'{NAME}. 60 IN TXT "text"'))

    async def scenario(program: Program) -> list[int]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ShiftedLoop)
        ttls = []
        for forward_s in (0, 25, 40):
            loop.shift_s += forward_s
            query = dns.message.make_query(NAME, "TXT").to_wire()
            octets = await program.stub.answer(query)
            assert octets is not None
            ttls.append(dns.message.from_wire(octets).answer[0].ttl)
        return ttls

    assert as_program(scenario, pretend(handle), loop_factory=ShiftedLoop) == [60, 35, 60]
    assert len(seen) == 2


def test_programs_that_ask_the_same_at_one_time_are_asked_for_once(pretend: Pretend) -> None:
    handle, seen = counted(answering(f'{NAME}. 0 IN TXT "text"'))

    async def scenario(program: Program) -> set[int]:
        queries = [dns.message.make_query(NAME, "TXT", id=number) for number in range(9)]
        return {one.id for one in await asyncio.gather(*map(program.resolve, queries))}

    assert as_program(scenario, pretend(handle)) == set(range(9))
    assert len(seen) == 1


def test_a_resolver_that_changes_the_case_is_asked_over_tcp_once(pretend: Pretend) -> None:
    ways: list[bool] = []

    def handle(query: bytes, stream: bool) -> bytes:
        ways.append(stream)
        return answered(query[:12] + query[12:].lower())

    async def scenario(program: Program) -> set[dns.rcode.Rcode]:
        names = [f"{letter * 60}.test" for letter in "ab"]
        queries = [dns.message.make_query(name, "TYPE99") for name in names]
        return {(await program.resolve(query)).rcode() for query in queries}

    assert as_program(scenario, pretend(handle)) == {dns.rcode.NOERROR}
    assert ways == [False, True, False]


def test_an_answer_with_a_cname_loop_reaches_the_program_unchanged(pretend: Pretend) -> None:
    async def scenario(program: Program) -> int:
        return len((await program.resolve(dns.message.make_query(NAME, "AAAA"))).answer)

    assert as_program(scenario, pretend(answering(*CIRCLE)), grace_s=1) == 2


def test_names_of_255_octets_are_asked_for(pretend: Pretend) -> None:
    async def scenario(program: Program) -> int:
        query = dns.message.make_query(LONGEST, "AAAA")
        return len((await program.resolve(query)).answer)

    assert as_program(scenario, pretend(answering(f"{LONGEST}. 60 IN AAAA 2001:db8::1"))) == 1


def test_a_response_larger_than_any_datagram_comes_over_tcp(pretend: Pretend) -> None:
    many = [f'{NAME}. 60 IN TXT "{index:0250}"' for index in range(240)]

    def handle(query: bytes, stream: bool) -> bytes:
        return response(query, *many) if stream else response(query, flags=dns.flags.TC)

    async def scenario(program: Program) -> tuple[int, int]:
        query = dns.message.make_query(NAME, "TXT", use_edns=0, payload=65535)
        short = await program.resolve(query)
        return short.flags & dns.flags.TC, len((await program.resolve_tcp(query)).answer[0])

    assert as_program(scenario, pretend(handle)) == (dns.flags.TC, 240)


def test_an_answer_from_another_server_is_not_heard(pretend: Pretend) -> None:
    """The right octets to the right port, but not from the resolver: the kernel keeps them out."""
    forged: list[int] = []

    def handle(query: bytes, _: bool) -> None:
        other = dns.rrset.from_text(f"{NAME}.", 60, "IN", "TXT", "forged")
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as forger:
            for port in _ports_towards(server[1]):
                forger.sendto(answered(query, other), (LOOPBACK, port))
                forged.append(port)

    server = pretend(handle)

    async def scenario(program: Program) -> dns.rcode.Rcode:
        return (await program.resolve(dns.message.make_query(NAME, "TXT"))).rcode()

    for _ in range(TRIES):
        assert as_program(scenario, server, total_s=0.2) == dns.rcode.SERVFAIL
        if forged:  # in time, on a machine that is not too busy
            return
    raise AssertionError("no query was still waiting when its answer was forged")


def _ports_towards(port: int) -> list[int]:
    """The local ports of UDP sockets that are connected to a port of loopback."""
    rows = [line.split() for line in Path("/proc/net/udp6").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[2].endswith(f":{port:04X}")]
