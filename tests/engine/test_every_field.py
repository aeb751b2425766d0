# SPDX-License-Identifier: MIT
"""Every field of every message, of hosts of which all is different."""

from dataclasses import replace

import pytest

from noid.constants import CONTEXT_IDLE_TIME, MILLISECOND, SECOND
from noid.engine.causes import Cause
from noid.engine.close import close, say_close
from noid.engine.events import LocatorsChanged, SendControl, TimePassed
from noid.engine.handshake import start
from noid.engine.secrets import reset_hash, reset_token
from noid.engine.state import State, Trigger
from noid.engine.update import short_message
from noid.flows.events import ControlMessageReceived, OneWayDataSeen, UnknownLabelSeen
from noid.identifiers import Label, Nonce
from noid.locators import UNSPECIFIED, Locator
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
from noid.wire.options import ContextOption, Entries, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    Station,
    packet,
    receive,
    state_of,
)
from tests.engine.test_conformance_setup import control_of, sent_by

LOCAL, REMOTE = LocatorFlag.LOCAL, LocatorFlag.REMOTE
BIRTHDAYS = {"a": 0x0A0A_0A0A, "b": 0x0B0B_0B0B}
RESET_KEYS = {"a": b"a" * 32, "b": b"b" * 32}
KEPT_BIRTHDAY = 0x0C0C_0C0C


def of(flags: int, *locators: Locator) -> Entries:
    return tuple(LocatorEntry(one, flags) for one in locators)


@pytest.fixture
def network() -> Network:
    """Hosts whose birthdays and keys differ; nothing has been sent yet."""
    one = Network()
    for station in one.stations:
        core, name = station.host.core, station.name[0]
        core.options = replace(core.options, birthday=BIRTHDAYS[name], reset_key=RESET_KEYS[name])
    return one


def set_up(network: Network, duration_ns: int = SECOND) -> Network:
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(duration_ns)
    return network


def only(station: Station, code: Code) -> ControlMessage:
    """The one message of a code that a station has sent."""
    ((_, message),) = sent_by(station, code)
    return message


def hash_of(station: Station) -> bytes:
    """What proves a later UC of a station, in its messages of a set-up."""
    name = station.name[0]
    token = reset_token(RESET_KEYS[name], BIRTHDAYS[name], station.context.local_label)
    return reset_hash(token)


def labels(sender: Station, receiver: Station) -> ContextOption:
    return ContextOption(
        sender_label=sender.context.local_label,
        receiver_label=receiver.context.local_label,
        sender_birthday=BIRTHDAYS[sender.name[0]],
        receiver_birthday=BIRTHDAYS[receiver.name[0]],
    )


def test_the_four_messages_of_a_set_up(network: Network) -> None:
    a, b = set_up(network).a, network.b
    init, cc, ccr, conf = (
        only(a, Code.INIT),
        only(b, Code.CC),
        only(a, Code.CCR),
        only(b, Code.CONF),
    )
    assert cc.tokens is not None
    assert len({init.nonce, a.context.local_token, cc.tokens.sender, 0}) == 4
    assert init.key == a.context.local_key != cc.key == b.context.local_key
    assert init == ControlMessage(
        code=Code.INIT,
        nonce=init.nonce,
        sender_aid=A1,
        receiver_aid=B1,
        context=ContextOption(sender_label=a.context.local_label, sender_birthday=BIRTHDAYS["a"]),
        tokens=Tokens(sender=a.context.local_token),
        key=a.context.local_key,
        sender_locators=of(LOCAL, A1, A2),
        receiver_locators=of(REMOTE, B1, B2),
    )
    assert cc == ControlMessage(
        code=Code.CC,
        nonce=init.nonce,
        sender_aid=B1,
        receiver_aid=A1,
        context=labels(b, a)._replace(sender_label=Label(0)),
        tokens=Tokens(sender=b.context.local_token, receiver=a.context.local_token),
        key=b.context.local_key,
        sender_locators=of(LOCAL | REMOTE, B1, B2),
        receiver_locators=init.sender_locators,
        cookie=cc.cookie,
    )
    assert cc.cookie is not None
    assert cc.cookie.locator == A1
    assert ccr == ControlMessage(
        code=Code.CCR,
        nonce=init.nonce,
        sender_aid=A1,
        receiver_aid=B1,
        context=labels(a, b)._replace(receiver_label=Label(0)),
        tokens=Tokens(sender=a.context.local_token, receiver=b.context.local_token),
        key=a.context.local_key,
        sender_locators=init.sender_locators,
        receiver_locators=cc.sender_locators,
        cookie=cc.cookie,
        reset_token=hash_of(a),
    )
    assert conf == ControlMessage(
        code=Code.CONF,
        nonce=init.nonce,
        sender_aid=B1,
        receiver_aid=A1,
        context=labels(b, a),
        tokens=Tokens(sender=b.context.local_token, receiver=a.context.local_token),
        key=b.context.local_key,
        authentication=conf.authentication,
        reset_token=hash_of(b),
    )
    assert any(conf.authentication)
    assert (a.context.peer_reset_hash, b.context.peer_reset_hash) == (hash_of(b), hash_of(a))
    assert a.context.peer_birthday == BIRTHDAYS["b"]
    assert b.context.peer_birthday == BIRTHDAYS["a"]


