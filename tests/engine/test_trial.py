# SPDX-License-Identifier: MIT
"""A UC that proves nothing makes the host ask whether the peer has the context [D39]."""

import dataclasses

import pytest

from noid.constants import (
    MINUTE,
    SECOND,
    TRIAL_INTERVAL,
    TRIAL_PAIRS_MAX,
    TRIAL_REST,
    TRIAL_ROUNDS,
    TRIAL_SILENCE,
)
from noid.engine.events import LocatorsChanged, SendControl
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, encode_packet
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    DELAY_NS,
    Network,
    established,
    packet,
    state_of,
)
from tests.engine.test_loss import lose_context, sent_data, unknown_context

ANOTHER_KEY = b"another key, of 32 octets length"


def forget(network: Network) -> None:
    """Station b comes up again without contexts, birthday and key."""
    birthday = (network.a.context.peer_birthday + 1) % (1 << 32)
    lose_context(network, birthday)
    core = network.b.host.core
    core.options = dataclasses.replace(core.options, reset_key=ANOTHER_KEY)
    network.give(network.b, LocatorsChanged(network.b.locators))


def unfounded(network: Network) -> ControlMessageReceived:
    """A UC about a packet of a's that proves nothing."""
    other = established()
    forget(other)
    octets = encode_packet(unknown_context(other, sent_data(network)), B1, A1, CODEPOINTS)
    return ControlMessageReceived(B1, A1, False, octets[ipv6.HEADER_OCTETS :])


def cut(network: Network) -> Network:
    """Lets nothing arrive any more."""
    network.dead |= {(one, other) for one in (A1, A2) for other in network.b.locators}
    network.dead |= {(other, one) for one, other in network.dead}
    return network


def doubted(network: Network | None = None) -> Network:
    """A network in which a UC that proves nothing has come to a; b has the context."""
    network = network or established()
    network.a.outputs.clear()
    network.give(network.a, unfounded(network))
    return network


def requests(network: Network) -> list[bytes]:
    """The Update Requests that a sent."""
    sent = [one.packet for one in network.a.outputs if isinstance(one, SendControl)]
    return [one for one in sent if one[ipv6.HEADER_OCTETS + 1] == Code.UR]


def test_a_peer_without_memory_gets_a_new_context_in_about_a_second() -> None:
    network = established()
    forget(network)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(TRIAL_SILENCE + 10 * DELAY_NS)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.context.peer_label == network.b.context.local_label


def test_an_answer_keeps_the_context_and_ends_the_test() -> None:
    network = doubted()
    asked = len(requests(network))
    network.run(2 * SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.context.trial is None
    assert len(requests(network)) == asked


def test_a_silent_peer_is_asked_four_times_over_pairs_with_all_its_locators() -> None:
    network = doubted(cut(established()))
    network.run(TRIAL_SILENCE - 1)
    assert state_of(network.a) is State.ESTABLISHED
    assert [one[24:40] for one in requests(network)] == [B1, B2] * TRIAL_ROUNDS
    network.run(1)
    assert state_of(network.a) is State.INIT_SENT


def test_the_peer_is_asked_alternately_in_the_form_of_data_and_plain() -> None:
    network = doubted(cut(established()))
    network.run(TRIAL_SILENCE - 1)
    plain = [one[6] == ipv6.ICMPV6 for one in requests(network)]
    assert plain == [False, False, True, True] * (TRIAL_ROUNDS // 2)


def test_rounds_are_250_ms_apart() -> None:
    network = doubted(cut(established()))
    network.run(TRIAL_INTERVAL - 1)
    assert len(requests(network)) == 2
    network.run(1)
    assert len(requests(network)) == 4


def test_the_pairs_asked_for_a_peer_with_many_locators_are_limited() -> None:
    network = Network()
    many = tuple(Locator(B1[:15] + bytes((number,))) for number in range(1, 10))
    network.b.locators = many
    network.names["b.example"] = list(many)
    network.reverse |= dict.fromkeys(many, "b.example")
    network.give(network.b, LocatorsChanged(many))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, many[0]))
    network.run(SECOND)
    network.a.outputs.clear()
    forget(network)
    flow = network.a.rewriter.flow_of(packet(A1, many[0]))
    assert flow is not None
    unknown_context(network, network.a.rewriter.outbound(packet(A1, many[0]), flow))
    network.run(DELAY_NS)
    assert len(requests(network)) == 1 + TRIAL_PAIRS_MAX


def test_with_a_long_round_trip_silence_lasts_longer() -> None:
    network = established()
    for at_ns in range(0, 200 * SECOND, 2 * SECOND):
        network.a.context.measure(network.a.context.pair, at_ns, at_ns + 2 * SECOND)
    doubted(cut(network))
    network.run(2 * SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    network.run(3 * SECOND)
    assert state_of(network.a) is State.INIT_SENT


@pytest.mark.parametrize("peer_locator", [B1, B2])
def test_data_goes_plainly_during_the_test_if_the_pair_in_use_is_the_aids(
    peer_locator: Locator,
) -> None:
    network = established()
    network.a.context.peer_locator = peer_locator
    doubted(network)
    flow = network.a.rewriter.flow_of(packet(A1, B1))
    assert (flow is None) is (peer_locator == B1)
    network.run(2 * DELAY_NS)
    assert network.a.rewriter.flow_of(packet(A1, B1)) is not None


def test_a_context_is_tested_at_most_once_in_two_seconds() -> None:
    network = doubted()
    network.run(TRIAL_REST - 1)
    asked = len(requests(network))
    network.give(network.a, unfounded(network))
    assert len(requests(network)) == asked
    network.run(1)
    network.give(network.a, unfounded(network))
    assert len(requests(network)) == 2 * asked


def test_a_restored_context_tells_the_peer_what_changed() -> None:
    network = doubted(cut(established()))
    network.run(TRIAL_SILENCE)
    network.give(network.a, LocatorsChanged((A1,)))
    network.dead.clear()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(3 * DELAY_NS)
    assert network.a.context.is_settled
    network.run(MINUTE)
    assert network.b.context.peer_acceptable == {A1}


def test_a_uc_that_proves_nothing_ends_no_context_that_is_closing() -> None:
    network = cut(established())
    event = unfounded(network)
    network.run(16 * MINUTE)
    assert state_of(network.a) is State.CLOSING
    network.give(network.a, event)
    assert state_of(network.a) is State.CLOSING
