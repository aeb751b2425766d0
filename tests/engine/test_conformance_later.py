# SPDX-License-Identifier: MIT
"""What the draft says of UR, UA, UC, CLOSE and data [draft §7.7-7.12, Appendix A], by sentence."""

import dataclasses
import itertools

import pytest

from noid.constants import (
    CONTEXT_IDLE_TIME,
    HEARD_TOGETHER,
    MILLISECOND,
    MINUTE,
    SECOND,
    UPDATE_RETRANSMIT_FIRST,
    UPDATE_RETRANSMIT_MAX,
)
from noid.counters import Drop
from noid.engine.events import Dropped, LocatorsChanged, Output, SendControl, StateChanged
from noid.engine.history import History
from noid.engine.secrets import reset_token
from noid.engine.selection import rank
from noid.engine.state import State
from noid.engine.update import authenticated
from noid.flows.events import ControlMessageReceived, UnknownLabelSeen
from noid.identifiers import Label, Nonce
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message, encode_packet
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_conformance_setup import sent_by

X = CONTEXT_IDLE_TIME
EVERYWHERE = {(one, other) for one in (A1, A2) for other in (B1, B2)}
EVERYWHERE |= {(other, one) for one, other in EVERYWHERE}
LOCAL = LocatorFlag.LOCAL


def update_from_a(network: Network, **changes: object) -> ControlMessage:
    """An authentic Update Request of a's, newer than any before."""
    network.give(network.a, LocatorsChanged((A2, A1)))
    network.give(network.a, LocatorsChanged((A1,)))
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.wire.clear()
    _, message = sent_by(network.a, Code.UR)[-1]
    fields: dict[str, object] = {"nonce": message.nonce + 1, "authentication": bytes(16), **changes}
    changed = dataclasses.replace(message, **fields)  # type: ignore[arg-type] # a case
    octets = authenticated(network.a.host.core, network.a.context.agreed_key, changed)
    whole = encode_packet(octets, A1, B1, CODEPOINTS)
    return decode_message(whole[40:], A1, B1, in_slot=False)


# --- Update Request -------------------------------------------------------------------------------


def test_new_sets_go_to_the_preferred_locator_and_the_state_is_ur_sent() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    ((header, message),) = sent_by(network.a, Code.UR)
    assert (header.source, header.destination) == network.a.context.pair
    assert message.sender_locators == (LocatorEntry(A1, LOCAL),)
    assert {entry.locator for entry in message.receiver_locators} == {B1, B2}
    assert state_of(network.a) is State.UR_SENT
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED


def test_an_update_is_repeated_at_increasing_intervals_for_the_idle_time() -> None:
    network = established()
    network.dead |= EVERYWHERE
    network.a.in_use = True
    network.give(network.a, LocatorsChanged((A1,)))
    times = [network.now_ns]
    step_ns = SECOND // 10
    while network.a.context.state is State.UR_SENT:
        before = len(network.a.outputs)
        network.run(step_ns)
        fresh = network.a.outputs[before:]
        times += [network.now_ns for output in fresh if isinstance(output, SendControl)]
    nonces = {message.nonce for _, message in sent_by(network.a, Code.UR)}
    assert len(nonces) == 1
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    for number, gap in enumerate(gaps):
        delay = min(UPDATE_RETRANSMIT_FIRST << number, UPDATE_RETRANSMIT_MAX)
        assert delay // 2 - step_ns <= gap <= delay * 3 // 2 + step_ns
    elapsed = network.now_ns - times[0]
    assert X <= elapsed <= X + 2 * UPDATE_RETRANSMIT_MAX


def test_a_newer_update_supersedes_the_one_that_waits() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.wire.clear()
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.wire.clear()
    network.run(20 * SECOND)
    (first, second, *repeated) = [message for _, message in sent_by(network.a, Code.UR)]
    assert first.nonce < second.nonce
    assert {message.nonce for message in repeated} == {second.nonce}
    assert network.a.context.state is State.ESTABLISHED
    assert network.b.context.peer_acceptable == {A1, A2}


def test_the_acknowledgement_copies_nonce_aids_and_labels() -> None:
    network = established()
    message = update_from_a(network)
    receive(network, network.b, message, A2, B2)
    ((header, answer),) = sent_by(network.b, Code.UA)
    assert (header.source, header.destination) == (B1, A1), "the pair in use"
    assert answer.nonce == message.nonce
    assert (answer.sender_aid, answer.receiver_aid) == (B1, A1)
    assert answer.context.sender_label == message.context.receiver_label
    assert answer.context.receiver_label == message.context.sender_label


