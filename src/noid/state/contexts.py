# SPDX-License-Identifier: MIT
"""Stores the engine's contexts for the next daemon [D36].

A small SQLite file in the state directory, written after each change. It does not have to survive a
reboot: after a reboot the peers' contexts are invalid, so that the records of an earlier boot are
deleted. A damaged file is renamed, reported once and replaced. While the disk cannot be written,
changes are kept in memory and written later [D49].
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from noid.constants import FLOW_LABEL_MASK, LOCATORS_MAX, LOST_PAIRS_KEPT_MAX
from noid.engine.records import ContextRecord, Former, LostData
from noid.engine.secrets import KEY_OCTETS
from noid.errors import PlatformError
from noid.identifiers import Label
from noid.locators import LOCATOR_OCTETS, Locator
from noid.state import files
from noid.state.database import DatabaseFile
from noid.state.files import DamagedError
from noid.state.system_start import boot_id

FILE_NAME = "contexts.sqlite"
LAYOUT = 2
"""The version of the rows; those of another version are not read."""
OCTETS_MAX = 4 << 30
"""The maximum size of the file: a million contexts use less than half of it."""
MEMORY_OCTETS_MAX = 16_384
"""The maximum size of a row; a longer one is not read."""
NAME_CHARACTERS_MAX = 255
FIELD_OCTETS_MAX = 64

NUMBERS = 1 << 64
NONCES = 1 << 63
"""The greatest accepted nonce: a greater one could not grow [D17]."""
ROUND_TRIP_MAX_NS = 1 << 40
TROUBLE = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Primary codes of errors of the disk or the system; all others mean a damaged file."""
Row = tuple[Label, bytes | None]
TABLES = (
    "CREATE TABLE contexts (label INTEGER PRIMARY KEY, memory BLOB)",
    "CREATE TABLE life (boot TEXT, layout INTEGER)",
)
PAGE = f"""
    SELECT label, CASE
        WHEN typeof(memory) = 'blob' AND length(memory) <= {MEMORY_OCTETS_MAX} THEN memory
    END
    FROM contexts WHERE label > ? AND label <= {FLOW_LABEL_MASK} ORDER BY label LIMIT ?"""


