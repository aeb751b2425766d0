# SPDX-License-Identifier: MIT
"""When the DNS is asked, and who gets what it answers [draft §7.13, D30, D31]."""

import pytest

from noid.constants import (
    CONTEXT_IDLE_TIME,
    MILLISECOND,
    MINUTE,
    PREFIX_OCTETS,
    SECOND,
    VERIFY_AGAIN_MIN,
    VERIFY_USED_TIME,
)
from noid.dns.records import Kind, Question, reverse_name
from noid.engine.events import AskDns, InstallFlow, LocatorsChanged
from noid.engine.state import State, Timer
from noid.shares.policy import INQUIRIES
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    DELAY_NS,
    X1,
    Network,
    Station,
    established,
    packet,
    state_of,
)

AGAIN = 2 * VERIFY_AGAIN_MIN + SECOND


def questions(station: Station) -> int:
    """How much a station asked the DNS."""
    return sum(isinstance(one, AskDns) for one in station.outputs)


def test_an_answer_reaches_a_context_behind_one_that_is_closing() -> None:
    network = established()
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(CONTEXT_IDLE_TIME + MINUTE)
    closing = network.a.context
    assert closing.state is State.CLOSING
    network.dead.clear()
    network.ulp_sends(network.a, packet(A1, B1))
    core = network.a.host.core
    for question, waiting in core.questions.items():
        core.questions[question] = {closing: None, **waiting}
    network.run(SECOND)
    fresh = core.contexts[A1 + B1]
    assert fresh.peer_verified == {B1, B2}


def test_an_inquiry_that_brings_nothing_new_is_no_news_to_the_plane() -> None:
    network = established()
    network.b.outputs.clear()
    network.b.in_use = True
    network.run(AGAIN)
    assert questions(network.b) == 3
    assert not any(isinstance(one, InstallFlow) for one in network.b.outputs)


def test_a_context_that_is_not_used_is_verified_again_once_it_is() -> None:
    network = established()
    network.b.outputs.clear()
    network.run(CONTEXT_IDLE_TIME - MINUTE)
    assert questions(network.b) == 0
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(VERIFY_USED_TIME)
    assert questions(network.b) > 0


def test_what_failed_is_not_asked_again_while_the_context_is_not_used() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.dns_works = False
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert state_of(network.b) is State.ESTABLISHED
    network.run(VERIFY_USED_TIME + MINUTE)
    network.b.outputs.clear()
    network.run(5 * MINUTE)
    assert questions(network.b) == 0
    network.dns_works = True
    network.a.in_use = network.b.in_use = True
    network.run(11 * MINUTE)
    assert network.b.context.peer_verified == {A1, A2}


def test_peers_of_other_sites_do_not_wait_behind_the_question_of_one() -> None:
    """Equal questions for peers of two sites are two questions [D46]."""
    network = established()
    context = network.b.context
    assert context.began == A1
    question = Question(Kind.NAMES, reverse_name(A2))
    assert context.asked(question).behalf == A1[:6]
    assert network.a.context.asked(question) == question, "a program of a began its context"


def test_what_comes_to_a_context_that_is_closing_asks_nothing() -> None:
    network = established()
    network.a.in_use = True
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(CONTEXT_IDLE_TIME + MINUTE)
    assert state_of(network.b) is State.CLOSING
    assert state_of(network.a) is State.ESTABLISHED
    network.dead.clear()
    asked = questions(network.b)
    network.give(network.a, LocatorsChanged((A1, A2, X1)))
    network.run(DELAY_NS)
    assert state_of(network.b) is State.CLOSING
    network.run(SECOND)
    assert questions(network.b) == asked


def test_of_a_peer_that_has_only_its_aid_left_nothing_is_asked_again() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(SECOND)
    asked = questions(network.b)
    network.run(AGAIN)
    assert questions(network.b) == asked


def test_while_an_inquiry_has_not_succeeded_no_other_is_begun() -> None:
    network = Network()
    network.dns_works = False
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND // 4)
    network.give(network.a, LocatorsChanged((A1, A2, X1)))
    network.run(DELAY_NS)
    assert network.b.context.peer_acceptable == {A1, A2, X1}
    assert not network.b.host.core.is_timer_set(network.b.context, Timer.VERIFY_AGAIN)
    assert network.b.context.renewal is None


def test_after_an_inquiry_that_succeeded_the_next_failure_is_a_first_one() -> None:
    network = Network()
    network.b.in_use = True
    network.dns_works = False
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    assert network.b.context.dns_tries > 1
    network.dns_works = True
    network.run(30 * SECOND)
    assert network.b.context.dns_tries == 0


def test_what_the_dns_lacks_is_told_once_the_set_up_is_over_and_not_before() -> None:
    network = Network()
    del network.reverse[B2]
    network.dns_works = False
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(15 * MILLISECOND)
    network.dead |= {(A1, B1), (A1, B2), (A2, B1), (A2, B2)}
    network.run(10 * MILLISECOND)
    assert state_of(network.a) is State.CCR_SENT
    network.dns_works = True
    while not network.a.context.verification.settled:
        network.run(SECOND)
    assert state_of(network.a) in (State.INIT_SENT, State.CCR_SENT)
    network.dead.clear()
    network.run(30 * SECOND)
    assert network.b.context.own_set == (B1,)


@pytest.mark.parametrize("provisional", [False, True])
def test_while_one_region_causes_many_questions_only_what_cannot_wait_is_asked_for_it(
    provisional: bool,
) -> None:
    """A provisional context ends if it is not proven soon; another one works without answers."""
    network = Network()
    for number in range(max(INQUIRIES.limit // 2, INQUIRIES.share)):
        one = Question(Kind.NAMES, f"{number}.example", A1[:PREFIX_OCTETS])
        network.b.host.core.questions[one] = {}
    if provisional:
        network.kill_provider(1)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    while not network.b.host.contexts:
        network.run(DELAY_NS)
    assert network.b.context.is_provisional is provisional
    asked = any(isinstance(one, AskDns) for one in network.b.outputs)
    assert asked is provisional
    if not provisional:
        assert network.b.host.core.is_timer_set(network.b.context, Timer.VERIFY_AGAIN)
