# SPDX-License-Identifier: MIT
"""A host that loses all its addresses and gets another later continues its contexts from there."""

from noid.constants import LOOK_AGAIN_MIN, SECOND
from noid.engine.events import LocatorsChanged, Output
from noid.engine.update import UNLISTED_PAIRS_MAX, next_nonce
from noid.flows.events import UnansweredPacket
from noid.locators import Locator
from noid.wire.control import Code, ControlMessage
from noid.wire.options import HASH_OCTETS, ContextOption, LocatorEntry, LocatorFlag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    X1,
    Network,
    Station,
    established,
    packet,
    receive,
)
from tests.engine.test_conformance_later import LOCAL, update_from_a
from tests.engine.test_conformance_setup import sent_by

OUTAGE = 5 * SECOND
INTERVAL = SECOND // 5


def published(network: Network, station: Station, locator: Locator) -> None:
    """Adds a locator to the DNS, forward and reverse."""
    network.names[station.name].append(locator)
    network.reverse[locator] = station.name


def host_of_one_network(*others: Locator) -> Network:
    """A context whose a has A1 alone; the DNS lists the addresses of other networks too."""
    network = Network()
    a = network.a
    for one in others:
        published(network, a, one)
    has(network, A1)
    network.resolve(a, network.b)
    network.ulp_sends(a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1}
    return network


def has(network: Network, *locators: Locator) -> list[Output]:
    """Station a has these addresses from now on, and sends nothing from another."""
    network.a.locators = locators
    network.dead = {(one, to) for one in {A1, X1} - {*locators} for to in network.b.locators}
    return network.give(network.a, LocatorsChanged(locators))


def talks(network: Network, duration_ns: int) -> bool:
    """Both programs send 5 packets a second; whether the last of each arrived."""
    until_ns, last = network.now_ns + duration_ns, b""
    while network.now_ns < until_ns:
        last = f"at {network.now_ns}".encode()
        for station, (here, there) in ((network.a, (A1, B1)), (network.b, (B1, A1))):
            network.ulp_sends(station, packet(here, there, last))
            label = station.context.local_label
            received_ns = station.datapath.received_ns(label)
            silent_ns = network.now_ns - received_ns
            if silent_ns > INTERVAL:
                event = UnansweredPacket(label, b"", silent_ns, received_ns=received_ns)
                network.give(station, event)
        network.run(INTERVAL)
    return all(any(one.endswith(last) for one in it.delivered) for it in network.stations)


def test_a_host_continues_from_an_address_that_the_dns_lists_already() -> None:
    network = host_of_one_network(X1)
    has(network)
    assert not talks(network, OUTAGE)
    has(network, X1)
    assert talks(network, 3 * SECOND)
    assert network.a.context.local_locator == network.b.context.peer_locator == X1


def test_a_host_continues_from_an_address_once_the_dns_lists_it() -> None:
    network = host_of_one_network()
    network.a.in_use = network.b.in_use = True
    has(network)
    assert not talks(network, OUTAGE)
    has(network, X1)
    assert not talks(network, LOOK_AGAIN_MIN)
    assert X1 in network.b.context.peer_acceptable
    assert X1 not in network.b.context.peer_verified
    published(network, network.a, X1)
    assert talks(network, 2 * LOOK_AGAIN_MIN)
    assert network.a.context.local_locator == network.b.context.peer_locator == X1


def test_nothing_is_sent_to_an_address_that_the_dns_does_not_list() -> None:
    network = host_of_one_network()
    has(network)
    talks(network, OUTAGE)
    network.trace.clear()
    has(network, X1)
    talks(network, 3 * SECOND)
    assert not [one for one in network.trace if one[24:40] == X1]


def test_an_update_is_sent_from_a_few_of_very_many_new_addresses() -> None:
    network = host_of_one_network()
    has(network)
    network.run(OUTAGE)
    network.a.outputs.clear()
    has(network, *(Locator(X1[:15] + bytes((number,))) for number in range(1, 9)))
    network.run(20 * SECOND)
    pairs = {(one.source, one.destination) for one, _ in sent_by(network.a, Code.UR)}
    unlisted = [pair for pair in pairs if pair[0] != A1]
    assert len(unlisted) == UNLISTED_PAIRS_MAX


def of_x(network: Network) -> ControlMessage:
    """An Update Request of a that lists X1."""
    entries = tuple(LocatorEntry(one, LOCAL) for one in (A1, X1))
    return update_from_a(network, sender_locators=entries)


def test_an_old_update_from_an_unknown_address_changes_nothing() -> None:
    network = established()
    old = of_x(network)
    receive(network, network.b, update_from_a(network), A1, B1)
    before = network.b.context.peer_acceptable
    receive(network, network.b, old, X1, B1)
    assert network.b.context.peer_acceptable == before
    receive(network, network.b, of_x(network), X1, B1)
    assert network.b.context.peer_acceptable == {A1, X1}
    assert A2 not in network.b.context.peer_acceptable


def test_no_other_message_adds_a_locator_of_its_sender() -> None:
    network = established()
    before = network.a.context.peer_acceptable
    for number in range(100):
        source = Locator(X1[:15] + bytes((number,)))
        keepalive = ControlMessage(
            code=Code.KEEPALIVE,
            nonce=next_nonce(network.b.context),
            sender_aid=B1,
            receiver_aid=A1,
            context=ContextOption(),
            sender_locators=(LocatorEntry(source, LocatorFlag.LOCAL),),
            authentication=bytes(HASH_OCTETS),
        )
        receive(network, network.a, network.b.sealed(keepalive), source, A1)
    assert network.a.context.peer_acceptable == before
    assert {peer for _, peer in network.a.context.history} <= {B1, B2}
