# SPDX-License-Identifier: MIT
"""An observer has every packet of a conversation, its set-up too, and this code [D40].

It does not stop packets. What it sends has any source it likes, and any checksum that fits.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import pytest

from noid.constants import MILLISECOND, MINUTE, NONCES_KEPT_MAX, SECOND
from noid.engine.context import Context
from noid.engine.events import LocatorsChanged, SendControl
from noid.engine.secrets import KeyPair, Side, context_key, keyed_hash
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived, OneWayDataSeen
from noid.identifiers import NO_NONCE, Nonce
from noid.locators import Locator
from noid.shares import policy
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message, encode_packet
from noid.wire.options import CRITICAL, LocatorEntry, LocatorFlag, OptionType, Tokens
from noid.wire.peek import blank_authentication
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
    established,
    packet,
)
from tests.engine.test_reachability import silence

MALLORY = KeyPair(b"the key pair of an observer, 32 ")
EVERYWHERE = {(one, other) for one in (A1, A2) for other in (B1, B2)}
FORGEABLE = (Code.CONF, Code.UR, Code.UA, Code.CLOSE, Code.CLOSEACK, Code.KEEPALIVE)


def conversation() -> Network:
    """A conversation with everything that is authenticated in it, and its trace."""
    network = established()
    network.give(network.a, silence(network.a))
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B2})))
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(MINUTE)
    return network


def control(network: Network) -> Iterator[tuple[bytes, ControlMessage]]:
    """The packets of all control messages, and these."""
    for octets in list(network.trace):
        header = ipv6.Header.decode(octets)
        slot = slot_of(header.next_header, CODEPOINTS)
        in_slot = slot is not None and slot.number == SLOT_ICMPV6 and header.flow_label == 0
        if in_slot or header.next_header == ipv6.ICMPV6:
            ends = header.source, header.destination
            yield octets, decode_message(octets[40:], *ends, in_slot=in_slot)


def heard(network: Network) -> dict[Code, ControlMessage]:
    """The last message of each code, as the observer has it."""
    return {message.code: message for _, message in control(network)}


def guesses(messages: dict[Code, ControlMessage]) -> Iterator[bytes]:
    """Every key that one can think of who knows what was said."""
    ccr, conf = messages[Code.CCR], messages[Code.CONF]
    assert ccr.tokens is not None
    assert conf.tokens is not None
    yield Tokens(ccr.tokens.sender, ccr.tokens.receiver).pack(OptionType.TOKENS | CRITICAL)
    yield Tokens(ccr.tokens.receiver, ccr.tokens.sender).pack(OptionType.TOKENS | CRITICAL)
    sides = [
        Side(one.sender_aid, one.context.sender_label, tokens.sender, one.key)
        for one, tokens in ((ccr, ccr.tokens), (conf, conf.tokens))
    ]
    secrets = [bytes(32), b"", ccr.key, conf.key, MALLORY.public]
    secrets += [MALLORY.agree(key) for key in (ccr.key, conf.key)]
    public = [side._replace(key=MALLORY.public) for side in sides]
    for secret, one, other in itertools.product(
        secrets, (sides[0], public[0]), (sides[1], public[1])
    ):
        yield context_key(secret, one, other)
        yield secret[:64]


def forgeries(
    messages: dict[Code, ControlMessage], sender: Locator, receiver: Locator
) -> Iterator[ControlMessage]:
    """Messages in the name of one end, with every key the observer can think of."""
    shaped = messages[Code.UR] if messages[Code.UR].sender_aid == sender else messages[Code.UA]
    labels = shaped.context
    if shaped.sender_aid != sender:
        labels = labels._replace(
            sender_label=labels.receiver_label, receiver_label=labels.sender_label
        )
    mine = tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in (sender, X1))
    theirs = (LocatorEntry(receiver, LocatorFlag.REMOTE),)
    conf = messages[Code.CONF]
    assert conf.tokens is not None
    for key, code in itertools.product(guesses(messages), FORGEABLE):
        message = ControlMessage(
            code=code,
            nonce=Nonce(conf.nonce if code is Code.CONF else 1 << 40),
            sender_aid=sender,
            receiver_aid=receiver,
            context=labels,
            sender_locators=mine,
            receiver_locators=theirs,
            tokens=conf.tokens if code is Code.CONF else None,
            key=MALLORY.public if code is Code.CONF else b"",
            authentication=bytes(16),
        )
        octets = blank_authentication(message.encode(CODEPOINTS.icmpv6_type))
        yield dataclasses.replace(message, authentication=keyed_hash(key, octets))


def portrait(context: Context) -> tuple[object, ...]:
    """What the observer wants to change."""
    return (
        (context.state, context.peer_label, context.agreed_key, context.peer_acceptable),
        (context.peer_marks, context.own_remote, context.peer_update_nonce, context.pair),
        (context.peer_keepalive_nonce, context.closing),
    )


def send(network: Network, station: Station, message: ControlMessage, source: Locator) -> None:
    """A message of the observer's arrives."""
    octets = encode_packet(message, source, station.context.local_aid, CODEPOINTS)[40:]
    event = ControlMessageReceived(source, station.context.local_aid, False, octets)
    network.give(station, event)


