# SPDX-License-Identifier: MIT
"""Stores the most recent events for the operator, in the state directory.

A small SQLite file with a limited number of rows; the oldest are deleted. A damaged file is
renamed, reported once and replaced. While the disk cannot be written, the last events are kept in
memory.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from noid.errors import PlatformError
from noid.state import files
from noid.state.database import DatabaseFile
from noid.state.files import DamagedError

FILE_NAME: Final = "history.sqlite"
EVENTS_MAX: Final = 10_000
"""The maximum of stored events."""
EVENT_OCTETS_MAX: Final = 4_096
"""The maximum size of an event; a longer one is not stored."""
OWED_MAX: Final = 1_000
"""The maximum of events that wait in memory until the file can be written."""
OCTETS_MAX: Final = 256 << 20
"""The maximum size of the file, more than these events need."""
NEWEST: Final = 2**63 - 1
"""Larger than the number of any event."""
TABLE: Final = "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, event BLOB)"


class Page(NamedTuple):
    """Some of the events.

    Attributes:
        events: the newest first, without unreadable rows.
        before: what continues at the next older event; 0 if there is none.
    """

    events: list[dict[str, Any]]
    before: int


class HistoryStore(DatabaseFile):
    """The events of one host.

    Args:
        directory: the state directory, which exists.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / FILE_NAME)
        self._owed: list[bytes] = []
        self._open()

    @property
    def owes(self) -> bool:
        """Whether events are not written yet, or could not be."""
        return bool(self._owed or self.trouble)

    def add(self, events: Iterable[dict[str, Any]]) -> None:
        """Stores events, the oldest first, after those that could not be written before."""
        encoded = [msgspec.json.encode(event) for event in events]
        rows = [*self._owed, *(one for one in encoded if len(one) <= EVENT_OCTETS_MAX)]
        self._owed = rows[-OWED_MAX:]
        if self._database is None:
            self._open()
        with self._caught():
            if self._database is not None:
                _insert(self._database, rows)
                self._owed = []
                self._trouble.ends()

    def last(self, count: int) -> list[dict[str, Any]]:
        """The most recent events, the newest first, without unreadable rows."""
        return self.page(count, NEWEST).events

    def page(self, count: int, before: int) -> Page:
        """So many of the events before one; those not written yet are before ``NEWEST`` only."""
        rows: list[tuple[int, Any]] = []
        with self._caught(), contextlib.suppress(sqlite3.OperationalError):
            if self._database is not None:
                query = (
                    "SELECT number, event FROM events WHERE number < ? ORDER BY number DESC LIMIT ?"
                )
                rows = self._database.execute(query, (before, count)).fetchall()
        owed = self._owed[::-1] if before == NEWEST else []
        next_number = rows[0][0] + 1 if rows else 1  # of the first of them, once it is written
        taken = [*((next_number, one) for one in owed), *rows][:count]
        found: list[dict[str, Any]] = []
        for _, octets in taken:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                found.append(msgspec.json.decode(octets, type=dict[str, Any]))
        return Page(found, taken[-1][0] if len(taken) == count else 0)

    def _open(self) -> None:
        for _ in range(2):  # the second time after a damaged file was renamed
            with self._caught():
                files.check(self.path, OCTETS_MAX)
                self._database = self._connect()
            if self.trouble or self._database is not None:
                return

    def _connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            os.close(files.create(self.path))
        database = sqlite3.connect(self.path, timeout=0, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous = OFF")
            database.execute(TABLE)
            database.execute("SELECT number, event FROM events LIMIT 1").fetchall()
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _move_aside(self, error: Exception) -> None:
        self.close()
        aside = files.move_aside(self.path)
        if aside is None:
            self._complain(f"it is damaged ({error}) and cannot be moved")
        else:
            line = f"{self.path} is damaged ({error}) and moved to {aside.name}; "
            self._trouble.replaces(f"{line}earlier events are not shown")

    def _complain(self, why: str) -> None:
        self._trouble.begins(why, f"the last {OWED_MAX} events wait in memory")

    @contextlib.contextmanager
    def _caught(self) -> Iterator[None]:
        """Renames a damaged file; reports other errors."""
        try:
            yield
        except (PlatformError, OSError, sqlite3.OperationalError) as error:
            self._complain(str(error))  # the disk is full or read-only
        except (DamagedError, sqlite3.DatabaseError) as error:
            self._move_aside(error)


def _insert(database: sqlite3.Connection, rows: list[bytes]) -> None:
    """Adds rows, and deletes the oldest, in one transaction."""
    with database:
        database.executemany("INSERT INTO events (event) VALUES (?)", [(one,) for one in rows])
        database.execute(
            "DELETE FROM events WHERE number <= (SELECT MAX(number) FROM events) - ?",
            (EVENTS_MAX,),
        )