@pytest.mark.parametrize(("source", "to"), [(X1, B1), (A1, X1)])
def test_an_update_between_unknown_locators_is_dropped(source: Locator, to: Locator) -> None:
    network = established()
    message = update_from_a(network, sender_locators=(LocatorEntry(A1, LOCAL),))
    receive(network, network.b, message, source, to)
    assert Dropped(Drop.UR_BETWEEN_UNKNOWN_LOCATORS) in network.b.outputs
    assert network.b.context.peer_acceptable == {A1, A2}


@pytest.mark.parametrize("change", ["sender_label", "receiver_label"])
def test_an_update_needs_both_labels(change: str) -> None:
    network = established()
    before = network.b.context.peer_local
    message = update_from_a(network)
    wrong = message.context._replace(**{change: Label(0x77777)})
    message = update_from_a(network, context=wrong, sender_locators=(LocatorEntry(A1, LOCAL),))
    receive(network, network.b, message, A1, B1)
    assert network.b.outputs[-1] != Dropped(Drop.UR_NOT_AUTHENTIC)
    assert sent_by(network.b, Code.UA) == []
    assert network.b.context.peer_local == before


def test_an_update_for_an_unknown_context_is_answered_with_uc() -> None:
    network = established()
    message = update_from_a(network)
    fresh = Network(seed=5)
    receive(fresh, fresh.b, message, A1, B1)
    ((header, answer),) = sent_by(fresh.b, Code.UC)
    assert (header.source, header.destination) == (B1, A1)
    assert answer.context.receiver_label == message.context.receiver_label


def test_an_aid_that_an_update_forgets_is_added() -> None:
    network = established()
    message = update_from_a(
        network,
        sender_locators=(LocatorEntry(A2, LOCAL),),
        receiver_locators=(LocatorEntry(B2, LocatorFlag.REMOTE),),
    )
    receive(network, network.b, message, A1, B1)
    assert network.b.context.peer_acceptable == {A1, A2}
    assert set(network.b.context.own_set) == {B1, B2}


def test_what_an_update_takes_away_is_no_destination_from_that_moment() -> None:
    network = established()
    message = update_from_a(network, sender_locators=(LocatorEntry(A1, LOCAL),))
    receive(network, network.b, message, A1, B1)
    flow = network.b.context.flow()
    assert flow.verified_locators == flow.peer_locators == {A1}


def test_data_does_not_follow_to_a_locator_that_the_peer_calls_broken() -> None:
    network = established()
    broken = LocatorEntry(A2, LOCAL | LocatorFlag.BROKEN)
    message = update_from_a(network, sender_locators=(LocatorEntry(A1, LOCAL), broken))
    receive(network, network.b, message, A1, B1)
    flow = network.b.context.flow()
    assert flow.verified_locators == {A1}
    assert flow.peer_locators == {A1, A2}


# --- Update Acknowledgement -----------------------------------------------------------------------


def test_an_acknowledgement_with_another_nonce_changes_nothing() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(15 * MILLISECOND)
    _, answer = sent_by(network.b, Code.UA)[-1]
    network.wire.clear()
    blank = dataclasses.replace(answer, nonce=Nonce(answer.nonce + 5), authentication=bytes(16))
    other = authenticated(network.b.host.core, network.b.context.agreed_key, blank)
    receive(network, network.a, other, B1, A1)
    assert network.a.outputs[-1] == Dropped(Drop.UA_WITHOUT_UR)
    assert state_of(network.a) is State.UR_SENT
    receive(network, network.a, answer, B1, A1)
    assert state_of(network.a) is State.ESTABLISHED


def test_an_acknowledgement_of_no_context_is_dropped() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(15 * MILLISECOND)
    _, answer = sent_by(network.b, Code.UA)[-1]
    fresh = Network(seed=5)
    assert receive(fresh, fresh.a, answer, B1, A1) == [Dropped(Drop.UA_FOR_NO_CONTEXT)]


# --- the choice of a pair -------------------------------------------------------------------------


def test_pairs_are_ranked_by_their_marks_before_what_was_heard() -> None:
    context = established().a.context
    context.own_local = (A1, A2)
    worst_to_best = []
    for flag in (LocatorFlag.BROKEN, LocatorFlag.DEPRECATED, LocatorFlag.BACKUP, 0):
        entries = (LocatorEntry(B1, LOCAL), LocatorEntry(B2, LOCAL | flag))
        context.learn_peer_locators(entries)
        worst_to_best.append(rank(context, (A2, B2)))
    context.hear((A2, B2), 5 * HEARD_TOGETHER, in_slot=True)
    worst_to_best.append(rank(context, (A2, B2)))
    for round_trip_ns in (20 * MILLISECOND, 1 * MILLISECOND):
        history = History(heard_ns=6 * HEARD_TOGETHER - 1, round_trip_ns=round_trip_ns)
        context.note((A2, B2), history)
        worst_to_best.append(rank(context, (A2, B2)))
    assert worst_to_best == sorted(worst_to_best, reverse=True)
    assert len(set(worst_to_best)) == len(worst_to_best)


