# SPDX-License-Identifier: MIT
"""Answers that come late, so that a later failure is noticed late [D20, D43].

Attacker: on the path of one provider, which it lets pass data and not answers; or one who makes a
daemon stand still for seconds. Guaranteed: the daemon waits for no answer longer than SILENCE_MAX.
"""

import itertools

import pytest

from noid.constants import MILLISECOND, SECOND, SILENCE_MAX
from noid.engine.history import UNKNOWN, History
from tests.engine.network import A1, A2, B1, B2, Network, Station, established, packet

PERIOD_NS = 10 * MILLISECOND
HELD_NS = 10 * SECOND
"""How late an answer comes."""
WAITS = 3
"""For what is unanswered, for a first request, and for the last one."""


@pytest.mark.parametrize("usual_ns", [0, 20 * MILLISECOND, SECOND])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_no_answer_makes_a_wait_longer_than_the_longest_silence(usual_ns: int, count: int) -> None:
    history = UNKNOWN.measured(usual_ns)
    for _ in range(count):
        history = history.measured(HELD_NS)
        assert history.silence_ns(0) <= SILENCE_MAX
        assert history.ask_wait_ns <= SILENCE_MAX
        assert history.verdict_wait_ns <= SILENCE_MAX


def delay(station: Station) -> None:
    """Every answer to a station has come late, by each pair."""
    own, peer = ((A1, A2), (B1, B2)) if A1 in station.locators else ((B1, B2), (A1, A2))
    for pair in itertools.product(own, peer):
        before: History = station.context.history_of(pair)
        station.context.note(pair, before.measured(HELD_NS).measured(HELD_NS))


def gap_ns(network: Network) -> int:
    """How long nothing of either end arrives after provider 1 fails."""
    network.kill_provider(1)
    began_ns = network.now_ns
    network.run(PERIOD_NS)
    counts = [len(one.delivered) for one in network.stations]
    while any(
        len(one.delivered) == count for one, count in zip(network.stations, counts, strict=True)
    ):
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1))
        network.run(PERIOD_NS)
    return network.now_ns - began_ns


@pytest.mark.parametrize("delayed", ["a", "b", "ab"])
def test_a_failure_is_survived_after_late_answers(delayed: str) -> None:
    network = established()
    for name in delayed:
        delay(getattr(network, name))
    assert gap_ns(network) <= WAITS * SILENCE_MAX