def test_a_set_up_over_another_locator_carries_the_packet_that_waits(network: Network) -> None:
    network.kill_provider(1)
    a, b = set_up(network, 275 * MILLISECOND).a, network.b
    first, init = (one for _, one in sent_by(a, Code.INIT)[:2])
    assert first.nonce != init.nonce
    riding = Piggyback(ipv6.TCP, packet(A1, B1)[ipv6.HEADER_OCTETS :])
    assert init.piggyback is None, "it comes from another source than the packet"
    cc, ccr = only(b, Code.CC), only(a, Code.CCR)
    assert cc.flags == NO_FLAGS
    assert cc.cookie is not None
    assert (cc.nonce, cc.cookie.locator) == (init.nonce, A2)
    assert ccr.piggyback == riding


def test_a_cc_says_that_it_has_discarded_a_packet(network: Network) -> None:
    network.dead = {(A1, B1), (A2, B2), (A2, B1)}
    set_up(network, 775 * MILLISECOND)
    _, init = sent_by(network.a, Code.INIT)[-1]
    assert init.piggyback == Piggyback(ipv6.TCP, packet(A1, B1)[ipv6.HEADER_OCTETS :])
    assert only(network.b, Code.CC).flags == Flag.ULP_PACKET_DISCARDED
    assert only(network.a, Code.CCR).piggyback == init.piggyback


def test_an_init_says_the_birthday_that_its_sender_knew(network: Network) -> None:
    context = set_up(network).a.context
    context.peer_birthday = KEPT_BIRTHDAY
    network.give(network.a, TimePassed())
    network.a.outputs.clear()
    start(network.a.host.core, context, b"", Trigger.UC, Cause.PEER_LOST_CONTEXT)
    network.give(network.a, TimePassed())
    assert only(network.a, Code.INIT).context == ContextOption(
        sender_label=context.local_label,
        sender_birthday=BIRTHDAYS["a"],
        receiver_birthday=KEPT_BIRTHDAY,
    )
    assert context.untold, "a peer that still has the context takes no sets from the exchange"


def test_an_update_and_its_acknowledgement(network: Network) -> None:
    a, b = set_up(network).a, network.b
    heard = Nonce(77)
    a.context.peer_update_nonce = heard
    deprecated = LocatorFlag.DEPRECATED
    network.give(a, LocatorsChanged((A1, A2), deprecated=frozenset({A2})))
    network.run(15 * MILLISECOND)
    request, answer = only(a, Code.UR), only(b, Code.UA)
    assert request == ControlMessage(
        code=Code.UR,
        nonce=a.context.update_nonce,
        sender_aid=A1,
        receiver_aid=B1,
        context=labels(a, b),
        sender_locators=(*of(LOCAL, A1), *of(LOCAL | deprecated, A2)),
        receiver_locators=of(REMOTE, B1, B2),
        authentication=request.authentication,
        heard=heard,
    )
    assert answer == ControlMessage(
        code=Code.UA,
        nonce=request.nonce,
        sender_aid=B1,
        receiver_aid=A1,
        context=labels(b, a),
        authentication=answer.authentication,
    )
    assert b.context.marks_of(A2) == deprecated


@pytest.mark.parametrize("answers", [False, True])
def test_a_request_lists_what_the_peer_has_said_until_the_dns_has_answered(
    network: Network, answers: bool
) -> None:
    """Otherwise the peer would leave locators that the DNS proves soon after."""
    network.dns_works = answers
    context = set_up(network).b.context
    assert context.verification.settled is answers
    context.peer_local = (A1, X1)
    octets = encode_packet(network.b.request(5), B1, A1, CODEPOINTS)[ipv6.HEADER_OCTETS :]
    request = decode_message(octets, B1, A1, in_slot=False)
    assert request.receiver_locators == of(REMOTE, A1, A2 if answers else X1)