# --- Unknown Context ------------------------------------------------------------------------------


def unknown_context(network: Network) -> ControlMessage:
    """The UC by which a b without its contexts answers data of a's."""
    flow = network.a.rewriter.flow_of(packet(A1, B1))
    assert flow is not None
    fresh = Network(seed=5)
    fresh.b.host.core.options = dataclasses.replace(
        network.b.host.core.options, birthday=network.b.host.core.options.birthday + 1
    )
    data = network.a.rewriter.outbound(packet(A1, B1), flow)
    fresh.give(fresh.b, UnknownLabelSeen(data))
    ((_, message),) = sent_by(fresh.b, Code.UC)
    return message


def test_a_uc_has_label_birthday_and_packet_and_is_sent_to_the_source() -> None:
    network = established()
    flow = network.a.rewriter.flow_of(packet(A1, B1))
    assert flow is not None
    message = unknown_context(network)
    assert message.context.receiver_label == network.a.context.peer_label
    assert message.context.sender_birthday == network.b.host.core.options.birthday + 1
    assert message.piggyback is not None
    assert message.piggyback.payload == network.a.rewriter.outbound(packet(A1, B1), flow)


def test_a_uc_from_outside_the_set_of_the_peer_is_dropped() -> None:
    network = established()
    message = unknown_context(network)
    assert receive(network, network.a, message, X1, A1) == [Dropped(Drop.UC_FROM_UNKNOWN_LOCATOR)]
    assert network.a.context.state is State.ESTABLISHED


def test_the_reset_token_is_believed_whatever_the_birthday() -> None:
    network = established()
    message = unknown_context(network)
    far = message.context._replace(sender_birthday=1 << 31)
    receive(network, network.a, dataclasses.replace(message, context=far), B1, A1)
    assert network.a.context.state is State.INIT_SENT


# --- closing --------------------------------------------------------------------------------------


def closing(seed: int = 1) -> Network:
    """A network both of whose ends are in CLOSING; their messages are lost."""
    network = established(seed)
    network.dead |= EVERYWHERE
    network.run(X + SECOND)
    assert network.a.context.state is network.b.context.state is State.CLOSING
    return network


def test_two_closes_that_cross_end_both_contexts() -> None:
    network = closing()
    _, one = sent_by(network.a, Code.CLOSE)[-1]
    _, other = sent_by(network.b, Code.CLOSE)[-1]
    receive(network, network.b, one, A1, B1)
    receive(network, network.a, other, B1, A1)
    assert network.a.host.contexts == network.b.host.contexts == []
    assert sent_by(network.a, Code.CLOSEACK)
    assert sent_by(network.b, Code.CLOSEACK)


def test_a_close_is_repeated_for_x_and_the_life_of_a_segment() -> None:
    network = closing()
    began = network.now_ns - SECOND
    while network.a.host.contexts:
        network.run(SECOND)
    assert X <= network.now_ns - began <= X + 2 * MINUTE + 2 * SECOND
    assert len(sent_by(network.a, Code.CLOSE)) >= 5


def closeack(network: Network, **changes: object) -> list[Output]:
    """Station a gets what would be the answer to its CLOSE, with changes."""
    _, close = sent_by(network.a, Code.CLOSE)[-1]
    answer = ControlMessage(
        code=Code.CLOSEACK,
        nonce=close.nonce,
        sender_aid=close.receiver_aid,
        receiver_aid=close.sender_aid,
        context=close.context._replace(
            sender_label=close.context.receiver_label,
            receiver_label=close.context.sender_label,
        ),
    )
    message = dataclasses.replace(answer, **changes)  # type: ignore[arg-type] # a case
    return receive(network, network.a, message, B1, A1)


def test_a_closeack_ends_the_context_if_it_answers_the_close() -> None:
    network = closing()
    assert closeack(network, nonce=1) == [Dropped(Drop.CLOSEACK_WITHOUT_CLOSE)]
    assert closeack(network, authentication=bytes(16)) == [Dropped(Drop.CLOSEACK_NOT_AUTHENTIC)]
    assert closeack(network) == [Dropped(Drop.CLOSEACK_NOT_AUTHENTIC)]
    assert network.a.context.state is State.CLOSING
    _, close = sent_by(network.a, Code.CLOSE)[-1]
    network.dead.clear()
    for _ in range(2):
        receive(network, network.b, close, A1, B1)
    _, again = sent_by(network.b, Code.CLOSEACK)[-1]
    assert network.b.host.contexts == [], "it has closed, and says so again"
    receive(network, network.a, again, B1, A1)
    assert network.a.host.contexts == []


