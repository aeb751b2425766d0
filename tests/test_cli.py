# SPDX-License-Identifier: MIT
"""The command line: what is typed, what is printed, and with which status it ends."""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from noid import __version__
from noid.cli.history import history_cells, monitor_line
from noid.cli.main import INTERRUPTED, main, parser
from noid.cli.output import ROWS_MEASURED
from noid.cli.paths import clock
from noid.cli.report import Daemon
from noid.counters import PlaneCounter
from noid.errors import PlatformError
from tests.canned import Canned, serving

STATUS = {
    "version": "1",
    "locators": ["2001:db8:1::1", "2001:db8:2::1"],
    "plane": {"kind": "tun", "counters": {"packets_sent": 3, "packets_received": 0}},
    "contexts": {},
}
AT_S = 1_000_000_000.25
CONTEXT = {
    "local_aid": "2001:db8:1::a",
    "peer_aid": "2001:db8:1::b",
    "state": "established",
    "local_locator": "2001:db8:2::a",
    "peer_locator": "2001:db8:2::b",
    "lsv_peer": ["2001:db8:1::b", "2001:db8:2::b"],
    "peer_name": "b.example",
}


def commands() -> dict[str, Callable[[], Any]]:
    return {"status": lambda: STATUS, "contexts": lambda: iter([CONTEXT])}


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "noid.sock"


@pytest.fixture
def canned(path: Path) -> Iterator[Canned]:
    with serving(path, commands()) as server:
        yield server


