# SPDX-License-Identifier: MIT
"""What the DNS says, late, again, or not at all, and what it changes [draft §7.13; D30, D31]."""

import itertools
from collections import deque

import pytest

from noid.constants import (
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    DNS_RETRY_FIRST,
    DNS_RETRY_MAX,
    MILLISECOND,
    MINUTE,
    SECOND,
)
from noid.dns.records import Answer, Question, Status, reverse_name
from noid.engine.events import AnswerArrived, AskDns, LocatorsChanged, LocatorsVerified
from noid.engine.host import Host
from noid.engine.state import State
from noid.flows.software import SoftwareDatapath
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    Station,
    begun,
    established,
    packet,
    state_of,
)

UNREACHABLE = Answer(status=Status.UNREACHABLE)


def hold_back(network: Network, station: Station) -> list[Question]:
    """The outstanding queries of a station, which are not answered from now on."""
    held = [question for _, asker, question in network.inquiries if asker is station]
    network.inquiries = deque(one for one in network.inquiries if one[1] is not station)
    return held


def asked_at(station: Station, network: Network, duration_ns: int) -> list[int]:
    """When a station asked the DNS something, with a resolution of a tenth of a second."""
    moments = []
    for _ in range(duration_ns // (100 * MILLISECOND)):
        before = len(station.outputs)
        network.run(100 * MILLISECOND)
        if any(isinstance(one, AskDns) for one in station.outputs[before:]):
            moments.append(network.now_ns)
    return moments


def test_a_dns_answer_after_the_start_of_closing_is_ignored() -> None:
    network = begun()
    held = hold_back(network, network.a)
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(CONTEXT_IDLE_TIME + SECOND)
    assert state_of(network.a) is State.CLOSING
    for question in held:
        network.give(network.a, AnswerArrived(question, UNREACHABLE))
    assert state_of(network.a) is State.CLOSING
    network.run(CLOSE_TIME)
    assert network.a.host.contexts == []


def test_an_answer_after_the_context_has_gone_is_nobodys() -> None:
    network = begun()
    held = hold_back(network, network.a)
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.run(5 * MINUTE)
    assert network.a.host.contexts == []
    for question in held:
        assert network.give(network.a, AnswerArrived(question, UNREACHABLE)) == []


def test_a_peer_that_returns_while_the_dns_is_slow_is_verified() -> None:
    network = begun()
    network.run(29 * MILLISECOND)
    network.run(2 * MILLISECOND)
    held = hold_back(network, network.b)
    assert held
    network.run(SECOND)
    network.a.host = Host(network.a.host.core.options, network.a.random.randbytes)
    network.a.datapath = SoftwareDatapath(CODEPOINTS)
    network.give(network.a, LocatorsChanged(network.a.locators))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    for question in held:
        network.give(network.b, AnswerArrived(question, network.answer(network.b, question)))
    network.run(SECOND)
    assert network.b.context.peer_label == network.a.context.local_label
    assert network.b.context.peer_verified == {A1, A2}
    assert network.b.context.verification.settled


def test_two_contexts_with_one_peer_ask_once_and_both_learn() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.ulp_sends(network.a, packet(A2, B1))
    asked = [one.question for one in network.a.outputs if isinstance(one, AskDns)]
    assert len(asked) == len(set(asked)) == 2
    network.run(SECOND)
    assert [one.peer_verified for one in network.a.host.contexts] == [{B1, B2}] * 2


@pytest.mark.slow
def test_a_transient_error_is_retried_ever_more_slowly() -> None:
    network = begun()
    network.a.in_use = network.b.in_use = True
    network.dns_works = False
    moments = asked_at(network.a, network, 60 * MINUTE)
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert moments[0] - DNS_RETRY_FIRST // 2 >= DNS_RETRY_FIRST // 2
    assert gaps[0] <= 3 * DNS_RETRY_FIRST + SECOND
    assert max(gaps) <= DNS_RETRY_MAX * 3 // 2 + SECOND
    assert max(gaps) >= DNS_RETRY_MAX // 2 - SECOND
    network.dns_works = True
    network.run(16 * MINUTE)
    assert network.a.context.peer_verified == {B1, B2}
    assert network.a.context.dns_tries == 0


def test_what_is_proven_is_told_once_the_inquiry_is_over() -> None:
    network = established()
    told = [one for one in network.a.outputs if isinstance(one, LocatorsVerified)]
    assert told == [LocatorsVerified(B1, "b.example", (B1, B2))]


def provisional() -> tuple[Network, list[Question]]:
    """A network whose b has a provisional context with a by A2, and what b asks the DNS first."""
    network = Network()
    network.dead |= {(A1, B1), (A1, B2), (B1, A1), (B2, A1)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    held: list[Question] = []
    while not held:
        network.run(10 * MILLISECOND)
        held = hold_back(network, network.b)
    assert network.b.context.is_provisional
    return network, held


def answers(network: Network, questions: list[Question]) -> list[Question]:
    """Answers questions of b's; what it asks next."""
    for question in questions:
        network.give(network.b, AnswerArrived(question, network.answer(network.b, question)))
    return hold_back(network, network.b)


def test_a_provisional_context_is_deleted_when_another_is_proven() -> None:
    network, held = provisional()
    network.dead.clear()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(SECOND)
    hold_back(network, network.b)
    other = next(one for one in network.b.host.contexts if not one.is_provisional)
    while held:
        held = answers(network, held)
    assert network.b.host.contexts == [other]


def test_a_provisional_context_is_proven_before_everything_is_known() -> None:
    network, held = provisional()
    network.names[network.a.name].append(X1)
    names = answers(network, held)
    reverse = answers(network, names)
    assert [question for question in reverse if question.name == reverse_name(X1)]
    answers(network, [question for question in reverse if question.name != reverse_name(X1)])
    assert not network.b.context.is_provisional
    assert not network.b.context.verification.settled
    assert network.b.context.pair == (B2, A2)
