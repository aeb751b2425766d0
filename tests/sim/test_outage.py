# SPDX-License-Identifier: MIT
"""A provider fails under many hosts: what is counted, and what that says of sizes not simulated."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from noid.cli import scale
from noid.cli.main import main
from noid.constants import SECOND, UNPROVEN_TIME
from noid.engine.events import Input, Output
from noid.engine.host import Host
from noid.errors import UsageError
from noid.flows.events import LongUnproven, UnansweredPacket
from noid.locators import Locator
from noid.sim.counts import (
    FAILING,
    SURVIVING,
    Counts,
    Course,
    Failure,
    Peers,
    Phase,
    Plan,
    zone_of,
)
from noid.sim.outage import Outage
from noid.sweep import workers
from noid.sweep.scale import Cell, Figures, Measurement, Spread, cells

SMALL = Plan(
    seed=1,
    hosts=2,
    contexts=3,
    failure=Failure.SILENT,
    calm_ns=20 * SECOND,
    outage_ns=20 * SECOND,
    after_ns=5 * SECOND,
)
CELL = Cell(
    hosts=2,
    contexts=3,
    failure=Failure.SILENT,
    peers=Peers.OWN,
    simulated=2,
    seed=1,
    calm_s=20,
    outage_s=20,
    after_s=5,
)


class Unaware(Host):
    """A host that is never told that nothing answers."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        is_told = isinstance(event, UnansweredPacket | LongUnproven)
        return [] if is_told else super().handle(event, now_ns)


def played(plan: Plan) -> Course:
    return Outage(plan).play()


@pytest.mark.parametrize("failure", list(Failure))
@pytest.mark.parametrize("peers", list(Peers))
def test_every_program_is_answered_again(failure: Failure, peers: Peers) -> None:
    course = played(replace(SMALL, failure=failure, peers=peers))
    assert course.contexts == SMALL.hosts * SMALL.contexts
    assert course.lost == 0
    assert len(course.waited_ns) == len(course.recovered_ns) == course.contexts
    outage = course.counts[Phase.OUTAGE]
    assert outage.messages.total() == sum(outage.contexts.values())
    assert len(outage.contexts) == course.contexts
    assert outage.switches >= course.contexts


def test_programs_of_hosts_that_never_look_for_another_pair_are_lost() -> None:
    course = Outage(SMALL, Unaware).play()
    assert course.lost == SMALL.hosts * SMALL.contexts
    assert not course.waited_ns


def test_a_host_that_is_told_recovers_sooner() -> None:
    silent, told = (played(replace(SMALL, failure=failure)) for failure in Failure)
    assert max(told.waited_ns) < max(silent.waited_ns)


def test_before_the_failure_each_pair_in_use_is_asked_every_few_seconds() -> None:
    course = played(SMALL)
    before = course.counts[Phase.BEFORE]
    assert set(before.messages) == {"UR", "UA", "KEEPALIVE"}
    asked_max = course.contexts * (before.seconds * SECOND / UNPROVEN_TIME + 1)
    assert before.messages["UR"] == before.messages["UA"] <= asked_max


def test_a_run_is_the_same_each_time() -> None:
    assert played(SMALL) == played(SMALL)
    assert played(SMALL) != played(replace(SMALL, seed=2))


def test_an_engine_with_more_work_answers_later() -> None:
    shared = replace(SMALL, peers=Peers.SHARED)
    free, loaded = (played(replace(shared, load=load)) for load in (1, 100))
    assert max(loaded.waited_ns) > max(free.waited_ns)


def test_the_reverse_zone_behind_the_provider_answers_nothing_during_the_outage() -> None:
    world = Outage(replace(SMALL, calm_ns=600 * SECOND, outage_ns=600 * SECOND))
    course = world.play()
    outage = course.counts[Phase.OUTAGE].questions()
    assert outage[f"reverse of provider {FAILING}"] > outage[f"reverse of provider {SURVIVING}"]


def test_zones_are_told_apart() -> None:
    assert zone_of("h1.hosts.example") == "hosts.example"
    name = "1." + "0." * 19 + "3.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
    assert zone_of(name) == "reverse of provider 3"


