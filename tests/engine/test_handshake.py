# SPDX-License-Identifier: MIT
"""Setting a context up [draft §4.1, §4.3, §7.2-7.6]."""

import dataclasses

import pytest

from noid.constants import (
    COOKIE_LIFETIME,
    INIT_ROUNDS_MAX,
    MILLISECOND,
    MINUTE,
    PEER_UNABLE_TIME,
    RETRANSMIT_WAITING,
    SECOND,
)
from noid.counters import Drop
from noid.engine.events import (
    Dropped,
    LocatorsChanged,
    PeerUnable,
    SendControl,
    SourceNotCovered,
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.secrets import reset_hash, reset_token
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived, UlpPacketSeen
from noid.identifiers import Label, Nonce
from noid.locators import Locator, parse_locator
from noid.shares.policy import CHECKS
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Flag, Piggyback, decode_message
from noid.wire.options import LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    DELAY_NS,
    X1,
    Network,
    both_begin,
    established,
    packet,
    receive,
)
from tests.engine.test_nothing_proven import forget


def messages_on(network: Network) -> list[ControlMessage]:
    """Every control message that arrived, in order."""
    found = []
    for one in network.trace:
        header = ipv6.Header.decode(one)
        if header.next_header == ipv6.ICMPV6:
            found.append(decode_message(one[40:], header.source, header.destination, in_slot=False))
    return found


def codes_on(network: Network) -> list[Code]:
    return [message.code for message in messages_on(network)]


def init_on(network: Network) -> ControlMessage:
    return next(m for m in messages_on(network) if m.code is Code.INIT)


def test_four_messages_make_a_context_at_both_ends() -> None:
    network = established()
    assert codes_on(network) == [Code.INIT, Code.CC, Code.CCR, Code.CONF]
    a, b = network.a.context, network.b.context
    assert a.state is b.state is State.ESTABLISHED
    assert (a.local_label, a.peer_label) == (b.peer_label, b.local_label)
    assert a.agreed_key == b.agreed_key != b""


def test_both_ends_agree_on_each_others_sets() -> None:
    network = established()
    a, b = network.a.context, network.b.context
    assert set(a.own_set) == set(b.peer_set) == b.peer_verified == {A1, A2}
    assert set(b.own_set) == set(a.peer_set) == a.peer_verified == {B1, B2}


def test_the_first_packet_goes_plainly_and_is_not_delayed() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(10 * MILLISECOND)
    assert network.b.delivered == [packet(A1, B1)]


def test_data_flows_by_the_context_once_it_stands() -> None:
    network = established()
    network.trace.clear()
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(10 * MILLISECOND)
    (travelling,) = network.trace
    assert travelling[6] == CODEPOINTS.rewritable_first
    assert network.b.delivered[-1] == packet(A1, B1)


def test_a_peer_the_resolver_never_named_is_left_alone() -> None:
    network = Network()
    assert network.give(network.a, UlpPacketSeen(packet(A1, B1))) == []


def test_a_source_that_is_no_locator_is_reported_once() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    report = [SourceNotCovered(X1, B1)]
    assert network.give(network.a, UlpPacketSeen(packet(X1, B1))) == report
    assert network.give(network.a, UlpPacketSeen(packet(X1, B1))) == []
    assert network.a.host.uncovered == (X1,)


def test_a_source_that_is_not_a_locator_is_reported_while_a_context_exists() -> None:
    network = established()
    report = [SourceNotCovered(X1, B1)]
    assert network.give(network.a, UlpPacketSeen(packet(X1, B1))) == report


@pytest.mark.parametrize("source", ["fe80::1", "::1", "ff02::1"])
def test_a_source_that_cannot_be_a_locator_is_not_reported(source: str) -> None:
    network = established()
    assert network.give(network.a, UlpPacketSeen(packet(parse_locator(source), B1))) == []