def test_a_keepalive(network: Network) -> None:
    a, b = set_up(network).a, network.b
    network.give(b, OneWayDataSeen(b.context.local_label))
    message = only(b, Code.KEEPALIVE)
    assert message == ControlMessage(
        code=Code.KEEPALIVE,
        nonce=b.context.update_nonce,
        sender_aid=B1,
        receiver_aid=A1,
        context=labels(b, a),
        authentication=message.authentication,
    )
    ((header, _),) = sent_by(b, Code.KEEPALIVE)
    assert header.next_header == CODEPOINTS.rewritable_first + 6
    network.run(15 * MILLISECOND)
    assert a.context.peer_keepalive_nonce == message.nonce


def test_a_close_and_its_acknowledgement(network: Network) -> None:
    a, b = set_up(network).a, network.b
    expected, answered = labels(a, b), labels(b, a)
    close(a.host.core, a.context, Trigger.IDLE_CHECKED, Cause.IDLE)
    network.give(a, TimePassed())
    assert state_of(a) is State.CLOSING
    network.run(15 * MILLISECOND)
    message, answer = only(a, Code.CLOSE), only(b, Code.CLOSEACK)
    assert message == ControlMessage(
        code=Code.CLOSE,
        nonce=message.nonce,
        sender_aid=A1,
        receiver_aid=B1,
        context=expected,
        authentication=message.authentication,
    )
    assert answer == ControlMessage(
        code=Code.CLOSEACK,
        nonce=message.nonce,
        sender_aid=B1,
        receiver_aid=A1,
        context=answered,
        authentication=answer.authentication,
    )
    headers = [sent_by(a, Code.CLOSE)[0][0], sent_by(b, Code.CLOSEACK)[0][0]]
    assert [one.next_header for one in headers] == [ipv6.ICMPV6] * 2
    network.run(CONTEXT_IDLE_TIME)
    assert a.host.contexts == b.host.contexts == []


def test_a_context_that_is_evicted_is_closed_by_a_plain_message(network: Network) -> None:

    a = set_up(network).a
    say_close(a.host.core, a.context)
    network.give(a, TimePassed())
    ((header, message),) = sent_by(a, Code.CLOSE)
    assert header.next_header == ipv6.ICMPV6
    assert message.context == labels(a, network.b)


def test_a_uc_about_data_and_about_a_message(network: Network) -> None:
    a, b = set_up(network).a, network.b
    label = Label(0x54321)
    data = ipv6.Header(
        source=A1,
        destination=B1,
        next_header=CODEPOINTS.fixed_first,
        payload_octets=9,
        flow_label=label,
    )
    network.give(b, UnknownLabelSeen(data.encode() + b"nine octe"))
    ((header, message),) = sent_by(b, Code.UC)
    token = reset_token(RESET_KEYS["b"], BIRTHDAYS["b"] - 1, label)
    assert message == ControlMessage(
        code=Code.UC,
        nonce=message.nonce,
        sender_aid=UNSPECIFIED,
        receiver_aid=UNSPECIFIED,
        context=ContextOption(receiver_label=label, sender_birthday=BIRTHDAYS["b"]),
        reset_token=token,
        piggyback=Piggyback(ipv6.IPV6, data.encode() + b"nine octe"),
    )
    assert (header.source, header.destination, header.next_header) == (B1, A1, ipv6.ICMPV6)
    b.outputs.clear()
    unknown = short_message(a.host.core, a.context, Code.KEEPALIVE, Nonce(9))
    receive(network, b, unknown[:52] + bytes(8) + unknown[60:], A1, B1)
    assert sent_by(b, Code.UC) == []


@pytest.mark.parametrize("in_slot", [False, True])
def test_a_uc_quotes_a_request_in_the_form_in_which_it_came(
    network: Network, in_slot: bool
) -> None:

    a, b = set_up(network).a, network.b
    request = a.request(9)
    b.host.inspection.evict(b.context)
    network.give(b, TimePassed())
    b.outputs.clear()
    whole = encode_packet(request, A1, B1, CODEPOINTS, rewritable=in_slot)
    network.give(b, ControlMessageReceived(A1, B1, in_slot, whole[ipv6.HEADER_OCTETS :]))
    message = only(b, Code.UC)
    assert message.piggyback == Piggyback(ipv6.IPV6, whole)
    assert message.context.receiver_label == a.context.peer_label


def test_every_message_fits_the_checksum_of_its_form(network: Network) -> None:
    set_up(network)
    for station in network.stations:
        packets = [one.packet for one in station.outputs if isinstance(one, SendControl)]
        assert packets
        assert all(control_of(one) is not None for one in packets)
    assert (network.a.context.peer_aid, network.b.context.peer_local) == (B1, (A1, A2))
    assert network.b.context.verification.remote == (A1, A2)
    assert network.a.context.peer_verified == {B1, B2}
