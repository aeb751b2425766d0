# SPDX-License-Identifier: MIT
"""A bench at two commits by turns."""

import argparse
import json
import tempfile
from pathlib import Path

import pytest

from noid.bench.against import PREFIX, figures_of, ratios, table
from noid.bench.flood import INITS
from noid.cli.bench import add_commands, passed_on
from noid.cli.main import main


def leftovers() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


def test_the_figures_of_an_answer_are_medians_and_numbers() -> None:
    spread = {"n": 3, "median": 2.0, "min": 1.0, "max": 3.0}
    answer = {"bench": "x", "a": spread, "b": 7, "good": True, "yardstick": {"milliseconds": 1.0}}
    assert figures_of(answer) == {"a": 2.0, "b": 7.0}


def test_a_figure_of_a_row_is_named_after_the_row() -> None:
    spread = {"median": 30.0, "min": 1.0, "max": 90.0}
    row = {"fault": "silent", "plane": "bpf", "n": 7, "silence_ms": spread, "runs": [{}]}
    assert figures_of({"rows": [row]}) == {"silent_bpf_n": 7.0, "silent_bpf_silence_ms": 30.0}


def test_ratios_are_taken_turn_by_turn() -> None:
    now = [{"a": 2.0, "same": 5.0}, {"a": 6.0, "same": 5.0}]
    then = [{"a": 1.0, "same": 5.0}, {"a": 4.0, "same": 5.0}]
    found = {name: one.values for name, one in ratios(now, then).items()}
    assert found == {"a_now_to_then": (2.0, 1.5), "a_now": (2.0, 6.0), "a_then": (1.0, 4.0)}


def test_there_is_no_ratio_to_nothing() -> None:
    found = ratios([{"a": 2.0, "new": 1.0}], [{"a": 0.0}])
    assert set(found) == {"a_now", "a_then"}
    (row,) = table(found)
    assert row == {"figure": "a", "now to then": "-", "now": "2 (2-2)", "then": "0 (0-0)"}


def test_both_commits_measure_as_much_whatever_their_defaults_are() -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    for words in ([], ["--inits", str(INITS)]):
        arguments = parser.parse_args(["bench", "flood", "--against", "HEAD", *words])
        assert passed_on(arguments) == ["--inits", str(INITS)]


@pytest.mark.slow
def test_a_bench_runs_against_a_commit_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = leftovers()
    words = ["bench", "setup", "--contexts", "5", "--turns", "2", "--against", "HEAD", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["set_ups_per_second_now_to_then"]["n"] == 2
    assert found["set_ups_per_second_then"]["min"] > 0
    assert "set_ups_per_run_now" not in found  # the option was passed on: it is 5 on both sides
    assert leftovers() == before


@pytest.mark.parametrize("commit", ["no-such-commit", "--help"])
def test_a_commit_that_is_not_there_is_refused_in_one_line(
    commit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = leftovers()
    assert main(["bench", "setup", f"--against={commit}"]) == 1
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"noid: --against {commit}: ")
    assert complaint.count("\n") == 1
    assert leftovers() == before
