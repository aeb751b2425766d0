# SPDX-License-Identifier: MIT
"""Set-up where messages are lost or come from elsewhere [draft §4.4, §7.4; D7, D16]."""

import dataclasses
from collections import deque

import pytest

from noid.constants import (
    CONTEXT_IDLE_TIME,
    MILLISECOND,
    MINUTE,
    RETRANSMIT_WAITING,
    SECOND,
)
from noid.engine.events import LocatorsChanged, SendControl
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import (
    NO_FLAGS,
    Code,
    ControlMessage,
    Flag,
    Piggyback,
    decode_message,
    encode_packet,
)
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
    packet,
    receive,
    state_of,
)
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_handshake import messages_on

SYN = Piggyback(6, b"SYN")


def plain_on(network: Network, code: Code) -> list[ControlMessage]:
    """The messages of one kind that were on the wire in their plain form, lost ones too."""
    return [one for one in messages_on(network) if one.code is code]


def begun(network: Network) -> Network:
    """The network, where a program of a's has sent its first packet to b."""
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1, b"SYN"))
    return network


def test_a_provider_of_both_hosts_that_is_dead_is_gone_round_at_the_second_init() -> None:
    network = Network()
    network.dead |= {(A1, B1), (A1, B2), (A2, B1), (B1, A1), (B2, A1), (B1, A2)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(RETRANSMIT_WAITING + 4 * DELAY_NS)
    assert network.a.context.state is State.ESTABLISHED
    assert network.a.context.pair == (A2, B2)
    assert network.b.delivered[0] == packet(A1, B1), "on the CCR"


def test_init_leaves_at_once_by_another_uplink_if_that_of_the_aid_is_known_to_be_down() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1, A2), broken=frozenset({A1})))
    network.dead |= {(A1, B1), (A1, B2), (B1, A1), (B2, A1)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(6 * DELAY_NS)
    assert network.a.context.state is State.ESTABLISHED
    assert network.b.delivered[0] == packet(A1, B1), "on the CCR"


def test_a_packet_that_no_init_carried_goes_on_the_ccr() -> None:
    network = Network()
    network.kill_provider(1)
    begun(network).run(2 * SECOND)
    assert not any(one.piggyback for one in plain_on(network, Code.INIT))
    assert {one.piggyback for one in plain_on(network, Code.CCR)} == {SYN}


@pytest.mark.parametrize(("flags", "carried"), [(NO_FLAGS, None), (Flag.ULP_PACKET_DISCARDED, SYN)])
def test_a_packet_is_sent_again_on_ccr_only_if_the_cc_discarded_it(
    flags: Flag, carried: Piggyback | None
) -> None:
    network = Network()
    network.dead = {(A1, B1), (A2, B1), (A2, B2), (B2, A1)}
    begun(network).run(800 * MILLISECOND)
    (cc,) = plain_on(network, Code.CC)
    cc = dataclasses.replace(cc, flags=flags)
    octets = encode_packet(cc, B2, A1, CODEPOINTS)[40:]
    outputs = network.give(network.a, ControlMessageReceived(B2, A1, False, octets))
    (sent,) = (one.packet for one in outputs if isinstance(one, SendControl))
    assert decode_message(sent[40:], A1, B2, in_slot=False).piggyback == carried


def test_an_aid_that_sent_the_cc_is_proven_wherever_the_conf_comes_from() -> None:
    network = Network()
    network.dns_works = False
    begun(network).run(35 * MILLISECOND)
    _, octets = network.wire.pop()
    conf = decode_message(octets[40:], B1, A1, in_slot=False)
    assert conf.code is Code.CONF
    network.put(encode_packet(conf, B2, A1, CODEPOINTS))
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.context.peer_verified == {B1}


def test_a_host_that_has_been_up_for_long_gives_a_peer_no_less_time() -> None:
    network = Network()
    network.run(CONTEXT_IDLE_TIME)
    network.dead = {(A1, B1)}
    begun(network).run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED


def test_sets_changed_while_the_conf_is_lost_are_sent_later() -> None:
    network = begun(Network())
    network.run(25 * MILLISECOND)
    dead = {(B1, A1), (B1, A2), (B2, A1), (B2, A2)}
    network.dead = set(dead)
    network.run(100 * MILLISECOND)
    assert state_of(network.a) is State.CCR_SENT
    network.a.locators = (A1, A2, X1)
    network.names["a.example"], network.reverse[X1] = [A1, A2, X1], "a.example"
    network.give(network.a, LocatorsChanged(network.a.locators))
    while state_of(network.a) is State.CCR_SENT:
        network.run(SECOND)
    network.dead = set()
    network.run(60 * SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert set(network.b.context.peer_local) == {A1, A2, X1}


def test_what_a_conf_says_of_the_locators_of_a_peer_is_not_said_again() -> None:
    network = Network()
    network.names["a.example"] = [A1]
    network.resolve(network.b, network.a)
    begun(network).run(15 * MILLISECOND)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(10 * MINUTE)  # the DNS has been queried again in that time, with the same answer
    confs = [one for one in plain_on(network, Code.CONF) if one.receiver_locators]
    assert [one.locator for conf in confs for one in conf.receiver_locators] == [A1]
    assert state_of(network.b) is State.ESTABLISHED
    assert network.a.context.own_set == (A1,)
    assert not [one for one in plain_on(network, Code.UR) if one.receiver_locators]


@pytest.mark.parametrize("lost", [Code.CCR, Code.CONF])
def test_a_lost_set_up_message_is_repeated_after_250_ms_while_data_waits(
    lost: Code,
) -> None:
    network = Lossy(lost)
    begun(network).run(330 * MILLISECOND)
    assert network.lost == 1
    assert state_of(network.a) is state_of(network.b) is State.ESTABLISHED


@pytest.mark.parametrize("after_ms", [0, 5, 15])
@pytest.mark.parametrize("delay_ns", [DELAY_NS, 6 * DELAY_NS, 13 * DELAY_NS])
@pytest.mark.parametrize("both_send", [True, False])
def test_where_a_conf_of_two_is_lost_both_ends_use_the_aids_after_all(
    *, both_send: bool, delay_ns: int, after_ms: int
) -> None:
    network = Lossy(Code.CONF)
    network.delay_ns = delay_ns
    both_begin(network, after_ns=after_ms * MILLISECOND)
    for _ in range(100):
        network.ulp_sends(network.a, packet(A1, B1))
        if both_send:
            network.ulp_sends(network.b, packet(B1, A1))
        network.run(50 * MILLISECOND)
    assert network.lost == 1
    assert (network.a.context.pair, network.b.context.pair) == ((A1, B1), (B1, A1))


class Lossy(Network):
    """Loses the first message of one kind."""

    def __init__(self, code: Code) -> None:
        super().__init__()
        self.code = code
        self.lost = 0

    def arrive(self, packet: bytes) -> None:
        """Delivers a packet unless it is the one to lose."""
        if not self.lost and packet[6] == ipv6.ICMPV6 and packet[41] == self.code:
            self.lost = 1
        else:
            super().arrive(packet)


class Filtered(Network):
    """Drops every ICMPv6 message of the M6 type that is not in a slot."""

    def arrive(self, packet: bytes) -> None:
        """Delivers other packets."""
        if packet[6] != ipv6.ICMPV6:
            super().arrive(packet)


@pytest.mark.parametrize("own", [(A1,), (A1, A2)])
def test_a_set_up_comes_through_where_only_slots_do(own: tuple[Locator, ...]) -> None:
    network = Filtered()
    network.give(network.a, LocatorsChanged(own))
    begun(network).run(30 * SECOND)
    assert state_of(network.a) is state_of(network.b) is State.ESTABLISHED
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(10 * SECOND)
    assert network.a.context.peer_acceptable == {B1}


def test_a_context_is_closed_where_only_slots_come_through() -> None:
    network = Filtered()
    begun(network).run(30 * SECOND)
    network.a.in_use = network.b.in_use = False
    network.run(CONTEXT_IDLE_TIME + MINUTE)
    assert network.a.host.contexts == network.b.host.contexts == []


@pytest.mark.parametrize("silent_ns", [SECOND, 20 * SECOND])
def test_a_peer_that_begins_to_speak_m6_gets_the_init_again_at_once(silent_ns: int) -> None:
    """Its own INIT gets a CONF, and it takes us for a peer with a context from then on."""
    network = Network()
    both = [(one, other) for one in (A1, A2) for other in (B1, B2)]
    network.dead = set(both)
    begun(network).run(silent_ns)
    network.dead = set()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(100 * MILLISECOND)
    assert [state_of(one) for one in network.stations] == [State.ESTABLISHED] * 2


def test_an_init_of_the_peer_repeats_ours_after_250_ms_at_the_earliest() -> None:
    network = Network()
    network.dead = {(one, other) for one in (A1, A2) for other in (B1, B2)}
    begun(network).run(8 * SECOND)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    (init,) = [one for one in network.b.outputs if isinstance(one, SendControl)]
    message = decode_message(init.packet[40:], B1, A1, in_slot=False)
    octets = encode_packet(message, B1, A1, CODEPOINTS)[40:]
    sent = 0
    for _ in range(10):
        outputs = network.give(network.a, ControlMessageReceived(B1, A1, False, octets))
        answers = [one.packet for one in outputs if isinstance(one, SendControl)]
        codes = [decode_message(one[40:], A1, B1, in_slot=False).code for one in answers]
        assert codes[0] is Code.CONF
        sent += Code.INIT in codes
    assert sent == 1


def test_a_request_of_a_peer_that_has_finished_the_set_up_before_us_gets_no_uc() -> None:
    network = both_begin(Network())
    network.run(DELAY_NS)
    network.wire = deque(one for one in network.wire if one[1][8:24] == A1)  # no CONF of b's
    network.run(DELAY_NS)
    assert network.b.context.is_settled
    assert not network.a.context.is_known_to_peer
    receive(network, network.a, network.b.request(1), B1, A1)
    assert sent_by(network.a, Code.UC) == []
    network.run(MINUTE)
    assert network.a.context.is_settled
