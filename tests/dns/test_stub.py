# SPDX-License-Identifier: MIT
"""The resolver of the host's programs, asked as a program would ask it."""

import asyncio
import os
from collections import Counter
from functools import partial

import dns.asyncquery
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from noid.constants import LOCATORS_MAX
from noid.counters import StubCounter
from noid.locators import Locator, parse_locator
from noid.resolver.port import Server
from tests.dns.conftest import (
    NAME,
    NOBODY,
    TWO,
    Peer,
    Pretend,
    Program,
    aaaa,
    addresses,
    answered,
    as_program,
    kind_of,
    locators,
    m6_host,
    resolved,
    silent,
)

# --- names that speak M6 ---


def test_of_a_name_that_speaks_m6_the_program_gets_one_address(nsd: Server) -> None:
    message, peers = resolved(aaaa("m6"), nsd)
    assert len(addresses(message)) == 1
    assert message.answer[0].ttl == 300
    assert [peer.aid for peer in peers] == [parse_locator(addresses(message)[0])]


def test_the_shim_is_told_of_every_locator_before_the_program_is_answered(nsd: Server) -> None:
    _, peers = resolved(aaaa("m6"), nsd)
    (peer,) = peers
    assert peer.name == "m6.example.test"
    assert set(peer.locators) == {parse_locator("2001:db8:1::1"), parse_locator("2001:db8:2::1")}


def test_the_first_address_of_the_answer_is_the_aid(pretend: Pretend) -> None:
    message, peers = resolved(aaaa("host"), pretend(m6_host(TWO)))
    assert addresses(message) == ["2001:db8:1::1"]
    assert peers[0].locators == (parse_locator("2001:db8:1::1"), parse_locator("2001:db8:2::1"))


def test_behind_an_alias_the_peer_has_its_final_name_and_the_alias_stays(nsd: Server) -> None:
    message, peers = resolved(aaaa("alias"), nsd)
    assert [rrset.rdtype for rrset in message.answer] == [
        dns.rdatatype.CNAME,
        dns.rdatatype.AAAA,
    ]
    assert len(addresses(message)) == 1
    assert peers[0].name == "m6.example.test"


def test_the_text_does_for_the_record(nsd: Server) -> None:
    message, peers = resolved(aaaa("text"), nsd)
    assert len(addresses(message)) == 1
    assert len(peers[0].locators) == 2


def test_the_name_of_a_peer_is_canonical_while_the_question_keeps_its_case(nsd: Server) -> None:
    message, peers = resolved(aaaa("M6"), nsd)
    assert message.question[0].name.to_text() == "M6.example.test."
    assert peers[0].name == "m6.example.test"


def test_over_tcp_too_the_program_gets_one_address(nsd: Server) -> None:
    async def scenario(program: Program) -> tuple[dns.message.Message, list[Peer]]:
        return await program.resolve_tcp(aaaa("m6")), program.peers

    message, peers = as_program(scenario, nsd)
    assert len(addresses(message)) == 1
    assert len(peers) == 1


def test_the_shim_gets_at_most_as_many_locators_as_a_set_has(nsd: Server) -> None:
    message, peers = resolved(aaaa("many"), nsd)
    assert len(addresses(message)) == 1
    assert len(peers[0].locators) == LOCATORS_MAX
    assert peers[0].aid in peers[0].locators


def test_by_turns_every_locator_of_a_peer_is_given_out(nsd: Server) -> None:
    async def scenario(program: Program) -> list[str]:
        program.stub.policy = "rotate"
        return [addresses(await program.resolve(aaaa("m6")))[0] for _ in range(4)]

    assert as_program(scenario, nsd) == ["2001:db8:1::1", "2001:db8:2::1"] * 2


def test_what_is_known_not_to_work_has_no_turn(nsd: Server) -> None:
    async def scenario(program: Program) -> list[str]:
        program.stub.policy = "rotate"
        program.stub.working = lambda locators: tuple(sorted(locators)[1:])
        return [addresses(await program.resolve(aaaa("m6")))[0] for _ in range(3)]

    assert as_program(scenario, nsd) == ["2001:db8:2::1"] * 3


def test_hundreds_of_addresses_come_down_to_one(pretend: Pretend) -> None:
    hundreds = dns.rrset.from_text_list(
        f"{NAME}.", 60, "IN", "AAAA", [f"2001:db8::{index:x}" for index in range(1, 400)]
    )
    whole = m6_host(hundreds)

    def handle(query: bytes, stream: bool) -> bytes | list[bytes] | None:
        if stream or kind_of(query) != dns.rdatatype.AAAA:
            return whole(query, stream)
        return answered(query, flags=dns.flags.TC)

    message, peers = resolved(aaaa("host"), pretend(handle))
    assert addresses(message) == ["2001:db8::1"]
    assert len(peers[0].locators) == LOCATORS_MAX


