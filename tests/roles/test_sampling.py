# SPDX-License-Identifier: MIT
"""Which pair is measured while nothing is suspected: few, and those that are not in use."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from noid.engine.context import Context
from noid.engine.events import MeasurePairs, PairMeasured
from noid.engine.history import Pair
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator
from noid.roles.sampling import (
    APART_NS,
    GRACE_NS,
    IN_USE_EVERY,
    PERIOD_NS,
    RARE_NS,
    REST_NS,
    SHARED_NS,
    SILENT_INTERVAL_NS,
    TURN_NS,
    TURNS_MAX,
    Sample,
    Sampling,
)
from tests.engine.network import A1, A2, B1, B2, START_NS, Network, Station, established

MS = 1_000_000
STEP_NS = 5 * MS
WAIT_NS = 100 * MS
HALF_MINUTE_NS = 30_000 * MS
NONE: frozenset[Locator] = frozenset()


def context_of_two_uplinks() -> Context:
    (context,) = established().a.host.contexts
    return context


def samples(
    sampling: Sampling, context: Context, count: int, silent: frozenset[Locator] = NONE
) -> list[list[Pair]]:
    found: list[list[Pair]] = []
    for number in range(1, count + 1):
        now_ns = START_NS + number * 2 * PERIOD_NS
        sample = sampling.next_of([context], now_ns, silent)
        assert sample is not None
        sampling.ended(sample, now_ns)
        found.append(sample.pairs)
    return found


@dataclass
class End:
    """One end of a context, which measures it."""

    station: Station
    sampling: Sampling = field(default_factory=Sampling)
    asked: list[tuple[int, Pair]] = field(default_factory=list)
    unanswered: list[tuple[int, Pair]] = field(default_factory=list)
    waits: set[Pair] = field(default_factory=set)
    sample: Sample | None = None
    since_ns: int = 0
    answered_ns: int = 0
    data_ns: int | None = None
    """When data was heard; all the time without it."""

    def step(self, network: Network) -> None:
        """Takes the answers that came, and measures if it is time."""
        context, now_ns = self.station.context, network.now_ns
        for output in self.station.outputs:
            if isinstance(output, PairMeasured):
                self.waits.discard(output.pair)
                if output.pair[0] != self.station.context.local_locator:
                    self.answered_ns = now_ns
        self.station.outputs.clear()
        if self.sample is not None:
            if self.waits and now_ns < self.since_ns + WAIT_NS:
                return
            self.unanswered += [(now_ns, pair) for pair in self.waits]
            self.sampling.ended(self.sample, now_ns)
        heard_ns = now_ns if self.data_ns is None else self.data_ns
        self.sample = self.sampling.next_of([context], now_ns, heard_ns=lambda label: heard_ns)
        if self.sample is not None:
            pairs = self.sample.pairs
            self.since_ns, self.waits = now_ns, set(pairs)
            self.asked += [(now_ns, pair) for pair in pairs]
            network.give(self.station, MeasurePairs(context.local_label, tuple(pairs), here=True))

    @property
    def heard_ns(self) -> int:
        """When the uplink that is not in use was last seen to work, by either end's samples."""
        context = self.station.context
        heard = [context.history_of((A2, one)).heard_ns for one in (B1, B2)]
        return max(self.answered_ns, *heard)


def of_used(end: End) -> list[int]:
    """When the pair in use was measured."""
    return [at_ns for at_ns, pair in end.asked if pair == end.station.context.pair]


