# SPDX-License-Identifier: MIT
"""Forged data hides no silence for long, and moves Lp(peer) for a round trip a minute [D41].

Attacker: off the path, knows label and locators of a context, and sends data with any source.
Guaranteed: Lp(peer) returns as soon as the pair before answers, and stays for FOLLOW_REST; a pair
that is dead is left UNPROVEN_TIME later at the latest, since only authentic messages count then.
Not guaranteed: that silence is noticed sooner while data is forged from the locator in use.
"""

import pytest

from noid.constants import FOLLOW_REST, LOOK_TIME, MILLISECOND, SECOND, UNPROVEN_REST, UNPROVEN_TIME
from noid.engine.events import CheckData, Input, Output
from noid.engine.history import Pair
from noid.engine.state import Path
from noid.flows.events import UnansweredPacket
from noid.locators import Locator
from noid.wire import ipv6
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    DELAY_NS,
    Network,
    Station,
    established,
    packet,
)

PERIOD_NS = 4 * MILLISECOND
"""Less than any T."""


def forged(network: Network, source: Locator) -> bytes:
    """Forty octets with the label of a."""
    header = ipv6.Header(
        source=source,
        destination=A1,
        next_header=CODEPOINTS.fixed_first + 1,
        payload_octets=0,
        flow_label=network.a.context.local_label,
    )
    return header.encode()


def attacked(network: Network, source: Locator, duration_ns: int, stop: Pair | None = None) -> int:
    """Both ends send, and forged packets reach a; how long until a has a certain pair, in ns."""
    began_ns = network.now_ns
    while network.now_ns - began_ns < duration_ns and network.a.context.pair != stop:
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1))
        network.follow(
            network.a, network.a.datapath.from_network(forged(network, source), network.now_ns)
        )
        network.run(PERIOD_NS)
    return network.now_ns - began_ns


@pytest.mark.parametrize("source", [B1, B2], ids=["in use", "the other"])
def test_forged_data_hides_a_dead_pair_for_no_longer(source: Locator) -> None:
    network = established()
    network.kill_provider(1)
    assert attacked(network, source, 20 * SECOND, (A2, B2)) < UNPROVEN_TIME + SECOND


def test_a_failed_pair_is_replaced_despite_data_from_another_locator() -> None:
    network = established()
    network.kill_provider(1)
    assert attacked(network, B2, 20 * SECOND, (A2, B2)) < SECOND


def test_forged_data_from_a_dead_locator_interrupts_for_a_round_trip_a_minute() -> None:
    network = established()
    network.kill_provider(2)
    sent = len(network.b.delivered)
    attacked(network, B2, FOLLOW_REST)
    lost = FOLLOW_REST // PERIOD_NS - (len(network.b.delivered) - sent)
    # What is sent within a round trip and before the first answer, and what is still under way.
    assert lost * PERIOD_NS <= 2 * (2 * DELAY_NS)
    assert network.a.context.pair == (A1, B1)
    assert network.b.context.pair == (B1, A1)


def test_a_working_context_asks_every_few_seconds_and_no_answer_is_an_alarm() -> None:
    network = established()
    attacked(network, B1, 20 * SECOND)
    network.run(SECOND)
    asked = [one for one in network.trace if one[6] == CODEPOINTS.rewritable_first + 6]
    assert 3 <= len(asked) / 2 <= 2 * (20 * SECOND // UNPROVEN_TIME + 1)
    for station in network.stations:
        assert station.context.search is None
        assert not any(one.alarms for one in station.context.history.values())


def moved_to_a_stopped_peer(delay_ns: int = DELAY_NS) -> Network:
    """A uses the second pair since the first provider has failed; then the daemon of b stops."""
    network = Network()
    network.delay_ns = delay_ns
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.kill_provider(1)
    attacked(network, B2, 3 * SECOND, (A2, B2))
    assert network.a.context.pair == (A2, B2)
    network.run(SECOND)
    give = network.give
    network.give = (  # type: ignore[method-assign] # a daemon that is stopped
        lambda station, event: [] if station is network.b else give(station, event)
    )
    return network


@pytest.mark.parametrize("gap_ns", [PERIOD_NS, SECOND // 5])
@pytest.mark.parametrize("delay_ns", [DELAY_NS, 5 * DELAY_NS, 10 * DELAY_NS, 15 * DELAY_NS])
def test_a_false_suspicion_does_not_end_a_pair_with_data_while_the_peer_is_stopped(
    delay_ns: int, gap_ns: int
) -> None:
    network = moved_to_a_stopped_peer(delay_ns)
    sent = packet(A1, B1)
    asked = len(network.wire)
    network.give(network.a, UnansweredPacket(network.a.context.local_label, sent, SECOND // 10))
    assert len(network.wire) > asked, "the pair is suspected"
    arrived, until_ns = len(network.b.delivered), network.now_ns + 2 * SECOND
    while network.now_ns < until_ns:
        network.ulp_sends(network.a, sent)
        network.ulp_sends(network.b, packet(B1, A1))
        network.run(gap_ns)
    network.run(delay_ns)
    assert network.a.context.search is None
    assert network.a.context.pair == (A2, B2)
    assert len(network.b.delivered) - arrived >= 2 * SECOND // gap_ns - 1, "none is lost"


@pytest.mark.parametrize("delay_ns", [DELAY_NS, 15 * DELAY_NS])
def test_the_data_plane_has_time_to_say_whether_data_has_come(delay_ns: int) -> None:
    network = moved_to_a_stopped_peer(delay_ns)
    give, context = network.give, network.a.context
    looks: list[tuple[int, int]] = []

    def noted(station: Station, event: Input) -> list[Output]:
        outputs = give(station, event)
        for one in outputs:
            if isinstance(one, CheckData) and context.search is not None:
                looks.append((network.now_ns + one.wait_ns, context.search.ask_at_ns))
        return outputs

    network.give = noted  # type: ignore[method-assign] # to see what it returns
    network.give(network.a, UnansweredPacket(context.local_label, packet(A1, B1), SECOND // 10))
    network.run(2 * SECOND)
    ((at_ns, until_ns),) = looks
    assert until_ns - at_ns >= LOOK_TIME
    assert context.path is Path.SEARCHING


def test_a_pair_with_data_stays_in_use_while_the_daemon_of_the_peer_is_stopped() -> None:
    network = moved_to_a_stopped_peer()
    requests = len(network.trace)
    arrived = len(network.b.delivered)
    attacked(network, B2, 2 * UNPROVEN_REST)
    assert network.a.context.pair == (A2, B2)
    assert len(network.b.delivered) - arrived >= 2 * UNPROVEN_REST // PERIOD_NS - 10
    asked = [
        one for one in network.trace[requests:] if not int.from_bytes(one[1:4], "big") & 0xFFFFF
    ]
    assert 0 < len(asked) < 2 * UNPROVEN_REST // SECOND
