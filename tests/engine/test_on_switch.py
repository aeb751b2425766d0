# SPDX-License-Identifier: MIT
"""Plain packets for as long as the locators in use are the AIDs [D28]."""

import dataclasses

from noid.constants import MILLISECOND, PLAIN_SILENCE_MAX, SECOND
from noid.engine.causes import Cause
from noid.engine.events import MeasurePairs, ProbeStarted, SendControl
from noid.engine.history import Pair
from noid.engine.state import State
from noid.locators import Locator
from tests.engine.network import A1, A2, B1, B2, Network, packet
from tests.engine.test_reachability import silence


def plain() -> Network:
    """A network whose hosts have a context and encapsulate when they have switched, no sooner."""
    network = Network()
    for station in network.stations:
        core = station.host.core
        core.options = dataclasses.replace(core.options, on_switch=True)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(PLAIN_SILENCE_MAX // 4)
    network.a.outputs.clear()
    return network


def probed(network: Network) -> list[Pair]:
    sent = [one.packet for one in network.a.outputs if isinstance(one, SendControl)]
    return [(Locator(one[8:24]), Locator(one[24:40])) for one in sent]


def test_packets_on_the_aids_are_plain_and_no_ur_is_sent_while_packets_arrive() -> None:
    network = plain()
    network.ulp_sends(network.a, packet(A1, B1, b"plain"))
    assert network.wire[-1][1] == packet(A1, B1, b"plain")
    assert probed(network) == []


def test_after_a_silence_the_pair_in_use_alone_is_asked() -> None:
    network = plain()
    network.run(PLAIN_SILENCE_MAX)
    network.ulp_sends(network.a, packet(A1, B1))
    assert probed(network) == [(A1, B1)]
    network.run(50 * MILLISECOND)
    assert network.a.context.state is State.ESTABLISHED
    assert network.b.context.state is State.ESTABLISHED
    network.ulp_sends(network.a, packet(A1, B1))
    assert len(probed(network)) == 1


def test_an_answer_from_another_locator_of_the_peer_ends_the_asking() -> None:
    network = plain()
    network.b.context.local_locator = B2
    network.run(PLAIN_SILENCE_MAX)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(50 * MILLISECOND)
    network.a.outputs.clear()
    network.ulp_sends(network.a, packet(A1, B1))
    assert probed(network) == []


def test_a_word_of_the_peers_is_as_good_as_a_new_context() -> None:
    network = plain()
    network.run(PLAIN_SILENCE_MAX // 2)
    network.ulp_sends(network.a, packet(A1, B1))
    assert probed(network) == [], "it is long since the clock began, and not since the set-up"
    network.give(network.b, silence(network.b))
    network.run(PLAIN_SILENCE_MAX // 2 + 100 * MILLISECOND)
    network.a.outputs.clear()
    network.ulp_sends(network.a, packet(A1, B1))
    assert probed(network) == []


def test_the_operator_is_told_why() -> None:
    network = plain()
    network.kill_provider(1)
    network.run(PLAIN_SILENCE_MAX)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    whys = [one.why for one in network.a.outputs if isinstance(one, ProbeStarted)]
    assert whys == [Cause.LONG_SILENCE]


def test_after_a_provider_failure_packets_use_the_context() -> None:
    network = plain()
    network.kill_provider(1)
    network.run(PLAIN_SILENCE_MAX)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    network.ulp_sends(network.a, packet(A1, B1, b"by the context"))
    network.run(20 * MILLISECOND)
    assert network.b.delivered[-1] == packet(A1, B1, b"by the context")


def test_packets_of_a_context_that_always_encapsulates_ask_nothing() -> None:
    network = plain()
    core = network.a.host.core
    core.options = dataclasses.replace(core.options, on_switch=False)
    network.run(PLAIN_SILENCE_MAX)
    network.ulp_sends(network.a, packet(A1, B1))
    assert probed(network) == []


def test_a_peer_that_measures_pairs_does_not_hide_that_the_one_in_use_has_failed() -> None:
    network = plain()
    network.dead.add((A1, B1))
    pairs = tuple((local, peer) for local in (B1, B2) for peer in (A1, A2))
    until_ns = network.now_ns + 3 * PLAIN_SILENCE_MAX
    while network.now_ns < until_ns:
        label = network.b.context.local_label
        network.give(network.b, MeasurePairs(label, pairs, here=True))
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(SECOND)
    assert network.a.context.pair != (A1, B1)
