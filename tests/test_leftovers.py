# SPDX-License-Identifier: MIT
"""What a killed process of the tests has built is removed by the one that started it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noid.lab import inventory, namespaces
from tests.leftovers import mounted_below, remove_leftovers

BUILD = """
import os, subprocess, sys
from noid.lab.lab import Lab
with Lab.create() as lab:
    subprocess.run(["ip", "netns", "add", f"noid-setup-{os.getpid()}-0"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", sys.argv[1]], check=True)
    print(lab.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.lab
@pytest.mark.slow
def test_nothing_is_left_of_what_a_killed_process_has_built(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: builds a lab")
    place = tmp_path / "place"
    place.mkdir()
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", BUILD, str(place)]
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as builder:
        assert builder.stdout is not None
        name = builder.stdout.readline().strip()
        builder.kill()
    pid = builder.pid
    assert name in inventory.names()
    remove_leftovers({pid + 1}, tmp_path / "elsewhere")
    assert left_by(pid), "it is not of that process"
    assert mounted_below(tmp_path) == [str(place)]
    remove_leftovers({pid}, tmp_path)
    assert name not in inventory.names()
    assert left_by(pid) == []
    assert mounted_below(tmp_path) == []


def left_by(pid: int) -> list[str]:
    """The namespaces that a process has made."""
    return [one.name for one in namespaces.RUN_DIRECTORY.iterdir() if f"-{pid}-" in one.name]
