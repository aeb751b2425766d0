# SPDX-License-Identifier: MIT
"""What the draft says of INIT, CC, CCR and CONF, sentence by sentence [draft §7.2-7.6, §7.13]."""

import dataclasses

import pytest

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.counters import Drop
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import AskDns, DeliverToUlp, Dropped, LocatorsChanged, SendControl
from noid.engine.options import HostOptions
from noid.engine.state import State
from noid.engine.update import authenticated
from noid.flows.events import UnknownLabelSeen
from noid.identifiers import Label, Nonce
from noid.locators import Locator, parse_locator
from noid.shares.policy import CHECKS
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, decode_message, encode_packet
from noid.wire.options import HASH_OCTETS, LocatorEntry, LocatorFlag, Tokens
from noid.wire.slots import SLOT_ICMPV6, slot_of
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    Station,
    begun,
    established,
    packet,
    receive,
    state_of,
)

SYN = Piggyback(6, b"SYN")


def control_of(whole: bytes) -> tuple[ipv6.Header, ControlMessage] | None:
    """A packet's header and the control message in it, if it is one."""
    header = ipv6.Header.decode(whole)
    slot = slot_of(header.next_header, CODEPOINTS)
    in_slot = slot is not None and slot.number == 6 and header.flow_label == 0
    if not in_slot and header.next_header != ipv6.ICMPV6:
        return None
    ends = header.source, header.destination
    return header, decode_message(whole[40:], *ends, in_slot=in_slot)


def sent_by(station: Station, code: Code) -> list[tuple[ipv6.Header, ControlMessage]]:
    """Every message of a code that a station has sent, in order."""
    found = []
    for output in station.outputs:
        control = control_of(output.packet) if isinstance(output, SendControl) else None
        if control is not None and control[1].code is code:
            found.append(control)
    return found


def turned(tokens: Tokens | None) -> Tokens:
    """The tokens as the other end says them."""
    assert tokens is not None
    return Tokens(sender=tokens.receiver, receiver=tokens.sender)


def answered(code: Code, **changes: object) -> tuple[Network, ControlMessage]:
    """A network in which a message has been sent and taken off the wire, and the message."""
    network = begun()
    sender = network.a if code in (Code.INIT, Code.CCR) else network.b
    while not sent_by(sender, code):
        network.run(5 * MILLISECOND)
    network.wire.clear()
    _, message = sent_by(sender, code)[-1]
    return network, altered(network, message, **changes)


def altered(network: Network, message: ControlMessage, **changes: object) -> ControlMessage:
    """A message with changes; a CONF as b would say it."""
    message = dataclasses.replace(message, **changes)  # type: ignore[arg-type] # a case
    if message.code is not Code.CONF:
        return message
    blank = dataclasses.replace(message, authentication=bytes(HASH_OCTETS))
    octets = authenticated(network.b.host.core, network.b.context.agreed_key, blank)
    whole = encode_packet(octets, B1, A1, CODEPOINTS)
    return decode_message(whole[40:], B1, A1, in_slot=False)


# --- INIT -----------------------------------------------------------------------------------------


def test_the_first_init_goes_plainly_from_the_aid_to_the_aid() -> None:
    network = begun()
    ((header, message),) = sent_by(network.a, Code.INIT)
    assert (header.source, header.destination) == (A1, B1)
    assert header.next_header == ipv6.ICMPV6
    assert message.sender_locators == tuple(LocatorEntry(o, LocatorFlag.LOCAL) for o in (A1, A2))
    assert message.receiver_locators == tuple(LocatorEntry(o, LocatorFlag.REMOTE) for o in (B1, B2))
    assert message.context.sender_label == network.a.context.local_label != 0
    assert message.context.sender_birthday == network.a.host.core.options.birthday
    assert message.nonce != 0
    assert network.a.context.state is State.INIT_SENT


def test_an_unanswered_init_is_sent_over_every_pair_of_locators() -> None:
    network = begun()
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.run(MINUTE)
    headers = [header for header, _ in sent_by(network.a, Code.INIT)]
    pairs = [(header.source, header.destination) for header in headers]
    assert pairs[:4] == [(A1, B1), (A2, B2), (A2, B1), (A1, B2)]
    rewritable = [header.next_header == CODEPOINTS.rewritable_first + 6 for header in headers]
    assert rewritable[:8] == [False] * 4 + [True] * 4


