# SPDX-License-Identifier: MIT
"""What is known of one pair of locators [D43]."""

import pytest

from noid.constants import (
    ASK_WAIT_MIN,
    LATE_MIN,
    LATE_MIN_UNMEASURED,
    LATE_TIME,
    MILLISECOND,
    SECOND,
    SILENCE_UNMEASURED,
    VERDICT_WAIT_MIN,
)
from noid.engine.history import UNKNOWN, History
from tests.engine.network import A2, B2, established


def test_a_round_trip_time_rises_by_an_eighth_and_falls_by_half() -> None:
    assert UNKNOWN.measured(0, 800).round_trip_ns == 800
    assert History(round_trip_ns=800).measured(0, 1600).round_trip_ns == 900
    assert History(round_trip_ns=1600).measured(0, 800).round_trip_ns == 1200
    assert History(round_trip_ns=800).measured(0, 2).round_trip_ns == 401


def test_what_is_no_round_trip_time_is_not_taken() -> None:
    one = History(round_trip_ns=800)
    assert one.measured(5, 5) == one.measured(5, 0) == one


def test_the_variation_of_a_round_trip_time_is_smoothed_by_a_quarter() -> None:
    assert UNKNOWN.measured(0, 800).variation_ns == 0
    assert History(round_trip_ns=800).measured(0, 1600).variation_ns == 200
    assert History(round_trip_ns=800, variation_ns=400).measured(0, 800).variation_ns == 300


@pytest.mark.parametrize(
    ("usual", "late_ns"),
    [
        (UNKNOWN, LATE_MIN_UNMEASURED + 1),
        (History(round_trip_ns=40 * MILLISECOND), LATE_MIN + 1),
        (History(round_trip_ns=400 * MILLISECOND), 500 * MILLISECOND + 1),
        (History(round_trip_ns=40 * MILLISECOND, variation_ns=MILLISECOND * 10), SECOND),
    ],
)
def test_answers_that_come_late_together_measure_nothing(usual: History, late_ns: int) -> None:
    came_ns = 5 * SECOND
    stood = usual.measured(came_ns - late_ns, came_ns)
    for waited_ns in (2 * late_ns, late_ns, 3 * SECOND):
        stood = stood.measured(came_ns - waited_ns, came_ns + MILLISECOND)
    assert stood == usual._replace(late_ns=came_ns, late_by_ns=late_ns)


def test_an_answer_that_is_a_little_late_counts_at_once() -> None:
    usual = History(round_trip_ns=20 * MILLISECOND)
    assert usual.measured(0, LATE_MIN).round_trip_ns == 30 * MILLISECOND
    assert UNKNOWN.measured(0, LATE_MIN_UNMEASURED).round_trip_ns == LATE_MIN_UNMEASURED


