# SPDX-License-Identifier: MIT
"""Stores the most recent events for the operator, in the state directory.

A small SQLite file with a limited number of rows; the oldest are deleted. A damaged file is
renamed, reported once and replaced. If the disk cannot be written, only the events of that time are
lost.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from noid.errors import PlatformError
from noid.state import files
from noid.state.files import DamagedError

FILE_NAME: Final = "history.sqlite"
EVENTS_MAX: Final = 10_000
"""Events that are kept."""
EVENT_OCTETS_MAX: Final = 4_096
"""Of one event; a longer one is not kept."""
OCTETS_MAX: Final = 256 << 20
"""Of the file: more than so many events of that length take."""
TABLE: Final = "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, event BLOB)"

logger = logging.getLogger("noid")


class HistoryStore:
    """The events of one host.

    Args:
        directory: the state directory, which exists.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._database: sqlite3.Connection | None = None
        self._open()

    def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def add(self, events: Iterable[dict[str, Any]]) -> None:
        """Stores events, the oldest first."""
        encoded = [msgspec.json.encode(event) for event in events]
        rows = [(one,) for one in encoded if len(one) <= EVENT_OCTETS_MAX]
        with self._caught() as database:
            if database is not None and rows:
                database.executemany("INSERT INTO events (event) VALUES (?)", rows)
                database.execute(
                    "DELETE FROM events WHERE number <= (SELECT MAX(number) FROM events) - ?",
                    (EVENTS_MAX,),
                )

    def last(self, count: int) -> list[dict[str, Any]]:
        """The most recent events, the newest first, without unreadable rows."""
        rows: list[tuple[Any]] = []
        with self._caught() as database:
            if database is not None:
                query = "SELECT event FROM events ORDER BY number DESC LIMIT ?"
                rows = database.execute(query, (count,)).fetchall()
        found: list[dict[str, Any]] = []
        for (octets,) in rows:
            with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError, TypeError):
                found.append(msgspec.json.decode(octets, type=dict[str, Any]))
        return found

    def _open(self) -> None:
        for _ in range(2):  # the second time in the place of a damaged file
            try:
                files.check(self.path, OCTETS_MAX)
                self._database = self._connect()
            except (DamagedError, sqlite3.DatabaseError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    return  # the disk, not the file
                self._move_aside(error)
            except PlatformError as error:
                logger.warning("%s; there is no history until then", error)
                return
            else:
                return

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=0, check_same_thread=False)
        try:
            database.execute("PRAGMA synchronous = OFF")
            database.execute(TABLE)
            database.execute("SELECT number, event FROM events LIMIT 1").fetchall()
            self.path.chmod(files.FILE_MODE)
        except (sqlite3.Error, OSError):
            database.close()
            raise
        return database

    def _move_aside(self, error: Exception) -> None:
        self.close()
        aside = files.move_aside(self.path)
        where = f"moved to {aside}" if aside else "it cannot be moved"
        logger.warning("history: %s is damaged (%s): %s", self.path, error, where)

    @contextlib.contextmanager
    def _caught(self) -> Iterator[sqlite3.Connection | None]:
        """The open file for one step, which is done as a whole or not at all; None without one."""
        try:
            if self._database is None:
                yield None
            else:
                with self._database as database:
                    yield database
        except sqlite3.OperationalError:
            pass  # the disk is full or read-only
        except sqlite3.DatabaseError as error:
            self._move_aside(error)
            self._open()
