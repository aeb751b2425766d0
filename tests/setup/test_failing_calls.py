# SPDX-License-Identifier: MIT
"""Whichever call of a set-up, or of its undo, fails: undo leaves everything as it was."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from noid.errors import PlatformError
from noid.setup.journal import Journal
from noid.setup.plan import Command, File, Step
from tests.lives.failing import Call, Calls, watched
from tests.setup.test_undo import plan, snapshot

CALLS_MIN: Final = 15
BEFORE_START: Final = frozenset({"access", "pipe", "fork_exec"})
OF_OPERATOR: Final = "of the operator\n"


class Place:
    """A host with files, and the journal of its set-ups.

    Args:
        top: a directory for both, which is made anew.
    """

    def __init__(self, top: Path) -> None:
        shutil.rmtree(top, ignore_errors=True)
        self.host, self.journal = top / "host", top / "journal"
        (self.host / "there").mkdir(parents=True)
        for path in (self.host / "there" / "one", self.host / "two"):
            path.write_text(OF_OPERATOR)
            path.chmod(0o640)
            os.utime(path, (1000, 1000))
        self.first = snapshot(self.host)

    def apply(self, number: int) -> None:
        """A set-up; a later one writes another text, and other files, too."""
        every = ("there/one", "two", "new/three", "new/deep/four", "there/five")
        text = f"of set-up {number}\n"
        steps: list[Step] = [
            File(str(self.host / name), None, text, load=("true",)) for name in every[: 3 + number]
        ]
        journal = Journal(self.journal)
        with journal.held():
            journal.apply(plan([*steps, Command(("true", str(number)), ("true",))]))

    def undo(self) -> None:
        journal = Journal(self.journal)
        with journal.held():
            journal.undo()

    def is_as_at_first(self) -> bool:
        return snapshot(self.host) == self.first and not self.journal.exists()


def made(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """The calls into the system that something makes."""
    calls = Calls()
    with watched(calls, monkeypatch):
        act()
    found = [call for call in calls.made if not is_within_library(call)]
    assert len(found) >= CALLS_MIN
    return found


def is_within_library(call: Call) -> bool:
    """Whether the library that runs programs makes a call about one that it has started."""
    return call.places[0].startswith("detection.py") and call.name not in BEFORE_START


def failing(act: Callable[[], None], call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does something, of which one call fails."""
    try:
        with watched(Calls(failing=call), monkeypatch):
            act()
    except PlatformError:
        pass


SET_UPS: Final = range(3)


@pytest.mark.slow
@pytest.mark.parametrize("number", SET_UPS)
def test_undo_after_a_set_up_of_which_any_call_has_failed(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails in the first set-up, or in one of the later ones."""

    def prepared() -> Place:
        place = Place(tmp_path / "top")
        for before in range(number):
            place.apply(before)
        return place

    def act(place: Place) -> None:
        place.apply(number)

    faults = {}
    for call in made(partial(act, prepared()), monkeypatch):
        place = prepared()
        try:
            failing(partial(act, place), call, monkeypatch)
            place.undo()
        except Exception as error:
            faults[call] = repr(error)
        if not place.is_as_at_first():
            faults[call] = faults.get(call, "") + " something is left"
    assert not faults, faults


@pytest.mark.slow
def test_an_undo_of_which_any_call_has_failed_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepared() -> Place:
        place = Place(tmp_path / "top")
        for number in SET_UPS:
            place.apply(number)
        return place

    faults = {}
    for call in made(prepared().undo, monkeypatch):
        place = prepared()
        try:
            failing(place.undo, call, monkeypatch)
            place.undo()
        except Exception as error:
            faults[call] = repr(error)
        if not place.is_as_at_first():
            faults[call] = faults.get(call, "") + " something is left"
    assert not faults, faults
