# SPDX-License-Identifier: MIT
"""Keepalives of a host that receives data and sends none [D42]."""

import dataclasses

import pytest

from noid.constants import REPEATS_MAX, SECOND
from noid.counters import Drop
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.events import DataHasCome, Dropped, NoteHeard, SendAgain
from noid.engine.switching import switch
from noid.flows.events import OneWayDataSeen
from noid.identifiers import Label, Nonce
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import NO_FLAGS, Code, Flag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    Network,
    established,
    packet,
    receive,
    unproven,
)
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_growth import signed


def one_way(network: Network) -> None:
    """The plane of b says that data comes in and none goes out."""
    network.give(network.b, OneWayDataSeen(network.b.context.local_label))


def test_one_way_data_is_answered_with_a_keepalive_in_the_form_of_data() -> None:
    network = established()
    one_way(network)
    ((header, message),) = sent_by(network.b, Code.KEEPALIVE)
    assert (header.source, header.destination) == (B1, A1)
    assert header.next_header == CODEPOINTS.rewritable_first + 6
    assert header.flow_label == 0
    assert message.piggyback is None


def test_the_nonces_of_keepalives_grow() -> None:
    network = established()
    for _ in range(3):
        one_way(network)
    first, second, third = [one.nonce for _, one in sent_by(network.b, Code.KEEPALIVE)]
    assert first < second < third


def test_a_keepalive_tells_the_plane_that_the_peer_is_alive() -> None:
    network = established()
    one_way(network)
    network.run(SECOND)
    assert NoteHeard(network.a.context.local_label) in network.a.outputs
    assert network.a.context.history_of((A1, B1)).heard_ns


def test_a_keepalive_that_comes_again_proves_nothing() -> None:
    network = established()
    one_way(network)
    ((_, message),) = sent_by(network.b, Code.KEEPALIVE)
    network.run(SECOND)
    again = receive(network, network.a, message, B1, A1)
    assert again == [Dropped(Drop.KEEPALIVE_OLDER_THAN_ANOTHER)]


def test_a_keepalive_of_another_life_of_the_peer_is_taken() -> None:
    network = established()
    network.a.context.peer_keepalive_nonce = Nonce(9)
    lifecycle.know_peer_label(network.a.host.core, network.a.context, Label(77))
    assert network.a.context.peer_keepalive_nonce == 0


def test_a_forged_keepalive_proves_nothing() -> None:
    network = established()
    one_way(network)
    ((_, message),) = sent_by(network.b, Code.KEEPALIVE)
    forged = dataclasses.replace(message, nonce=Nonce(message.nonce + 1))
    assert receive(network, network.a, forged, B1, A1) == [Dropped(Drop.KEEPALIVE_NOT_AUTHENTIC)]


def test_a_newer_update_is_applied_after_a_keepalive_with_a_later_nonce() -> None:
    network = established()
    one_way(network)
    ((_, message),) = sent_by(network.b, Code.KEEPALIVE)
    late = signed(network.a, dataclasses.replace(message, nonce=Nonce(message.nonce + 5)))
    receive(network, network.a, late, B1, A1)
    assert network.a.context.peer_update_nonce < network.a.context.peer_keepalive_nonce


def test_a_context_without_a_proven_locator_sends_no_keepalive() -> None:
    network = unproven()
    one_way(network)
    assert sent_by(network.b, Code.KEEPALIVE) == []


def test_a_keepalive_is_small() -> None:
    network = established()
    one_way(network)
    assert len(network.wire[-1][1]) == ipv6.HEADER_OCTETS + 96


def test_what_was_sent_before_a_set_up_is_not_unanswered_after_it() -> None:
    network = established()
    for station in network.stations:
        assert NoteHeard(station.context.local_label) in station.outputs


def repeated(network: Network) -> int:
    """How often a packet goes after a switch of a's to (A2, B2), while a keepalive comes."""
    sent = packet(A1, B1, b"sent before")
    switch(network.a.host.core, network.a.context, (A2, B2), Cause.NOTHING_HEARD, sent)
    one_way(network)
    network.run(SECOND)
    return sum(isinstance(one, SendAgain) for one in network.a.outputs)


def test_a_keepalive_over_the_new_pair_ends_the_repetition_of_a_packet() -> None:
    network = established()
    switch(network.b.host.core, network.b.context, (B2, A2), Cause.NOTHING_HEARD)
    assert 0 < repeated(network) < 1 + REPEATS_MAX
    assert network.a.context.repeating == b""


def test_a_keepalive_over_another_pair_does_not() -> None:
    assert repeated(established()) == 1 + REPEATS_MAX


@pytest.mark.parametrize(
    ("source", "counts"), [(None, True), (B1, True), (B2, False)], ids=["unknown", "same", "other"]
)
def test_an_answer_about_data_by_a_pair_that_the_peer_does_not_use_is_no_sign_of_life(
    source: Locator | None, counts: bool
) -> None:
    """It goes back over the pair of the request, too, and says nothing of the peer's own pair."""
    network = established()
    network.a.context.peer_source = source
    network.a.outputs.clear()
    label = network.b.context.local_label
    network.give(network.b, DataHasCome(label, network.now_ns, by_peer=True))
    network.run(SECOND)
    ((header, _),) = sent_by(network.b, Code.KEEPALIVE)
    assert (header.source, header.destination) == (B1, A1)
    heard = NoteHeard(network.a.context.local_label, unasked=False)
    assert (heard in network.a.outputs) == counts
    assert network.a.context.history_of((A1, B1)).passes_ns, "but data comes"


@pytest.mark.parametrize("flags", [NO_FLAGS, Flag.DATA_ASKED])
def test_a_keepalive_that_was_asked_for_is_told_from_others(flags: Flag) -> None:
    """A peer that sends data itself owes none: one that was asked for says nothing of its data."""
    network = established()
    one_way(network)
    ((_, message),) = sent_by(network.b, Code.KEEPALIVE)
    other = dataclasses.replace(message, nonce=Nonce(message.nonce + 1), flags=flags)
    receive(network, network.a, signed(network.a, other), B1, A1)
    heard = [one for one in network.a.outputs if isinstance(one, NoteHeard)]
    assert heard[-1].unasked is (flags is NO_FLAGS)