def run(network: Network, ends: list[End], duration_ns: int) -> int:
    """Lets time pass; returns the longest time without a sign of a's idle uplink."""
    longest_ns = 0
    for _ in range(duration_ns // STEP_NS):
        network.run(STEP_NS)
        for end in ends:
            end.step(network)
        longest_ns = max(longest_ns, network.now_ns - ends[0].heard_ns)
    return longest_ns


def two_ends(later_ns: int, delay_ns: int) -> tuple[Network, list[End]]:
    """Both ends of a context, of which one begins to measure later, once they take turns."""
    network = established()
    network.delay_ns = delay_ns
    ends = [End(network.a), End(network.b)]
    run(network, ends[:1], later_ns)
    run(network, ends, 10_000 * MS)
    return network, ends


@pytest.mark.parametrize("delay_ns", [1 * MS, 20 * MS])
@pytest.mark.parametrize("later_ns", [0, 20 * MS, 300 * MS, 560 * MS, 1_000 * MS])
def test_two_ends_take_turns(later_ns: int, delay_ns: int) -> None:
    network, ends = two_ends(later_ns, delay_ns)
    before = [len(end.asked) for end in ends]
    assert run(network, ends, HALF_MINUTE_NS) <= TURN_NS + 3 * delay_ns + 3 * STEP_NS
    for end, known in zip(ends, before, strict=True):
        assert len(end.asked) - known <= 31, "the law of quiet: one a second"
        assert not end.unanswered


@pytest.mark.parametrize("at_ns", range(0, PERIOD_NS, PERIOD_NS // 8))
def test_an_uplink_that_falls_silent_leaves_a_sample_unanswered_within_a_turn(at_ns: int) -> None:
    network, ends = two_ends(0, 10 * MS)
    run(network, ends, at_ns)
    network.kill_provider(2)
    failed_ns = network.now_ns
    run(network, ends, PERIOD_NS)
    for end in ends:
        seen_ns, _ = end.unanswered[0]
        assert seen_ns - failed_ns <= TURN_NS + GRACE_NS + WAIT_NS + 4 * STEP_NS


def test_without_samples_of_the_peer_a_context_is_measured_once_in_a_period() -> None:
    network = established()
    end = End(network.a)
    run(network, [end], HALF_MINUTE_NS)
    assert 25 <= len(end.asked) <= 31


def test_the_pair_in_use_is_measured_rarely_and_no_other_with_its_locator() -> None:
    seen = samples(Sampling(), context_of_two_uplinks(), 10 * IN_USE_EVERY)
    assert Counter(map(len, seen)) == {1: 10 * (IN_USE_EVERY - 1), 2: 10}
    assert Counter(pair for pairs in seen for pair in pairs) == {
        (A2, B2): 10 * IN_USE_EVERY,
        (A1, B1): 10,
    }


def test_all_pairs_of_a_silent_uplink_are_measured_in_an_order_of_their_own() -> None:
    sampling, context = Sampling(of_silent=True), context_of_two_uplinks()
    seen = samples(sampling, context, 10, frozenset({A1}))
    assert Counter(pair for (pair,) in seen) == {(A1, B1): 5, (A1, B2): 5}


@pytest.mark.parametrize("silent", [A1, A2])
def test_the_other_uplinks_are_measured_as_before_while_one_is_silent(silent: Locator) -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    seen = samples(sampling, context, 2 * IN_USE_EVERY, frozenset({silent}))
    other = (A2, B2) if silent == A1 else (A1, B1)
    assert seen == [[other]] * len(seen)


def test_a_context_that_uses_a_silent_uplink_and_has_no_other_is_not_measured() -> None:
    context = context_of_two_uplinks()
    assert Sampling().next_of([context], START_NS, frozenset({A1, A2})) is None


def test_a_silent_uplink_is_measured_more_often() -> None:
    sampling, context = Sampling(of_silent=True), context_of_two_uplinks()
    silent = frozenset({A1})
    assert sampling.next_of([context], START_NS, silent)
    assert sampling.next_of([context], START_NS + SILENT_INTERVAL_NS - 1, silent) is None
    assert sampling.due_ns == START_NS + SILENT_INTERVAL_NS
    assert sampling.next_of([context], START_NS + SILENT_INTERVAL_NS, silent)


def test_a_pair_that_does_not_answer_is_left_for_others_of_its_uplink() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    assert samples(sampling, context, 1) == [[(A2, B2), (A1, B1)]]
    sample = Sample(context, [(A2, B2)])
    sampling.ended(sample, START_NS, missed=(A2, B2))
    seen = samples(sampling, context, IN_USE_EVERY)
    assert seen[:-1] == [[(A2, B1)]] * (IN_USE_EVERY - 1)
    assert seen[-1] == [(A2, B2), (A1, B1)], "now and then it is tried"
    sampling.ended(sample, START_NS, missed=(A2, B2))
    context.hear((A2, B2), START_NS + 1, in_slot=True)
    assert samples(sampling, context, 1) == [[(A2, B2)]], "the peer was heard over it"


def test_other_contexts_are_measured_while_one_rests() -> None:
    sampling, first, second = Sampling(), context_of_two_uplinks(), context_of_two_uplinks()
    second.local_label = Label(first.local_label + 1)
    taken = [sampling.next_of([first, second], START_NS) for _ in range(3)]
    assert [sample and sample[0] for sample in taken] == [first, second, None]
    assert sampling.due_ns == START_NS + APART_NS


@pytest.mark.parametrize("again_ns", [PERIOD_NS // 2, 2 * PERIOD_NS])
def test_contexts_are_looked_at_when_a_sample_is_due_or_they_may_be_others(again_ns: int) -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    sample = sampling.next_of([context], START_NS)
    assert sample is not None
    sampling.ended(sample, START_NS)
    assert sampling.next_of([context], START_NS + 1, again_ns=START_NS + again_ns) is None
    assert sampling.due_ns == START_NS + min(again_ns, PERIOD_NS)


def test_a_peer_that_answered_over_no_uplink_rests() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    sampling.rest(context, START_NS)
    assert sampling.next_of([context], START_NS + REST_NS - 1) is None
    assert sampling.next_of([context], START_NS + REST_NS)


def test_a_rest_ends_when_the_peer_is_heard() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    sampling.rest(context, START_NS)
    context.hear((A2, B2), START_NS + 1, in_slot=True)
    assert sampling.next_of([context], START_NS + PERIOD_NS - 1) is None
    assert sampling.next_of([context], START_NS + PERIOD_NS)


def test_only_so_many_contexts_are_remembered() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    for label in range(2 * TURNS_MAX):
        context.local_label = Label(label)
        sampling.rest(context, START_NS)
    context.local_label = NO_LABEL
    assert sampling.next_of([context], START_NS), "the oldest is forgotten"
    context.local_label = Label(2 * TURNS_MAX - 1)
    assert sampling.next_of([context], START_NS) is None


@pytest.mark.parametrize("delay_ns", [1 * MS, 20 * MS])
@pytest.mark.parametrize("later_ns", [0, 300 * MS])
def test_where_data_is_rare_both_ends_measure_the_pair_in_use_in_turn(
    later_ns: int, delay_ns: int
) -> None:
    network, ends = two_ends(later_ns, delay_ns)
    for end in ends:
        end.asked.clear()
        end.data_ns = network.now_ns
    began_ns = network.now_ns
    run(network, ends, RARE_NS)
    counts = [len(of_used(end)) for end in ends]
    assert max(counts) <= min(counts) + 2
    at_ns = [began_ns, *sorted(of_used(ends[0]) + of_used(ends[1])), network.now_ns]
    longest_ns = max(later - earlier for earlier, later in pairwise(at_ns))
    most_ns = TURN_NS + GRACE_NS + 3 * delay_ns + 3 * STEP_NS
    assert longest_ns <= most_ns
    assert not ends[0].unanswered


def test_where_no_data_comes_the_pair_in_use_is_not_measured() -> None:
    network, ends = two_ends(0, 10 * MS)
    for end in ends:
        end.data_ns = network.now_ns
    run(network, ends, RARE_NS + TURN_NS)
    for end in ends:
        end.asked.clear()
    run(network, ends, HALF_MINUTE_NS)
    most = HALF_MINUTE_NS // (IN_USE_EVERY * PERIOD_NS) + 1
    assert all(len(of_used(end)) <= most for end in ends)


def test_the_pair_in_use_is_not_measured_more_often_while_data_comes() -> None:
    network, ends = two_ends(0, 10 * MS)
    for end in ends:
        end.asked.clear()
    run(network, ends, HALF_MINUTE_NS)
    most = HALF_MINUTE_NS // (IN_USE_EVERY * PERIOD_NS) + 1
    assert all(len(of_used(end)) <= most for end in ends)


def test_a_peer_that_does_not_take_turns_is_not_asked_twice_as_often() -> None:
    network = established()
    end = End(network.a, data_ns=1)
    run(network, [end], SHARED_NS)
    end.asked.clear()
    run(network, [end], HALF_MINUTE_NS)
    assert len(of_used(end)) <= HALF_MINUTE_NS // PERIOD_NS


def test_the_pair_in_use_is_not_measured_while_a_peer_rests_or_its_uplink_is_silent() -> None:
    sampling, context = Sampling(), context_of_two_uplinks()
    sampling.rest(context, START_NS)
    assert sampling.next_of([context], START_NS + REST_NS - 1, heard_ns=lambda _: 1) is None
    sample = sampling.next_of([context], START_NS + REST_NS, frozenset({A1}), lambda _: 1)
    assert sample is not None
    assert {pair[0] for pair in sample.pairs} == {A2}
