# SPDX-License-Identifier: MIT
"""What the failover bench computes from the records of a run."""

import pytest

from noid.bench import silence
from noid.bench.silence import Losses, Observation, count_losses, observe, read_records, summary
from noid.bench.traffic import RECORD
from noid.constants import MILLISECOND, SECOND
from noid.lab.download import Arrival

FAULT_NS = 100 * SECOND


def arrivals(*moments_ms: float) -> list[Arrival]:
    """One octet at each moment, in ms after the fault."""
    return [Arrival(FAULT_NS + round(at * MILLISECOND), 1) for at in moments_ms]


def seen(*directions: list[Arrival], end_ms: int = 3000) -> Observation:
    return observe(directions, FAULT_NS, FAULT_NS + end_ms * MILLISECOND, {})


def steady(since_ms: int, until_ms: int) -> list[Arrival]:
    return arrivals(*range(since_ms, until_ms))


def test_the_longest_silence_is_the_longest_gap_after_the_fault() -> None:
    found = seen(arrivals(-900, -100) + steady(0, 10) + steady(240, 3000))
    assert found.silence_ms == 231.0
    assert found.survived


def test_a_silence_begins_at_the_fault_at_the_earliest() -> None:
    assert seen(arrivals(-500) + steady(30, 3000)).silence_ms == 30.0


def test_a_disturbance_ends_with_the_last_silence_of_fifty_ms() -> None:
    found = seen(steady(0, 10) + steady(210, 300) + steady(349, 400) + steady(449, 3000))
    assert found.disturbed_ms == 449.0
    assert found.silence_ms == 201.0


def test_short_silences_are_no_disturbance() -> None:
    assert seen(steady(0, 10) + steady(58, 3000)).disturbed_ms == 0.0


def test_a_conversation_that_is_silent_in_the_end_has_not_survived() -> None:
    found = seen(steady(-100, 5))
    assert not found.survived
    assert found.silence_ms == 2996.0
    assert found.observed_ms == 3000.0


def test_the_worse_of_two_directions_counts() -> None:
    found = seen(steady(0, 3000), steady(70, 3000))
    assert found.silence_ms == 70.0
    assert found.disturbed_ms == 70.0
    assert not seen(steady(0, 3000), steady(0, 100)).survived


def test_nothing_received_is_no_survival() -> None:
    assert not seen([]).survived


def test_losses_and_duplicates_are_counted_around_the_fault() -> None:
    sent = [Arrival(FAULT_NS + at * 20 * MILLISECOND, 100 + at) for at in range(-100, 150)]
    numbers = {number for _, number in sent} - {49, 101, 102}  # 49 went long before the fault
    received = [Arrival(0, number) for number in [*sorted(numbers), 110, 110, 111]]
    end_ns = FAULT_NS + 3 * SECOND
    assert count_losses(sent, received, FAULT_NS, end_ns) == Losses(lost=2, duplicated=3)


def test_what_may_be_on_its_way_at_the_end_is_not_lost() -> None:
    end_ns = FAULT_NS + SECOND
    late = [Arrival(end_ns - silence.IN_FLIGHT_NS + 1, 7)]
    early = [Arrival(end_ns - silence.IN_FLIGHT_NS, 8)]
    assert count_losses(late + early, [], FAULT_NS, end_ns) == Losses(lost=1, duplicated=0)


def test_a_record_that_is_half_written_is_left_out() -> None:
    octets = RECORD.pack(1, 2) + RECORD.pack(3, 4)
    assert read_records(octets) == [(1, 2), (3, 4)]
    assert read_records(octets[:-1]) == [(1, 2)]
    assert read_records(b"") == []


def test_bins_hold_octets_or_packets_around_the_fault() -> None:
    ones = [Arrival(FAULT_NS + at * MILLISECOND, 500) for at in (-201, -200, 0, 1, 9, 10, 1800)]
    octets = silence.bins(ones, FAULT_NS, packets=False)
    packets = silence.bins(ones, FAULT_NS, packets=True)
    assert len(octets) == 200
    assert (octets[0], octets[20], octets[21], sum(octets)) == (500, 1500, 500, 2500)
    assert (packets[0], packets[20], packets[21], sum(packets)) == (1, 3, 1, 5)


def run(
    silence_ms: float, *, survived: bool = True, connect_ms: float | None = None
) -> Observation:
    return Observation(
        silence_ms=silence_ms,
        disturbed_ms=0.0,
        survived=survived,
        observed_ms=3000.0,
        losses={"to_a": Losses(2, 0), "from_a": Losses(1, 3)},
        connect_ms=connect_ms,
    )


def test_a_summary_has_median_range_and_every_run() -> None:
    found = summary([run(30.0), run(10.0), run(8000.0, survived=False)])
    assert (found["n"], found["survived"]) == (3, 2)
    assert found["silence_ms"] == {"median": 30.0, "min": 10.0, "max": 8000.0}
    assert found["duplicated_from_a"] == {"median": 3, "min": 3, "max": 3}
    assert [one["silence_ms"] for one in found["runs"]] == [30.0, 10.0, 8000.0]


def test_a_connection_that_fails_is_null_in_json() -> None:
    found = summary([run(1.0, connect_ms=float("inf")), run(1.0, connect_ms=7.0)])
    assert [one["connect_ms"] for one in found["runs"]] == [None, 7.0]
    assert found["connect_ms"]["max"] == 7.0


@pytest.mark.parametrize(("silences", "index"), [([5, 1, 3], 2), ([1, 2], 0), ([9], 0)])
def test_the_middle_run_has_the_median_silence(silences: list[float], index: int) -> None:
    assert silence.middle([run(one) for one in silences]) == index


def test_people_see_whole_milliseconds_and_both_directions() -> None:
    found = silence.texts([run(30.4), run(10.0), run(80.0, survived=False)])
    assert found["silence ms"] == "30 (10-80)"
    assert found["lives"] == "2/3"
    assert silence.texts([run(1.0, connect_ms=float("inf"))])["connect ms"] == "never"
    assert (found["lost"], found["twice"], found["connect ms"]) == ("2/1", "0/3", "")
