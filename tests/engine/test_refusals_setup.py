# SPDX-License-Identifier: MIT
"""What the network may say during a set-up and gain nothing by [D8, D13, D37]."""

import dataclasses

import pytest

from noid.constants import (
    MILLISECOND,
    SECOND,
)
from noid.counters import Drop
from noid.engine.events import (
    DeliverToUlp,
    Dropped,
    LocatorsChanged,
    SendControl,
)
from noid.engine.state import State
from noid.identifiers import NO_LABEL, Label, Nonce, Token
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Piggyback
from noid.wire.options import ContextOption, Cookie, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    STRANGER,
    X1,
    Network,
    begun,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_refusals import EVERY_PAIR, message_in, sent


def ccr_answering(cc: ControlMessage, key: bytes = STRANGER.public) -> ControlMessage:
    """What an initiator with this public key makes of a CC."""
    assert cc.tokens is not None
    return ControlMessage(
        code=Code.CCR,
        nonce=cc.nonce,
        sender_aid=cc.receiver_aid,
        receiver_aid=cc.sender_aid,
        context=ContextOption(
            sender_label=cc.context.receiver_label,
            sender_birthday=cc.context.receiver_birthday,
            receiver_birthday=cc.context.sender_birthday,
        ),
        tokens=Tokens(sender=cc.tokens.receiver, receiver=cc.tokens.sender),
        key=key,
        sender_locators=cc.receiver_locators,
        receiver_locators=cc.sender_locators,
        cookie=cc.cookie,
    )


def ccr_of_a_stranger(network: Network, label: Label) -> ControlMessage:
    """The CCR of a host at X1 that claims to be A1, received while b had no context with A1."""
    init = ControlMessage(
        code=Code.INIT,
        nonce=Nonce(666),
        sender_aid=A1,
        receiver_aid=B1,
        context=ContextOption(sender_label=label),
        tokens=Tokens(sender=Token(777)),
        key=STRANGER.public,
        sender_locators=(LocatorEntry(A1, LocatorFlag.LOCAL),),
        receiver_locators=(LocatorEntry(B1, LocatorFlag.REMOTE),),
    )
    (answer,) = receive(network, network.b, init, X1, B1)
    return ccr_answering(message_in(answer)[1])


@pytest.mark.parametrize(
    "changes", [{"context": ContextOption()}, {"sender_aid": Locator(b"\xff\x02" + bytes(14))}]
)
def test_an_init_without_a_label_or_from_no_unicast_aid_is_dropped(
    changes: dict[str, object],
) -> None:
    network = begun()
    init = dataclasses.replace(sent(network.a, Code.INIT), **changes)  # type: ignore[arg-type] # a case
    assert receive(network, network.b, init, A1, B1) == [Dropped(Drop.INIT_WITHOUT_LABEL_OR_AID)]


def test_a_cookie_on_an_init_does_not_lead_the_answer_astray() -> None:
    network = begun()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    stranger = Cookie(timestamp=0, locator=X1, keyed_hash=bytes(16))
    init = dataclasses.replace(sent(network.a, Code.INIT), cookie=stranger)
    outputs = receive(network, network.b, init, A1, B1)
    (answer,) = [one for one in outputs if isinstance(one, SendControl)]
    header, message = message_in(answer)
    assert message.code is Code.CONF
    assert header.destination == A1


@pytest.mark.parametrize("source", [A1, A2])
def test_a_packet_on_a_crossing_init_is_not_delivered(source: Locator) -> None:
    network = begun()
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    init = dataclasses.replace(sent(network.a, Code.INIT), piggyback=Piggyback(6, b"SYN"))
    outputs = receive(network, network.b, init, source, B1)
    assert DeliverToUlp(packet(A1, B1, b"SYN")) not in outputs


def test_locators_changed_while_init_waits_are_in_the_next_init() -> None:
    network = begun()
    network.give(network.a, LocatorsChanged((A1,)))
    network.dead |= EVERY_PAIR
    network.run(SECOND)
    assert [one.locator for one in sent(network.a, Code.INIT).sender_locators] == [A1]


