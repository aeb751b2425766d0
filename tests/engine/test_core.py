# SPDX-License-Identifier: MIT
"""What the rooms of the engine share: options, chance, tables [D7, D16, D17, D31, D37]."""

import pytest

from noid.constants import SECOND
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.core import Core
from noid.engine.options import HostOptions
from noid.engine.state import Timer, Trigger
from noid.engine.update import request
from noid.identifiers import Label, Nonce
from noid.wire import ipv6
from noid.wire.control import Code
from tests.engine.network import A1, A2, B1, CODEPOINTS, established, packet, receive
from tests.engine.test_conformance_later import unknown_context
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_provisional import ccr_from, provisional
from tests.engine.test_reachability import silence

BIRTHDAYS = 1 << 32
CARRIED_AT = 4
"""Where a message says what rides on it."""


def options(birthday: int = 1) -> HostOptions:
    return HostOptions(codepoints=CODEPOINTS, birthday=birthday, reset_key=bytes(32))


def test_a_birthday_has_32_bits() -> None:
    assert options(BIRTHDAYS - 1).birthday == BIRTHDAYS - 1
    with pytest.raises(AssertionError):
        options(BIRTHDAYS)


@pytest.mark.parametrize(("octet", "factor"), [(b"\x00", 0.5), (b"\xff", 1.5)])
def test_chance_takes_a_delay_from_a_half_to_one_and_a_half(octet: bytes, factor: float) -> None:
    core = Core(options(), lambda count: octet * count)
    assert core.jittered(4 * SECOND) == factor * 4 * SECOND


def test_a_packet_that_is_a_header_alone_is_a_packet() -> None:
    network = established()
    octets = request(network.a.host.core, network.a.context, Nonce(1), packet=packet(A1, B1, b""))
    assert octets[CARRIED_AT] == ipv6.TCP


def test_the_rest_of_the_provisional_contexts_are_counted_when_one_is_proven() -> None:
    network = provisional(A2)
    for label in (0x201, 0x202):
        receive(network, network.b, ccr_from(network, A2, Label(label)), A2, B1)
    core = network.b.host.core
    assert core.provisional.count == 3
    lifecycle.prove(core, network.b.host.contexts[0])
    assert core.provisional.count == 2


def test_a_context_that_is_gone_waits_for_no_answer() -> None:
    network = established()
    core = network.b.host.core
    network.b.in_use = True
    core.set_timer(network.b.context, Timer.VERIFY_AGAIN, 0)
    network.run(1)
    assert network.b.context.renewal is not None
    assert any(core.questions.values())
    lifecycle.discard(core, network.b.context, Trigger.NO_ROOM, Cause.NO_ROOM)
    assert not any(core.questions.values())


def test_a_peer_that_kept_its_context_continues_its_nonces() -> None:
    network = established()
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    counted = network.a.context.peer_update_nonce
    assert counted > 0
    receive(network, network.a, unknown_context(network), B1, A1)
    network.run(SECOND)
    assert sent_by(network.b, Code.CONF)
    assert network.a.context.peer_update_nonce == counted
