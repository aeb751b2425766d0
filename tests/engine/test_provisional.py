# SPDX-License-Identifier: MIT
"""Contexts whose CC did not go to the AID: nothing until the DNS has spoken [D37]."""

from dataclasses import replace

from noid.constants import (
    HELD_PACKETS_MAX,
    MILLISECOND,
    PROVISIONAL_CONTEXTS_MAX,
    PROVISIONAL_LIFETIME,
    SECOND,
)
from noid.counters import Drop
from noid.engine.events import SendControl
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived, PacketHeld
from noid.identifiers import NO_LABEL, Label, Nonce, Token
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, decode_message, encode_packet
from noid.wire.options import ContextOption, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, STRANGER, X1, Network, packet, unproven

LABEL = Label(0x123)


def send(network: Network, message: ControlMessage, source: Locator) -> list[ControlMessage]:
    """Station b gets a message; what it answers."""
    octets = encode_packet(message, source, B1, CODEPOINTS)[40:]
    outputs = network.give(network.b, ControlMessageReceived(source, B1, False, octets))
    answers = []
    for output in outputs:
        if isinstance(output, SendControl):
            header = ipv6.Header.decode(output.packet)
            ends = header.source, header.destination
            answers.append(decode_message(output.packet[40:], *ends, in_slot=False))
    return answers


def ccr_from(
    network: Network, source: Locator, label: Label = LABEL, aid: Locator = A1
) -> ControlMessage:
    """A CCR from ``source`` that claims the AID ``aid``."""
    init = ControlMessage(
        code=Code.INIT,
        nonce=Nonce(label),
        sender_aid=aid,
        receiver_aid=B1,
        context=ContextOption(sender_label=label),
        tokens=Tokens(sender=Token(5)),
        key=STRANGER.public,
        sender_locators=tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in {aid: 0, source: 0}),
        receiver_locators=(LocatorEntry(B1, LocatorFlag.REMOTE),),
    )
    (cc,) = send(network, init, source)
    assert cc.tokens is not None
    return ControlMessage(
        code=Code.CCR,
        nonce=cc.nonce,
        sender_aid=aid,
        receiver_aid=B1,
        context=cc.context._replace(
            sender_label=label,
            receiver_label=NO_LABEL,
            sender_birthday=cc.context.receiver_birthday,
            receiver_birthday=cc.context.sender_birthday,
        ),
        tokens=Tokens(sender=cc.tokens.receiver, receiver=cc.tokens.sender),
        key=STRANGER.public,
        sender_locators=cc.receiver_locators,
        receiver_locators=cc.sender_locators,
        cookie=cc.cookie,
        piggyback=Piggyback(6, b"held"),
    )


def provisional(source: Locator) -> Network:
    """A network whose b has a provisional context with the host at ``source``."""
    network = Network()
    send(network, ccr_from(network, source), source)
    assert network.b.context.is_provisional
    return network


def test_nothing_is_delivered_or_sent_until_it_is_proven() -> None:
    network = provisional(A2)
    assert network.b.delivered == []
    assert network.b.rewriter.flow_of(packet(B1, A1)) is None
    assert network.b.host.core.contexts == {}


def test_the_aid_is_not_proven_by_a_cc_that_went_elsewhere() -> None:
    network = Network()
    network.dns_works = False
    send(network, ccr_from(network, A2), A2)
    network.run(SECOND)
    assert network.b.context.peer_verified == frozenset()


def test_proven_it_is_a_context_like_any_other() -> None:
    network = provisional(A2)
    network.dead.add((B1, A1))  # a has no context, and would say so
    network.run(100 * MILLISECOND)
    assert not network.b.context.is_provisional
    assert network.b.delivered == [packet(A1, B1, b"held")]
    assert network.b.context.peer_verified == {A1, A2}
    assert network.b.rewriter.flow_of(packet(B1, A1)) is not None


