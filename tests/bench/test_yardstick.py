# SPDX-License-Identifier: MIT
"""The yardstick of this machine, and figures divided by it."""

import pytest

from noid.bench.yardstick import ROUNDS, Yardstick


def test_a_yardstick_has_a_time_for_each_loop_and_round() -> None:
    found = Yardstick.measure()
    assert len(found.loops_s) == len(found.hashes_s) == ROUNDS
    assert min(*found.loops_s, *found.hashes_s) > 0
    assert len((found + found).loops_s) == 2 * ROUNDS


def test_the_yardstick_is_the_median_of_both_loops_together() -> None:
    found = Yardstick(loops_s=(0.01, 0.02, 0.06), hashes_s=(0.01, 0.01, 0.02))
    assert found.seconds == pytest.approx(0.03)
    assert found.as_json()["loop_milliseconds"] == 20


def test_only_rates_and_times_are_divided_by_the_yardstick() -> None:
    yardstick = Yardstick(loops_s=(0.01,), hashes_s=(0.01,))
    figures = {
        "set_ups_per_second": 3000.0,
        "until_ready_seconds": 5.0,
        "longest_answer_milliseconds": 100.0,
        "packet_nanoseconds": 40.0,
        "noid_to_plain": 0.98,
        "octets_each": 1800.0,
    }
    assert yardstick.ratios(figures) == pytest.approx(
        {
            "set_ups_per_second": 60.0,
            "until_ready_seconds": 250.0,
            "longest_answer_milliseconds": 5.0,
            "packet_nanoseconds": 2e-6,
        }
    )


def test_a_machine_of_half_the_speed_has_the_same_ratio() -> None:
    fast = Yardstick(loops_s=(0.01,), hashes_s=(0.01,))
    slow = Yardstick(loops_s=(0.02,), hashes_s=(0.02,))
    assert fast.ratios({"a_per_second": 100.0}) == slow.ratios({"a_per_second": 50.0})
    assert fast.ratios({"b_seconds": 1.0}) == slow.ratios({"b_seconds": 2.0})