def test_a_pair_that_was_never_measured_may_be_as_slow_as_another() -> None:
    for slowest_ns in (20 * MILLISECOND, 400 * MILLISECOND):
        usual_ns = max(LATE_MIN, slowest_ns * 5 // 4)
        assert UNKNOWN.measured(0, usual_ns, slowest_ns).round_trip_ns == usual_ns
        assert not UNKNOWN.measured(0, usual_ns + 1, slowest_ns).round_trip_ns


def test_a_late_answer_counts_if_the_next_takes_about_as_long() -> None:
    usual = History(round_trip_ns=40 * MILLISECOND)
    once = usual.measured(0, 200 * MILLISECOND)
    twice = once.measured(200 * MILLISECOND, 400 * MILLISECOND)
    assert twice.round_trip_ns == 60 * MILLISECOND
    late = UNKNOWN.measured(0, 2 * SECOND).measured(2 * SECOND, 4 * SECOND)
    assert late.round_trip_ns == 2 * SECOND


@pytest.mark.parametrize(
    ("second_ns", "counts"), [(500, True), (2_000, True), (499, False), (2_001, False)]
)
def test_a_daemon_that_stands_still_again_measures_nothing(second_ns: int, counts: bool) -> None:
    usual = History(round_trip_ns=40 * MILLISECOND)
    once = usual.measured(0, SECOND)
    again = once.measured(2 * SECOND, 2 * SECOND + second_ns * MILLISECOND)
    assert (again.round_trip_ns > usual.round_trip_ns) == counts


@pytest.mark.parametrize(("after_ns", "counts"), [(LATE_TIME, True), (LATE_TIME + 1, False)])
def test_a_late_answer_counts_only_soon_after_another(after_ns: int, counts: bool) -> None:
    """A daemon stands still again after a while."""
    once = History(round_trip_ns=40 * MILLISECOND).measured(0, SECOND)
    now_ns = SECOND + after_ns
    again = once.measured(now_ns - SECOND, now_ns)
    assert (again.round_trip_ns > 40 * MILLISECOND) == counts
    assert again.late_ns == now_ns


def test_an_answer_in_time_makes_the_next_late_one_the_first_again() -> None:
    usual = History(round_trip_ns=40 * MILLISECOND)
    once = usual.measured(0, SECOND).measured(SECOND, SECOND + 40 * MILLISECOND)
    assert once == usual
    again = once.measured(2 * SECOND, 3 * SECOND)
    assert again == usual._replace(late_ns=3 * SECOND, late_by_ns=SECOND)


def test_a_pair_that_was_never_measured_is_silent_after_250_ms() -> None:
    assert UNKNOWN.verdict_wait_ns == SILENCE_UNMEASURED == 250 * MILLISECOND


def test_a_pair_is_silent_after_one_and_a_half_round_trips_and_10_ms() -> None:
    assert History(round_trip_ns=40 * MILLISECOND).verdict_wait_ns == 60 * MILLISECOND
    assert History(round_trip_ns=MILLISECOND).verdict_wait_ns == VERDICT_WAIT_MIN


def test_a_round_trip_that_varies_is_waited_for_longer() -> None:
    one = History(round_trip_ns=40 * MILLISECOND, variation_ns=20 * MILLISECOND)
    assert one.ask_wait_ns == 120 * MILLISECOND
    assert one.verdict_wait_ns == 120 * MILLISECOND


def test_a_real_failure_costs_two_round_trips_and_10_ms_more_than_one_request() -> None:
    for round_trip_ns in (MILLISECOND // 3, 20 * MILLISECOND, 300 * MILLISECOND):
        one = History(round_trip_ns=round_trip_ns)
        verdict_ns = one.ask_wait_ns + one.verdict_wait_ns
        assert verdict_ns <= 3 * round_trip_ns + 10 * MILLISECOND + ASK_WAIT_MIN


def test_the_latest_word_counts_in_either_form() -> None:
    assert History(heard_ns=SECOND, plain_ns=2 * SECOND).latest_ns == 2 * SECOND
    assert History(heard_ns=3 * SECOND, plain_ns=2 * SECOND).latest_ns == 3 * SECOND


def test_a_pair_that_was_never_measured_is_waited_for_as_long_as_its_late_answer_took() -> None:
    """Until the next answer is due: that may have been the fault of a daemon. T is not longer."""
    context = established().a.context
    context.note(context.pair, History(round_trip_ns=20 * MILLISECOND))
    context.first_round_trip_ns = 0
    context.local_locator, context.peer_locator = A2, B2
    late_by_ns, before = 600 * MILLISECOND, context.expected
    context.measure(context.pair, 0, late_by_ns)
    assert context.round_trip_ns == 0
    due_ns = late_by_ns + late_by_ns * 5 // 4
    for now_ns in (late_by_ns, due_ns):
        assert context.awaited(now_ns).ask_wait_ns == late_by_ns * 5 // 4
        assert context.awaited(now_ns).verdict_wait_ns == late_by_ns * 3 // 2
    late = context.history_of(context.pair)
    assert context.awaited(due_ns + 1) == late
    assert context.silence_ns == before.silence_ns(0) == SILENCE_UNMEASURED
    context.measure(context.pair, late_by_ns, 2 * late_by_ns)
    assert context.awaited(2 * late_by_ns).round_trip_ns == context.round_trip_ns == late_by_ns
