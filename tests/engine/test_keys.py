# SPDX-License-Identifier: MIT
"""Both ends of a set-up agree on a key, and what is not made with it counts for nothing [D40]."""

import dataclasses
from collections.abc import Iterable

import pytest

from noid.constants import KEYS_LIFETIME, MILLISECOND, MINUTE, SECOND
from noid.counters import Drop
from noid.engine.events import Dropped, SendControl
from noid.engine.secrets import KeyPair
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived
from noid.shares.policy import AGREEMENTS, CHECKS
from noid.wire import ipv6
from noid.wire.control import Code, encode_packet
from noid.wire.options import CRITICAL, HEAD, KEY_OCTETS, OptionType
from noid.wire.peek import blank_authentication
from tests.engine.network import (
    A1,
    B1,
    CODEPOINTS,
    X1,
    Network,
    begun,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_conformance_setup import sent_by

NO_POINT = bytes(KEY_OCTETS)
"""The public key with which every agreement is zero."""


def waiting(code: Code) -> Network:
    """A network in which the first message of a code has been sent, and has not arrived."""
    network = begun()
    while not any(one[41] == code for _, one in network.wire):
        network.run(MILLISECOND)
    return network


def without_key(octets: bytes) -> bytes:
    """A message without its public key, which stands last."""
    head = HEAD.pack(OptionType.KEY | CRITICAL, KEY_OCTETS)
    at = octets.index(head)
    assert at + 40 == len(octets)
    short = bytearray(octets[:at])
    short[2:4], short[5] = bytes(2), at // 8
    total = ipv6.checksum(A1, B1, ipv6.ICMPV6, bytes(short))
    return bytes(short[:2] + total.to_bytes(2, "big") + short[4:])


def test_a_message_without_a_public_key_is_dropped_and_counted() -> None:
    network = waiting(Code.INIT)
    octets = without_key(network.wire.pop()[1][40:])
    outputs = network.give(network.b, ControlMessageReceived(A1, B1, False, octets))
    assert outputs == [Dropped(Drop.INVALID_MESSAGE, "INIT without KEY")]
    assert network.b.host.drops == {Drop.INVALID_MESSAGE: 1}


def test_a_cc_whose_key_gives_no_secret_is_dropped() -> None:
    network = waiting(Code.CC)
    _, cc = sent_by(network.b, Code.CC)[0]
    forged = dataclasses.replace(cc, key=NO_POINT)
    assert receive(network, network.a, forged, B1, A1) == [Dropped(Drop.CC_WITH_BAD_KEY)]
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED


def test_a_ccr_whose_key_gives_no_secret_makes_no_context() -> None:
    network = waiting(Code.INIT)
    network.wire.clear()
    _, init = sent_by(network.a, Code.INIT)[0]
    receive(network, network.b, dataclasses.replace(init, key=NO_POINT), A1, B1)
    network.run(15 * MILLISECOND)
    _, ccr = sent_by(network.a, Code.CCR)[0]
    forged = dataclasses.replace(ccr, key=NO_POINT)
    assert receive(network, network.b, forged, A1, B1) == [Dropped(Drop.CCR_WITH_BAD_KEY)]
    assert network.b.host.contexts == []


def test_a_ccr_with_another_key_than_its_init_is_dropped() -> None:
    network = waiting(Code.CCR)
    _, ccr = sent_by(network.a, Code.CCR)[0]
    forged = dataclasses.replace(ccr, key=KeyPair(b"another".ljust(32)).public)
    outputs = receive(network, network.b, forged, A1, B1)
    assert outputs == [Dropped(Drop.CCR_WITH_BAD_COOKIE)]


@pytest.mark.parametrize("field", ["key", "authentication"])
def test_a_conf_that_was_altered_is_dropped(field: str) -> None:
    network = waiting(Code.CONF)
    _, conf = sent_by(network.b, Code.CONF)[0]
    other = KeyPair(b"another".ljust(32)).public[: len(getattr(conf, field))]
    forged = dataclasses.replace(conf, **{field: other})  # type: ignore[arg-type] # a case
    assert receive(network, network.a, forged, B1, A1) == [Dropped(Drop.CONF_NOT_AUTHENTIC)]
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED


def test_a_message_of_a_hosts_own_is_none_of_its_peer() -> None:
    network = established()
    network.run(SECOND)
    a, b = network.a.context, network.b.context
    assert a.agreed_key == b.agreed_key
    assert a.local_aid != b.local_aid
    _, conf = sent_by(network.b, Code.CONF)[0]
    turned = dataclasses.replace(conf, sender_aid=conf.receiver_aid, receiver_aid=conf.sender_aid)
    octets = [one.encode(CODEPOINTS.icmpv6_type) for one in (conf, turned)]
    assert blank_authentication(octets[0]) != blank_authentication(octets[1])


def crossing_inits(network: Network, keys: Iterable[int]) -> int:
    """How many INITs with keys of these numbers a, in INIT-SENT, answers."""
    answers = 0
    _, init = sent_by(network.a, Code.INIT)[0]
    for number in keys:
        key = KeyPair(number.to_bytes(KEY_OCTETS, "big")).public
        forged = dataclasses.replace(init, sender_aid=B1, receiver_aid=A1, key=key)
        outputs = receive(network, network.a, forged, B1, A1)
        sent = [output.packet for output in outputs if isinstance(output, SendControl)]
        answers += any(one[41] == Code.CONF for one in sent)
    return answers


def test_keys_computed_for_crossing_inits_are_rate_limited_per_context() -> None:
    network = begun()
    assert crossing_inits(network, range(3 * AGREEMENTS.each)) == AGREEMENTS.each
    assert crossing_inits(network, [AGREEMENTS.each - 1]) == 1, "that is known"
    network.wire.clear()
    network.dead |= {(one, other) for one in network.a.locators for other in network.b.locators}
    network.run(SECOND)
    assert crossing_inits(network, range(100, 120)) == AGREEMENTS.each


def test_inits_that_cross_ours_are_answered_at_the_rate_of_their_prefix() -> None:
    network = begun()
    answers = crossing_inits(network, [0] * (2 * CHECKS.each_at_once))
    assert answers == CHECKS.each_at_once, "the same one again needs no new key"


def test_an_init_that_crosses_ours_from_elsewhere_is_dropped() -> None:
    network = begun()
    _, init = sent_by(network.a, Code.INIT)[0]
    crossing = dataclasses.replace(init, sender_aid=B1, receiver_aid=A1)
    outside = Dropped(Drop.INIT_FROM_UNKNOWN_LOCATOR)
    assert receive(network, network.a, crossing, X1, A1) == [outside]


def test_an_init_that_crosses_ours_with_a_key_that_gives_no_secret_gets_no_conf() -> None:
    network = begun()
    network.wire.clear()
    _, init = sent_by(network.a, Code.INIT)[0]
    forged = dataclasses.replace(init, sender_aid=B1, receiver_aid=A1, key=NO_POINT)
    outputs = receive(network, network.a, forged, B1, A1)
    assert Dropped(Drop.INIT_KEY_REFUSED) in outputs
    codes = [one.packet[41] for one in outputs if isinstance(one, SendControl)]
    assert codes == [Code.CC]


def test_inits_that_cross_keep_no_set_up_from_its_end() -> None:
    network = begun()
    crossing_inits(network, range(3 * AGREEMENTS.each))
    network.run(SECOND)
    assert state_of(network.a) is state_of(network.b) is State.ESTABLISHED
    assert network.a.context.agreed_key == network.b.context.agreed_key


def test_an_exchange_that_takes_long_keeps_its_key_pair() -> None:
    network = begun()
    network.dead |= {(one, other) for one in network.b.locators for other in network.a.locators}
    network.run(11 * MINUTE)
    keys = {init.key for _, init in sent_by(network.a, Code.INIT)}
    assert len(sent_by(network.a, Code.INIT)) > 4
    assert len(keys) == 1


def test_a_set_up_completes_although_both_ends_renew_their_keys() -> None:
    network = Network()
    network.b.host.core.keys.pair(network.now_ns)
    network.a.host.core.keys.pair(network.now_ns)
    network.run(KEYS_LIFETIME - 15 * MILLISECOND)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.agreed_key == network.b.context.agreed_key != b""
    network.run(SECOND)
    fresh = Network()
    init = dataclasses.replace(sent_by(network.a, Code.INIT)[0][1], sender_aid=A1)
    octets = encode_packet(init, A1, B1, CODEPOINTS)[40:]
    network.b.host.core.contexts.clear()
    network.give(network.b, ControlMessageReceived(A1, B1, False, octets))
    assert sent_by(network.b, Code.CC)[-1][1].key != network.b.context.local_key
    assert not fresh.b.host.contexts
