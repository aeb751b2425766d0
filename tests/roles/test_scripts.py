# SPDX-License-Identifier: MIT
"""Scripts in events.d: with the event, for a limited time, so many, and only the operator's own."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noid.host.scripts import SCRIPTS_MAX
from noid.lab.waiting import wait_for
from noid.roles.scripts import EVENTS_BURST, RUNNING_MAX, Scripts

EVENT = {"event": "uplink_changed", "uplink": "up1"}
WAIT_S = 60.0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory that only root can write."""
    path = tmp_path / "events.d"
    path.mkdir()
    path.chmod(0o755)
    return path


def script(directory: Path, text: str, name: str = "one") -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def played(scripts: Scripts, times: int = 1, until: Callable[[], bool] | None = None) -> None:
    """Events, and the end of every script; or what is waited for, and then the end of noid."""

    async def play() -> None:
        for _ in range(times):
            scripts.run(EVENT)
        end_s = time.monotonic() + WAIT_S
        while (not until()) if until else bool(scripts.tasks):
            assert time.monotonic() < end_s
            await asyncio.sleep(0.01)
        await scripts.close()

    asyncio.run(play())


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_script_gets_the_event_as_json(directory: Path, tmp_path: Path) -> None:
    script(directory, f"cat > {tmp_path}/got")
    played(Scripts(directory))
    assert json.loads((tmp_path / "got").read_text()) == EVENT


def test_a_script_that_takes_too_long_is_killed_with_what_it_started(
    directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script(directory, f"sleep 1000 & echo $! > {tmp_path}/child\nsleep 1000")
    scripts = Scripts(directory, timeout_s=4.0)
    played(scripts)
    child = int((tmp_path / "child").read_text())
    wait_for("the child is killed", lambda: not is_alive(child), WAIT_S)
    assert "it is killed after 4 s" in caplog.text


def test_the_end_of_noid_ends_its_scripts(directory: Path, tmp_path: Path) -> None:
    script(directory, f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/own\nsleep 1000")
    played(Scripts(directory), until=(tmp_path / "own").exists)
    own = int((tmp_path / "own").read_text())
    wait_for("the script is killed", lambda: not is_alive(own), WAIT_S)


def test_events_are_passed_on_at_a_limited_rate(directory: Path, tmp_path: Path) -> None:
    script(directory, f"echo >> {tmp_path}/times")
    scripts = Scripts(directory)
    played(scripts, EVENTS_BURST + 3)
    assert len((tmp_path / "times").read_text()) == EVENTS_BURST
    assert scripts.refused["too many events"] == 3


def test_so_many_scripts_run_for_an_event_and_at_one_time(directory: Path) -> None:
    for number in range(SCRIPTS_MAX + 1):
        script(directory, "sleep 1000", f"s{number:02}")
    scripts = Scripts(directory)
    played(scripts, 3, until=lambda: len(scripts.tasks) == RUNNING_MAX)
    assert scripts.refused["too many scripts"] == 3
    assert scripts.refused["s00"] == scripts.refused["s15"] == 3 - RUNNING_MAX // SCRIPTS_MAX


def test_a_script_that_hangs_does_not_keep_another_from_events(
    directory: Path, tmp_path: Path
) -> None:
    script(directory, "sleep 1000", "hangs")
    script(directory, f"echo >> {tmp_path}/times", "works")
    scripts = Scripts(directory, timeout_s=1000.0)

    async def play() -> None:
        for number in range(1, EVENTS_BURST + 1):
            scripts.run(EVENT)
            end_s = time.monotonic() + WAIT_S
            while len((tmp_path / "times").read_text()) < number or len(scripts.tasks) > min(
                number, RUNNING_MAX // 2
            ):
                assert time.monotonic() < end_s
                await asyncio.sleep(0.01)
        await scripts.close()

    (tmp_path / "times").touch()
    asyncio.run(play())
    assert scripts.describe() == {"hangs": EVENTS_BURST - RUNNING_MAX // 2}


def test_a_single_script_runs_as_often_as_all_may(directory: Path) -> None:
    script(directory, "sleep 1000")
    scripts = Scripts(directory, timeout_s=1000.0)
    played(scripts, EVENTS_BURST, until=lambda: len(scripts.tasks) == EVENTS_BURST)
    assert scripts.refused == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [("exit 3", "it ended with status 3"), ("kill -SEGV $$", "it ended by signal 11")],
)
def test_a_script_that_fails_is_reported_once(
    directory: Path, text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    script(directory, text)
    scripts = Scripts(directory)
    played(scripts, 2)
    assert [one.getMessage() for one in caplog.records] == [f"events.d: one: {why}"]
    assert scripts.describe() == {"one": 2}


def test_what_a_script_has_started_ends_with_it_unless_it_is_in_another_group(
    directory: Path, tmp_path: Path
) -> None:
    script(
        directory,
        f"sleep 1000 & echo $! > {tmp_path}/child\n"
        f"setsid sh -c 'echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/other;"
        " exec sleep 1000' &\n"
        f"while [ ! -e {tmp_path}/other ]; do sleep 0.01; done",
    )
    scripts = Scripts(directory)
    played(scripts)
    other = int((tmp_path / "other").read_text())
    child = int((tmp_path / "child").read_text())
    wait_for("the child is killed", lambda: not is_alive(child), WAIT_S)
    assert is_alive(other)
    os.kill(other, signal.SIGKILL)
    assert scripts.describe() == {}


@pytest.mark.parametrize(
    "name", ["one.bak", "one~", "one.dpkg-old", "one.sh", ".one.swp", "#one#", "one\n"]
)
def test_a_file_is_run_only_if_run_parts_runs_its_name(directory: Path, name: str) -> None:
    script(directory, "", name)
    good = script(directory, "", "10-mail_me")
    scripts = Scripts(directory)
    assert scripts.examine() == [good]
    assert scripts.refused == {name: 1}


@pytest.mark.parametrize("spoil", ["owner", "group", "others", "link", "mode", "directory"])
def test_what_is_not_run_is_reported_once(
    directory: Path, tmp_path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = script(directory, f"touch {tmp_path}/ran")
    match spoil:
        case "owner":
            os.chown(path, 65534, 65534)
        case "group":
            path.chmod(0o775)
        case "others":
            path.chmod(0o757)
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "mode":
            path.chmod(0o644)
        case _:
            directory.chmod(0o777)
    scripts = Scripts(directory)
    assert scripts.examine() == []
    assert len(caplog.records) == 1
    played(scripts, 2)
    assert not (tmp_path / "ran").exists()
    assert len(caplog.records) == 1


def test_a_script_that_does_not_start_is_reported_once(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script(directory, "").write_bytes(b"no program")
    played(Scripts(directory), 2)
    assert len(caplog.records) == 1


def test_a_directory_that_is_not_there_has_no_scripts(tmp_path: Path) -> None:
    played(Scripts(tmp_path / "none"))