def test_an_init_carries_a_packet_only_from_the_aid_and_not_to_the_aid() -> None:
    network = begun()
    network.dead |= {(one, other) for one in (A1, A2) for other in (B1, B2)}
    network.run(SECOND)
    carried = {
        (header.source, header.destination)
        for header, message in sent_by(network.a, Code.INIT)
        if message.piggyback is not None
    }
    assert carried == {(A1, B2)}


def test_a_host_with_its_aid_alone_never_says_rewrite_ok() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1,)))
    network.dead |= {(A1, B1), (A1, B2)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(10 * SECOND)
    network.dead.clear()
    network.run(20 * SECOND)
    assert network.a.context.state is State.ESTABLISHED
    inits = sent_by(network.a, Code.INIT)
    assert len(inits) > 2
    forms = {header.next_header for header, _ in inits}
    assert forms == {ipv6.ICMPV6, CODEPOINTS.fixed_first + SLOT_ICMPV6}
    network.trace.clear()
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(10 * MILLISECOND)
    data, *requests = [one[6] for one in network.trace]
    assert data == CODEPOINTS.fixed_first
    assert set(requests) <= {CODEPOINTS.fixed_first + SLOT_ICMPV6}


def test_a_host_with_its_aid_alone_profits_from_the_locators_of_its_peer() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1,)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.peer_verified == {B1, B2}
    assert network.b.context.peer_acceptable == network.b.context.peer_verified == {A1}


@pytest.mark.parametrize("initiates", [True, False])
def test_a_host_that_the_dns_does_not_know_lists_its_aid_alone(initiates: bool) -> None:
    network = Network()
    network.a.host.core.options = dataclasses.replace(
        network.a.host.core.options, is_verifiable=False
    )
    one, other = (network.a, network.b) if initiates else (network.b, network.a)
    network.resolve(one, other)
    network.ulp_sends(one, packet(one.locators[0], other.locators[0]))
    network.run(SECOND)
    code = Code.INIT if initiates else Code.CC
    said = [message.sender_locators for _, message in sent_by(network.a, code)]
    assert said
    assert {entry.locator for entries in said for entry in entries} == {A1}
    assert network.b.context.peer_acceptable == {A1}
    network.give(network.a, LocatorsChanged((A2, A1)))
    network.run(SECOND)
    assert network.a.context.own_local == (A1,), "and so after a change"
    if initiates:
        asked = [one for one in network.b.outputs if isinstance(one, AskDns)]
        assert not asked, "a proven AID needs no DNS"


def test_an_init_with_the_label_of_a_live_context_gets_cc_and_its_ccr_gets_conf() -> None:
    network = established()
    before = network.b.context.local_label
    _, init = sent_by(network.a, Code.INIT)[0]
    receive(network, network.b, dataclasses.replace(init, nonce=Nonce(77)), A1, B1)
    _, check = sent_by(network.b, Code.CC)[-1]
    assert check.nonce == 77
    assert check.cookie is not None
    _, reply = sent_by(network.a, Code.CCR)[0]
    reply = dataclasses.replace(
        reply, nonce=Nonce(77), cookie=check.cookie, tokens=turned(check.tokens)
    )
    receive(network, network.b, reply, A1, B1)
    _, conf = sent_by(network.b, Code.CONF)[-1]
    assert (conf.nonce, conf.context.sender_label) == (77, before)
    assert conf.tokens == Tokens(network.b.context.local_token, network.a.context.local_token)
    assert conf.key == network.b.context.local_key
    assert network.b.context.state is State.ESTABLISHED


def test_neither_an_init_nor_an_unknown_label_asks_the_dns() -> None:
    network, init = answered(Code.INIT)
    outputs = receive(network, network.b, init, A1, B1)
    header = ipv6.Header(
        source=A2, destination=B1, next_header=224, payload_octets=0, flow_label=Label(0x77777)
    )
    outputs += network.give(network.b, UnknownLabelSeen(header.encode()))
    assert not any(isinstance(output, AskDns) for output in outputs)


