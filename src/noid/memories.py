"""What the engine knows of its contexts, kept where the next daemon finds it [D36].

A small SQLite file in the state directory, written after each change. It need not survive the
machine, only the daemon: after a reboot the contexts are gone, so what an earlier boot left is
forgotten. A file that cannot be used is told to the operator once; noid goes on without.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from noid.engine.events import Memory

FILE_NAME = "contexts.sqlite"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LAYOUT = 2
"""Of the rows; those of another are not read."""

logger = logging.getLogger("noid")


class Memories:
    """The memories of one host.

    Args:
        directory: the state directory, which exists.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self._database: sqlite3.Connection | None = None
        try:
            self._database = self._open()
        except (sqlite3.Error, OSError) as error:
            self._complain(error)

    def close(self) -> None:
        """Closes the file."""
        if self._database is not None:
            self._database.close()

    def count(self) -> int:
        """How many there are."""
        count = 0
        if self._database is not None:
            with self._caught():
                ((count,),) = self._database.execute("SELECT COUNT(*) FROM contexts")
        return count

    def page(self, after: int, count: int) -> list[tuple[int, Memory | None]]:
        """The first so many whose F(local) is above a number, in its order.

        Where there would be a memory there is None if it cannot be read.
        """
        rows: list[tuple[int, bytes]] = []
        if self._database is not None:
            with self._caught():
                rows = self._database.execute(
                    "SELECT label, memory FROM contexts WHERE label > ? ORDER BY label LIMIT ?",
                    (after, count),
                ).fetchall()
        return [(label, _decoded(octets)) for label, octets in rows]

    def keep(self, changes: Iterable[tuple[int, Memory | None]]) -> None:
        """Writes memories, by F(local), in one step; None forgets one."""
        if self._database is None:
            return
        kept = dict(changes)
        gone = [(label,) for label, memory in kept.items() if memory is None]
        rows = [
            (label, msgspec.msgpack.encode(memory))
            for label, memory in kept.items()
            if memory is not None
        ]
        with self._caught(), self._database:
            self._database.executemany("DELETE FROM contexts WHERE label = ?", gone)
            self._database.executemany("INSERT OR REPLACE INTO contexts VALUES (?, ?)", rows)

    def forget_all(self) -> None:
        """Forgets everything."""
        if self._database is not None:
            with self._caught(), self._database:
                self._database.execute("DELETE FROM contexts")

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path)
        try:
            # The machine need not be survived, so nothing has to reach the disk.
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA journal_mode = WAL")
            with database:
                database.execute("CREATE TABLE IF NOT EXISTS life (boot TEXT, layout INTEGER)")
                database.execute(
                    "CREATE TABLE IF NOT EXISTS contexts (label INTEGER PRIMARY KEY, memory BLOB)"
                )
                life = (BOOT_ID.read_text(encoding="ascii").strip(), LAYOUT)
                if database.execute("SELECT boot, layout FROM life").fetchall() != [life]:
                    database.execute("DELETE FROM contexts")
                    database.execute("DELETE FROM life")
                    database.execute("INSERT INTO life VALUES (?, ?)", life)
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _caught(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Says that nothing is kept from now on, and keeps nothing."""
        logger.warning(
            "%s could not be used (%s); contexts will not outlive the daemon", self.path, error
        )
        self.close()
        self._database = None


def files_of(directory: Path) -> list[Path]:
    """The files that memories in a state directory may consist of."""
    return [directory / f"{FILE_NAME}{end}" for end in ("", "-wal", "-shm")]


def _decoded(octets: bytes) -> Memory | None:
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.msgpack.decode(octets, type=Memory)
    return None
