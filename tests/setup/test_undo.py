# SPDX-License-Identifier: MIT
"""Undo leaves files and directories as they were before, wherever a set-up has written."""

import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.errors import PlatformError
from noid.setup.journal import Journal
from noid.setup.plan import Command, File, Step
from noid.setup.planning import Plan

NAMES: Final = ("a", "b")
PLACES: Final = [
    Path(*parts) / "file" for depth in range(4) for parts in itertools.product(NAMES, repeat=depth)
]
"""Files in directories in directories, which need not be there."""
MODES: Final = (0o600, 0o644)
REFUSED: Final = Command(("false",), ("true",))
places = st.lists(st.sampled_from(PLACES), unique=True)


def snapshot(directory: Path) -> dict[str, tuple[int, bytes, int]]:
    """What there is; the times of directories change with what is in them."""
    return {
        str(path.relative_to(directory)): (
            path.stat().st_mode,
            path.read_bytes() if path.is_file() else b"",
            path.stat().st_mtime_ns if path.is_file() else 0,
        )
        for path in directory.rglob("*")
    }


@given(before=places, written=places, again=places, is_refused=st.booleans())
def test_undo_leaves_everything_as_it_was_whatever_was_written_where(
    before: list[Path], written: list[Path], again: list[Path], is_refused: bool
) -> None:
    """Some files are there; then a set-up writes some, and another one others; one may fail."""
    top = Path(tempfile.mkdtemp())
    try:
        host = top / "host"
        host.mkdir()
        for number, place in enumerate(before):
            path = host / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("of the operator\n")
            path.chmod(MODES[number % len(MODES)])
            os.utime(path, (1000 + number, 1000 + number))
        first = snapshot(host)
        for number, paths in enumerate((written, again)):
            steps: list[Step] = [
                File(str(host / one), None, f"of set-up {number}\n") for one in paths
            ]
            journal = Journal(top / "journal")
            with journal.held():
                if is_refused:
                    with pytest.raises(PlatformError):
                        journal.apply(plan([*steps, REFUSED]))
                else:
                    journal.apply(plan(steps))
        journal = Journal(top / "journal")
        with journal.held():
            journal.undo()
        assert snapshot(host) == first
        assert not (top / "journal").exists()
    finally:
        shutil.rmtree(top)


def plan(steps: list[Step]) -> Plan:
    return Plan(steps=tuple(steps), tables={}, notes=())