def test_a_closeack_in_any_other_state_is_dropped() -> None:
    network = closing()
    _, close = sent_by(network.a, Code.CLOSE)[-1]
    fresh = established()
    answer = dataclasses.replace(close, code=Code.CLOSEACK, authentication=b"")
    octets = encode_packet(answer, B1, A1, CODEPOINTS)[40:]
    outputs = fresh.give(fresh.a, ControlMessageReceived(B1, A1, False, octets))
    assert outputs == [Dropped(Drop.CLOSEACK_WITHOUT_CLOSE)]
    assert fresh.a.context.state is State.ESTABLISHED


def test_a_close_between_unknown_locators_is_dropped() -> None:
    network = closing()
    _, close = sent_by(network.b, Code.CLOSE)[-1]
    outputs = receive(network, network.a, close, X1, A1)
    assert outputs[0] == Dropped(Drop.CLOSE_BETWEEN_UNKNOWN_LOCATORS)
    assert network.a.context.state is State.CLOSING


def test_a_uc_for_a_context_that_is_closing_ends_it() -> None:
    network = closing()
    _, close = sent_by(network.a, Code.CLOSE)[-1]
    quote = encode_packet(close, A1, B1, CODEPOINTS)
    header = ipv6.Header.decode(quote)
    assert header.next_header == ipv6.ICMPV6
    fresh = established(seed=3)
    options, label = network.b.host.core.options, network.a.context.peer_label
    message = dataclasses.replace(
        unknown_context(fresh),
        reset_token=reset_token(options.reset_key, options.birthday, label),
        context=unknown_context(fresh).context._replace(
            receiver_label=label,
            sender_birthday=network.a.context.peer_birthday,
        ),
        piggyback=dataclasses.replace(unknown_context(fresh).piggyback, payload=quote),  # type: ignore[type-var] # a UC has one
    )
    receive(network, network.a, message, B1, A1)
    assert network.a.host.contexts == []


def test_an_update_is_acknowledged_in_closing_too() -> None:
    network = established()
    network.a.in_use = True
    network.dead |= EVERYWHERE
    network.run(X + SECOND)
    assert network.b.context.state is State.CLOSING
    message = update_from_a(network)
    outputs = receive(network, network.b, message, A1, B1)
    assert any(isinstance(output, SendControl) for output in outputs)
    assert not any(isinstance(output, StateChanged) for output in outputs)


def test_after_a_close_a_packet_of_the_ulp_begins_a_new_context() -> None:
    network = closing()
    _, close = sent_by(network.b, Code.CLOSE)[-1]
    receive(network, network.a, close, B1, A1)
    assert network.a.host.contexts == []
    network.dead.clear()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.state is State.ESTABLISHED


# --- data -----------------------------------------------------------------------------------------


def test_a_locator_missing_in_the_dns_is_accepted_as_source_but_not_sent_to() -> None:
    network = established()
    listed = tuple(LocatorEntry(one, LOCAL) for one in (A1, A2, X1))
    receive(network, network.b, update_from_a(network, sender_locators=listed), A1, B1)
    flow = network.a.rewriter.flow_of(packet(A1, B1))
    assert flow is not None
    travelling = network.a.rewriter.outbound(packet(A1, B1, b"from X1"), flow)
    network.put(travelling[:8] + X1 + travelling[24:])
    network.run(10 * MILLISECOND)
    assert network.b.delivered[-1] == packet(A1, B1, b"from X1")
    assert network.b.context.pair == (B1, A1)
    assert X1 not in network.b.context.flow().verified_locators


@pytest.mark.parametrize(("source", "destination"), [(X1, B1), (A1, B2)])
def test_data_between_unknown_locators_is_treated_as_an_unknown_label(
    source: Locator, destination: Locator
) -> None:
    network = established()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(SECOND)
    flow = network.a.rewriter.flow_of(packet(A1, B1))
    assert flow is not None
    travelling = network.a.rewriter.outbound(packet(A1, B1, b"stray"), flow)
    network.b.outputs.clear()
    network.put(travelling[:8] + source + destination + travelling[40:])
    network.run(10 * MILLISECOND)
    assert packet(A1, B1, b"stray") not in network.b.delivered
    assert network.b.outputs[0] == Dropped(Drop.UNKNOWN_FLOW_LABEL)
    answered = [one for one in network.b.outputs if isinstance(one, SendControl)]
    assert len(answered) == (destination == B1), "only from an address that is ours"
    assert B2 not in network.b.context.own_local