def test_a_flood_of_inits_leaves_no_state_and_gets_bounded_answers() -> None:
    network, init = answered(Code.INIT)
    answers = 0
    for number in range(CHECKS.each_at_once + 50):
        source = parse_locator(f"2001:db8:1:ffff::{number + 1:x}")
        outputs = receive(network, network.b, init, source, B1)
        answers += sum(isinstance(output, SendControl) for output in outputs)
    assert answers == CHECKS.each_at_once
    assert network.b.host.contexts == []
    assert network.b.host.deadline() is None
    elsewhere = receive(network, network.b, init, X1, B1)
    assert any(isinstance(output, SendControl) for output in elsewhere), "another prefix"


def test_a_label_is_never_nought_nor_one_that_is_taken() -> None:
    draws = [bytes(3), b"\x01\x23\x45", b"\x0a\xbc\xde"]
    options = HostOptions(codepoints=CODEPOINTS, birthday=0, reset_key=bytes(32))
    core = Core(options, lambda count: draws.pop(0) if count == 3 else bytes(count))
    core.quarantine.put(Label(0x12345), core.now_ns, b"", None)
    assert core.free_label() == 0xABCDE


# --- CC -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": 1}, Drop.CC_WITH_OTHER_NONCE),
        ({"receiver_aid": A2}, Drop.CC_WITHOUT_INIT),
        ({"sender_aid": B2}, Drop.CC_WITHOUT_INIT),
    ],
)
def test_a_cc_that_answers_no_init_is_dropped(changes: dict[str, object], reason: Drop) -> None:
    network, message = answered(Code.CC, **changes)
    receive(network, network.a, message, B1, A1)
    assert network.a.host.drops == {reason: 1}
    assert network.a.context.state is State.INIT_SENT


def test_a_cc_in_any_other_state_is_dropped() -> None:
    network, message = answered(Code.CC)
    receive(network, network.a, message, B1, A1)
    assert network.a.context.state is State.CCR_SENT
    receive(network, network.a, message, B1, A1)
    assert network.a.host.drops == {Drop.CC_WITHOUT_INIT: 1}


def test_the_ccr_has_what_the_cc_had_and_goes_to_its_source() -> None:
    network, message = answered(Code.CC)
    receive(network, network.a, message, B2, A1)
    ((header, reply),) = sent_by(network.a, Code.CCR)
    assert (header.source, header.destination) == (A1, B2)
    assert reply.nonce == message.nonce
    assert reply.cookie == message.cookie
    assert reply.sender_locators == message.receiver_locators
    assert reply.receiver_locators == message.sender_locators


def test_an_aid_that_the_peer_forgot_is_added_to_its_set() -> None:
    network, message = answered(
        Code.CC, sender_locators=(LocatorEntry(B2, LocatorFlag.LOCAL | LocatorFlag.REMOTE),)
    )
    receive(network, network.a, message, B1, A1)
    assert set(network.a.context.peer_set) == {B1, B2}
    assert network.a.context.peer_acceptable == {B1, B2}


def test_what_the_dns_or_the_peer_does_not_list_is_in_no_intersection() -> None:
    network, message = answered(
        Code.CC, sender_locators=tuple(LocatorEntry(o, LocatorFlag.LOCAL) for o in (B1, X1))
    )
    receive(network, network.a, message, B1, A1)
    assert network.a.context.peer_set == (B1,), "B2 the peer does not list, X1 the DNS does not"
    assert network.a.context.peer_acceptable == {B1, X1}


@pytest.mark.parametrize(("source", "delivered"), [(B1, True), (B2, True), (X1, False)])
def test_a_packet_on_a_cc_is_delivered_if_it_comes_from_a_known_locator(
    source: Locator, delivered: bool
) -> None:
    network, message = answered(Code.CC, piggyback=SYN)
    outputs = receive(network, network.a, message, source, A1)
    assert (DeliverToUlp(packet(B1, A1, b"SYN")) in outputs) is delivered


# --- CCR ------------------------------------------------------------------------------------------


def test_a_packet_on_a_ccr_is_delivered_for_any_address_fields() -> None:
    network, message = answered(Code.CCR, piggyback=SYN)
    outputs = receive(network, network.b, message, A2, B2)
    assert DeliverToUlp(packet(A1, B1, b"SYN")) in outputs


def test_the_conf_is_sent_to_the_destination_of_the_cc() -> None:
    network, message = answered(Code.CCR)
    receive(network, network.b, message, X1, B1)
    ((header, conf),) = sent_by(network.b, Code.CONF)
    assert header.destination == A1
    assert conf.nonce == message.nonce
    assert conf.context.sender_label == network.b.context.local_label
    assert conf.sender_locators == ()