def test_a_source_is_not_reported_for_a_host_that_speaks_no_m6() -> None:
    network = Network()
    assert network.give(network.a, UlpPacketSeen(packet(X1, B1))) == []
    assert network.a.host.uncovered == ()


def test_a_source_that_becomes_a_locator_is_covered() -> None:
    network = established()
    network.give(network.a, UlpPacketSeen(packet(X1, B1)))
    network.give(network.a, LocatorsChanged((A1, A2, X1)))
    assert network.a.host.uncovered == ()


def test_an_init_leaves_no_state_behind() -> None:
    network = established()
    init = init_on(network)
    fresh = Network(seed=7)
    outputs = receive(fresh, fresh.b, init, A1, B1)
    assert [type(output) for output in outputs] == [SendControl]
    assert fresh.b.host.contexts == []
    assert fresh.b.host.deadline() is None


def test_an_init_for_an_aid_that_is_not_ours_is_dropped() -> None:
    network = established()
    init = dataclasses.replace(init_on(network), receiver_aid=X1)
    fresh = Network(seed=7)
    receive(fresh, fresh.b, init, A1, B1)
    assert fresh.b.host.drops == {Drop.INIT_FOR_AID_NOT_OURS: 1}


@pytest.mark.parametrize("source", [A1, A2])
def test_a_packet_on_an_init_is_discarded_and_the_cc_says_so(source: Locator) -> None:
    network = established()
    init = dataclasses.replace(init_on(network), piggyback=Piggyback(6, b"SYN"))
    fresh = Network(seed=7)
    (answer,) = receive(fresh, fresh.b, init, source, B1)
    assert isinstance(answer, SendControl)
    reply = decode_message(answer.packet[40:], B1, source, in_slot=False)
    assert reply.code is Code.CC
    assert reply.flags & Flag.ULP_PACKET_DISCARDED


def test_both_ends_learn_what_would_prove_a_uc_of_the_other() -> None:
    network = established()
    for own, other in ((network.a, network.b), (network.b, network.a)):
        options = own.host.core.options
        token = reset_token(options.reset_key, options.birthday, own.context.local_label)
        assert other.context.peer_reset_hash == reset_hash(token)


def test_inits_over_the_rate_of_their_prefix_are_dropped() -> None:
    init = init_on(established())
    fresh = Network(seed=7)
    for _ in range(CHECKS.each_at_once):
        assert [type(one) for one in receive(fresh, fresh.b, init, A1, B1)] == [SendControl]
    assert receive(fresh, fresh.b, init, A1, B1) == [Dropped(Drop.INIT_OVER_RATE)]


def test_a_ccr_that_comes_again_is_answered_at_the_rate_of_its_prefix() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(3 * DELAY_NS)
    ccr = next(one[40:] for one in network.trace if one[40:42] == bytes((200, Code.CCR)))
    event = ControlMessageReceived(A1, B1, False, ccr)
    answers = 0
    for _ in range(2 * CHECKS.each_at_once):
        outputs = network.give(network.b, event)
        answers += any(isinstance(one, SendControl) for one in outputs)
    assert answers == CHECKS.each_at_once


def test_a_conf_that_answers_an_init_has_the_sets_that_no_cc_brought() -> None:
    network = both_begin(Network())
    network.run(SECOND)
    confs = [message for message in messages_on(network) if message.code is Code.CONF]
    said = [{one.locator for one in conf.sender_locators} for conf in confs]
    assert sorted(said, key=min) == [{A1, A2}, {B1, B2}]


def ccr_for(network: Network) -> ControlMessage:
    return next(m for m in messages_on(network) if m.code is Code.CCR)


def half_way() -> tuple[Network, ControlMessage]:
    """A network in which b has answered INIT, and the CCR that a sent to it."""
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(25 * MILLISECOND)
    _, waiting = network.wire.pop()
    assert not network.b.host.contexts
    return network, decode_message(waiting[40:], A1, B1, in_slot=False)