def test_the_conversation_has_every_message_that_is_authenticated() -> None:
    network = conversation()
    assert {Code.CONF, Code.UR, Code.UA} <= set(heard(network))


def test_an_observer_of_everything_forges_nothing() -> None:
    network = conversation()
    messages = heard(network)
    for station, peer in ((network.a, network.b), (network.b, network.a)):
        before = portrait(station.context)
        station.outputs.clear()
        forged = list(forgeries(messages, peer.context.local_aid, station.context.local_aid))
        for message in forged:
            send(network, station, message, peer.context.local_aid)
        assert portrait(station.context) == before
        answered = [one.packet[41] for one in station.outputs if isinstance(one, SendControl)]
        assert set(answered) <= {Code.UC, Code.CLOSEACK}, "as to an unknown label [D41]"
        assert len(forged) > 100


def test_who_closes_believes_no_closeack_of_an_observer() -> None:
    network = conversation()
    messages = heard(network)
    network.dead |= EVERYWHERE | {(other, one) for one, other in EVERYWHERE}
    while network.a.context.state is not State.CLOSING:
        network.run(MINUTE)
    closing = network.a.context.closing
    assert closing is not None
    for message in forgeries(messages, B1, A1):
        answer = dataclasses.replace(message, nonce=closing.nonce)
        send(network, network.a, answer, B1)
    assert network.a.context.state is State.CLOSING


@pytest.mark.parametrize("later_ns", [0, MINUTE])
def test_what_was_heard_changes_nothing_when_it_comes_again(later_ns: int) -> None:
    network = conversation()
    network.run(later_ns)
    before = [portrait(station.context) for station in network.stations]
    for octets, _ in control(network):
        network.put(octets)
    network.run(SECOND)
    assert [portrait(station.context) for station in network.stations] == before


def test_an_end_that_is_asked_for_its_secrets_gives_none_away() -> None:
    network = conversation()
    messages = heard(network)
    init = messages[Code.INIT]
    before = portrait(network.b.context)
    network.b.outputs.clear()
    for key in (init.key, MALLORY.public):
        send(network, network.b, dataclasses.replace(init, nonce=Nonce(5), key=key), A1)
    sent = [one.packet for one in network.b.outputs if isinstance(one, SendControl)]
    assert [one[41] for one in sent] == [Code.CC] * 2
    secrets = network.b.context.agreed_key, network.a.context.agreed_key
    assert not any(secret in one for one in (*network.trace, *sent) for secret in secrets)
    assert portrait(network.b.context) == before
    assert messages[Code.CONF].key == network.b.context.local_key


def repeated(network: Network, code: Code) -> ControlMessageReceived:
    """The last message of a code that b sent over the first provider, as it arrives at a again."""
    octets = next(
        octets
        for octets, message in reversed(list(control(network)))
        if message.code is code and octets[8:40] == B1 + A1
    )
    return ControlMessageReceived(B1, A1, octets[6] != ipv6.ICMPV6, octets[40:])


@pytest.mark.parametrize("code", [Code.UR, Code.UA, Code.KEEPALIVE])
def test_what_was_heard_proves_no_life_when_it_comes_again(code: Code) -> None:
    network = established()
    for station in network.stations:
        network.give(station, silence(station))
        network.run(SECOND)
    network.give(network.b, OneWayDataSeen(network.b.context.local_label))
    network.run(SECOND)
    event = repeated(network, code)
    network.kill_provider(1)
    for _ in range(100):
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(10 * MILLISECOND)
        network.give(network.a, event)
    assert network.a.context.pair == (A2, B2), "the pair in use is silent all the same"


def test_a_flood_of_forgeries_keeps_no_authentic_message_out() -> None:
    network = conversation()
    messages = heard(network)
    sender, receiver = network.b.context.local_label, network.a.context.local_label
    forged = [
        dataclasses.replace(
            messages[code],
            sender_aid=B1,
            receiver_aid=A1,
            context=messages[code].context._replace(sender_label=sender, receiver_label=receiver),
        )
        for code in (Code.UR, Code.UA)
    ]

    def flood(count: int) -> None:
        for message, source in itertools.product(forged * count, (B1, B2)):
            send(network, network.a, message, source)

    flood(policy.MESSAGES.burst * policy.MESSAGES.each)
    network.kill_provider(1)
    network.give(network.a, silence(network.a))
    for _ in range(500):
        network.run(MILLISECOND // 5)
        flood(1)
    assert network.a.context.pair == (A2, B2)


def test_a_request_counts_once_whatever_the_order_of_its_burst() -> None:
    context = established().a.context
    context.peer_update_nonce = NO_NONCE
    order = [Nonce(one) for one in (3, 1, 2, 5, 4, 2 * NONCES_KEPT_MAX)]
    for nonce in order:
        assert context.is_unseen(nonce)
        context.see(nonce)
        assert not context.is_unseen(nonce)
    assert not any(map(context.is_unseen, (NO_NONCE, *order)))
    assert context.is_unseen(Nonce(NONCES_KEPT_MAX))
    assert not context.is_unseen(Nonce(NONCES_KEPT_MAX - 1)), "too old to be known"
