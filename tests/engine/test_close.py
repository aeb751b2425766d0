# SPDX-License-Identifier: MIT
"""The close exchange, with the draft's three examples [draft Appendix A, D19]."""

from dataclasses import replace

import pytest

from noid.constants import (
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    COOKIE_LIFETIME,
    MILLISECOND,
    MINUTE,
    SECOND,
    SEGMENT_LIFETIME,
)
from noid.counters import Drop
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.events import IdleChecked, LocatorsChanged, StateChanged, TimePassed
from noid.engine.quarantine import exchange_of
from noid.engine.state import State, Trigger
from noid.identifiers import Label
from noid.wire import ipv6
from noid.wire.control import Code, decode_message
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    Network,
    Station,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_conformance_later import unknown_context

X = CONTEXT_IDLE_TIME
EVERY_A_TO_B = {(A1, B1), (A1, B2), (A2, B1), (A2, B2)}
EVERY_B_TO_A = {(B1, A1), (B1, A2), (B2, A1), (B2, A2)}


def changes(station: Station) -> list[tuple[State, str]]:
    return [
        (output.new, output.why) for output in station.outputs if isinstance(output, StateChanged)
    ]


def codes(network: Network) -> list[Code]:
    found = []
    for one in network.trace:
        header = ipv6.Header.decode(one)
        if header.next_header == ipv6.ICMPV6:
            ends = header.source, header.destination
            found.append(decode_message(one[40:], *ends, in_slot=False).code)
    return found


def talk(network: Network, sender: Station, times: int, gap_ns: int) -> None:
    ends = (A1, B1) if sender is network.a else (B1, A1)
    for _ in range(times):
        network.ulp_sends(sender, packet(*ends))
        network.run(gap_ns)


def test_example_1_an_idle_context_is_closed_by_two_messages() -> None:
    network = established()
    talk(network, network.b, 6, 2 * MINUTE)
    network.trace.clear()
    network.run(X + SECOND)
    assert network.a.host.contexts == network.b.host.contexts == []
    assert codes(network)[:2] == [Code.CLOSE, Code.CLOSEACK]
    assert (State.IDLE, Cause.CLOSED_BY_PEER) in changes(network.a) + changes(network.b)
    assert network.a.unknown == network.b.unknown == 0


def test_example_2_one_direction_fails() -> None:
    network = established()
    network.dead |= EVERY_A_TO_B
    talk(network, network.a, 20, MINUTE)
    network.run(2 * X + CLOSE_TIME)
    assert network.a.host.contexts == network.b.host.contexts == []
    assert (State.IDLE, Cause.CLOSED_BY_PEER) in changes(network.a)
    assert (State.IDLE, Cause.CLOSE_UNACKNOWLEDGED) in changes(network.b)
    assert network.a.unknown == network.b.unknown == 0


def test_example_3_both_directions_fail() -> None:
    network = established()
    network.dead |= EVERY_A_TO_B | EVERY_B_TO_A
    for _ in range(20):
        talk(network, network.a, 1, 30 * SECOND)
        talk(network, network.b, 1, 30 * SECOND)
    network.run(X + CLOSE_TIME + MINUTE)
    assert network.a.host.contexts == network.b.host.contexts == []
    assert (State.IDLE, Cause.CLOSE_UNACKNOWLEDGED) in changes(network.a)
    assert (State.IDLE, Cause.CLOSE_UNACKNOWLEDGED) in changes(network.b)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_lost_no_data_arrives_without_a_context(seed: int) -> None:
    network = established(seed + 20)
    moments = network.a.random
    for _ in range(60):
        sender = moments.choice([network.a, network.b])
        if moments.random() < 0.4:
            network.dead = set(moments.sample(sorted(EVERY_A_TO_B | EVERY_B_TO_A), 4))
        if moments.random() < 0.3:
            network.dead = EVERY_A_TO_B | EVERY_B_TO_A
        talk(network, sender, 1, moments.randrange(10 * MINUTE))
    assert network.a.unknown == network.b.unknown == 0


def test_a_context_with_an_open_connection_is_not_idle() -> None:
    network = established()
    network.a.in_use = network.b.in_use = True
    network.run(10 * X)
    assert network.a.context.state is network.b.context.state is State.ESTABLISHED


def test_a_context_in_use_is_not_closed() -> None:
    network = established()
    for _ in range(10):
        talk(network, network.a, 1, 5 * MINUTE)
        talk(network, network.b, 1, 5 * MINUTE)
    assert network.a.context.state is network.b.context.state is State.ESTABLISHED


def closing() -> Network:
    """A network whose b is in CLOSING and cannot reach a."""
    network = established()
    network.dead |= EVERY_B_TO_A
    talk(network, network.b, 1, SECOND)
    network.a.in_use = True
    network.run(X + SECOND)
    assert network.b.context.state is State.CLOSING
    return network


def test_in_closing_nothing_is_sent_but_data_is_received() -> None:
    network = closing()
    assert network.b.rewriter.flow_of(packet(B1, A1)) is None
    network.ulp_sends(network.a, packet(A1, B1, b"late"))
    network.run(10 * MILLISECOND)
    assert network.b.delivered[-1] == packet(A1, B1, b"late")