def test_a_ccr_that_was_altered_makes_no_context() -> None:
    network, ccr = half_way()
    stranger = (*ccr.sender_locators, LocatorEntry(X1, LocatorFlag.LOCAL))
    receive(network, network.b, dataclasses.replace(ccr, sender_locators=stranger), A1, B1)
    assert network.b.host.contexts == []
    assert network.b.host.drops == {Drop.CCR_WITH_BAD_COOKIE: 1}


def test_a_ccr_in_the_name_of_another_aid_makes_no_context() -> None:
    network, ccr = half_way()
    receive(network, network.b, dataclasses.replace(ccr, sender_aid=X1), A1, B1)
    assert network.b.host.contexts == []


def test_a_ccr_that_comes_too_late_makes_no_context() -> None:
    network, ccr = half_way()
    network.now_ns += COOKIE_LIFETIME + SECOND
    receive(network, network.b, ccr, A1, B1)
    assert network.b.host.contexts == []


def test_a_lost_conf_is_said_again() -> None:
    network, ccr = half_way()
    receive(network, network.b, ccr, A1, B1)
    label = network.b.context.local_label
    outputs = receive(network, network.b, ccr, A1, B1)
    assert [type(output) for output in outputs] == [SendControl]
    assert network.b.context.local_label == label


def test_crossing_inits_complete_each_other() -> None:
    network = both_begin(Network())
    network.run(SECOND)
    a, b = network.a.context, network.b.context
    assert a.state is b.state is State.ESTABLISHED
    assert (a.local_label, a.peer_label) == (b.peer_label, b.local_label)
    assert a.agreed_key == b.agreed_key != b""
    assert (set(a.peer_local), set(b.peer_local)) == ({B1, B2}, {A1, A2})
    assert codes_on(network).count(Code.CONF) == 2
    assert Code.CC not in codes_on(network)


def test_an_init_sent_after_a_cc_is_completed_by_the_ccr() -> None:
    network = both_begin(Network(), after_ns=15 * MILLISECOND)
    network.run(SECOND)
    a, b = network.a.context, network.b.context
    assert a.state is b.state is State.ESTABLISHED
    assert (a.local_label, a.peer_label) == (b.peer_label, b.local_label)
    assert a.agreed_key == b.agreed_key != b""
    assert network.a.host.drops == {Drop.INIT_WHILE_CCR_SENT: 1}


def test_inits_that_cross_late_leave_both_ends_with_the_same_key() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(15 * MILLISECOND)
    init = init_on(network)
    network.dead |= {(B1, A1)}
    network.ulp_sends(network.b, packet(B1, A1))
    network.dead.clear()
    network.run(3 * MILLISECOND)
    receive(network, network.b, init, A1, B1)
    network.run(SECOND)
    a, b = network.a.context, network.b.context
    assert a.state is b.state is State.ESTABLISHED
    assert a.agreed_key == b.agreed_key != b""


def test_an_aid_that_does_not_answer_is_gone_round_within_a_second() -> None:
    network = Network()
    network.dead |= {(A1, B1), (A2, B1), (A2, B2)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.state is State.ESTABLISHED
    assert network.a.context.pair == (A1, B2)
    assert network.b.delivered[0] == packet(A1, B1), "on the INIT to the other locator"


def test_a_peer_that_never_answers_is_reached_plainly_from_then_on() -> None:
    network = Network()
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * MINUTE)
    assert network.a.host.contexts == []
    assert any(isinstance(output, PeerUnable) for output in network.a.outputs)
    assert codes_on(network).count(Code.INIT) <= 4 * INIT_ROUNDS_MAX
    assert UnwatchPeer(B1) in network.a.outputs


def test_an_unable_peer_is_tried_again_after_a_while() -> None:
    network = Network()
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    while network.a.host.contexts:
        network.run(SECOND)
    network.dead.clear()
    network.resolve(network.a, network.b)
    assert not isinstance(network.a.outputs[-1], WatchPeer)
    network.run(PEER_UNABLE_TIME)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.state is State.ESTABLISHED