def test_a_reduced_answer_has_no_signature_and_does_not_claim_to_be_authentic(
    pretend: Pretend,
) -> None:
    signatures = [
        dns.rrset.from_text(
            name,
            77,
            "IN",
            "RRSIG",
            f"{kind} 8 3 77 20300101000000 20200101000000 1 example.test. AAAA",
        )
        for name, kind in ((f"{NAME}.", "AAAA"), ("www.example.test.", "CNAME"))
    ]
    alias = dns.rrset.from_text("www.example.test.", 77, "IN", "CNAME", f"{NAME}.")
    server = pretend(m6_host(alias, signatures[1], TWO, signatures[0], flags=dns.flags.AD))
    message, _ = resolved(aaaa("www"), server)
    assert [one.rdtype for one in message.answer] == [dns.rdatatype.CNAME, dns.rdatatype.AAAA]
    assert not message.flags & dns.flags.AD


def test_a_ttl_with_the_top_bit_is_none(pretend: Pretend) -> None:
    endless = dns.rrset.from_text(f"{NAME}.", 2**31, "IN", "AAAA", "2001:db8::1")
    message, _ = resolved(aaaa("host"), pretend(m6_host(endless)))
    assert message.answer[0].ttl == 0


# --- a host is never worse off than without noid ---


def test_of_any_other_name_the_program_gets_every_address(nsd: Server) -> None:
    message, peers = resolved(aaaa("plain"), nsd)
    assert len(addresses(message)) == 2
    assert peers == []


@pytest.mark.parametrize("want_dnssec", [True, False])
def test_who_checks_signatures_or_disables_checking_gets_the_whole_set(
    nsd: Server, want_dnssec: bool
) -> None:
    query = aaaa("m6", want_dnssec=want_dnssec)
    query.flags |= 0 if want_dnssec else dns.flags.CD
    message, peers = resolved(query, nsd)
    assert len(addresses(message)) == 2
    assert peers == []


def test_the_hosts_own_name_is_left_alone(nsd: Server) -> None:
    message, peers = resolved(aaaa("m6"), nsd, own=["2001:db8:2::1"])
    assert len(addresses(message)) == 2
    assert peers == []


def test_a_set_with_an_address_that_is_not_a_locator_is_not_changed(nsd: Server) -> None:
    message, peers = resolved(aaaa("linklocal"), nsd)
    assert len(addresses(message)) == 2
    assert peers == []


@pytest.mark.parametrize("broken", ["silent", "servfail", "garbage"])
def test_a_program_gets_every_address_if_the_m6_query_has_no_answer(
    pretend: Pretend, broken: str
) -> None:
    def handle(query: bytes, _: bool) -> bytes | None:
        if kind_of(query) == dns.rdatatype.AAAA:
            return answered(query, TWO)
        servfail = query[:2] + b"\x80\x02" + bytes(8)
        return {"silent": None, "servfail": servfail, "garbage": query[:2] + b"\xff"}[broken]

    async def scenario(program: Program) -> tuple[dns.message.Message, list[Peer], int]:
        message = await program.resolve(aaaa("host"))
        return message, program.peers, program.stub.counters[StubCounter.CAPABILITY_UNKNOWN]

    message, peers, unknown = as_program(scenario, pretend(handle), grace_s=0.05)
    assert addresses(message) == ["2001:db8:1::1", "2001:db8:2::1"]
    assert peers == []
    assert unknown == 1


def test_a_truncated_answer_reaches_the_program_unchanged(
    pretend: Pretend,
) -> None:
    message, peers = resolved(aaaa("host"), pretend(m6_host(TWO, flags=dns.flags.TC)))
    assert len(addresses(message)) == 2
    assert peers == []


def test_an_unreadable_answer_reaches_the_program_unchanged(pretend: Pretend) -> None:
    whole = m6_host(TWO)

    def handle(query: bytes, stream: bool) -> bytes | list[bytes] | None:
        if kind_of(query) != dns.rdatatype.AAAA:
            return whole(query, stream)
        return answered(query, TWO) + b"trailing"

    async def scenario(program: Program) -> bytes | None:
        return await program.stub.answer(query.to_wire())

    query = aaaa("host")
    octets = as_program(scenario, pretend(handle))
    assert octets is not None
    assert octets.endswith(b"trailing")


@pytest.mark.parametrize("kind", ["TXT", "A", "NS", "TYPE65286", "TYPE4711"])
def test_every_other_type_is_passed_through(nsd: Server, kind: str) -> None:
    query = dns.message.make_query("text.example.test", kind)

    async def scenario(program: Program) -> dns.message.Message:
        return await program.resolve(query)

    async def directly() -> dns.message.Message:
        return await dns.asyncquery.udp(query, nsd[0], port=nsd[1], timeout=30)

    assert as_program(scenario, nsd).to_wire() == asyncio.run(directly()).to_wire()