class ContextStore(DatabaseFile):
    """The stored contexts of one host.

    Args:
        directory: the state directory, which exists.

    Attributes:
        replaced: how often a damaged file was replaced: what was in it is to be written again.

    Raises:
        PlatformError: the file has another owner, or others can write it.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / FILE_NAME)
        self.replaced = 0
        self._owed: dict[Label, ContextRecord | None] = {}
        self._begin()

    @property
    def owes(self) -> bool:
        """Whether changes are not written yet."""
        return bool(self._owed) and self._database is not None

    def count(self) -> int:
        """The number of records."""
        count = 0
        with self._caught():
            if self._database is not None:
                ((count,),) = self._database.execute("SELECT COUNT(*) FROM contexts")
        return count

    def page(self, after: Label, count: int) -> list[tuple[Label, ContextRecord | None]]:
        """The next records after a label, in the order of F(local), up to a number.

        A record that cannot be read is None.
        """
        rows: list[Row] = []
        with self._caught():
            if self._database is not None:
                rows = _in_order(after, self._database.execute(PAGE, (after, count)).fetchall())
        return [(label, decoded(label, octets)) for label, octets in rows]

    def keep(self, changes: Iterable[tuple[Label, ContextRecord | None]]) -> None:
        """Writes records, by F(local), in one transaction; None deletes a record."""
        if self._database is None:
            return
        kept, self._owed = {**self._owed, **dict(changes)}, {}
        gone = [(label,) for label, memory in kept.items() if memory is None]
        rows = [
            (label, msgspec.msgpack.encode(memory))
            for label, memory in kept.items()
            if memory is not None
        ]
        with self._caught(kept):
            with self._database as database:
                database.executemany("DELETE FROM contexts WHERE label = ?", gone)
                database.executemany("INSERT OR REPLACE INTO contexts VALUES (?, ?)", rows)
            self._trouble.ends()

    def forget_all(self) -> None:
        """Deletes all records."""
        if self.count():
            self.close()
            for path in files_of(self.path.parent):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            self._begin()

    # --- the file -----------------------------------------------------------------------------

    def _begin(self) -> None:
        with self._caught():
            self._database = self._open()

    def _open(self) -> sqlite3.Connection:
        for path in files_of(self.path.parent):
            files.check(path, OCTETS_MAX)
        if not self.path.exists():
            os.close(files.create(self.path))
        database = sqlite3.connect(self.path)
        try:
            # The file need not survive a crash of the machine, so nothing is synced to the disk.
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA journal_mode = WAL")
            _prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    @contextlib.contextmanager
    def _caught(self, changes: dict[Label, ContextRecord | None] | None = None) -> Iterator[None]:
        """Reports errors of the file; keeps changes that were not written for later."""
        try:
            yield
        except (sqlite3.Error, DamagedError, OverflowError, UnicodeError) as error:
            if _is_trouble(error):
                self._complain(str(error), changes)
            else:
                self._replace(error)
                self._owed |= changes or {}
        except PlatformError as error:
            if error.errno not in files.DISK_TROUBLE:
                raise
            self._complain(str(error), changes)
        except OSError as error:
            self._complain(str(error), changes)

    def _complain(self, why: str, changes: dict[Label, ContextRecord | None] | None) -> None:
        """Reports once that nothing can be written, and the effect."""
        self._owed |= changes or {}
        consequence = (
            "contexts will not outlive the daemon"
            if self._database is None
            else "changes of contexts wait in memory, and are lost if the daemon ends"
        )
        self._trouble.begins(why, consequence)

    def _replace(self, error: Exception) -> None:
        """Renames a damaged file, reports it, and begins a new one; only once."""
        self.close()
        moved = [files.move_aside(path) for path in files_of(self.path.parent) if _is_there(path)]
        if self._trouble.replaced or not all(moved):
            self._complain(str(error), None)
            return
        names = ", ".join(path.name for path in moved if path is not None)
        line = f"{self.path} is damaged ({error}) and moved to {names}; "
        self._trouble.replaces(f"{line}contexts of an earlier daemon are forgotten")
        self.replaced += 1
        self._begin()


def files_of(directory: Path) -> list[Path]:
    """The files of the stored contexts in a state directory."""
    return [directory / f"{FILE_NAME}{end}" for end in ("", "-wal", "-shm")]


def decoded(label: Label, octets: bytes | None) -> ContextRecord | None:
    """The record in a row; None if the engine cannot have written it."""
    if octets is None:
        return None
    try:
        memory = msgspec.msgpack.decode(octets, type=ContextRecord)
    except (ValueError, RecursionError, OverflowError):
        return None
    names = ContextRecord.__dataclass_fields__.keys() - {"former", "lost"}
    values = [getattr(memory, name) for name in names]
    pair = memory.local_locator, memory.peer_locator
    ends = (memory.local_aid, memory.peer_aid, *pair, *(memory.left_pair or ()))
    sets_of_peer = memory.remote, memory.told_remote, memory.peer_local
    sets_of_ours = memory.own_local, memory.own_remote or ()
    is_plausible = (
        memory.local_label == label
        and 0 < label <= FLOW_LABEL_MASK
        and 0 < memory.peer_label <= FLOW_LABEL_MASK
        and memory.peer_birthday < 1 << 32
        and len(memory.agreed_key) == KEY_OCTETS
        and max(memory.update_nonce, memory.peer_update_nonce) < NONCES
        and memory.peer_keepalive_nonce < NONCES
        and memory.round_trip_ns < ROUND_TRIP_MAX_NS
        and memory.local_aid != memory.peer_aid
        and all(map(_is_unicast, ends))
        and all(_has_room(one, memory.peer_aid) for one in sets_of_peer)
        and all(_has_room(one, memory.local_aid) for one in sets_of_ours)
        and all(map(_is_plausible, values))
        and all(0 <= flags <= 0xFF for _, flags in memory.peer_marks)
        and (memory.former is None or _is_plausible_former(memory.former, memory.peer_aid))
        and len(memory.lost) <= LOST_PAIRS_KEPT_MAX
        and all(map(_is_plausible_loss, memory.lost))
    )
    return memory if is_plausible else None


def _is_plausible_former(former: Former, aid: Locator) -> bool:
    """Whether a context may have had this peer before."""
    return (
        0 < former.peer_label <= FLOW_LABEL_MASK
        and 0 <= former.peer_birthday < 1 << 32
        and len(former.agreed_key) == KEY_OCTETS
        and max(former.peer_update_nonce, former.peer_keepalive_nonce) < NONCES
        and _has_room(former.peer_local, aid)
        and all(map(_is_plausible, former))
    )


def _is_plausible_loss(lost: LostData) -> bool:
    """Whether data may have been lost over a pair, as a memory says."""
    return (
        all(map(_is_unicast, lost.pair))
        and 0 < lost.losses < NUMBERS
        and 0 <= lost.lost_ns < NUMBERS
        and 0 <= lost.lost_nonce < NONCES
    )


def _is_unicast(locator: Locator) -> bool:
    """Whether an address is unicast and not link-local; faster than ``is_global_unicast``."""
    if len(locator) != LOCATOR_OCTETS or locator[0] in (0, 0xFF):
        return False
    return not (locator[0] == 0xFE and locator[1] & 0xC0 == 0x80)


def _has_room(locators: tuple[Locator, ...], aid: Locator) -> bool:
    """Whether a set can be sent, including the AID [D5]."""
    return len(locators) + (aid not in locators) <= LOCATORS_MAX


def _is_plausible(value: object) -> bool:
    match value:
        case int():
            return 0 <= value < NUMBERS
        case bytes():
            return len(value) <= FIELD_OCTETS_MAX
        case str():
            return len(value) <= NAME_CHARACTERS_MAX
        case tuple():
            return len(value) <= LOCATORS_MAX and all(map(_is_member, value))
    return value is None


def _is_member(member: object) -> bool:
    """Whether something can be in a set of locators, with or without its flags."""
    locator = member[0] if isinstance(member, tuple) else member
    return isinstance(locator, bytes) and len(locator) == LOCATOR_OCTETS


def _prepare(database: sqlite3.Connection) -> None:
    """Creates missing tables; deletes records of an earlier boot.

    Raises:
        DamagedError: the file has other tables.
    """
    there = database.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()
    with database:
        if not there:
            for table in TABLES:
                database.execute(table)
        elif there != [(table,) for table in TABLES]:
            raise DamagedError("other tables than ours")
        life = (boot_id(), LAYOUT)
        if database.execute("SELECT boot, layout FROM life LIMIT 2").fetchall() != [life]:
            database.execute("DELETE FROM contexts")
            database.execute("DELETE FROM life")
            database.execute("INSERT INTO life VALUES (?, ?)", life)


def _in_order(after: Label, rows: list[Row]) -> list[Row]:
    """The rows of a page. Of a damaged tree, SQLite returns them in any order, or without end.

    Raises:
        DamagedError: the labels do not grow.
    """
    if any(before >= label for before, label in pairwise((after, *(label for label, _ in rows)))):
        raise DamagedError("records out of order")
    return rows


def _is_trouble(error: Exception) -> bool:
    """Whether an error is one of the disk or the system, and not of the file's content."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in TROUBLE


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)