@pytest.mark.parametrize("lost", list(range(4)))
def test_any_one_lost_message_is_made_good(lost: int) -> None:
    network = Network()
    network.dns_works = True
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.wire.popleft()  # the plain packet of the ULP, or the INIT, whichever went first
    seen = 0
    for _ in range(4 * SECOND // (10 * MILLISECOND)):
        network.run(10 * MILLISECOND)
        if network.wire and seen <= lost:
            if seen == lost:
                network.wire.clear()
            seen += 1
    network.run(30 * SECOND)
    assert network.a.context.state is State.ESTABLISHED
    assert network.b.context.state is State.ESTABLISHED


def conf_of_b(network: Network) -> list[ControlMessage]:
    return [m for m in messages_on(network) if m.code is Code.CONF and m.sender_aid == B1]


def test_a_conf_carries_the_packet_that_waits_where_the_aids_do_not_answer() -> None:
    network = Network()
    network.kill_provider(1)
    network.resolve(network.a, network.b)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(RETRANSMIT_WAITING + 15 * MILLISECOND)
    assert codes_on(network)[-1] is Code.INIT, "b has answered it, and has not heard more"
    network.ulp_sends(network.b, packet(B1, A1, b"from b"))
    network.run(SECOND)
    (conf,) = conf_of_b(network)
    assert conf.piggyback == Piggyback(ipv6.TCP, b"from b")
    assert network.a.delivered == [packet(B1, A1, b"from b")]


def test_a_conf_that_answers_an_init_carries_nothing() -> None:
    network = Network()
    network.kill_provider(1)
    both_begin(network).run(SECOND)
    assert [conf.piggyback for conf in conf_of_b(network)] == [None]


def test_a_conf_to_the_aid_carries_nothing_since_the_packet_went_there() -> None:
    network = both_begin(Network())
    network.run(SECOND)
    assert not any(m.piggyback for m in messages_on(network) if m.code is Code.CONF)


def test_an_init_to_a_locator_that_the_context_does_not_have_is_dropped() -> None:
    network = established()
    core = network.b.host.core
    core.own = LocatorsChanged((*core.locators, X1))
    assert Dropped(Drop.INIT_FOR_AID_NOT_OURS) in receive(
        network, network.b, init_on(network), A1, X1
    )


def test_an_init_is_taken_for_an_aid_that_has_left_the_host() -> None:
    network = established()
    network.give(network.b, LocatorsChanged((B2,)))
    (answer,) = receive(network, network.b, init_on(network), A1, B2)
    assert isinstance(answer, SendControl)
    cc = decode_message(answer.packet[40:], B2, A1, in_slot=False)
    assert cc.tokens is not None
    tokens = Tokens(sender=cc.tokens.receiver, receiver=cc.tokens.sender)
    ccr = dataclasses.replace(ccr_for(network), cookie=cc.cookie, tokens=tokens)
    ccr = dataclasses.replace(ccr, receiver_locators=cc.sender_locators)
    (conf,) = receive(network, network.b, ccr, A1, B2)
    assert isinstance(conf, SendControl)
    assert conf.packet[41] == Code.CONF


def test_a_spoofed_init_at_a_live_context_changes_nothing() -> None:
    network = established()
    before = network.b.context
    stranger = dataclasses.replace(init_on(network), nonce=Nonce(666))
    (answer,) = receive(network, network.b, stranger, X1, B1)
    assert isinstance(answer, SendControl)
    assert answer.packet[41] == Code.CC
    other_label = dataclasses.replace(
        stranger, context=stranger.context._replace(sender_label=Label(0x77777))
    )
    outputs = receive(network, network.b, other_label, A1, B1)
    assert [type(output) for output in outputs] == [SendControl]
    assert network.b.context is before
    assert network.b.context.peer_label == network.a.context.local_label


def test_a_peer_that_lost_its_context_replaces_it() -> None:
    network = established()
    forget(network)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_label == network.a.context.local_label
    assert network.b.context.peer_verified == {A1, A2}