def test_a_name_that_is_not_there_is_not_there(nsd: Server) -> None:
    message, _ = resolved(aaaa("nobody"), nsd)
    assert message.rcode() == dns.rcode.NXDOMAIN
    assert message.authority[0].rdtype == dns.rdatatype.SOA


def test_without_a_resolver_the_program_gets_servfail() -> None:
    query = aaaa("m6")
    message, _ = resolved(query, NOBODY)
    assert message.rcode() == dns.rcode.SERVFAIL
    assert message.question == query.question


def test_a_resolver_that_is_silent_is_servfail_in_the_end(pretend: Pretend) -> None:
    async def scenario(program: Program) -> dns.rcode.Rcode:
        return (await program.resolve(aaaa("m6"))).rcode()

    assert as_program(scenario, pretend(silent), total_s=0.15) == dns.rcode.SERVFAIL


@pytest.mark.parametrize("probe", [True, False])
def test_with_probe_the_shim_gets_every_address_and_the_program_the_whole_set(
    nsd: Server, probe: bool
) -> None:
    """The second time from memory."""

    async def scenario(program: Program) -> list[tuple[int, list[Peer]]]:
        program.stub.probe = probe
        said = []
        for _ in range(2):
            count = len(addresses(await program.resolve(aaaa("plain"))))
            said.append((count, program.peers[:]))
            program.peers.clear()
        return said

    for count, peers in as_program(scenario, nsd):
        assert count == 2
        told = {(peer.name, peer.aid) for peer in peers}
        both = {
            ("plain.example.test", locator)
            for locator in locators("2001:db8:1::2", "2001:db8:2::2")
        }
        assert told == (both if probe else set())


@pytest.mark.parametrize("times", [1, 2])
def test_a_peer_that_has_not_answered_by_m6_gets_the_whole_set(nsd: Server, times: int) -> None:
    """The second time from memory."""

    async def scenario(program: Program) -> tuple[list[str], Counter[StubCounter]]:
        program.stub.answering = lambda _: ()
        for _ in range(times):
            program.peers.clear()
            found = addresses(await program.resolve(aaaa("m6")))
        assert {peer.aid for peer in program.peers} == set(locators(*found))
        assert {peer.name for peer in program.peers} == {"m6.example.test"}
        assert set(program.clients) == {os.getuid()}
        return found, program.stub.counters

    found, counters = as_program(scenario, nsd)
    assert sorted(found) == ["2001:db8:1::1", "2001:db8:2::1"]
    assert (counters[StubCounter.UNTRIED], counters[StubCounter.PEERS]) == (times, 0)


def test_a_peer_that_answers_at_one_of_its_addresses_gets_that_one(pretend: Pretend) -> None:
    async def scenario(program: Program) -> list[str]:
        program.stub.answering = lambda locators: locators[1:]
        return addresses(await program.resolve(aaaa("host")))

    assert as_program(scenario, pretend(m6_host(TWO))) == ["2001:db8:2::1"]


def test_every_program_gets_the_same_address_of_a_peer_while_it_answers(pretend: Pretend) -> None:
    one, other = (record.address for record in TWO)

    async def scenario(program: Program) -> list[list[str]]:
        found = []
        for answering in ([one, other], [other, one], [one], [other]):
            program.stub.answering = partial(_these, answering)
            found.append(addresses(await program.resolve(aaaa("host"))))
        return found

    assert as_program(scenario, pretend(m6_host(TWO))) == [[one], [one], [one], [other]]


def _these(answering: list[str], _: tuple[Locator, ...]) -> tuple[Locator, ...]:
    return locators(*answering)


# --- sizes ---


def test_a_response_larger_than_the_client_takes_is_truncated(nsd: Server) -> None:
    query = dns.message.make_query("big.example.test", "TXT", payload=1232)
    message, _ = resolved(query, nsd)
    assert message.flags & dns.flags.TC
    assert message.answer == []
    assert message.edns == 0


def test_a_client_without_edns_takes_512_octets(nsd: Server) -> None:
    query = dns.message.make_query("many.example.test", "AAAA")
    query.flags |= dns.flags.CD
    message, _ = resolved(query, nsd)
    assert message.flags & dns.flags.TC
    assert message.edns == -1


def test_over_tcp_a_large_response_is_whole(nsd: Server) -> None:
    async def scenario(program: Program) -> dns.message.Message:
        return await program.resolve_tcp(dns.message.make_query("big.example.test", "TXT"))

    assert len(as_program(scenario, nsd).answer[0]) == 20
