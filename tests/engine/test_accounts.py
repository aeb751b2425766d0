# SPDX-License-Identifier: MIT
"""What a host keeps count of, and forgets in time: labels, peers in use, probation, questions."""

import dataclasses

import pytest

from noid.constants import (
    CLOSE_TIME,
    MILLISECOND,
    PEER_UNABLE_TIME,
    REPEATED_PIGGYBACK_TIME,
    REPEATS_MAX,
    SECOND,
    SILENCE_MIN,
)
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.events import (
    LocatorsChanged,
    Output,
    SendAgain,
    SendControl,
    TimePassed,
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.peers import hold_unable
from noid.engine.state import State, Timer, Trigger
from noid.engine.update import next_nonce, request
from noid.flows.events import ControlMessageReceived, IcmpErrorReceived, SourceMoved
from noid.identifiers import Label
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, decode_message, encode_packet
from noid.wire.options import ContextOption, LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    begun,
    established,
    packet,
    receive,
)
from tests.engine.test_limits import core
from tests.engine.test_loss import lose_context, rejected, sent_data, unknown_context
from tests.engine.test_provisional import ccr_from, send
from tests.engine.test_refusals import closing, sent, unanswered

# --- labels and peers -----------------------------------------------------------------------------


def test_a_label_is_in_quarantine_for_just_as_long_as_close_takes() -> None:
    host = core()
    host.now_ns = SECOND
    host.quarantine.put(Label(1), host.now_ns, b"", None)
    host.now_ns += CLOSE_TIME - 1
    host.quarantine.put(Label(2), host.now_ns, b"", None)
    assert list(host.quarantine) == [1, 2]
    host.now_ns += 1
    host.quarantine.put(Label(3), host.now_ns, b"", None)
    assert list(host.quarantine) == [2, 3]


def two_contexts_with_one_peer() -> Network:
    network = established()
    network.ulp_sends(network.a, packet(A2, B1))
    network.run(SECOND)
    assert len(network.a.host.contexts) == 2
    assert network.a.host.core.uses == {B1: 2}
    return network


