# SPDX-License-Identifier: MIT
"""Scripts for events that cannot run are named before an event happens."""

import json
import os
import pwd
import subprocess
from pathlib import Path

import msgspec
import pytest

from noid.cli.main import main
from noid.config import Config, ControlSection, EventsSection
from noid.doctor.checks import _of_scripts
from noid.doctor.findings import Health
from noid.host.scripts import Refused, daemons_user, scripts_in


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """With a script that is run, and one whose mode is wrong."""
    path = tmp_path / "events.d"
    path.mkdir(mode=0o755)
    for name, mode in (("good", 0o755), ("plain", 0o644)):
        (path / name).write_text("#!/bin/sh\n")
        (path / name).chmod(mode)
    return path


def test_check_warns_of_a_script_that_is_not_run(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "noid.toml"
    config.write_text(f'[events]\ndirectory = "{directory}"\n')
    assert main(["check", str(config), "--json"]) == 0
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["key"] == "events.directory"
    assert problem["reason"] == "plain: it is not executable; chmod 755"
    assert not problem["refused"]


def test_the_doctor_finds_it_too(directory: Path, tmp_path: Path) -> None:
    config = Config(
        events=EventsSection(directory=str(directory)),
        control=ControlSection(socket=str(tmp_path / "sock")),
    )
    (found,) = _of_scripts(config)
    assert (found.health, "plain: it is not executable" in found.text) == (Health.WRONG, True)
    (directory / "plain").unlink()
    (found,) = _of_scripts(config)
    assert found.health is Health.OK
    elsewhere = EventsSection(directory=str(tmp_path / "none"))
    assert list(_of_scripts(msgspec.structs.replace(config, events=elsewhere))) == []


def test_it_is_the_user_of_the_daemon_who_has_to_be_allowed(
    directory: Path, tmp_path: Path
) -> None:
    """Also where root asks; a socket says who it is."""
    control = tmp_path / "sock"
    control.touch()
    assert daemons_user(control) is None
    other = pwd.getpwnam("nobody")
    os.chown(control, other.pw_uid, other.pw_gid)
    user = daemons_user(control)
    assert user == other
    (directory / "plain").chmod(0o700)
    assert scripts_in(directory)[1] == []
    (refused,) = scripts_in(directory, user)[1]
    assert refused.what == "plain"
    subprocess.run(["sh", "-euc", refused.fix], check=True)
    assert scripts_in(directory, user)[1] == []
    os.chown(directory / "plain", 0, other.pw_gid)
    (directory / "plain").chmod(0o750)
    assert scripts_in(directory, user)[1] == []


@pytest.mark.parametrize("mode", [0o700, 0o744, 0o711])
def test_a_directory_that_the_daemon_cannot_list_is_reported(directory: Path, mode: int) -> None:
    directory.chmod(mode)
    scripts, (refused,) = scripts_in(directory, pwd.getpwnam("nobody"))
    assert (scripts, refused.what) == ([], "directory")
    subprocess.run(["sh", "-euc", refused.fix], check=True)
    assert len(scripts_in(directory, pwd.getpwnam("nobody"))[0]) == 1


def test_a_directory_that_cannot_be_examined_is_reported(directory: Path) -> None:
    assert scripts_in(directory / "good" / "a") == ([], [Refused("directory", "Not a directory")])


def test_check_lists_no_directory_that_has_no_place(
    directory: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tmp_path / "noid.toml"
    config.write_text('[events]\ndirectory = ""\n')
    monkeypatch.chdir(directory)
    assert main(["check", str(config), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["reason"] == "is empty"
