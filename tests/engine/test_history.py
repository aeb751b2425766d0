# SPDX-License-Identifier: MIT
"""What is known of one pair of locators [D43]."""

from noid.constants import (
    ASK_WAIT_MIN,
    MILLISECOND,
    SECOND,
    SILENCE_UNMEASURED,
    VERDICT_WAIT_MIN,
)
from noid.engine.history import UNKNOWN, History


def test_a_round_trip_time_rises_by_an_eighth_and_falls_by_half() -> None:
    assert UNKNOWN.measured(800).round_trip_ns == 800
    assert History(round_trip_ns=800).measured(1600).round_trip_ns == 900
    assert History(round_trip_ns=1600).measured(800).round_trip_ns == 1200
    assert History(round_trip_ns=800).measured(2).round_trip_ns == 401


def test_what_is_no_round_trip_time_is_not_taken() -> None:
    one = History(round_trip_ns=800)
    assert one.measured(0) == one.measured(-5) == one


def test_the_variation_of_a_round_trip_time_is_smoothed_by_a_quarter() -> None:
    assert UNKNOWN.measured(800).variation_ns == 0
    assert History(round_trip_ns=800).measured(1600).variation_ns == 200
    assert History(round_trip_ns=800, variation_ns=400).measured(800).variation_ns == 300


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
