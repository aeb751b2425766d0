# SPDX-License-Identifier: MIT
"""The history of events: bounded, and none the worse for a damaged file or a full disk."""

import sqlite3
from pathlib import Path

import pytest

from noid.state import history
from noid.state.history import EVENT_OCTETS_MAX, EVENTS_MAX, FILE_NAME, HistoryStore


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
    assert len(caplog.records) == 1
    store.close()


def test_a_row_that_is_no_event_is_left_out(directory: Path) -> None:
    store = HistoryStore(directory)
    store.add([{"n": 1}])
    with sqlite3.connect(directory / FILE_NAME) as other:
        other.execute("INSERT INTO events (event) VALUES ('[1]'), (NULL), (x'00')")
    other.close()
    assert store.last(9) == [{"n": 1}]
    store.close()


def test_a_full_disk_loses_only_the_events(directory: Path) -> None:
    store = HistoryStore(directory)
    with sqlite3.connect(directory / FILE_NAME, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        store.add([{"n": 1}])
        other.execute("ROLLBACK")
    other.close()
    store.add([{"n": 2}])
    assert store.last(9) == [{"n": 2}]
    assert history.OCTETS_MAX > EVENTS_MAX * EVENT_OCTETS_MAX
    store.close()