def test_a_peer_is_watched_as_long_as_any_context_is_with_it() -> None:
    network = two_contexts_with_one_peer()
    host = network.a.host.core
    host.peers.clear()
    first, second = network.a.host.contexts
    lifecycle.discard(host, first, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert UnwatchPeer(B1) not in host.outputs
    assert host.uses == {B1: 1}
    lifecycle.discard(host, second, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert UnwatchPeer(B1) in host.outputs
    assert host.uses == {}
    assert host.by_peer_label == {}
    assert host.labels == {}


def test_a_peer_the_resolver_told_of_is_watched_without_a_context_too() -> None:
    network = established()
    host = network.a.host.core
    lifecycle.discard(host, network.a.context, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert UnwatchPeer(B1) not in host.outputs
    hold_unable(host, B1, Cause.NO_ANSWER_TO_INIT)
    assert host.outputs[-1] == UnwatchPeer(B1)


def test_an_unable_peer_is_not_watched_when_the_resolver_tells_of_it_again() -> None:
    network = Network()
    host = network.a.host.core
    network.resolve(network.a, network.b)
    assert WatchPeer(B1) in network.a.outputs
    hold_unable(host, B1, Cause.NO_ANSWER_TO_INIT)
    host.outputs.clear()
    network.a.outputs.clear()
    network.resolve(network.a, network.b)
    assert network.a.outputs == []
    host.now_ns += PEER_UNABLE_TIME - 1
    assert host.is_unable(B1)
    host.now_ns += 1
    assert not host.is_unable(B1)
    network.now_ns = host.now_ns
    network.give(network.a, TimePassed())
    assert host.unable == {}


def test_what_is_proven_is_no_longer_counted_as_provisional() -> None:
    network = Network()
    send(network, ccr_from(network, A2, label=Label(1)), A2)
    network.dns_works = False
    send(network, ccr_from(network, X1, label=Label(2)), X1)
    assert network.b.host.core.provisional.count == 2
    proven, other = network.b.host.contexts
    lifecycle.prove(network.b.host.core, proven)
    assert network.b.host.core.provisional.count == 1
    assert not network.b.host.core.is_timer_set(proven, Timer.PROVISIONAL)
    assert network.b.host.core.is_timer_set(proven, Timer.IDLE)
    lifecycle.discard(network.b.host.core, other, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert network.b.host.core.provisional.count == 0


def test_a_context_that_is_gone_waits_for_no_answer() -> None:
    network = begun()
    host = network.a.host.core
    assert all(host.questions.values())
    lifecycle.discard(host, network.a.context, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert not any(host.questions.values())
    network.run(SECOND)
    assert network.a.host.contexts == []


# --- what is quoted -------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_slot", "next_header"), [(False, 58), (True, 230)])
def test_a_uc_quotes_an_update_as_it_came(in_slot: bool, next_header: int) -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    update = dataclasses.replace(
        sent(network.a, Code.UR), context=ContextOption(receiver_label=Label(0x54321))
    )
    whole = encode_packet(update, A2, B2, CODEPOINTS, rewritable=in_slot)
    event = ControlMessageReceived(A2, B2, in_slot, whole[40:])
    (_, answer) = network.give(network.b, event)
    assert isinstance(answer, SendControl)
    uc = decode_message(answer.packet[40:], B2, A2, in_slot=False)
    assert uc.context == ContextOption(
        receiver_label=Label(0x54321), sender_birthday=network.b.host.core.options.birthday
    )
    assert uc.piggyback is not None
    assert (uc.piggyback.next_header, uc.piggyback.payload) == (ipv6.IPV6, whole)
    assert uc.piggyback.payload[6] == next_header


def unreachable(network: Network, quote: bytes) -> list[Output]:
    """Station a is told that a packet of its did not arrive."""
    error = icmpv6.ErrorMessage(type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=quote)
    octets = error.encode_packet(X1, A1)[40:]
    return network.give(network.a, IcmpErrorReceived(X1, A1, octets))


@pytest.mark.parametrize("form", [{}, {"rewritable": True}, {"in_slot": True}])
def test_an_error_about_a_message_of_ours_is_about_its_context(form: dict[str, bool]) -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    quote = encode_packet(sent(network.a, Code.UR), A1, B1, CODEPOINTS, **form)
    network.run(SECOND)
    assert network.a.context.state is State.ESTABLISHED
    unreachable(network, quote)
    assert network.a.context.search is not None


def test_an_error_about_a_message_of_somebody_else_is_not() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    quote = encode_packet(sent(network.a, Code.UR), A1, B1, CODEPOINTS)
    network.run(SECOND)
    for changed in (quote[:56] + B2 + quote[72:], quote[:92] + bytes(4) + quote[96:]):
        assert unreachable(network, changed) == []


@pytest.mark.parametrize(("source", "destination"), [(X1, B1), (A1, X1)])
def test_a_rejection_of_what_was_never_sent_is_not_believed(
    source: bytes, destination: bytes
) -> None:
    network = established()
    data = sent_data(network)
    rejected(network, destination, data[:8] + source + destination + data[40:])
    assert network.a.context.state is State.ESTABLISHED


def test_a_rejection_while_starting_over_changes_nothing() -> None:
    network = established()
    data = sent_data(network)
    lose_context(network)
    unknown_context(network, data)
    network.run(10 * MILLISECOND)
    rejected(network, B1, data)
    assert network.a.context.state is State.INIT_SENT


def test_a_closeack_has_the_label_and_both_birthdays() -> None:
    network = closing()
    close = sent(network.a, Code.CLOSE)
    receive(network, network.b, close, A1, B1)
    ack = sent(network.b, Code.CLOSEACK)
    assert ack.context == ContextOption(
        sender_label=close.context.receiver_label,
        receiver_label=close.context.sender_label,
        sender_birthday=network.b.host.core.options.birthday,
        receiver_birthday=close.context.sender_birthday,
    )
    assert (ack.nonce, ack.sender_aid, ack.receiver_aid) == (close.nonce, B1, A1)


# --- what is proven by who answers ----------------------------------------------------------------


def test_a_crossing_ccr_whose_cc_went_to_the_aid_proves_the_aid() -> None:
    network = begun()
    network.dns_works = False
    network.run(15 * MILLISECOND)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(200 * MILLISECOND)
    assert network.b.context.state is State.ESTABLISHED
    assert network.b.context.peer_verified == {A1}


def test_data_from_a_locator_that_the_peer_calls_broken_moves_nothing() -> None:
    network = established()
    context = network.a.context
    context.learn_peer_locators(
        (
            LocatorEntry(B1, LocatorFlag.LOCAL),
            LocatorEntry(B2, LocatorFlag.LOCAL | LocatorFlag.BROKEN),
        )
    )
    assert network.give(network.a, SourceMoved(context.local_label, B2, False)) == []
    assert context.pair == (A1, B1)


# --- searches -------------------------------------------------------------------------------------


def test_each_pair_that_answers_a_probe_is_measured_for_itself() -> None:
    network = established()
    network.kill_provider(1)
    network.give(network.a, unanswered(network.a))
    network.run(SECOND)
    history = network.a.context.history_of((A2, B2))
    assert history.round_trip_ns == 20 * MILLISECOND
    assert 0 < network.now_ns - history.heard_ns < SECOND


def test_after_a_switch_the_packet_is_sent_at_once_and_repeated() -> None:
    network = established()
    network.kill_provider(1)
    network.a.outputs.clear()
    event = unanswered(network.a)
    network.give(network.a, event)
    while network.a.context.pair == (A1, B1):
        network.run(MILLISECOND // 4)
    assert network.a.context.pair == (A2, B2)
    wait_ns = max(2 * network.a.context.round_trip_ns, SILENCE_MIN)
    network.run(wait_ns - MILLISECOND // 4)
    again = SendAgain(network.a.context.local_label, event.packet)
    assert network.a.outputs.count(again) == 1
    network.run(MILLISECOND // 4)
    assert network.a.outputs.count(again) == 2
    network.dead |= {(B2, A2)}  # no keepalive says that it arrives
    network.run(SECOND)
    assert network.a.outputs.count(again) == 1 + REPEATS_MAX
    assert network.a.context.repeating == b""


@pytest.mark.parametrize(("later_ns", "times"), [(0, 1), (1, 2)])
def test_a_repeated_packet_on_a_probe_is_delivered_again_after_the_time(
    later_ns: int, times: int
) -> None:
    network = established()
    network.run(SECOND)
    core, context = network.b.host.core, network.b.context
    probe = request(core, context, next_nonce(context), packet=packet(B1, A1, b"unanswered"))
    network.a.delivered.clear()
    context = network.a.context
    context.piggybacked = packet(B1, A1, b"unanswered"), network.now_ns
    network.now_ns += REPEATED_PIGGYBACK_TIME + later_ns
    receive(network, network.a, probe, B1, A1)
    assert len(network.a.delivered) == times - 1
