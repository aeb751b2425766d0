# SPDX-License-Identifier: MIT
"""Sets that change while a context is being made reach the peer all the same [draft §4.5]."""

import dataclasses

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.engine.events import LocatorsChanged
from noid.engine.state import State, Trigger
from noid.engine.update import tell_untold
from noid.flows.events import UnansweredPacket
from noid.wire.control import Code, decode_message, encode_packet
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
    unproven,
)
from tests.engine.test_conformance_later import unknown_context
from tests.engine.test_conformance_setup import sent_by

HOP = 10 * MILLISECOND


def begun() -> Network:
    """Host a has one locator and has sent INIT."""
    network = Network()
    network.give(network.a, LocatorsChanged((A1,)))
    network.give(network.b, LocatorsChanged((B1,)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    return network


@pytest.mark.parametrize("hops", range(4))
def test_the_initiators_change_during_set_up_is_told(hops: int) -> None:
    network = begun()
    network.run(hops * HOP)
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1, A2}
    assert network.b.context.peer_verified == {A1, A2}


@pytest.mark.parametrize("hops", range(4))
def test_the_responders_change_during_set_up_is_told(hops: int) -> None:
    network = begun()
    network.run(hops * HOP)
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B2})))
    network.run(SECOND)
    assert network.a.context.peer_acceptable == {B1, B2}
    assert network.a.context.marks_of(B2) == LocatorFlag.BACKUP


def test_where_nothing_changed_nothing_is_told() -> None:
    network = begun()
    network.run(SECOND)
    assert sent_by(network.a, Code.UR) == sent_by(network.b, Code.UR) == []


def test_an_initiator_whose_init_was_altered_sends_its_sets_again() -> None:
    network = begun()
    init = network.wire.pop()[1]
    message = decode_message(init[40:], A1, B1, in_slot=False)
    entry = LocatorEntry(X1, LocatorFlag.LOCAL)
    altered = dataclasses.replace(message, sender_locators=(*message.sender_locators, entry))
    network.put(encode_packet(altered, A1, B1, CODEPOINTS))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1}


def test_a_probe_before_the_dns_has_answered_excludes_no_locator() -> None:
    network = Network()
    network.dns_works = False
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    context = network.b.context
    assert not context.verification.settled
    network.give(network.b, UnansweredPacket(context.local_label, packet(B1, A1), MILLISECOND))
    network.run(SECOND)
    assert sent_by(network.b, Code.UR)
    network.dns_works = True
    network.run(10 * SECOND)
    assert network.b.context.peer_verified == {A1, A2}
    assert network.a.context.own_set == (A1, A2)


def test_a_provisional_context_tells_when_it_is_proven() -> None:
    network = unproven()
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B1})))
    assert sent_by(network.b, Code.UR) == []
    network.blind.clear()
    network.run(10 * SECOND)
    assert network.b.context.probation is None
    assert network.a.context.marks_of(B1) == LocatorFlag.BACKUP


def test_sets_of_an_interrupted_update_arrive_after_the_new_set_up() -> None:
    network = established()
    uc = unknown_context(network)
    network.dead |= {(A1, B1), (A2, B1), (A1, B2), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A2})))
    network.run(HOP)
    network.dead.clear()
    receive(network, network.a, uc, B1, A1)
    assert state_of(network.a) is State.INIT_SENT
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert sent_by(network.b, Code.CONF), "b had the context all the time"
    assert network.b.context.marks_of(A2) == LocatorFlag.BACKUP


def test_a_peer_that_knows_the_aid_alone_is_told_from_the_aid() -> None:
    network = established()
    network.b.context.peer_local = (A1,)
    network.a.context.local_locator = A2
    network.a.context.untold = True
    tell_untold(network.a.host.core, network.a.context, Trigger.CONF)
    for output in network.a.host.core.outputs:
        network.carry_out(network.a, output)
    network.run(2 * SECOND)
    assert network.b.context.peer_acceptable == {A1, A2}
    assert network.a.context.update is None
