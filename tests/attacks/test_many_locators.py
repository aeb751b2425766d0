# SPDX-License-Identifier: MIT
"""A peer that says it has as many locators as there may be, and sends from each of them [D46].

Attacker: the peer itself, with the key of its context. Guaranteed: what it sends costs the host as
much as what comes from one locator, and repetitions by others keep nothing out.
"""

from noid.constants import LOCATORS_MAX, MILLISECOND, SECOND
from noid.counters import Drop
from noid.engine.context import Context
from noid.engine.events import LocatorsChanged
from noid.engine.update import request
from noid.flows.events import ControlMessageReceived, OneWayDataSeen
from noid.locators import Locator
from noid.shares.policy import MESSAGES, REPEATS
from noid.wire import ipv6
from noid.wire.control import encode_packet
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, Network, Station, established, packet
from tests.engine.test_reachability import silence

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
    octets = request(network.b.host.core, network.b.context, nonce)
    octets = encode_packet(octets, source, A1, CODEPOINTS)[ipv6.HEADER_OCTETS :]
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
