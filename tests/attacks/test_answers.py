# SPDX-License-Identifier: MIT
"""Answers to unsolicited messages: their destinations and their sizes [D9].

Attacker: any host that can send packets with any source. Guaranteed: no answer goes to an address
that no other host can have; a CC has at most three times the octets of its INIT, a UC its cause and
one header; nothing that rides on an INIT is delivered.
"""

from dataclasses import replace

import pytest

from noid.constants import CC_AMPLIFICATION_MAX
from noid.engine.events import DeliverToUlp, Output, SendControl
from noid.engine.unknown import OPTIONS_OCTETS
from noid.flows.events import ControlMessageReceived, UnknownLabelSeen
from noid.identifiers import Label
from noid.locators import Locator, parse_locator
from noid.wire import ipv6
from noid.wire.control import FIXED_OCTETS, Code, ControlMessage, Piggyback, encode_packet
from tests.engine.network import A1, B1, CODEPOINTS, Network, established
from tests.engine.test_handshake import messages_on

NOBODYS = ("ff02::1", "ff0e::1", "::", "::1", "fe80::1", "::ffff:192.0.2.1", "2001:db8:1:b::b")
"""Sources that no other host can have; the last is B1 itself."""
UC_OCTETS = ipv6.HEADER_OCTETS + FIXED_OCTETS + OPTIONS_OCTETS
"""Of a UC without the packet that caused it."""
UNSOLICITED = (Code.INIT, Code.UR, Code.CLOSE)


@pytest.fixture
def stranger() -> Network:
    """A network whose B has no context."""
    return Network(seed=7)


def forged(code: Code) -> ControlMessage:
    """A message of a conversation that B does not know."""
    network = established()
    init = next(one for one in messages_on(network) if one.code is Code.INIT)
    if code is Code.INIT:
        return init
    labels = init.context._replace(receiver_label=network.a.context.peer_label)
    message = replace(init, code=code, context=labels, tokens=None, authentication=bytes(16))
    if code is Code.CLOSE:
        message = replace(message, sender_locators=(), receiver_locators=())
    return message


def answers(network: Network, message: ControlMessage, source: Locator) -> list[Output]:
    cause = encode_packet(message, source, B1, CODEPOINTS)
    event = ControlMessageReceived(source, B1, False, cause[ipv6.HEADER_OCTETS :])
    return network.b.host.handle(event, network.now_ns)


def sent(outputs: list[Output]) -> list[bytes]:
    return [one.packet for one in outputs if isinstance(one, SendControl)]


def data(source: Locator, octets: int) -> bytes:
    header = ipv6.Header(
        source=source, destination=B1, next_header=224, payload_octets=octets, flow_label=Label(7)
    )
    return header.encode() + bytes(octets)


@pytest.mark.parametrize("text", NOBODYS)
@pytest.mark.parametrize("code", UNSOLICITED)
def test_no_message_from_such_a_source_is_answered(
    stranger: Network, code: Code, text: str
) -> None:
    message = forged(code)
    assert sent(answers(stranger, message, A1)), "from a host it would be"
    assert not sent(answers(stranger, message, parse_locator(text)))


@pytest.mark.parametrize("text", NOBODYS)
def test_no_data_from_such_a_source_is_answered(stranger: Network, text: str) -> None:
    host = stranger.b.host
    assert sent(host.handle(UnknownLabelSeen(data(A1, 8)), stranger.now_ns))
    assert not sent(host.handle(UnknownLabelSeen(data(parse_locator(text), 8)), stranger.now_ns))


@pytest.mark.parametrize("octets", [0, 1, 8, 1000, 1400])
def test_a_uc_has_no_more_octets_than_its_cause_and_a_header(
    stranger: Network, octets: int
) -> None:
    cause = data(A1, octets)
    (answer,) = sent(stranger.b.host.handle(UnknownLabelSeen(cause), stranger.now_ns))
    assert len(answer) <= len(cause) + UC_OCTETS


def test_a_cc_has_at_most_three_times_the_octets_of_its_init(stranger: Network) -> None:
    message = forged(Code.INIT)
    cause = encode_packet(message, A1, B1, CODEPOINTS)
    (answer,) = sent(answers(stranger, message, A1))
    assert len(answer) <= CC_AMPLIFICATION_MAX * len(cause)


@pytest.mark.parametrize("code", [Code.UR, Code.CLOSE])
def test_the_answer_to_an_unknown_context_is_at_most_a_header_longer(
    stranger: Network, code: Code
) -> None:
    message = forged(code)
    cause = encode_packet(message, A1, B1, CODEPOINTS)
    (answer,) = sent(answers(stranger, message, A1))
    assert len(answer) <= len(cause) + UC_OCTETS


@pytest.mark.parametrize("has_context", [False, True])
def test_what_rides_on_an_init_is_not_delivered(has_context: bool) -> None:
    network = established() if has_context else Network(seed=7)
    init = replace(forged(Code.INIT), piggyback=Piggyback(ipv6.UDP, bytes(8)))
    outputs = answers(network, init, A1)
    assert not [one for one in outputs if isinstance(one, DeliverToUlp)]
