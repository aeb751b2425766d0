# SPDX-License-Identifier: MIT
"""Whom the shim knows: names with the same address, and strangers [draft §5.2, §16.2; D33, D34]."""

from ipaddress import IPv6Network

import pytest

from noid.constants import (
    LOOKUPS_MAX,
    MINUTE,
    PEER_UNABLE_TIME,
    SECOND,
    STRANGER_TIME,
    STRANGERS_MAX,
)
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    LocatorsChanged,
    Output,
    PeerResolved,
    WatchPeer,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.flows.events import UnknownPeerSeen
from noid.locators import Locator
from tests.engine.network import A1, B1, B2, CODEPOINTS, X1, Network, established, packet

MULTICAST = Locator(b"\xff\x02" + bytes(13) + b"\x01")


def asked(outputs: list[Output]) -> list[Question]:
    return [one.question for one in outputs if isinstance(one, AskDns)]


def numbered(number: int) -> Locator:
    return Locator(b"\x20\x01" + number.to_bytes(4, "big") + bytes(9) + b"\x01")


# --- strangers ------------------------------------------------------------------------------------


def test_a_stranger_that_speaks_m6_gets_a_context_with_the_next_packet() -> None:
    network = Network()
    network.give(network.a, UnknownPeerSeen(B1))
    network.run(SECOND)
    assert WatchPeer(B1) in network.a.outputs
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.peer_verified == {B1, B2}


@pytest.mark.parametrize("missing", ["record", "reverse", "address"])
def test_a_stranger_without_m6_is_not_looked_up_again_for_a_time(
    missing: str,
) -> None:
    network = Network()
    if missing == "record":
        network.without_m6.add("b.example")
    elif missing == "reverse":
        del network.reverse[B1]
    else:
        network.names["b.example"] = [B2]
    assert asked(network.give(network.a, UnknownPeerSeen(B1)))
    network.run(SECOND)
    assert WatchPeer(B1) not in network.a.outputs
    assert network.give(network.a, UnknownPeerSeen(B1)) == []
    network.run(STRANGER_TIME)
    assert asked(network.give(network.a, UnknownPeerSeen(B1)))


def test_what_met_a_transient_error_is_asked_about_sooner() -> None:
    network = Network()
    network.dns_works = False
    network.give(network.a, UnknownPeerSeen(B1))
    network.run(MINUTE)
    assert network.give(network.a, UnknownPeerSeen(B1)) == []
    network.run(SECOND)
    assert asked(network.give(network.a, UnknownPeerSeen(B1)))


def test_a_stranger_is_looked_up_again_only_after_its_time_is_over() -> None:
    network = Network()
    network.without_m6.add("b.example")
    network.give(network.a, UnknownPeerSeen(B1))
    network.run(SECOND)
    until_ns = network.a.host.core.strangers[B1]
    assert STRANGER_TIME - SECOND <= until_ns - network.now_ns <= STRANGER_TIME
    network.now_ns = until_ns - 1
    assert network.give(network.a, UnknownPeerSeen(B1)) == []
    network.now_ns = until_ns
    assert asked(network.give(network.a, UnknownPeerSeen(B1)))


@pytest.mark.parametrize("failing", [Kind.LOCATORS, Kind.CAPABILITY])
def test_one_transient_error_among_the_answers_causes_an_earlier_retry(failing: Kind) -> None:
    network = Network()
    (question,) = asked(network.give(network.a, UnknownPeerSeen(B1)))
    names = Answer(status=Status.FOUND, names=("b.example",))
    both = asked(network.give(network.a, AnswerArrived(question, names)))
    for one in sorted(both, key=lambda one: one.kind is not failing):
        status = Status.UNREACHABLE if one.kind is failing else Status.ABSENT
        network.give(network.a, AnswerArrived(one, Answer(status=status)))
    assert network.a.host.core.strangers[B1] == network.now_ns + PEER_UNABLE_TIME


def test_a_stranger_is_asked_about_once_at_a_time() -> None:
    network = Network()
    assert asked(network.give(network.a, UnknownPeerSeen(B1)))
    assert network.give(network.a, UnknownPeerSeen(B1)) == []


@pytest.mark.parametrize("aid", [B1, MULTICAST, A1])
def test_of_an_address_that_is_excluded_nothing_is_asked(aid: Locator) -> None:
    network = Network()
    excluded = (IPv6Network("2001:db8:1:b::/64"),)
    options = HostOptions(
        codepoints=CODEPOINTS, birthday=1, reset_key=bytes(32), never_looked_up=excluded
    )
    host = Host(options, network.a.random.randbytes)
    host.core.own = LocatorsChanged((A1,))
    assert host.handle(UnknownPeerSeen(aid), network.now_ns) == []
    assert host.handle(UnknownPeerSeen(B2), network.now_ns) != []


def test_so_many_strangers_are_looked_up_at_one_time() -> None:
    network = Network()
    for number in range(LOOKUPS_MAX):
        assert asked(network.give(network.a, UnknownPeerSeen(numbered(number))))
    assert network.give(network.a, UnknownPeerSeen(numbered(LOOKUPS_MAX))) == []
    network.run(SECOND)
    assert asked(network.give(network.a, UnknownPeerSeen(numbered(LOOKUPS_MAX))))


@pytest.mark.slow
def test_of_too_many_strangers_the_oldest_is_forgotten() -> None:
    network = Network()
    host = network.a.host
    for number in range(STRANGERS_MAX + 1):
        aid = numbered(number)
        host.handle(UnknownPeerSeen(aid), network.now_ns)
        question = Question(Kind.NAMES, reverse_name(aid))
        host.handle(AnswerArrived(question, Answer(status=Status.ABSENT)), network.now_ns)
    assert len(host.core.strangers) == STRANGERS_MAX
    assert asked(host.handle(UnknownPeerSeen(numbered(0)), network.now_ns))
    assert host.handle(UnknownPeerSeen(numbered(1)), network.now_ns) == []


# --- two names, one address -----------------------------------------------------------------------


def test_the_name_that_the_reverse_lookup_confirms_wins() -> None:
    network = Network()
    network.names["x.example"] = [B1, X1]
    network.reverse[X1] = "x.example"
    network.give(network.a, PeerResolved("x.example", B1, (B1, X1)))
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.verification.name == "b.example"
    assert network.a.context.peer_verified == {B1, B2}


def test_once_that_is_known_the_other_name_is_answered_without_m6() -> None:
    network = established()
    host = network.a.host
    assert host.belongs_to_another("x.example", B1)
    assert not host.belongs_to_another("B.example.", B1)
    assert not host.belongs_to_another("x.example", X1)
    network.give(network.a, PeerResolved("x.example", B1, (B1, X1)))
    assert host.core.peers[B1].name == "b.example"


def test_it_is_known_for_as_long_as_the_dns_says() -> None:
    network = established()
    network.run(31 * SECOND)
    network.give(network.a, PeerResolved("x.example", B1, (B1, X1)))
    assert network.a.host.core.peers[B1].name == "x.example"
