# SPDX-License-Identifier: MIT
"""The failover bench: its options, its pictures, and one small run."""

import contextlib
import json
from pathlib import Path

import pytest

from noid.bench.picture import draw
from noid.bench.stage import available
from noid.cli.main import main


@pytest.mark.parametrize(
    ("option", "value", "known"),
    [
        ("--fault", "silent,fire", "'fire' is not one of silent, "),
        ("--traffic", "bulk,", "'' is not one of bulk, paced, unlimited, udp"),
        ("--data", "up", "'up' is not one of to_a, from_a"),
        ("--planes", "xdp", "'xdp' is not one of none, mptcp, tun, bpf"),
    ],
)
def test_unknown_choices_are_refused_in_one_line(
    option: str, value: str, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "failover", option, value])
    assert caught.value.code == 2
    assert f"argument {option}: {known}" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.alone  # silence is measured
@pytest.mark.lab
@pytest.mark.slow
def test_a_silent_provider_ends_plain_tcp_and_not_noid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--runs", "1", "--fault", "silent", "--traffic", "paced", "--planes", "none,bpf"]
    assert main(["bench", "failover", *words, "--plot", str(tmp_path), "--json"]) == 0
    plain, shimmed = json.loads(capsys.readouterr().out)["rows"]
    assert (plain["plane"], plain["survived"], plain["n"]) == ("none", 0, 1)
    assert (shimmed["plane"], shimmed["survived"], shimmed["n"]) == ("bpf", 1, 1)
    assert plain["silence_ms"]["min"] > shimmed["silence_ms"]["max"]
    assert [path.name for path in tmp_path.iterdir()] == ["failover-silent-paced-to-a.svg"]


def test_missing_mptcp_is_reported_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with contextlib.ExitStack() as stack:
        stages, missing = available(("mptcp",), stack)
    assert stages == []
    assert missing == "mptcpize is not available: install the Debian package mptcpize"


def test_the_same_figures_make_the_same_picture(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.svg", "two.svg")]
    for path in paths:
        draw(path, "silent, paced", {"none": [1000, 0], "bpf": [1000, 1000]}, packets=False)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert b"<svg" in first
