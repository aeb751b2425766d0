# SPDX-License-Identifier: MIT
"""What each message of a set-up says, field by field, also what its receiver does not read yet."""

import dataclasses

import pytest

from noid.constants import MILLISECOND
from noid.engine.causes import Cause
from noid.engine.events import DeliverToUlp, LocatorsChanged, SendControl
from noid.engine.history import Pair
from noid.engine.state import State, Timer, Trigger
from noid.engine.update import return_to_established
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire.control import Code, ControlMessage, Piggyback
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    X1,
    Network,
    Station,
    begun,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_conformance_later import unknown_context
from tests.engine.test_conformance_setup import altered, answered, sent_by
from tests.engine.test_provisional import ccr_from, provisional

LOCAL, REMOTE = LocatorFlag.LOCAL, LocatorFlag.REMOTE


def only(station: Station, code: Code) -> ControlMessage:
    """The one message of a code that a station has sent."""
    ((_, message),) = sent_by(station, code)
    return message


def birthdays(message: ControlMessage) -> tuple[int, int]:
    return message.context.sender_birthday, message.context.receiver_birthday


def test_every_message_has_both_birthdays_if_known() -> None:
    network = established()
    a, b = (one.host.core.options.birthday for one in network.stations)
    assert birthdays(only(network.a, Code.INIT)) == (a, 0)
    assert birthdays(only(network.b, Code.CC)) == (b, a)
    assert birthdays(only(network.a, Code.CCR)) == (a, b)
    assert birthdays(only(network.b, Code.CONF)) == (b, a)


def test_who_begins_anew_says_the_birthday_that_it_knew() -> None:
    network = established()
    known = network.a.context.peer_birthday
    network.a.outputs.clear()
    uc = unknown_context(network)
    receive(network, network.a, uc, B1, A1)
    assert birthdays(only(network.a, Code.INIT))[1] == known


def test_the_cc_marks_what_the_initiator_found_in_the_dns() -> None:
    network = Network()
    network.names[network.b.name].remove(B2)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(15 * MILLISECOND)
    said = only(network.b, Code.CC).sender_locators
    assert said == (LocatorEntry(B1, LOCAL | REMOTE), LocatorEntry(B2, LOCAL))


def test_a_conf_that_answers_an_init_says_what_is_to_be_said_of_our_locators() -> None:
    network = begun()
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B2})))
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(15 * MILLISECOND)
    conf = only(network.b, Code.CONF)
    entries = LocatorEntry(B1, LOCAL), LocatorEntry(B2, LOCAL | LocatorFlag.BACKUP)
    assert conf.sender_locators == entries
    assert conf.context.receiver_label == network.a.context.local_label


@pytest.mark.parametrize(("source", "rides"), [(A2, True), (A1, False)])
def test_a_packet_that_waits_rides_on_a_conf_that_does_not_go_to_the_aid(
    source: Locator, rides: bool
) -> None:
    network = Network()
    ccr = ccr_from(network, source)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1, b"waits"))
    network.wire.clear()
    network.run(5 * MILLISECOND)
    assert state_of(network.b) is State.INIT_SENT
    receive(network, network.b, ccr, source, B1)
    assert state_of(network.b) is State.ESTABLISHED
    carried = only(network.b, Code.CONF).piggyback
    assert carried == (Piggyback(6, b"waits") if rides else None)


def test_a_conf_that_answers_an_init_carries_no_packet() -> None:
    network = begun()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1, b"waits too"))
    network.run(15 * MILLISECOND)
    assert only(network.b, Code.CONF).piggyback is None


@pytest.mark.parametrize(
    ("pair", "used"),
    [((A2, B1), (A2, B1)), ((A2, X1), (A1, B1)), ((A1, B2), (A1, B2))],
)
def test_a_context_begins_on_the_pair_by_which_its_conf_came_if_it_may(
    pair: Pair, used: Pair
) -> None:
    network, message = answered(Code.CONF)
    own, peer = pair
    receive(network, network.a, message, peer, own)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.context.pair == used


def test_a_context_does_not_begin_on_a_locator_that_the_dns_does_not_know_of() -> None:
    network, message = answered(Code.CONF)
    message = altered(network, message, receiver_locators=(LocatorEntry(A1, REMOTE),))
    receive(network, network.a, message, B1, A2)
    assert network.a.context.own_set == (A1,)
    assert network.a.context.pair == (A1, B1)


def test_conf_ignores_locators_without_the_lsr_flag() -> None:
    network, message = answered(Code.CONF)
    message = altered(
        network,
        message,
        sender_locators=(LocatorEntry(B1, LOCAL), LocatorEntry(B2, 0)),
        receiver_locators=(LocatorEntry(A1, REMOTE), LocatorEntry(A2, LOCAL)),
    )
    receive(network, network.a, message, B1, A1)
    assert network.a.context.peer_local == (B1,)
    assert network.a.context.own_set == (A1,)


def test_a_conf_with_no_locator_of_ours_says_nothing_of_them() -> None:
    network, message = answered(Code.CONF)
    message = dataclasses.replace(message, receiver_locators=(LocatorEntry(A1, LOCAL),))
    receive(network, network.a, message, B1, A1)
    assert network.a.context.own_set == (A1, A2)


def test_a_provisional_context_of_another_aid_does_not_answer_for_this_one() -> None:
    network = provisional(A2)
    label = network.b.context.local_label
    other = ccr_from(network, A2, label=Label(0x124))
    receive(network, network.b, other, A2, B1)
    labels = [one.local_label for one in network.b.host.contexts]
    assert len(labels) == 2
    assert label in labels


def test_a_label_that_two_peers_chose_leads_to_the_context_of_each() -> None:
    network = provisional(A2)
    other = ccr_from(network, A2, aid=X1)
    receive(network, network.b, other, A2, B1)
    assert [one.peer_aid for one in network.b.host.contexts] == [A1, X1]


def test_only_a_context_in_ur_sent_can_calm_down() -> None:
    network = established()
    network.a.outputs.clear()
    core, context = network.a.host.core, network.a.context
    return_to_established(core, context, Trigger.UA, Cause.UPDATE_ACKNOWLEDGED)
    assert network.a.host.core.outputs == []
    assert network.a.host.core.is_timer_set(network.a.context, Timer.IDLE)


def test_a_packet_piggybacked_on_a_ccr_is_delivered_after_the_set_up() -> None:
    network, message = answered(Code.CCR, piggyback=Piggyback(6, b"rides"))
    outputs = receive(network, network.b, message, A2, B1)
    orders = [type(one) for one in outputs]
    assert orders.index(SendControl) < orders.index(DeliverToUlp)
