# SPDX-License-Identifier: MIT
"""How a pair is asked that loses requests or answers now and then [D43]."""

import itertools

import pytest

from noid.constants import (
    ASKS_AFTER_ALARM,
    ASKS_APART,
    LOSSY_GAPS,
    LOSSY_TCP_MAX,
    MILLISECOND,
    ROUTINE_ASKS,
    SECOND,
    TOLERANCE_TIME,
)
from noid.engine.causes import Cause
from noid.engine.events import MeasurePairs, TimePassed
from noid.engine.history import History
from noid.engine.searching import search
from noid.engine.state import Path
from noid.engine.tolerance import learn
from noid.flows.events import LongUnproven, UnansweredPacket
from noid.wire import ipv6
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    Network,
    established,
    packet,
)
from tests.engine.test_asking import PAIR, ROUND_TRIP_NS, asked, path_of, suspected
from tests.engine.test_reachability import silence


def suspect_elsewhere(network: Network, *, told: bool) -> None:
    """Host b suspects its pair, for its own reasons or a's, while a sends over another."""
    network.give(network.b, TimePassed())
    network.b.context.hear((B2, A2), network.now_ns, in_slot=True)
    why = Cause.PEER_HEARS_NOTHING if told else Cause.NOTHING_HEARD
    search(network.b.host.core, network.b.context, why, told_by_peer=told)


def test_where_an_answer_was_lost_lately_three_requests_go_one_after_another() -> None:
    network = suspected()
    network.wire.popleft()
    network.run(SECOND)
    misses = network.b.context.history_of(PAIR).misses
    assert misses == 1
    for lost in range(ROUTINE_ASKS):
        network.b.outputs.clear()
        network.give(network.b, silence(network.b))
        for _ in range(lost):
            network.wire.pop()
            while not network.wire:
                network.run(MILLISECOND)
        assert asked(network.b) == [PAIR] * (1 + lost)
        network.run(2 * SECOND)
        assert path_of(network.b) is Path.STEADY
        misses += lost > 0
        assert network.b.context.history_of(PAIR).misses == misses
    assert asked(network.b) == [PAIR] * ROUTINE_ASKS


def test_a_request_that_only_the_way_back_has_lost_is_none_that_the_pair_loses() -> None:
    network = established()
    network.run(SECOND)
    ways = itertools.product((A1, A2), (B1, B2))
    network.dead = {one for pair in ways for one in (pair, pair[::-1])} - {PAIR, (A2, B2)}
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    context = network.b.context
    assert context.path is Path.STEADY
    assert (context.pair, network.a.context.pair) == (PAIR, (A2, B2))
    history = context.history_of(PAIR)
    assert (history.misses, history.unheard) == (0, 0)


def test_a_loss_is_one_of_the_pair_in_use_although_the_peer_measures_others() -> None:
    network = established()
    network.run(SECOND)
    for lost in range(1, 3):
        label = network.a.context.local_label
        network.give(network.a, MeasurePairs(label, ((A2, B2),), here=True))
        network.run(SECOND)
        network.b.outputs.clear()
        network.give(network.b, silence(network.b))
        network.wire.clear()
        network.run(SECOND)
        assert path_of(network.b) is Path.STEADY
        assert network.b.context.history_of(PAIR).misses == lost
    assert asked(network.b) == [PAIR] * 2


def test_a_request_to_a_peer_that_sends_by_another_pair_is_not_lost_by_this_one() -> None:
    network = suspected()
    network.wire.clear()
    network.run(SECOND)
    context = network.b.context
    assert context.history_of(PAIR).misses == 1
    other = (B2, A2)
    context.hear(other, network.now_ns, in_slot=True)
    network.give(network.b, silence(network.b))
    network.wire.clear()
    network.run(SECOND)
    assert path_of(network.b) is Path.STEADY
    assert context.history_of(PAIR).misses == 1


@pytest.mark.parametrize("told", [False, True])
def test_it_is_if_the_peer_is_heard_by_the_other_pair_before_it_answers_by_this_one(
    told: bool,
) -> None:
    """But not if the peer hears nothing: then the direction to the peer was silent."""
    network = established()
    network.run(SECOND)
    context = network.b.context
    context.peer_source = A2
    suspect_elsewhere(network, told=told)
    network.wire.clear()
    network.run(MILLISECOND)
    context.hear((B2, A2), network.now_ns, in_slot=True)
    network.run(SECOND)
    assert (path_of(network.b), context.pair) == (Path.STEADY, PAIR)
    assert (context.history_of(PAIR).alarms, context.history_of(PAIR).misses) == (1, 1 - told)


