# SPDX-License-Identifier: MIT
"""A name that lists a third party's address beside its owner's, whose PTR is late or missing [D38].

The attacker has a zone and an address of its own, forges no source address, and completes whatever
is begun with it. A program of the victim resolves the attacker's name and sends to it.
"""

import dataclasses

import pytest

from noid.constants import INIT_ROUNDS_MAX, MILLISECOND, MINUTE, RETRANSMIT_WAITING, SECOND
from noid.dns.records import Answer, Question, Status, reverse_name
from noid.engine.events import PeerResolved, SendControl
from noid.engine.state import State
from noid.locators import Locator, parse_locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import A1, A2, B1, B2, Network, Station, begun, packet, receive, state_of
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_provisional import ccr_from

BANK = parse_locator("2001:db8:c::bb")
EVIL = "evil.example"


class Attacked(Network):
    """A network in which EVIL lists the bank and the attacker's address, B1.

    Attributes:
        late: reverse names about which no answer comes.
        received: what the attacker got.
    """

    def __init__(self, *late: Locator) -> None:
        super().__init__()
        self.late = {reverse_name(one) for one in late}
        self.names = {"a.example": [A1, A2], EVIL: [BANK, B1], "bank.example": [BANK]}
        self.reverse = {A1: "a.example", A2: "a.example", B1: EVIL, BANK: "bank.example"}
        self.received: list[bytes] = []

    def answer(self, station: Station, question: Question) -> Answer:
        if question.name in self.late:
            return Answer(status=Status.UNREACHABLE)
        return super().answer(station, question)

    def arrive(self, packet: bytes) -> None:
        if packet[24:40] == B1:
            self.received.append(packet)
        elif packet[24:40] != BANK:
            super().arrive(packet)

    def talk(self, *listed: Locator) -> None:
        """A program of the victim resolves the name, and sends to the bank for ten seconds."""
        self.give(self.a, PeerResolved(EVIL, BANK, (BANK, *listed)))
        for _ in range(20):
            self.ulp_sends(self.a, packet(A1, BANK))
            self.run(500 * MILLISECOND)
        self.run(MINUTE)


@pytest.mark.parametrize("late", [(), (BANK,), (B1,), (BANK, B1)], ids=len)
def test_no_packet_is_sent_to_locators_listed_with_a_third_party(
    late: tuple[Locator, ...],
) -> None:
    network = Attacked(*late)
    network.talk(B1)
    assert network.received == []
    assert sent_by(network.a, Code.INIT), "the bank was asked"


def test_one_packet_causes_inits_only_to_the_aid_for_any_name() -> None:
    network = Attacked(BANK)
    spray = [Locator(BANK[:-1] + bytes((number,))) for number in range(1, 16)]
    network.names[EVIL] = [BANK, *spray]
    network.give(network.a, PeerResolved(EVIL, BANK, (BANK, *spray)))
    network.ulp_sends(network.a, packet(A1, BANK))
    network.run(5 * MINUTE)
    inits = [header.destination for header, _ in sent_by(network.a, Code.INIT)]
    assert set(inits) == {BANK}
    assert len(inits) <= 2 * INIT_ROUNDS_MAX


def test_a_context_that_an_attacker_starts_with_a_foreign_aid_delivers_nothing() -> None:
    network = Attacked(BANK)
    network.names["b.example"] = [B1, B2]
    ccr = dataclasses.replace(ccr_from(network, A2, aid=BANK))
    receive(network, network.b, ccr, A2, B1)
    assert network.b.context.is_provisional
    network.b.outputs.clear()
    network.run(MINUTE)
    assert network.b.host.contexts == []
    assert network.b.delivered == []
    assert not any(isinstance(output, SendControl) for output in network.b.outputs)


def over_both() -> tuple[Network, dict[Locator, ControlMessage]]:
    """A network in which INIT went to both locators of b, and the last INIT to each."""
    network = begun()
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.run(2 * RETRANSMIT_WAITING)
    inits = {header.destination: init for header, init in sent_by(network.a, Code.INIT)}
    assert set(inits) == {B1, B2}
    network.dead.clear()
    return network, inits


def test_each_destination_of_an_init_has_its_own_nonce() -> None:
    network, inits = over_both()
    assert inits[B1].nonce != inits[B2].nonce
    nonces = {(header.destination, init.nonce) for header, init in sent_by(network.a, Code.INIT)}
    assert len(nonces) == 2


@pytest.mark.parametrize(("destination", "proven"), [(B1, True), (B2, False)])
def test_an_answer_proves_the_destination_of_its_nonce_and_not_its_source(
    destination: Locator, proven: bool
) -> None:
    network, inits = over_both()
    receive(network, network.b, inits[destination], A1, destination)
    _, cc = sent_by(network.b, Code.CC)[-1]
    network.wire.clear()
    receive(network, network.a, cc, B1, A1)
    assert state_of(network.a) is State.CCR_SENT
    assert network.a.context.aid_proven is proven


def test_no_packet_of_a_program_goes_where_a_cc_says_it_comes_from() -> None:
    network, inits = over_both()
    network.a.outputs.clear()
    receive(network, network.b, inits[B1], A1, B1)
    _, cc = sent_by(network.b, Code.CC)[-1]
    stranger = parse_locator("2001:db8:bad::1")
    entry = LocatorEntry(stranger, LocatorFlag.LOCAL)
    altered = dataclasses.replace(cc, sender_locators=(*cc.sender_locators, entry))
    receive(network, network.a, altered, stranger, A1)
    ((header, ccr),) = sent_by(network.a, Code.CCR)
    assert header.destination == stranger, "an answer"
    assert ccr.piggyback is None
    network.run(SECOND)
    sent = [one.packet for one in network.a.outputs if isinstance(one, SendControl)]
    there = [one for one in sent if one[24:40] == stranger]
    assert {one[41] for one in there} == {Code.CCR}
    assert all(
        decode_message(one[ipv6.HEADER_OCTETS :], A1, stranger, in_slot=False).piggyback is None
        for one in there
        if one[6] == ipv6.ICMPV6
    )


def test_the_next_locator_is_used_once_it_is_proven_and_250_ms_have_passed() -> None:
    network = Network()
    network.dead |= {(A1, B1), (A2, B1)}
    network.blind.add(network.a.name)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    began = network.now_ns
    network.run(RETRANSMIT_WAITING)
    assert {header.destination for header, _ in sent_by(network.a, Code.INIT)} == {B1}
    network.blind.clear()
    while state_of(network.a) is State.INIT_SENT:
        network.run(MILLISECOND)
    assert RETRANSMIT_WAITING < network.now_ns - began < 3 * SECOND
    assert sent_by(network.a, Code.INIT)[-1][0].destination == B2