def test_a_ccr_completes_a_context_of_ours_only_from_a_known_locator() -> None:
    network, message = answered(Code.CCR)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    assert state_of(network.b) is State.INIT_SENT
    receive(network, network.b, message, X1, B1)
    assert network.b.host.drops == {Drop.CCR_IN_ANOTHER_STATE: 1}
    receive(network, network.b, message, A2, B1)
    assert state_of(network.b) is State.ESTABLISHED


# --- CONF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": 1}, Drop.CONF_WITH_OTHER_NONCE),
        ({"sender_aid": B2}, Drop.CONF_WITHOUT_INIT),
        ({"receiver_aid": A2}, Drop.CONF_WITHOUT_INIT),
    ],
)
def test_a_conf_that_answers_nothing_is_dropped(changes: dict[str, object], reason: Drop) -> None:
    network, message = answered(Code.CONF, **changes)
    receive(network, network.a, message, B1, A1)
    assert network.a.host.drops == {reason: 1}
    assert network.a.context.state is State.CCR_SENT


def test_a_conf_in_any_other_state_is_dropped() -> None:
    network, message = answered(Code.CONF)
    receive(network, network.a, message, B1, A1)
    assert network.a.context.state is State.ESTABLISHED
    other = message.context._replace(sender_label=Label(0x77777))
    receive(network, network.a, dataclasses.replace(message, context=other), B1, A1)
    assert network.a.outputs[-1] == Dropped(Drop.CONF_WITHOUT_INIT)
    assert network.a.context.peer_label == message.context.sender_label


def confirmed(**changes: object) -> Context:
    network, message = answered(Code.CONF, **changes)
    receive(network, network.a, message, B1, A1)
    return network.a.context


def test_a_conf_tells_the_initiator_what_the_dns_says_of_it() -> None:
    said = (LocatorEntry(A1, LocatorFlag.REMOTE),)
    assert confirmed(receiver_locators=said).own_set == (A1,)


def test_an_aid_that_the_responder_did_not_find_stays_in_the_set() -> None:
    said = (LocatorEntry(A2, LocatorFlag.REMOTE),)
    assert set(confirmed(receiver_locators=said).own_set) == {A1, A2}


def test_a_conf_with_a_smaller_set_of_the_responder_takes_the_rest_away() -> None:
    said = (LocatorEntry(B1, LocatorFlag.LOCAL),)
    context = confirmed(sender_locators=said)
    assert context.peer_set == (B1,)
    assert context.peer_verified == {B1}


@pytest.mark.parametrize(("source", "delivered"), [(B1, True), (B2, True), (X1, False)])
def test_a_packet_on_a_conf_is_delivered_if_it_comes_from_a_known_locator(
    source: Locator, delivered: bool
) -> None:
    network, message = answered(Code.CONF, piggyback=SYN)
    outputs = receive(network, network.a, message, source, A1)
    assert (DeliverToUlp(packet(B1, A1, b"SYN")) in outputs) is delivered


# --- verification ---------------------------------------------------------------------------------


def test_a_locator_without_its_reverse_record_leaves_the_initiators_set() -> None:
    network = Network()
    del network.reverse[B2]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.peer_remote == (B1,)
    assert network.a.context.peer_verified == {B1}


def test_a_responder_without_a_name_sends_to_the_aid_and_accepts_every_source() -> None:
    network = Network()
    network.reverse.clear()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_remote == (A1,)
    assert network.b.context.peer_verified == {A1}
    assert network.b.context.peer_acceptable == {A1, A2}


def test_a_reverse_zone_that_points_at_a_victims_name_proves_nothing() -> None:
    network = Network()
    network.names["victim.example"] = [X1]
    network.reverse[X1] = "victim.example"
    network.reverse[A1] = "victim.example"
    network.give(network.a, LocatorsChanged((A1, X1)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1, X1}
    assert network.b.context.peer_verified == {A1}
    assert network.b.context.verification.name == ""


def test_a_third_party_in_the_set_of_a_peer_gets_no_packets() -> None:
    network = Network()
    network.give(network.a, LocatorsChanged((A1, A2, X1)))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.b.context.peer_acceptable == {A1, A2, X1}
    assert network.b.context.peer_verified == {A1, A2}