def test_a_cc_for_another_label_is_dropped() -> None:
    network = begun()
    network.run(20 * MILLISECOND - 1)
    cc = sent(network.b, Code.CC)
    other = dataclasses.replace(cc, context=cc.context._replace(receiver_label=Label(1)))
    assert receive(network, network.a, other, B1, A1) == [Dropped(Drop.CC_WITH_OTHER_LABEL)]
    assert network.a.context.state is State.INIT_SENT


@pytest.mark.parametrize("changes", [{"receiver_label": Label(1)}, {"sender_label": NO_LABEL}])
def test_a_conf_for_another_label_is_dropped(changes: dict[str, Label]) -> None:
    network = begun()
    network.run(40 * MILLISECOND - 1)
    conf = sent(network.b, Code.CONF)
    other = dataclasses.replace(conf, context=conf.context._replace(**changes))
    assert receive(network, network.a, other, B1, A1) == [Dropped(Drop.CONF_WITH_OTHER_LABEL)]
    assert network.a.context.state is State.CCR_SENT


def test_a_ccr_for_an_aid_that_has_gone_since_is_dropped() -> None:
    network = begun()
    network.run(30 * MILLISECOND - 1)
    network.b.locators = (B2,)
    network.give(network.b, LocatorsChanged((B2,)))
    outputs = receive(network, network.b, sent(network.a, Code.CCR), A1, B2)
    assert outputs == [Dropped(Drop.CCR_FOR_AID_NOT_OURS)]


def test_another_host_cannot_complete_our_exchange_as_the_peer() -> None:
    network = Network()
    ccr = ccr_of_a_stranger(network, label=Label(0x666))
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    assert receive(network, network.b, ccr, A1, B1) == [Dropped(Drop.CCR_WOULD_COMPLETE_UNPROVEN)]
    assert network.b.context.state is State.INIT_SENT
    network.run(SECOND)
    assert network.b.context.peer_label == network.a.context.local_label


def test_a_locator_that_is_proven_completes_it_as_the_aid_does() -> None:
    network = Network()
    network.dead.add((A1, B1))
    network.resolve(network.b, network.a)
    init_of_a = dataclasses.replace(
        sent(begun().a, Code.INIT), context=ContextOption(sender_label=Label(0x123))
    )
    (answer,) = receive(network, network.b, init_of_a, A2, B1)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(5 * MILLISECOND)
    assert network.b.context.peer_verified == {A1, A2}
    ccr = ccr_answering(message_in(answer)[1], init_of_a.key)
    receive(network, network.b, ccr, A2, B1)
    assert state_of(network.b) is State.ESTABLISHED
    assert network.b.context.pair == (B1, A2)
    assert not network.b.context.aid_proven


def test_nobody_replaces_a_context_in_the_name_of_the_peer() -> None:
    network = begun()
    ccr = ccr_of_a_stranger(network, label=Label(0x666))
    network.run(SECOND)
    label = network.a.context.local_label
    outputs = receive(network, network.b, ccr, A1, B1)
    assert outputs == [Dropped(Drop.CCR_WOULD_REPLACE_UNPROVEN)]
    assert network.b.context.peer_label == label


def test_nobody_who_only_guessed_the_label_gets_a_conf() -> None:
    network = begun()
    ccr = ccr_of_a_stranger(network, label=network.a.context.local_label)
    network.run(SECOND)
    refused = Dropped(Drop.CCR_WOULD_REPLACE_UNPROVEN)
    assert receive(network, network.b, ccr, A1, B1) == [refused]


def test_a_second_aid_of_the_peer_with_the_same_label_is_another_context() -> None:
    network = established()
    label = network.a.context.local_label
    network.run(SECOND)
    init = dataclasses.replace(
        sent(network.a, Code.INIT), sender_aid=A2, context=ContextOption(sender_label=label)
    )
    (answer,) = receive(network, network.b, init, A1, B1)
    receive(network, network.b, ccr_answering(message_in(answer)[1], init.key), A1, B1)
    assert [one.peer_label for one in network.b.host.contexts] == [label, label]
    assert [one.is_provisional for one in network.b.host.contexts] == [False, True]


def test_a_ulp_packet_with_no_next_header_rides_on_nothing() -> None:
    header = ipv6.Header(
        source=A1, destination=B1, next_header=ipv6.NO_NEXT_HEADER, payload_octets=4
    )
    network = Network()
    network.dead |= {(A1, B1), (A2, B1)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, header.encode() + b"none")
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED
