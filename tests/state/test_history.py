# SPDX-License-Identifier: MIT
"""The history of events: bounded, and none the worse for a damaged file or a full disk."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from noid.state import history
from noid.state.history import EVENT_OCTETS_MAX, EVENTS_MAX, FILE_NAME, NEWEST, HistoryStore


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A state directory."""
    tmp_path.chmod(0o700)
    return tmp_path


def test_events_are_kept_over_a_restart_the_newest_first(directory: Path) -> None:
    store = HistoryStore(directory)
    store.add([{"n": 1}, {"n": 2}])
    store.close()
    again = HistoryStore(directory)
    again.add([{"n": 3}])
    assert again.last(2) == [{"n": 3}, {"n": 2}]
    assert (directory / FILE_NAME).stat().st_mode & 0o777 == 0o600
    again.close()


def test_so_many_events_are_kept(directory: Path) -> None:
    store = HistoryStore(directory)
    store.add({"n": number} for number in range(EVENTS_MAX + 10))
    assert len(store.last(2 * EVENTS_MAX)) == EVENTS_MAX
    assert store.last(1) == [{"n": EVENTS_MAX + 9}]
    store.close()


def test_pages_have_every_event_once_also_those_not_written_yet(directory: Path) -> None:
    store = HistoryStore(directory)
    store.add({"n": number} for number in range(5))
    store._owed = [b'{"n":5}', b'{"n":6}']
    found, before = [], NEWEST
    while before:
        page = store.page(2, before)
        found += [one["n"] for one in page.events]
        before = page.before
        store.add([{"n": 99}])
    assert found[2:] == [4, 3, 2, 1, 0]
    assert found[:2] == [6, 5]
    store.close()


def test_an_event_that_is_too_long_is_not_kept(directory: Path) -> None:
    store = HistoryStore(directory)
    store.add([{"text": "x" * EVENT_OCTETS_MAX}, {"n": 1}])
    assert store.last(9) == [{"n": 1}]
    store.close()


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(4096)])
def test_a_damaged_file_is_moved_aside_and_replaced(
    directory: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / FILE_NAME).write_bytes(content)
    (directory / FILE_NAME).chmod(0o600)
    store = HistoryStore(directory)
    store.add([{"n": 1}])
    assert store.last(9) == [{"n": 1}]
    assert (directory / f"{FILE_NAME}.damaged").read_bytes() == content
    assert [record.getMessage() for record in caplog.records] == store.troubles
    assert len(store.troubles) == 1
    store.close()


def test_a_row_that_is_no_event_is_left_out(directory: Path) -> None:
    store = HistoryStore(directory)
    store.add([{"n": 1}])
    with sqlite3.connect(directory / FILE_NAME) as other:
        other.execute("INSERT INTO events (event) VALUES ('[1]'), (NULL), (x'00'), (x'ff')")
        deep = b'{"n":' + 10_000 * b"["
        other.execute("INSERT INTO events (event) VALUES (?)", (deep,))
    other.close()
    assert store.last(9) == [{"n": 1}]
    store.close()


def test_events_wait_while_the_file_cannot_be_written(directory: Path) -> None:
    store = HistoryStore(directory)
    with sqlite3.connect(directory / FILE_NAME, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        store.add([{"n": 1}])
        assert "locked" in store.trouble
        assert store.last(9) == [{"n": 1}]
        other.execute("ROLLBACK")
    other.close()
    store.add([{"n": 2}])
    assert not store.owes
    assert store.last(9) == [{"n": 2}, {"n": 1}]
    assert history.OCTETS_MAX > EVENTS_MAX * EVENT_OCTETS_MAX
    store.close()


def test_a_file_that_is_refused_is_tried_again(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = directory / FILE_NAME
    path.touch()
    path.chmod(0o666)
    store = HistoryStore(directory)
    for number in range(3):
        store.add([{"n": number}])
    assert "chmod 600" in store.trouble
    assert len(caplog.records) == 1
    path.chmod(0o600)
    store.add([])
    assert not store.trouble
    store.close()
    again = HistoryStore(directory)
    assert again.last(9) == [{"n": 2}, {"n": 1}, {"n": 0}]
    again.close()


FULL_DISK: Final = """
import logging, os
from pathlib import Path
from noid.state.history import OWED_MAX, HistoryStore
place = Path({mount!r})
lines = []
logging.getLogger("noid").addHandler(handler := logging.Handler())
handler.emit = lambda record: lines.append(record.getMessage())
def fill():
    with open(place / "filler", "ab", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass
def last(store):
    return [event["n"] for event in store.last(3 * OWED_MAX)]
fill()
store = HistoryStore(place)
for number in range(OWED_MAX + 10):
    store.add([{{"n": number}}])
waits = list(range(10, OWED_MAX + 10))[::-1]
assert store.owes and last(store) == waits, "they wait in memory"
assert len(lines) == 1 and "full" in lines[0] and "full" in store.trouble, lines[:3]
os.truncate(place / "filler", 0)
store.add([])
assert not store.owes and not store.trouble and len(lines) == 2, lines
assert last(HistoryStore(place)) == waits, "they are written"
fill()
many = range(10_000, 10_000 + OWED_MAX)
for number in many:
    store.add([{{"n": number, "text": 100 * "x"}}])
assert store.owes and len(lines) == 3, lines
os.truncate(place / "filler", 0)
store.add([])
assert not store.owes
assert last(HistoryStore(place)) == [*reversed(many), *waits]
"""


@pytest.mark.lab
def test_on_a_full_disk_events_wait_and_are_written_later(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    program = FULL_DISK.format(mount=str(mount))
    words = f'mount -t tmpfs -o size=1m,mode=0700 none {mount} && exec {sys.executable} -c "$0"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", words, program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