def test_the_busiest_second_is_that_of_one_link() -> None:
    near, far = (Locator(bytes.fromhex(f"20010db8000{one}") + bytes(10)) for one in (2, 3))
    counts = Counts(10.0, links=Counter({(near, 1): 5, (near, 2): 3, (far, 1): 9}))
    assert counts.busiest_link((2,)) == 5
    assert counts.busiest_link((3, 4)) == 9
    assert counts.busiest_link((1,)) == 0


def test_of_what_is_too_large_a_sample_is_simulated() -> None:
    wanted = cells([100, 10_000], [10, 1_000], [Failure.SILENT], sample=2_000)
    simulated = {(one.hosts, one.contexts): one.simulated for one in wanted}
    assert simulated == {(100, 10): 100, (100, 1_000): 2, (10_000, 10): 200, (10_000, 1_000): 2}
    assert len({one.seed for one in wanted}) == len(wanted)
    load = [one.simulated * one.contexts for one in wanted]
    assert load == sorted(load, reverse=True)


@pytest.mark.parametrize(
    ("hosts", "contexts", "sample", "text"),
    [
        (1_000_001, 1, 1, "--hosts: at most 1000000"),
        (1, 20_001, 1, "--contexts: at most 20000"),
        (1, 1_000, 24_001, "--sample: at most 24000"),
    ],
)
def test_sizes_have_limits(hosts: int, contexts: int, sample: int, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        cells([hosts], [contexts], [Failure.SILENT], sample=sample)


def test_what_all_hosts_cause_is_multiplied_and_what_each_causes_is_not() -> None:
    measure = Measurement(16.0)
    small, large = (measure(replace(CELL, hosts=hosts)) for hosts in (2, 200))
    assert large.provider == 100 * small.provider > 0
    assert large.messages_each == small.messages_each
    assert large.host_link == small.host_link
    assert large.waited_ms == small.waited_ms
    for name, zone in small.zones.items():
        assert large.zones[name].busiest == 100 * zone.busiest


def test_the_share_is_of_the_traffic_of_the_outage() -> None:
    one, other = (Measurement(traffic)(CELL) for traffic in (8.0, 16.0))
    assert one.share == pytest.approx(2 * other.share)
    assert one.share == pytest.approx(one.octets_each / (1_000 * CELL.outage_s), rel=0.2)


def test_a_spread_has_the_median_and_the_99th_of_a_hundred() -> None:
    assert Spread.of(range(1, 101), 1) == Spread(51.0, 100.0, 100.0)
    assert Spread.of([3_000], 1_000) == Spread(3.0, 3.0, 3.0)
    assert Spread.of([], 1) is None


def test_what_a_million_hosts_cause_is_extrapolated_from_every_size() -> None:
    measured = [Measurement(16.0)(replace(CELL, hosts=hosts)) for hosts in (2, 20)]
    (row,) = scale.extrapolate([*measured, replace(measured[0], provider=0.0)])
    assert row["n"] == 3
    provider = round(measured[0].provider / 2 * 1_000_000)
    assert row["provider_busiest_s"] == {"median": provider, "min": 0, "max": provider}


@pytest.mark.slow
def test_the_command_measures_each_size_and_draws_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale, "cells", lambda *_: [CELL, replace(CELL, hosts=20, seed=2)])
    arguments = ["sim", "scale", "--processes", "1", "--plot", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["hosts"] for one in report["sizes"]] == [2, 20]
    assert report["sizes"][0]["contexts_simulated"] == 6
    assert report["extrapolated"][0]["hosts"] == 1_000_000
    first = (tmp_path / "scale-silent.svg").read_bytes()
    assert main(arguments) == 0
    assert "extrapolated: silent, 1,000,000 hosts, 3 contexts" in capsys.readouterr().out
    assert (tmp_path / "scale-silent.svg").read_bytes() == first


def test_a_program_that_is_never_answered_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures: Figures = replace(Measurement(16.0)(CELL), lost=1, waited_ms=None, recovered_s=None)
    monkeypatch.setattr(workers, "on_this_machine", lambda *_: (1, lambda _: iter([figures])))
    assert main(["sim", "scale", "--hosts", "2", "--contexts", "3"]) == 1
    assert "simulated" in capsys.readouterr().out
