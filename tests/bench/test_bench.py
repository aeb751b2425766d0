# SPDX-License-Identifier: MIT
"""The benches: each runs small, and says what it should, as JSON and as a table."""

import argparse
import functools
import json
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest

from noid.bench import dns_stub
from noid.bench.flood import BATCH, Flood
from noid.bench.memory import traced
from noid.bench.report import Bench, Report
from noid.cli.bench import BENCHES
from noid.cli.main import main, parser
from noid.engine.events import LocatorsChanged
from noid.errors import ShimError

SMALL = {
    "setup": ["--runs", "3", "--contexts", "5"],
    "flood": ["--runs", "2", "--inits", "20"],
    "contexts": ["--contexts", "100"],
    "dns-stub": ["--runs", "1", "--seconds", "1", "--names", "500"],
    "dns-verify": ["--runs", "1", "--peers", "10"],
    "throughput": ["--runs", "1", "--seconds", "1"],
    "latency": ["--runs", "1", "--seconds", "1", "--moved"],
    "packets": ["--runs", "1", "--seconds", "1", "--plane", "tun"],
    "border": ["--runs", "1", "--seconds", "1"],
    "scale": ["--runs", "1", "--contexts", "1000"],
    "adoption": ["--contexts", "1000"],
    "failover": ["--runs", "1", "--fault", "silent", "--traffic", "paced", "--planes", "bpf"],
    "mass-failover": [
        *("--contexts", "1000", "--samples", "2"),
        *("--fault", "silent", "--after", "1"),
    ],
    "one-way": ["--rate", "50", "--seconds", "4"],
    "spread": ["--runs", "1", "--seconds", "1", "--connections", "10"],
    "under-attack": ["--runs", "1"],
}
pytestmark = pytest.mark.lab

ALONE = {"dns-stub", "mass-failover", "one-way", "under-attack"}
"""Benches with figures that a busy machine may change: losses, switches and silences."""
GROWTH_OCTETS_MAX = 64 << 20
SERIES = {"n", "median", "min", "max"}


def arguments_of(name: str, *options: str) -> argparse.Namespace:
    return parser("bench").parse_args(["bench", name, *SMALL[name], *options])


@functools.cache
def measured(name: str) -> Report:
    """What a bench measures, once for all tests."""
    arguments = arguments_of(name)
    report: Report = arguments.bench.measure(arguments, lambda done, total: None)
    return report


def printed(name: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What the command prints of that."""
    arguments, report = arguments_of(name, *options), measured(name)
    arguments.bench = replace(arguments.bench, measure=lambda *_: report)
    assert arguments.handler(arguments) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def answer(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(name, capsys, "--json"))
    assert found["bench"] == name
    return found


def test_every_bench_is_run_here() -> None:
    assert {bench.name for bench in BENCHES} == set(SMALL)


@pytest.mark.parametrize(
    "name",
    [pytest.param(one, marks=[pytest.mark.alone] if one in ALONE else []) for one in SMALL],
)
def test_a_bench_prints_a_table(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "counted" in printed(name, capsys)


def test_the_command_measures_and_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "setup", *SMALL["setup"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bench"] == "setup"


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_the_help_has_an_example_that_is_understood(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", bench.name, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  {bench.example}" in capsys.readouterr().out


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", ""])
def test_what_counts_nothing_is_refused_in_one_line(
    value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "setup", "--runs", value])
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"argument --runs: {value!r} is not a whole number, 1 or more")


def test_figures_are_divided_by_the_yardstick(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("setup", capsys)
    speed = found["yardstick"]["milliseconds"] / 1000
    rate = found["set_ups_per_second"]["median"]
    assert found["per_yardstick"]["set_ups_per_second"] == pytest.approx(rate * speed, rel=0.01)
    assert set(found["per_yardstick"]) == {"set_ups_per_second"}


def test_set_ups_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("setup", capsys)
    rate = found["set_ups_per_second"]
    assert set(rate) == SERIES
    assert rate["n"] == 3
    assert 0 < rate["min"] <= rate["median"] <= rate["max"]
    assert found["messages_per_set_up"] == 4
    assert found["dns_answers_per_set_up"] == 5


def test_a_flood_is_answered_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("flood", capsys)
    assert found["inits_in_all"] == 40
    for name in ("inits_answered_per_second", "inits_refused_per_second"):
        assert set(found[name]) == SERIES
        assert found[name]["n"] == 2
        assert 0 < found[name]["min"] <= found[name]["max"]
    assert found["resident_octets"] > 0
    assert found["table_entries_growth"] <= 40  # a bucket of a prefix that was not there yet


@pytest.mark.slow
def test_a_long_flood_takes_no_more_memory_than_a_short_one() -> None:
    """Not even of the bench, which would count it as growth of the responder."""
    flood = Flood()
    peaks = []
    with traced():
        for batches in (1, 2):
            tracemalloc.reset_peak()
            flood.answered(batches * BATCH)
            peaks.append(tracemalloc.get_traced_memory()[1])
    assert peaks[1] < 1.2 * peaks[0]


def test_contexts_have_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("contexts", capsys)
    assert found["contexts"] == 100
    assert found["allocated_octets_each"] > 500
    assert "resident_octets_each" in found


@pytest.mark.alone
def test_the_stub_answers_and_loses_nothing_at_half_of_what_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = answer("dns-stub", capsys)
    for name in dns_stub.LOADS:
        assert found[name]["min"] > 0
    for name in dns_stub.HALVES:
        assert found[name] == 0


def test_peers_are_verified_beside_dead_name_servers(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("dns-verify", capsys)
    assert found["peers_per_second"]["min"] > 0
    assert "slower_than_where_all_answer" in found


@pytest.mark.alone
def test_every_sample_of_very_many_contexts_continues(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("mass-failover", capsys)
    assert found["samples_that_continued"] == 2
    for what in ("status", "paths", "metrics"):
        assert found[f"{what}_milliseconds"]["n"] > 0
    assert 0 < found["octets_of_metrics"] < 1_000_000
    assert found["silence_milliseconds"]["n"] == 2


@pytest.mark.alone
def test_one_way_datagrams_switch_where_a_provider_fails_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calm, cut = answer("one-way", capsys)["rows"]
    assert (calm["cut"], calm["switches"], calm["lost"]) == (False, 0, 0)
    assert (cut["cut"], cut["duplicated"]) == (True, 0)
    assert cut["switches"] > 0
    assert cut["silence_ms"] < 1_000


def test_a_flood_that_is_not_answered_is_no_figure() -> None:
    flood = Flood()
    flood.responder.handle(LocatorsChanged(()), 0)
    with pytest.raises(ShimError, match="5 INITs were not answered"):
        flood.answered(5)


@pytest.mark.alone
def test_a_host_under_attack_fails_over_answers_dns_and_does_not_grow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = answer("under-attack", capsys)
    assert min(found["inits"], found["strangers"], found["requests"]) > 0
    assert found["attacked_gap_milliseconds"]["max"] < 20_000
    assert found["attacked_stub_milliseconds"]["max"] < 2_000
    assert found["attacked_growth_octets"]["max"] < GROWTH_OCTETS_MAX
