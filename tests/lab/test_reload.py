# SPDX-License-Identifier: MIT
"""A daemon reads its configuration again: by ``noid reload``, and by SIGHUP."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from noid.lab.lab import Lab
from noid.lab.topology import locators

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def tun_lab(lab_machine: None) -> Iterator[Lab]:
    with Lab.create(plane="tun") as lab:
        yield lab


@pytest.fixture
def file(tun_lab: Lab) -> Iterator[Path]:
    """The configuration of a; afterwards it is what it was."""
    path = Path(tun_lab.environment("a")["NOID_CONFIG"])
    before, held = path.read_text(), in_force(tun_lab)
    yield path
    path.write_text(before)
    reload(tun_lab)
    tun_lab.wait_for("name and locators are back", lambda: in_force(tun_lab) == held, TIMEOUT_S)


def in_force(lab: Lab) -> tuple[str, list[str]]:
    """Name and locators of a."""
    status = lab.status("a")
    return status["name"], status["locators"]


def reload(lab: Lab) -> "subprocess.CompletedProcess[str]":
    noid = (sys.executable, "-m", "noid", "reload", "--json")
    return lab.run("a", [*noid, "--socket", str(lab.control_socket("a"))])


def test_reload_applies_what_can_be_and_names_what_needs_a_restart(
    tun_lab: Lab, file: Path
) -> None:
    text = file.read_text().replace('"up*"', '"up1", "nothing0"')
    file.write_text(text.replace("[plane]", "[plane]\ntable = 4242"))
    done = reload(tun_lab)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["applied"], answer["restart"]) == (["host.interfaces"], ["plane.table"])
    assert "'nothing0' matches no interface" in answer["warnings"][0]
    tun_lab.wait_for(
        "only the locator of up1 is left",
        lambda: tun_lab.status("a")["locators"] == [locators("a")[0]],
        TIMEOUT_S,
    )


def test_a_file_that_is_refused_changes_nothing(tun_lab: Lab, file: Path) -> None:
    before = tun_lab.status("a")["locators"]
    file.write_text('[host]\ninterfaces = ["up1"]\n[dns]\nport = 0\n')
    done = reload(tun_lab)
    assert done.returncode == 1
    assert done.stderr == (
        "noid: command reload: nothing is changed: dns.port: expected `int` >= 1\n"
    )
    assert tun_lab.status("a")["locators"] == before
    assert "reload: nothing is changed: dns.port" in tun_lab.log("a")


def test_a_file_that_is_missing_changes_nothing(tun_lab: Lab, file: Path) -> None:
    before = in_force(tun_lab)
    file.unlink()
    done = reload(tun_lab)
    assert done.returncode == 1
    assert f"nothing is changed: {file}: cannot be read: No such file" in done.stderr
    os.kill(tun_lab.status("a")["pid"], signal.SIGHUP)
    refusal = f"reload: nothing is changed: {file}"
    tun_lab.wait_for(
        "the signal is refused too", lambda: tun_lab.log("a").count(refusal) == 2, TIMEOUT_S
    )
    assert in_force(tun_lab) == before


def test_sighup_reloads(tun_lab: Lab, file: Path) -> None:
    file.write_text(file.read_text().replace('name = "a.example"', 'name = "other.example"'))
    os.kill(tun_lab.status("a")["pid"], signal.SIGHUP)
    tun_lab.wait_for(
        "the new name", lambda: tun_lab.status("a")["name"] == "other.example", TIMEOUT_S
    )
    assert "reloaded: applied host.name\n" in tun_lab.log("a")