@pytest.mark.parametrize(("is_known", "told"), [(True, False), (True, True), (False, False)])
def test_a_peer_that_is_known_to_send_by_another_pair_gets_twice_as_long(
    is_known: bool, told: bool
) -> None:
    """In doubt it answers over the pair in use, and how long that takes is not known.

    An answer over a pair that this host has measured does not say that the peer sends by it.
    """
    network = established()
    network.run(SECOND)
    context = network.b.context
    network.dead = {PAIR, PAIR[::-1]}
    context.peer_source = A2 if is_known else None
    suspect_elsewhere(network, told=told)
    begun_ns = network.now_ns
    while context.pair == PAIR:
        network.run(MILLISECOND)
    history = context.history_of(PAIR)
    last_ns = history.verdict_wait_ns * (2 if is_known and not told else 1)
    waited_ns = network.now_ns - begun_ns - history.ask_wait_ns
    assert last_ns <= waited_ns <= last_ns + MILLISECOND
    assert context.pair == (B2, A2)


def test_a_slow_pair_is_soon_asked_again() -> None:
    network = established()
    context = network.b.context
    context.note(PAIR, History(round_trip_ns=SECOND, misses=1))
    network.kill_provider(1)
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    network.run((ROUTINE_ASKS - 1) * ASKS_APART)
    assert asked(network.b) == [PAIR] * ROUTINE_ASKS
    network.run(SECOND)
    assert path_of(network.b) is Path.ASKING


def test_where_answers_are_lost_often_requests_go_three_at_a_time() -> None:
    network = suspected()
    network.run(SECOND)
    context = network.b.context
    context.note(PAIR, context.history_of(PAIR)._replace(misses=2))
    network.kill_provider(1)
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    counts = []
    while context.pair == PAIR:
        network.run(MILLISECOND)
        counts.append(asked(network.b).count(PAIR))
    assert list(dict.fromkeys(counts)) == [1, 2, 3, 6, ASKS_AFTER_ALARM], "another has answered"


def test_a_question_that_is_answered_late_makes_a_pair_known_as_lossy() -> None:
    network = established()
    network.run(SECOND)
    network.dead = {PAIR, PAIR[::-1]}
    network.give(network.a, LongUnproven(network.a.context.local_label))
    network.run(ROUND_TRIP_NS)
    network.dead = set()
    network.run(SECOND)
    history = network.a.context.history_of(PAIR[::-1])
    assert (history.misses, history.alarms) == (1, 0)
    network.run(TOLERANCE_TIME)
    assert network.a.context.history_of(PAIR[::-1]).misses == 0, "it is forgotten"


def test_over_a_lossy_pair_three_usual_gaps_of_silence_are_suspicious() -> None:
    network = established()
    network.run(SECOND)
    half_ns, long_ns = SECOND // 2, 4 * SECOND
    for misses, gap_ns, silent_ns, protocol, asks in (
        (0, half_ns, 2 * half_ns, ipv6.UDP, 1),
        (1, half_ns, 2 * half_ns, ipv6.UDP, 0),
        (1, half_ns, 2 * half_ns, ipv6.TCP, 0),
        (1, half_ns, LOSSY_GAPS * half_ns, ipv6.UDP, 1),
        (1, half_ns, LOSSY_GAPS * half_ns, ipv6.TCP, 1),
        (1, long_ns, LOSSY_TCP_MAX, ipv6.UDP, 0),
        (1, long_ns, LOSSY_TCP_MAX, ipv6.TCP, 1),
    ):
        context = network.b.context
        context.note(PAIR, context.history_of(PAIR)._replace(misses=misses))
        network.b.outputs.clear()
        before = context.history_of(PAIR).unheard_ns
        sent = packet(B1, A1, protocol=protocol)
        event = UnansweredPacket(context.local_label, sent, silent_ns, network.now_ns, gap_ns, 3)
        network.give(network.b, event)
        assert len(asked(network.b)) == asks, (misses, gap_ns, silent_ns, protocol)
        is_counted = context.history_of(PAIR).unheard_ns != before
        assert is_counted == (asks > 0), "nor is data counted as lost"
        network.run(2 * SECOND)


def test_all_that_is_known_of_losses_is_halved_after_a_time() -> None:
    network = established()
    network.run(SECOND)
    core, context = network.a.host.core, network.a.context
    learn(core, context, alarms=6, misses=7)
    network.run(TOLERANCE_TIME)
    history = context.history_of(context.pair)
    assert (history.alarms, history.misses) == (3, 3)
    network.run(TOLERANCE_TIME)
    history = context.history_of(context.pair)
    assert (history.alarms, history.misses) == (1, 1)