def test_a_new_context_stands_beside_the_one_that_is_closing() -> None:
    network = closing()
    old = network.b.context.local_label
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1, b"new"))
    assert {c.state for c in network.b.host.contexts} == {State.CLOSING, State.INIT_SENT}
    network.dead.clear()
    network.run(5 * SECOND)
    (new,) = [c for c in network.b.host.contexts if c.state is State.ESTABLISHED]
    assert new.local_label != old
    network.ulp_sends(network.b, packet(B1, A1, b"new"))
    network.run(MINUTE)
    assert network.a.delivered[-1] == packet(B1, A1, b"new")
    assert network.b.host.contexts == [new]


def test_an_init_makes_a_new_context_while_the_old_one_closes() -> None:
    network = closing()
    fresh = Network(seed=31)
    network.a.host = fresh.a.host
    network.a.host.core.now_ns = 0
    network.a.datapath = fresh.a.datapath
    network.dead.clear()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert {c.state for c in network.b.host.contexts} == {State.CLOSING, State.ESTABLISHED}


def test_labels_are_not_used_again_while_packets_may_be_about() -> None:
    network = established()
    label = network.b.context.local_label
    network.run(X + 2 * SECOND)
    assert label in network.b.host.core.quarantine
    network.run(CONTEXT_IDLE_TIME + SEGMENT_LIFETIME)
    network.give(network.b, TimePassed())
    network.b.host.core.quarantine.put(Label(1), network.b.host.core.now_ns, b"", None)
    assert label not in network.b.host.core.quarantine


def test_the_exchange_of_a_deleted_context_is_remembered_while_its_cookie_is_valid() -> None:
    for age_ns, is_remembered in ((SECOND, True), (COOKIE_LIFETIME + SECOND, False)):
        network = established()
        network.run(age_ns)
        network.give(network.b, TimePassed())
        context, core = network.b.context, network.b.host.core
        exchange = exchange_of(context)
        lifecycle.discard(core, context, Trigger.NO_ROOM, Cause.NO_ROOM)
        assert context.local_label in core.quarantine
        assert (core.quarantine.deleted_ns(exchange) >= 0) is is_remembered


def test_a_forged_close_is_dropped() -> None:
    network = closing()
    network.dead.clear()
    network.trace.clear()
    network.run(3 * MINUTE)
    close = next(one for one in network.trace if one[6] == 58 and one[41] == Code.CLOSE)
    victim = established(seed=2)
    octets = bytearray(close[40:])
    octets[48 + 4 : 48 + 8] = victim.b.context.local_label.to_bytes(4, "big")
    octets[48 + 8 : 48 + 12] = victim.a.context.local_label.to_bytes(4, "big")
    octets[2:4] = bytes(2)
    header = ipv6.Header.decode(close)
    total = ipv6.checksum(header.source, header.destination, 58, bytes(octets))
    octets[2:4] = total.to_bytes(2, "big")
    victim.put(close[:40] + bytes(octets))
    victim.run(SECOND)
    assert victim.a.context.state is State.ESTABLISHED
    assert victim.a.host.drops == {Drop.CLOSE_NOT_AUTHENTIC: 1}


@pytest.mark.parametrize(("is_altered", "answer"), [(False, Code.CLOSEACK), (True, Code.UC)])
def test_a_close_of_a_deleted_context_is_acknowledged_again_if_it_is_authentic(
    is_altered: bool, answer: Code
) -> None:
    """The CLOSEACK may have been lost; the key of the context is still there [D40]."""
    network = closing()
    network.dead.clear()
    network.trace.clear()
    network.run(3 * MINUTE)
    close = next(one for one in network.trace if one[6] == ipv6.ICMPV6 and one[41] == Code.CLOSE)
    octets = bytearray(close[40:])
    octets[2:4], octets[15] = bytes(2), octets[15] ^ is_altered  # of the nonce
    header = ipv6.Header.decode(close)
    total = ipv6.checksum(header.source, header.destination, ipv6.ICMPV6, bytes(octets))
    octets[2:4] = total.to_bytes(2, "big")
    assert network.a.host.contexts == network.b.host.contexts == []
    network.trace.clear()
    network.put(close[:40] + bytes(octets))
    network.run(SECOND)
    assert codes(network) == [Code.CLOSE, answer]


def test_a_close_without_a_context_is_answered_with_a_uc_that_proves_the_loss() -> None:
    network = closing()
    fresh = Network(seed=33)
    options = network.a.host.core.options
    network.a.host = fresh.a.host
    core = network.a.host.core
    core.now_ns, core.options = 0, replace(options, birthday=options.birthday + 1)
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.dead.clear()
    network.run(10 * MINUTE)
    assert network.b.host.contexts == []
    assert (State.IDLE, Cause.NOTHING_TO_CLOSE) in changes(network.b)


def test_a_message_for_a_context_that_was_set_up_again_is_ignored() -> None:
    network = established()
    network.a.in_use = network.b.in_use = True
    network.run(CONTEXT_IDLE_TIME + MINUTE)
    receive(network, network.a, unknown_context(network), B1, A1)
    assert state_of(network.a) is State.INIT_SENT
    network.give(network.a, IdleChecked(network.a.context.local_label, 0, False))
    assert state_of(network.a) is State.INIT_SENT
