# SPDX-License-Identifier: MIT
"""The benches: each runs small, and says what it should, as JSON and as a table."""

import json
from typing import Any

import pytest

from noid.bench import dns_stub, mass_failover
from noid.bench.flood import Flood
from noid.bench.report import Bench
from noid.cli.bench import BENCHES
from noid.cli.main import main
from noid.engine.events import LocatorsChanged
from noid.errors import ShimError

pytestmark = pytest.mark.alone  # rates and times are measured

SMALL = {
    "setup": ["--runs", "3", "--contexts", "5"],
    "flood": ["--runs", "2", "--inits", "20"],
    "contexts": ["--contexts", "100"],
    "dns-stub": ["--runs", "1", "--seconds", "1"],
    "dns-verify": ["--runs", "1", "--peers", "10"],
    "throughput": ["--runs", "1", "--seconds", "1"],
    "latency": ["--runs", "1", "--seconds", "1", "--moved"],
    "packets": ["--runs", "1", "--seconds", "1", "--plane", "tun"],
    "scale": ["--runs", "1", "--contexts", "1000"],
    "adoption": ["--contexts", "1000"],
    "failover": ["--runs", "1", "--fault", "silent", "--traffic", "paced", "--planes", "bpf"],
    "mass-failover": ["--contexts", "1000", "--samples", "2", "--fault", "silent"],
    "under-attack": ["--runs", "1"],
}
GROWTH_OCTETS_MAX = 64 << 20
SERIES = {"n", "median", "min", "max"}


def answer(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["bench", name, *SMALL[name], "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["bench"] == name
    return found


def test_every_bench_is_run_here() -> None:
    assert {bench.name for bench in BENCHES} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
def test_a_bench_prints_a_table(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dns_stub, "NAMES", 500)
    monkeypatch.setattr(mass_failover, "AFTER_S", 1.0)
    assert main(["bench", name, *SMALL[name]]) == 0
    said = capsys.readouterr()
    assert "counted" in said.out
    assert said.err == ""


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


def test_contexts_have_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("contexts", capsys)
    assert found["contexts"] == 100
    assert found["allocated_octets_each"] > 500
    assert "resident_octets_each" in found


def test_the_stub_answers_and_loses_nothing_at_half_of_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dns_stub, "NAMES", 500)
    found = answer("dns-stub", capsys)
    for name in dns_stub.LOADS:
        assert found[name]["min"] > 0
    for name in dns_stub.HALVES:
        assert found[name] == 0


def test_peers_are_verified_beside_dead_name_servers(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer("dns-verify", capsys)
    assert found["peers_per_second"]["min"] > 0
    assert "slower_than_where_all_answer" in found


def test_every_sample_of_very_many_contexts_continues(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mass_failover, "AFTER_S", 1.0)
    found = answer("mass-failover", capsys)
    assert found["samples_that_continued"] == 2
    assert found["status_answers"] > 0
    assert found["silence_milliseconds"]["n"] == 2


def test_a_flood_that_is_not_answered_is_no_figure() -> None:
    flood = Flood()
    flood.responder.handle(LocatorsChanged(()), 0)
    with pytest.raises(ShimError, match="5 INITs were not answered"):
        flood.answered(5)


def test_a_host_under_attack_fails_over_answers_dns_and_does_not_grow(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = answer("under-attack", capsys)
    assert min(found["inits"], found["strangers"], found["requests"]) > 0
    assert found["attacked_gap_milliseconds"]["max"] < 20_000
    assert found["attacked_stub_milliseconds"]["max"] < 2_000
    assert found["attacked_growth_octets"]["max"] < GROWTH_OCTETS_MAX
