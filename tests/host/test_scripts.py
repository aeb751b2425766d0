# SPDX-License-Identifier: MIT
"""Scripts for events that cannot run are named before an event happens."""

import json
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.doctor.checks import _of_scripts
from noid.doctor.findings import Health


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
    (found,) = _of_scripts(directory)
    assert (found.health, "plain: it is not executable" in found.text) == (Health.WRONG, True)
    (directory / "plain").unlink()
    (found,) = _of_scripts(directory)
    assert found.health is Health.OK
    assert list(_of_scripts(tmp_path / "none")) == []
