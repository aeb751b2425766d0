# SPDX-License-Identifier: MIT
"""Processes of a lab: started in their own session, ended by an unambiguous identity.

A pid may have been reused. A process is identified by its pid and the clock tick of its start, and
is signalled through a pidfd that is opened before that tick is compared, so that a signal never
reaches another process.
"""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Protocol

import msgspec

from noid.errors import PlatformError

GRACE_S: Final = 3.0
"""Between the request to end and the end without asking."""
DAEMON_GRACE_S: Final = 30.0
"""The same for a daemon, which has to remove what it installed, on a busy machine."""
KILL_S: Final = 30.0
"""For the kernel to carry out a SIGKILL on a busy machine; longer means it is stuck there."""
START_TICKS_FIELD: Final = 19
"""Index in /proc/PID/stat behind the command, which may itself hold spaces and parentheses."""
STATE_FIELD: Final = 0


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a process, by which another program can end it.

    Attributes:
        sequence: counts the processes of a lab.
        name: what the lab calls it.
        node: the node it was started on.
        pid: its process id.
        start_ticks: when it was started, in clock ticks since boot.
    """

    sequence: int
    name: str
    node: str
    pid: int
    start_ticks: int


class Handle(Protocol):
    """What is used of ``subprocess.Popen``."""

    pid: int
    returncode: int | Any

    def poll(self) -> int | None:
        """See ``subprocess.Popen``."""

    def wait(self, timeout: float | None = None) -> int:
        """See ``subprocess.Popen``."""

    def send_signal(self, sig: int, /) -> None:
        """See ``subprocess.Popen``."""

    def kill(self) -> None:
        """See ``subprocess.Popen``."""


@dataclass(slots=True)
class Process:
    """A program the lab has started.

    Attributes:
        record: who it is.
        popen: the handle of Python.
        log_path: where its output goes.
    """

    record: Record
    popen: Handle
    log_path: Path

    @property
    def pid(self) -> int:
        """The process id."""
        return self.record.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.popen.poll() is None

    def output(self) -> str:
        """Everything it wrote so far, both streams as they came."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def end(self, *, grace_s: float = DAEMON_GRACE_S) -> int:
        """Ends it, politely at first, and returns its exit status."""
        end_processes([self.record], grace_s=grace_s)
        return self.popen.wait()


def program(
    arguments: Sequence[str], log: IO[bytes], environment: Mapping[str, str] | None
) -> Handle:
    """Starts a program in a session of its own, with its output in a file.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    )


launch = program
"""How programs are started; tests that start many daemons set another function here."""


def start(
    arguments: Sequence[str],
    *,
    sequence: int,
    name: str,
    node: str,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Starts a program in a session of its own, its output appended to a file.

    Raises:
        PlatformError: it cannot be started.
    """
    try:
        with log_path.open("ab") as log:
            popen = launch(arguments, log, environment)
    except OSError as error:
        raise PlatformError(
            f"start {arguments[0]}", error.errno or 0, str(error.strerror)
        ) from None
    record = record_of(popen.pid, sequence=sequence, name=name, node=node)
    assert record is not None, "our own child is there until we wait for it"
    return Process(record=record, popen=popen, log_path=log_path)


def write_record(directory: Path, record: Record) -> None:
    """Writes a process down, so that it can be ended without the one who started it."""
    (directory / f"{record.sequence:04d}.json").write_bytes(msgspec.json.encode(record))


def read_records(directory: Path) -> list[Record]:
    """The processes written down, in the order they were started; a torn record is passed over."""
    found: list[Record] = []
    for path in sorted(directory.glob("*.json")):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Record))
    return found


def record_of(pid: int, *, sequence: int, name: str, node: str) -> Record | None:
    """The record of a process that another program started; None if there is no such process."""
    ticks = start_ticks(pid)
    if ticks is None:
        return None
    return Record(sequence=sequence, name=name, node=node, pid=pid, start_ticks=ticks)


def start_ticks(pid: int) -> int | None:
    """When a process was started, in clock ticks since boot; None if there is no such process."""
    fields = _stat(pid)
    return int(fields[START_TICKS_FIELD]) if fields else None


def is_running(record: Record) -> bool:
    """Whether the recorded process exists and is not a zombie."""
    fields = _stat(record.pid)
    if not fields or fields[STATE_FIELD] in "ZX":
        return False
    return int(fields[START_TICKS_FIELD]) == record.start_ticks


def end_processes(
    records: Iterable[Record], *, grace_s: float = GRACE_S, kill: bool = False
) -> None:
    """Asks all to end, waits, and ends those that do not; a stranger under an old pid lives on.

    Args:
        records: the processes.
        grace_s: how long they have to end when asked.
        kill: they are not asked.

    Raises:
        PlatformError: a process outlived a SIGKILL.
    """
    with contextlib.ExitStack() as stack:
        handles: dict[int, Record] = {}
        for record in records:
            try:
                handle = os.pidfd_open(record.pid)
            except OSError:
                continue
            stack.callback(os.close, handle)
            if is_running(record):
                handles[handle] = record
        steps = ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_S))
        for sign, patience_s in steps[kill:]:
            for handle in handles:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, sign)
            handles = _outliving(handles, patience_s)
        for record in handles.values():
            raise PlatformError(f"end {record.name}", 0, f"process {record.pid} outlived a SIGKILL")


def _outliving(handles: dict[int, Record], patience_s: float) -> dict[int, Record]:
    """The processes that have not ended in time; a pidfd is readable once its process has ended."""
    left = dict(handles)
    deadline = time.monotonic() + patience_s
    while left and (remaining_s := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for handle in left:
            poll.register(handle, select.POLLIN)
        for handle, _ in poll.poll(remaining_s * 1000):
            del left[handle]
    return left


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the command, or none if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
