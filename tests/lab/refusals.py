# SPDX-License-Identifier: MIT
"""noid where it cannot run, and what it says and leaves behind."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from noid.lab import configuration
from noid.lab.lab import Lab

NOID: Final = (sys.executable, "-m", "noid")
Edit = tuple[str, str]


def run_noid(
    lab: Lab,
    directory: Path,
    *edits: Edit,
    prefix: Sequence[str] = (),
    noid: Sequence[str] = NOID,
) -> subprocess.CompletedProcess[str]:
    """Runs noid on a, its configuration edited, to its end."""
    path = write_configuration(lab, directory, *edits)
    return lab.run("a", [*prefix, *noid, "run", "--config", str(path)])


def write_configuration(lab: Lab, directory: Path, *edits: Edit) -> Path:
    """Writes the configuration of a, edited, to a file that every user may read."""
    text = configuration.noid_toml("a", lab.directory, "tun")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path = directory / "noid.toml"
    path.write_text(text, encoding="utf-8")
    for parent in (directory, *directory.parents[:2]):
        parent.chmod(0o755)  # nobody reads it too
    return path


def refusal(
    lab: Lab,
    directory: Path,
    *edits: Edit,
    prefix: Sequence[str] = (),
    noid: Sequence[str] = NOID,
) -> str:
    """Why noid refuses to run, nothing being left behind."""
    said = one_line(run_noid(lab, directory, *edits, prefix=prefix, noid=noid))
    assert left(lab) == []
    return said


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line a command that fails says, without ``noid:``."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("noid: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("noid: ").removesuffix("\n")


def left(lab: Lab) -> list[str]:
    """Devices, rules and sockets of noid on a."""
    links = lab.run("a", ["ip", "-o", "link"]).stdout.splitlines()
    rules = lab.run("a", ["ip", "-6", "rule"]).stdout.splitlines()
    found = [line for line in links if ": noid" in line]
    found += [line for line in rules if "27958" in line]
    return found + [str(path) for path in lab.directory.glob("*.sock")]