def leaves(top: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that does something, with its parser."""
    groups = [one for one in top._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield top.prog, top
    for group in groups:
        for inner in group.choices.values():
            yield from leaves(inner)


COMMANDS = dict(leaves(parser()))


# --- words ----------------------------------------------------------------------------------------


def test_these_are_the_commands() -> None:
    assert {"noid run", "noid status", "noid contexts", "noid monitor"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split()[1:], "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"example:\n  {command}" in said
    for action in COMMANDS[command]._actions:
        assert action.help, f"{command} {action.dest}"


@pytest.mark.parametrize("group", [[], ["lab"]])
def test_the_help_of_a_group_names_the_first_command_to_try(
    group: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*group, "--help"])
    assert ended.value.code == 0
    assert "Start with: noid lab demo" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"noid {__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["check", "a", "b"], ["status", "--xml"], ["lab", "exec", "z"]]
)
def test_words_that_are_off_end_with_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage: noid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["avoid", "up1", "up2"], "noid avoid"),
        (["status", "--frob"], "noid status"),
        (["lab", "cut", "1", "2"], "noid lab cut"),
    ],
)
def test_words_that_a_command_does_not_know_are_refused_with_its_usage(
    words: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith(f"usage: {name} [")
    assert error.startswith(f"{name}: error: unrecognized arguments: ")


@pytest.mark.parametrize(
    ("word", "hint"),
    [("statu", "did you mean status? "), ("contxt", "did you mean contexts? "), ("fly", "")],
)
def test_a_word_that_is_no_command_is_named_with_the_nearest(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([word])
    said = f"noid: error: there is no command {word!r}; {hint}See: noid --help"
    assert capsys.readouterr().err.splitlines()[-1] == said


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["status", "contexts", "monitor"])
def test_without_a_daemon_one_line_says_so(
    command: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--socket", str(path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"noid: control socket {path}: no noid answers there; start one with: noid run\n"
    )


def test_a_refusal_of_the_daemon_is_one_line(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(path, {}):
        assert main(["status", "--socket", str(path)]) == 1
    assert capsys.readouterr().err == "noid: command status: unknown command 'status'\n"


def test_a_report_does_not_ask_a_daemon_again_that_has_not_answered(path: Path) -> None:
    daemon = Daemon(path)
    with pytest.raises(PlatformError):
        daemon.answer("status")
    with serving(path, commands()):
        with pytest.raises(PlatformError):
            daemon.rows("contexts", 1)
        assert Daemon(path).rows("contexts", 1) == [CONTEXT]


def test_ctrl_c_ends_a_command_with_its_own_status(path: Path) -> None:
    over = threading.Event()

    def interrupt() -> dict[str, Any]:
        thread = threading.main_thread().ident
        assert thread is not None
        signal.pthread_kill(thread, signal.SIGINT)
        over.wait(30)  # the answer comes too late
        return {}

    with serving(path, {"status": interrupt}):
        try:
            assert main(["status", "--socket", str(path)]) == INTERRUPTED
        finally:
            over.set()


def test_a_command_whose_reader_has_left_ends_without_a_message(
    canned: Canned,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        assert main(["status", "--json", "--socket", str(path)]) == 1
    assert capsys.readouterr().err == ""


def written(arguments: str, path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """What ``noid check`` prints about a file with a name that is not ASCII, to somewhere."""
    path.write_text('[host]\nname = "é..example"\n', encoding="utf-8")
    command = f"exec {sys.executable} -m noid {arguments}"
    return subprocess.run(
        ["sh", "-c", command.format(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.slow
def test_what_cannot_be_written_is_an_error_in_one_line(path: Path) -> None:
    done = written("check {} > /dev/full", path)
    assert done.returncode == 1
    assert done.stderr == "noid: standard output: No space left on device\n"


@pytest.mark.slow
def test_a_closed_output_is_no_error(path: Path) -> None:
    done = written("check {} >&-", path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_characters_that_the_locale_does_not_have_are_escaped(path: Path) -> None:
    done = written("check {}", path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"'\xe9..example' is not a host name" in done.stdout


# --- what the daemon says -------------------------------------------------------------------------


@pytest.mark.usefixtures("canned")
def test_the_status_is_a_row_for_each_fact(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--socket", str(path)]) == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == [
        "version",
        "locators",
        "plane.kind",
        "plane.counters.packets_sent",
    ]
    assert rows[0][1].strip() == "1"
    assert rows[3][1].strip() == f"3 ({PlaneCounter.PACKETS_SENT.description})"
    assert rows[1][1].strip() == "2001:db8:1::1 2001:db8:2::1"


@pytest.mark.usefixtures("canned")
def test_contexts_prints_a_line_for_each_context(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["contexts", "--socket", str(path)]) == 0
    heading, line = capsys.readouterr().out.splitlines()
    assert heading.split()[:3] == ["AID(local)", "AID(peer)", "state"]
    assert line.split() == [
        "2001:db8:1::a",
        "2001:db8:1::b",
        "established",
        "2001:db8:2::a",
        "2001:db8:2::b",
        "2",
        "b.example",
    ]


def test_without_contexts_there_is_a_heading_and_an_empty_list(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(path, {"contexts": lambda: iter([])}):
        assert main(["contexts", "--socket", str(path)]) == 0
        assert capsys.readouterr().out.split()[:2] == ["AID(local)", "AID(peer)"]
        assert main(["contexts", "--json", "--socket", str(path)]) == 0
        assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(("limit", "shown"), [(1, 1), (3, 3), (9, 5)])
def test_as_many_contexts_as_wanted_are_shown(
    limit: int, shown: int, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["contexts", "--limit", str(limit), "--socket", str(path)]
    with serving(path, {"contexts": lambda: iter([CONTEXT] * 5)}):
        assert main(options) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1 + shown
        assert main([*options, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [CONTEXT] * shown


def test_very_many_contexts_are_in_columns_as_wide_as_the_first_of_them(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [CONTEXT] * (ROWS_MEASURED - 1) + [{**CONTEXT, "local_aid": "2001:db8:1:2:3:4:5:6"}]
    with serving(path, {"contexts": lambda: iter(many)}):
        assert main(["contexts", "--socket", str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert main(["contexts", "--json", "--socket", str(path)]) == 0
        assert json.loads(capsys.readouterr().out) == many
    assert len(lines) == 1 + len(many)
    assert {line.index("established") for line in lines[1:-1]} == {lines[0].index("state")}
    assert lines[-1].startswith("2001:db8:1:2:3:4:5:6  2001:db8:1::b  established")


@pytest.mark.usefixtures("canned")
@pytest.mark.parametrize(("command", "answer"), [("status", STATUS), ("contexts", [CONTEXT])])
def test_programs_get_json(
    command: str, answer: object, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--json", "--socket", str(path)]) == 0
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], f"{clock(AT_S, AT_S + 10 * 86_400)}  peer unable: peer_aid=2001:db8::1 why=so\n"),
        (
            ["--json"],
            '{"event":"monitoring"}\n'
            '{"event":"peer_unable","at_ns":5,"at":1000000000.25,"peer_aid":"2001:db8::1","why":"so"}\n',
        ),
    ],
)
def test_the_monitor_prints_events_until_the_daemon_stops(
    options: list[str],
    expected: str,
    canned: Canned,
    path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    event = {"event": "peer_unable", "at_ns": 5, "at": AT_S}
    event |= {"peer_aid": "2001:db8::1", "why": "so"}

    def publish_once_monitored() -> None:
        if not canned.server.monitors:
            canned.loop.call_soon(publish_once_monitored)
            return
        canned.server.publish(event)
        canned.loop.create_task(canned.server.stop())

    canned.call(publish_once_monitored)
    assert main(["monitor", *options, "--socket", str(path)]) == 0
    assert capsys.readouterr().out == expected


def test_a_change_of_an_uplink_is_shown_as_in_the_history() -> None:
    change = {"event": "uplink_changed", "at_ns": 5, "at": 1.5, "uplink": "up1", "old": "up"}
    change |= {"new": "down", "reason": "silent", "lasted_s": 49.659}
    line = monitor_line(change)
    cells = history_cells(change, 1.5)
    assert line == f"{cells[1]}: {cells[2]}"
    assert line.startswith("uplink up1: up -> down after 50 s: ")


def test_the_status_says_preferences_in_words(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    avoid = [{"uplink": "up1", "until": None}]
    configured = [{"uplink": "up2", "priority": 2, "weight": None, "backup": False}]
    found = {"preferences": {"use": "", "avoid": avoid, "configured": configured}, "pid": 1}
    with serving(path, {"status": lambda: found}):
        assert main(["status", "--socket", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "preferences  up1 is avoided until noid auto",
        "preferences  up2 is configured with priority 2",
        "pid          1",
    ]


# --- the daemon -----------------------------------------------------------------------------------


def test_a_configuration_that_is_refused_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noid.toml"
    path.write_text("[dns]\nport = 0")
    assert main(["run", "--config", str(path)]) == 1
    assert capsys.readouterr().err == ("noid: dns.port: expected `int` >= 1; such as: port = 53\n")


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--verbose"]])
def test_a_daemon_that_cannot_start_says_why_in_one_line(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "noid.toml"
    path.write_text(f'[state]\ndirectory = "{path}/below"\n[dns]\nupstream = ["2001:db8::53"]')
    assert main(["run", "--config", str(path), *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"noid: state file {path}/below: Not a directory; set state.directory")
    assert said.count("\n") == 1
