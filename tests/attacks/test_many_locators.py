# SPDX-License-Identifier: MIT
"""A peer that says it has as many locators as there may be, and sends from each of them [D46].

Attacker: the peer itself, with the key of its context. Guaranteed: what it sends costs the host as
much as what comes from one locator, and repetitions by others keep nothing out.
"""

import pytest

from noid.constants import LOCATORS_MAX, MILLISECOND, SECOND
from noid.counters import Drop
from noid.engine.context import Context
from noid.engine.events import AskDns, InstallFlow, LocatorsChanged
from noid.engine.update import NO_HASH
from noid.flows.clock import FlowClock
from noid.flows.events import ControlMessageReceived, OneWayDataSeen
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.planes.bpf import layout
from noid.shares.policy import MESSAGES, REPEATS
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.options import ContextOption, LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    Network,
    Station,
    begun,
    established,
    packet,
    receive,
)
from tests.engine.test_reachability import silence

CHANGES = 2_000
CHANGE_INTERVAL = MILLISECOND
HOME = 1
"""A row of the table of uplinks."""
OTHERS = tuple(Locator(B1[:15] + bytes((number,))) for number in range(32, 32 + LOCATORS_MAX - 2))


def with_many_locators() -> Network:
    """A conversation in which b has all the locators that it may have."""
    network = established()
    network.b.locators = (B1, B2, *OTHERS)
    network.give(network.b, LocatorsChanged(network.b.locators))
    network.run(SECOND)
    assert set(network.a.context.peer_local) == set(network.b.locators)
    return network


def ur(network: Network, nonce: int, source: Locator) -> ControlMessageReceived:
    """An authentic UR of b's, from any of its locators."""
    octets = encode_packet(network.b.request(nonce), source, A1, CODEPOINTS)[ipv6.HEADER_OCTETS :]
    return ControlMessageReceived(source, A1, False, octets)


def refused(station: Station, code: str) -> int:
    return station.host.drops.get(Drop[f"{code}_OVER_RATE"], 0)


def flood(network: Network, first: int, each: int, *, step: int = 1) -> int:
    """How many URs a looks at, of so many from each locator of b."""
    before, sent = refused(network.a, "UR"), 0
    for _ in range(each):
        for source in network.b.locators:
            network.give(network.a, ur(network, first + step * sent, source))
            sent += 1
    return sent - (refused(network.a, "UR") - before)


def test_requests_from_all_locators_have_one_share() -> None:
    network = with_many_locators()
    first = network.b.context.update_nonce + 1
    assert flood(network, first, 2 * MESSAGES.each_at_once // LOCATORS_MAX) == MESSAGES.each_at_once


def test_one_request_again_and_again_from_all_locators_costs_little() -> None:
    network = with_many_locators()
    nonce = network.b.context.update_nonce
    looked_at = flood(network, nonce, 2 * REPEATS.each_at_once, step=0)
    assert looked_at == LOCATORS_MAX * REPEATS.each_at_once


def test_what_others_repeat_keeps_no_new_message_out() -> None:
    network = with_many_locators()
    old = [ur(network, network.b.context.update_nonce, source) for source in (B1, B2)]

    def repeat(count: int) -> None:
        for event in old * count:
            network.give(network.a, event)

    repeat(2 * REPEATS.each_at_once)
    assert refused(network.a, "UR")
    network.kill_provider(1)
    network.give(network.a, silence(network.a))
    for _ in range(100):
        network.run(MILLISECOND)
        repeat(1)
    assert network.a.context.pair == (A2, B2)
    network.ulp_sends(network.a, packet(A1, B1))
    network.give(network.b, OneWayDataSeen(network.b.context.local_label))
    heard = keepalives(network.a.context)
    network.run(SECOND)
    assert keepalives(network.a.context) > heard


def keepalives(context: Context) -> int:
    return context.peer_keepalive_nonce


def another_set(network: Network, number: int) -> bytes:
    """An authentic UR of b's, each with other locators than the one before."""
    others = [Locator(B2[:12] + (number * LOCATORS_MAX + one).to_bytes(4)) for one in range(14)]
    message = ControlMessage(
        code=Code.UR,
        nonce=Nonce(network.b.context.update_nonce + 1 + number),
        sender_aid=B1,
        receiver_aid=A1,
        context=ContextOption(),
        sender_locators=tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in (B1, B2, *others)),
        receiver_locators=(LocatorEntry(A1, LocatorFlag.REMOTE),),
        authentication=NO_HASH,
    )
    return network.b.sealed(message)


def test_a_set_that_changes_all_the_time_costs_a_limited_number_of_entries() -> None:
    """No more than the share of a context, no query of the DNS, and nothing that stays."""
    network = established()
    network.run(SECOND)
    inside = network.a.host.inspection
    before, network.a.outputs = dict(inside.sizes), []
    for number in range(CHANGES):
        receive(network, network.a, another_set(network, number), B1, A1)
        network.run(CHANGE_INTERVAL)
    installed = sum(isinstance(one, InstallFlow) for one in network.a.outputs)
    asked = sum(isinstance(one, AskDns) for one in network.a.outputs)
    share = MESSAGES.each_at_once + MESSAGES.each * CHANGES * CHANGE_INTERVAL // SECOND
    assert refused(network.a, "UR")
    assert installed <= share
    assert not asked
    assert inside.sizes == before
    assert network.a.context.peer_verified == {B1, B2}
    came = len(network.b.delivered)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(network.delay_ns)
    assert len(network.b.delivered) == came + 1


def without_its_aid(network: Network, count: int) -> bytes:
    """An authentic UR of b's that lists so many locators, none of which is its AID."""
    said = tuple(Locator(B2[:15] + bytes((number,))) for number in range(32, 31 + count))
    message = ControlMessage(
        code=Code.UR,
        nonce=Nonce(network.b.context.update_nonce + 1),
        sender_aid=B1,
        receiver_aid=A1,
        context=ContextOption(),
        sender_locators=tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in (*said, B2)),
        receiver_locators=(LocatorEntry(A1, LocatorFlag.REMOTE),),
        authentication=NO_HASH,
    )
    return network.b.sealed(message)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("count", [1, LOCATORS_MAX - 1, LOCATORS_MAX])
def test_a_set_without_the_aid_has_room_for_it(count: int, is_known: bool) -> None:
    """The peer says as many as there may be; with its AID there would be one more."""
    network = begun()
    if not is_known:
        network.blind.add(network.a.name)  # what the peer says is then what is said of it
    network.run(SECOND)
    assert network.a.context.verification.settled is is_known
    receive(network, network.a, without_its_aid(network, count), B1, A1)
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(SECOND)
    assert len(network.a.context.peer_local) == min(count + 1, LOCATORS_MAX)
    assert network.a.context.accepts(B1)
    for flow in [one.flow for one in network.a.outputs if isinstance(one, InstallFlow)]:
        layout.inbound_entries(flow, HOME, FlowClock())