def test_refuted_it_is_gone_and_nothing_was_delivered() -> None:
    network = provisional(X1)
    network.run(100 * MILLISECOND)
    assert network.b.host.contexts == []
    assert network.b.delivered == []


def test_not_proven_in_time_it_is_gone() -> None:
    network = Network()
    network.dns_works = False
    send(network, ccr_from(network, A2), A2)
    network.run(PROVISIONAL_LIFETIME + SECOND)
    assert network.b.host.contexts == []
    assert network.b.host.core.provisional.count == 0


def test_it_stands_in_nobodys_way() -> None:
    network = provisional(X1)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.state is network.b.context.state is State.ESTABLISHED
    assert network.b.context.peer_label == network.a.context.local_label


def test_the_same_ccr_again_makes_no_second_one() -> None:
    network = Network()
    ccr = ccr_from(network, A2)
    send(network, ccr, A2)
    (conf,) = send(network, ccr, A2)
    assert conf.code is Code.CONF
    assert len(network.b.host.contexts) == 1


def test_a_packet_held_after_the_dns_was_silent_is_delivered_once_it_answers() -> None:
    network = Network()
    network.dns_works = False
    send(network, replace(ccr_from(network, A2), piggyback=None), A2)
    network.run(5 * SECOND)
    network.dns_works = True
    label = network.b.context.local_label
    network.give(network.b, PacketHeld(label, packet(A1, B1, b"late"), A2))
    network.run(10 * SECOND)
    assert network.b.delivered == [packet(A1, B1, b"late")]


def test_only_so_many_packets_are_held() -> None:
    network = provisional(A2)
    label = network.b.context.local_label
    for number in range(10):
        network.give(network.b, PacketHeld(label, packet(A1, B1, bytes((number,))), A2))
    network.run(100 * MILLISECOND)
    assert len(network.b.delivered) == HELD_PACKETS_MAX
    assert network.b.host.drops[Drop.TOO_MANY_PACKETS_HELD] == 11 - HELD_PACKETS_MAX


def test_there_are_only_so_many() -> None:
    network = Network()
    network.dns_works = False
    for number in range(PROVISIONAL_CONTEXTS_MAX + 1):
        network.now_ns += 10 * MILLISECOND
        send(network, ccr_from(network, A2, label=Label(number + 1)), A2)
    assert len(network.b.host.contexts) == PROVISIONAL_CONTEXTS_MAX
    assert Drop.TOO_MANY_PROVISIONAL_CONTEXTS not in network.b.host.drops


def test_an_initiator_whose_aid_is_dead_gets_a_context_nevertheless() -> None:
    network = Network()
    network.dead |= {(A1, B1), (B1, A1)}
    network.dead |= {(one, A1) for one in network.b.locators}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    assert network.a.context.state is State.ESTABLISHED
    network.ulp_sends(network.a, packet(A1, B1, b"after"))
    network.run(SECOND)
    assert network.b.delivered[-1] == packet(A1, B1, b"after")
    network.ulp_sends(network.b, packet(B1, A1, b"back"))
    network.run(SECOND)
    assert network.a.delivered[-1] == packet(B1, A1, b"back")


def test_a_set_up_over_the_second_pair_alone_leaves_both_ends_on_that_pair() -> None:
    network = Network()
    network.kill_provider(1)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    assert network.a.context.pair == (A2, B2)
    assert network.b.context.pair == (B2, A2)


def test_a_set_up_over_the_second_pair_uses_it_also_if_the_dns_is_late() -> None:
    network = unproven()
    assert not network.b.context.flow().transmits
    network.blind.clear()
    network.run(10 * SECOND)
    assert network.a.context.pair == (A2, B2)
    assert network.b.context.pair == (B2, A2)


def test_a_context_whose_far_end_the_dns_refutes_late_is_not_kept() -> None:
    network = unproven()
    del network.reverse[A2]
    network.blind.clear()
    network.run(10 * SECOND)
    assert network.b.host.contexts == []
