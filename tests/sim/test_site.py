"""A provider of a site fails: what its hosts come to, and what that says of larger sites."""

from collections import Counter

import pytest

from noid.cli.scale import Job, Study, carry_out, jobs, peak, quantile
from noid.sim.site import Part, Toll, play

CONTEXTS = 5


@pytest.mark.parametrize("notices", [False, True])
def test_every_program_is_answered_again(notices: bool) -> None:
    toll = play(Part(1, CONTEXTS, notices=notices))
    assert toll.silence[-1] == 0
    assert toll.silence.total() == toll.per_context.total() == toll.contexts == CONTEXTS
    assert toll.control.total() == sum(cost * count for cost, count in toll.per_context.items())
    assert 0 < toll.control_octets < toll.data_octets


def test_a_host_that_notices_is_answered_sooner() -> None:
    silent, noticed = (play(Part(2, CONTEXTS, notices=notices)) for notices in (False, True))
    assert max(noticed.silence) < max(silent.silence)


def test_contexts_without_traffic_cost_questions_alone() -> None:
    toll = play(Part(3, CONTEXTS, quiet=True))
    assert not toll.control
    assert toll.asked
    assert toll.questions


def test_a_host_is_the_same_each_time() -> None:
    assert play(Part(4, CONTEXTS)) == play(Part(4, CONTEXTS))


def test_the_peak_is_that_of_a_tenth_of_a_second() -> None:
    assert peak(Counter()) == 0.0
    assert peak(Counter({0: 1, 5: 2, 30: 1})) == 30.0
    assert peak(Counter({0: 3, 10: 4})) == 40.0


def test_a_quantile_is_the_end_of_its_bin() -> None:
    values = Counter({0: 1, 4: 1, 9: 2})
    assert [quantile(values, share) for share in (0.25, 0.5, 1.0)] == [10, 50, 100]


def test_as_many_hosts_are_played_as_have_the_contexts() -> None:
    wanted = jobs([10, 1_000], played=100, gap_ms=200)
    assert Counter((job.contexts, job.fault) for job in wanted) == {
        (each, fault): 10 if each == 10 else 1
        for each in (10, 1_000)
        for fault in ("silent", "noticed", "quiet")
    }


def test_a_larger_site_costs_as_much_more() -> None:
    study = Study()
    for fault in ("silent", "quiet"):
        study.take(*carry_out(Job(CONTEXTS, fault, 1, 200)))
    small, large = (study.row(hosts, CONTEXTS, "silent") for hosts in (10, 1_000))
    assert small["played"] == CONTEXTS
    assert large["messages_per_context"] == small["messages_per_context"]
    ratio = large["messages_per_second_peak"] / small["messages_per_second_peak"]
    assert ratio == pytest.approx(100, rel=0.01)
    assert large["convergence_ms"] == small["convergence_ms"]


def test_what_hosts_come_to_is_added() -> None:
    one, other = play(Part(5, CONTEXTS)), play(Part(6, CONTEXTS))
    both = Toll()
    both.add(one)
    both.add(other)
    assert both.contexts == 2 * CONTEXTS
    assert both.control.total() == one.control.total() + other.control.total()
    assert both.data_octets == one.data_octets + other.data_octets
