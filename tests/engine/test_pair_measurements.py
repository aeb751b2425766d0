# SPDX-License-Identifier: MIT
"""Pairs are measured on request, and nothing is believed because of the answers."""

import pytest

from noid.constants import (
    CONTEXT_IDLE_TIME,
    MEASURED_PAIRS_MAX,
    MEASURED_TOGETHER,
    MILLISECOND,
    SECOND,
)
from noid.engine.events import (
    CheckIdle,
    MeasurePairs,
    NoteHeard,
    PairMeasured,
    PeerDoubts,
    Switched,
)
from noid.identifiers import NO_LABEL
from noid.locators import Locator
from tests.engine.network import A1, A2, B1, B2, DELAY_NS, X1, Network, Station, established
from tests.engine.test_refusals import unanswered

ALL = ((A1, B1), (A1, B2), (A2, B1), (A2, B2))


def measured(station: Station) -> dict[object, int]:
    found = [one for one in station.outputs if isinstance(one, PairMeasured)]
    return {one.pair: one.round_trip_ns for one in found}


def ask(network: Network, *pairs: tuple[object, object]) -> dict[object, int]:
    """Measures pairs from a, and returns what was answered within a second."""
    network.a.outputs.clear()
    network.give(network.a, MeasurePairs(network.a.context.local_label, pairs))  # type: ignore[arg-type] # of locators
    network.run(SECOND)
    return measured(network.a)


def test_every_pair_that_works_is_measured() -> None:
    network = established()
    assert ask(network, *ALL) == dict.fromkeys(ALL, 2 * DELAY_NS)


def test_a_pair_that_is_silent_has_no_answer_and_nothing_switches() -> None:
    network = established()
    network.dead.add((A2, B1))
    assert ask(network, *ALL).keys() == set(ALL) - {(A2, B1)}
    assert not any(isinstance(one, Switched) for one in network.a.outputs + network.b.outputs)
    assert network.a.context.pair == network.b.context.pair[::-1] == (A1, B1)


def test_pairs_that_are_not_the_contexts_are_left_out() -> None:
    assert ask(established(), (X1, B1), (A1, X1)) == {}


def test_a_context_that_is_gone_is_not_measured() -> None:
    network = established()
    assert network.give(network.a, MeasurePairs(NO_LABEL, ALL)) == []


def test_so_many_measurements_wait_for_their_answers() -> None:
    network = established()
    network.kill_provider(1)
    network.kill_provider(2)
    for _ in range(MEASURED_PAIRS_MAX // len(ALL) + 1):
        network.give(network.a, MeasurePairs(network.a.context.local_label, ALL))
    assert len(network.a.host.core.measured) == MEASURED_PAIRS_MAX


def test_measuring_keeps_no_context_of_ours_from_being_idle() -> None:
    network = established()
    network.run(CONTEXT_IDLE_TIME - 2 * SECOND)
    heard_ns = network.a.context.heard_ns(0)
    assert ask(network, *ALL)
    assert network.a.context.heard_ns(0) == heard_ns
    assert not any(isinstance(one, CheckIdle) for one in network.a.outputs)


@pytest.mark.parametrize(
    ("source", "here", "ends"), [(B1, False, True), (B1, True, False), (B2, False, False)]
)
def test_a_request_that_measures_does_not_end_silence_of_the_pair_in_use(
    source: Locator, here: bool, ends: bool
) -> None:
    """A peer that measures its pairs would hide that the pair in use is dead."""
    network = established()
    network.give(network.a, unanswered(network.a))
    network.run(SECOND)
    network.a.outputs.clear()
    pairs = ((source, A1),)
    network.give(network.b, MeasurePairs(network.b.context.local_label, pairs, here=here))
    network.run(SECOND)
    assert network.a.context.peer_locator == B1
    assert (NoteHeard(network.a.context.local_label) in network.a.outputs) == ends
    assert network.a.context.history_of((A1, source)).heard_ns > network.now_ns - SECOND


def test_an_answer_says_whether_it_has_returned_over_its_pair() -> None:
    network = established()
    ask(network, *ALL)
    found = [one for one in network.a.outputs if isinstance(one, PairMeasured)]
    assert {one.pair for one in found if one.returned} == {(A1, B1), (A1, B2)}


def test_an_answer_uses_the_pair_of_its_request_if_that_is_wanted() -> None:
    network = established()
    network.dead.add((B2, A2))
    network.a.outputs.clear()
    network.give(network.a, MeasurePairs(network.a.context.local_label, ALL, here=True))
    network.run(SECOND)
    found = [one for one in network.a.outputs if isinstance(one, PairMeasured)]
    assert {one.pair for one in found} == set(ALL) - {(A2, B2)}
    assert all(one.here and one.returned for one in found)


@pytest.mark.parametrize(
    ("apart_ns", "ways", "doubts"),
    [
        (0, (False, True), True),
        (40 * MILLISECOND, (True, True), True),
        (MEASURED_TOGETHER, (True, True), False),
        (40 * MILLISECOND, (False, False), False),
    ],
    ids=["in both ways", "again", "one sample after another", "for people"],
)
def test_a_peer_that_measures_a_pair_twice_at_once_doubts_it(
    apart_ns: int, ways: tuple[bool, bool], doubts: bool
) -> None:
    network = established()
    for here in ways:
        measure = MeasurePairs(network.b.context.local_label, ((B2, A2),), here=here)
        network.give(network.b, measure)
        network.run(apart_ns)
    network.run(SECOND)
    assert (PeerDoubts(network.a.context.local_label) in network.a.outputs) == doubts
    assert not any(isinstance(one, Switched) for one in network.a.outputs)


def test_a_peer_that_hears_nothing_doubts_a_pair() -> None:
    network = established()
    network.dead |= {(B1, A1), (B2, A1)}
    network.give(network.b, unanswered(network.b))
    network.run(SECOND)
    assert network.b.context.pair[1] == A2
    assert PeerDoubts(network.a.context.local_label) in network.a.outputs


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_context_asks_its_pair_if_answers_were_missed_and_leaves_one_that_is_silent(
    is_dead: bool,
) -> None:
    network = established()
    if is_dead:
        network.kill_provider(1)
    network.give(network.a, MeasurePairs(network.a.context.local_label, (), suspects=True))
    network.run(SECOND)
    assert any(isinstance(one, Switched) for one in network.a.outputs) == is_dead
    assert network.a.context.pair == ((A2, B2) if is_dead else (A1, B1))
