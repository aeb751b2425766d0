# SPDX-License-Identifier: MIT
"""The journal: the steps that a set-up has done, and how to undo each.

A step is written to the journal before it is done, so that an interrupted set-up can be undone.
Only root may own and write the journal, because root executes it.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from noid.errors import ConfigError, PlatformError, ShimError, Unsupported, UsageError
from noid.host.replacement import replace_file
from noid.setup import dynamic
from noid.setup.detection import run
from noid.setup.known import Known
from noid.setup.plan import Command, File, Record, Step
from noid.setup.planning import Plan
from noid.setup.written import (
    DIRECTORY_MODE,
    Written,
    before_of,
    contents,
    describe,
    is_edited,
    refused,
    replace,
    restore,
    transfer_directories,
)
from noid.state import files

DEFAULT_DIRECTORY: Final = Path("/var/lib/noid-setup")
NAME: Final = "journal.json"
OCTETS_MAX: Final = 16 << 20
ROOT: Final = 0
ALREADY: Final = "File exists"
GONE: Final = (
    "No such file or directory",
    "No such process",
    "Cannot find device",
    "No such device",
    "FIB table does not exist",
    "NetworkManager is not running",
)
"""Errors for an object that exists already (ALREADY), and for what is not there any more."""


class Ran(msgspec.Struct, tag="command", kw_only=True):
    """A command that was run, and the command that undoes it."""

    do: list[str]
    undo: list[str]


class Sent(msgspec.Struct, tag="record", kw_only=True):
    """A record that was sent to a name server."""

    record: Record


Entry = Written | Ran | Sent


class Done(msgspec.Struct, kw_only=True):
    """The content of the journal: the steps in order, the routing tables in use, the uplinks."""

    entries: list[Entry] = msgspec.field(default_factory=list)
    tables: dict[str, int] = msgspec.field(default_factory=dict)
    uplinks: dict[str, Known] = msgspec.field(default_factory=dict)


class Journal:
    """The journal.

    Args:
        directory: the directory of its file.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / NAME
        self.record = Done()

    def load(self) -> None:
        """Reads the file; without a file the journal is empty.

        Raises:
            PlatformError: another user owns it or can write it, or it is damaged.
        """
        try:
            if not self.directory.exists():
                return
            with files.explained(self.directory):
                _check_owner(self.directory)
            octets = files.read(self.path, OCTETS_MAX)
            if octets is not None:
                self.record = msgspec.json.decode(octets, type=Done)
        except (files.DamagedError, ValueError, RecursionError) as error:
            advice = f"is damaged ({error}); correct it, or delete it and undo the steps by hand"
            raise PlatformError(f"journal {self.path}", 0, advice) from None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Locks the journal while the block runs.

        Raises:
            PlatformError: another set-up is running, or the directory cannot be used.
        """
        files.prepare_directory(self.directory)
        with files.explained(self.directory):
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(self.directory, descriptor)
            self.load()
            yield
        finally:
            os.close(descriptor)

    def file(self, path: str) -> Written | None:
        """The entry of a file; None if the file was not written."""
        ones = (one for one in self.record.entries if isinstance(one, Written))
        return next((one for one in ones if one.path == path), None)

    def read(self, path: str) -> str | None:
        """The content of a file, or its content before an earlier set-up wrote it.

        Raises:
            PlatformError: the file cannot be read.
        """
        entry = self.file(path)
        octets = contents(path)
        if entry is not None and not is_edited(entry, octets):
            octets = before_of(entry)
        try:
            return None if octets is None else octets.decode()
        except UnicodeDecodeError:
            raise PlatformError(path, 0, "is not UTF-8 text; correct it") from None

    def edited(self) -> list[str]:
        """The files that were changed after noid setup had written them."""
        ones = (one for one in self.record.entries if isinstance(one, Written))
        return [one.path for one in ones if is_edited(one, contents(one.path))]

    def obsolete(self, plan: Plan) -> list[Entry]:
        """The entries that are not in the plan, the last first, without files changed by others."""
        wanted: set[object] = {*plan.kept, *self.edited()}
        wanted |= {one.do for one in plan.steps if isinstance(one, Command)}
        wanted |= {one.path for one in plan.steps if isinstance(one, File)}
        wanted |= {one.identity() for one in plan.steps if isinstance(one, Record)}
        return [one for one in reversed(self.record.entries) if _what(one) not in wanted]

    def use_key(self, path: str, server: tuple[str, int] | None = None) -> None:
        """Replaces the file of the key of the records that were sent.

        Args:
            path: of the new key.
            server: address and port of the only name server whose records are meant; None for all.
        """
        for entry in self.record.entries:
            if isinstance(entry, Sent) and server in (None, _server(entry.record)):
                entry.record = dataclasses.replace(entry.record, key=path)

    def sent(self) -> list[Record]:
        """The records that were sent."""
        return [one.record for one in self.record.entries if isinstance(one, Sent)]

    def to_do(self, plan: Plan) -> list[Step]:
        """The steps of a plan, without files that are up to date or were changed by others."""
        edited = self.edited()
        return [
            one
            for one in plan.steps
            if not isinstance(one, File)
            or (one.path not in edited and contents(one.path) != one.after.encode())
        ]

    def apply(self, plan: Plan) -> None:
        """Undoes obsolete steps, and does the missing ones.

        Raises:
            PlatformError: a step fails; the steps before it can be undone.
        """
        for one in plan.steps:
            if isinstance(one, Record):
                self.use_key(one.key, _server(one))
        for entry in self.obsolete(plan):
            self._take_back(entry)
            self.record.entries.remove(entry)
            self._save()
        self.record.tables, self.record.uplinks = plan.tables, dict(plan.known)
        for step in self.to_do(plan):
            try:
                self._do(step)
            except ShimError as error:
                advice = f"{error}; noid setup --undo undoes the steps that were done"
                raise PlatformError("noid setup", 0, advice) from None
        self._save()

    def undo(self, *, keep_changed: bool = False) -> None:
        """Undoes all steps, the last first; a step that cannot be undone does not keep the others.

        Args:
            keep_changed: whether files that were changed by others, and their entries, are kept.

        Raises:
            PlatformError: a file was changed by others, and nothing is undone; or a step cannot be
                undone, and stays in the journal.
        """
        edited = self.edited()
        if edited and not keep_changed:
            remedy = f"to undo the rest: noid setup --undo --keep-changed; or rm {edited[0]} first"
            raise PlatformError(edited[0], 0, f"was changed since noid setup wrote it; {remedy}")
        if troubles := self._take_all_back({*edited}):
            left = f"steps that are not undone: {len(troubles)}; correct this, and run it again"
            raise PlatformError("noid setup --undo", 0, f"{troubles[0]}; {left}")
        if self.record.entries:
            return
        with refused(self.path):
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.directory.rmdir()

    def _do(self, step: Step) -> None:
        if isinstance(step, Command):
            self._run(step)
        elif isinstance(step, File):
            self._write(step)
        else:
            self._send(step)

    def _send(self, step: Record) -> None:
        """Sends a record; removes its new entry from the journal if the server refuses it."""
        new = Sent(record=step)
        is_new = new not in self.record.entries
        if is_new:
            self.record.entries.append(new)
            self._save()
        try:
            dynamic.send(step, add=True)
        except dynamic.RefusedError:
            if is_new:
                self.record.entries.remove(new)
                self._save()
            raise

    def _run(self, step: Command) -> None:
        done = Ran(do=list(step.do), undo=list(step.undo))
        if done not in self.record.entries:
            self.record.entries.append(done)
            self._save()
        try:
            run(step.do)
        except PlatformError as error:
            if ALREADY not in str(error):
                raise

    def _write(self, step: File) -> None:
        path = Path(step.path)
        octets = step.after.encode()
        digest = hashlib.sha256(octets).hexdigest()
        entry = self.file(step.path)
        if entry is None:
            entry = describe(path, digest)
            self.record.entries.append(entry)
        else:
            entry.after = [*entry.after[-1:], digest]
        entry.load, entry.apply = list(step.load), list(step.apply)
        self._save()
        with refused(path):
            for directory in entry.directories:
                Path(directory).mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            replace(path, octets, entry)
        if step.load:
            run(step.load)

    def _take_back(self, entry: Entry) -> None:
        if isinstance(entry, Ran):
            _run_back(entry.undo)
        elif isinstance(entry, Sent):
            dynamic.send(entry.record, add=False)
        else:
            with refused(Path(entry.path)):
                restore(entry)
            files_left = (one for one in self.record.entries if isinstance(one, Written))
            transfer_directories(entry, [one for one in files_left if one is not entry])
            for command in filter(None, (entry.load, entry.apply)):
                with contextlib.suppress(Unsupported):  # the program was removed
                    _run_back(command)

    def _take_all_back(self, kept: Collection[object]) -> list[ShimError]:
        """Undoes every step but those that are kept; returns an error for each that stays."""
        troubles: list[ShimError] = []
        silent: dict[tuple[str, int], ShimError] = {}
        for entry in reversed(list(self.record.entries)):
            if _what(entry) in kept:
                continue
            server = _server(entry.record) if isinstance(entry, Sent) else None
            if server in silent:
                troubles.append(silent[server])
                continue
            try:
                self._take_back(entry)
            except ShimError as error:
                troubles.append(error)
                if server and not isinstance(error, dynamic.RefusedError | ConfigError):
                    silent[server] = error  # each question to it would wait
            else:
                self.record.entries.remove(entry)
                with contextlib.suppress(PlatformError):  # a full disk; a step can be undone twice
                    self._save()
        if self.record.entries:
            self._save()
        return troubles

    def _save(self) -> None:
        with refused(self.path):
            replace_file(self.path, msgspec.json.encode(self.record), mode=files.FILE_MODE)


def _run_back(command: list[str]) -> None:
    """Runs a command that undoes a step, if there is still something to undo."""
    try:
        run(command)
    except PlatformError as error:
        if not any(text in str(error) for text in GONE):
            raise


def _lock(directory: Path, descriptor: int) -> None:
    with files.explained(directory):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            advice = "another noid setup is running; wait until it ends"
            raise PlatformError(str(directory), 0, advice) from None


def _check_owner(directory: Path) -> None:
    status = directory.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        advice = f"must belong to uid {os.geteuid()} only; chown and chmod 700 it"
        if os.geteuid() != ROOT and status.st_uid == ROOT:
            advice = "belongs to root; run as root"
        raise PlatformError(f"journal {directory}", 0, advice)


def _server(record: Record) -> tuple[str, int]:
    return record.server, record.port


def _what(entry: Entry) -> object:
    """The key by which an entry and its step are compared."""
    if isinstance(entry, Sent):
        return entry.record.identity()
    return entry.path if isinstance(entry, Written) else tuple(entry.do)


def check_root() -> None:
    """Raises UsageError unless the user is root, who can change routes."""
    if os.geteuid() != 0:
        raise UsageError("noid setup changes routes and files: run it as root, or with --dry-run")
