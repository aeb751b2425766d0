# SPDX-License-Identifier: MIT
"""Runs the operator's executables in ``/etc/noid/events.d`` when an uplink changes.

Each gets the event as one JSON object on its standard input. Only regular files are run that belong
to root and that others cannot write, in a directory of which the same is true. A script runs in a
process group of its own, which is killed when its time is over.
"""

import asyncio
import contextlib
import logging
import os
import signal
import stat
from collections import Counter
from pathlib import Path
from typing import Any, Final

from noid.roles.patience import Patience
from noid.text import json_line, printable

SCRIPTS_MAX: Final = 16
"""Scripts that are run for one event, in the order of their names."""
RUNNING_MAX: Final = 32
"""Scripts that run at one time; further ones are not started."""
TIMEOUT_S: Final = 10.0
"""How long a script may run."""
EVENTS_BURST: Final = 20
EVENT_INTERVAL_S: Final = 1.0
"""So many events are passed on at once, and then one in this time."""
ROOT: Final = 0
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
EXECUTABLE: Final = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

logger = logging.getLogger("noid")


class Scripts:
    """The scripts of one directory.

    Args:
        directory: where they are; it need not exist.
        timeout_s: how long each may run.

    Attributes:
        refused: how often a script or an event was left out, by reason.
    """

    def __init__(self, directory: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.directory = directory
        self.timeout_s = timeout_s
        self.tasks: set[asyncio.Task[None]] = set()
        self.refused: Counter[str] = Counter()
        self._patience = Patience(EVENTS_BURST, EVENT_INTERVAL_S)

    def run(self, event: dict[str, Any]) -> None:
        """Starts every script with an event, and waits for none."""
        scripts = self._scripts()
        loop = asyncio.get_running_loop()
        if not scripts:
            return
        if self._patience.wait_s(loop.time()):
            self._refuse("too many events", "an event is not passed on")
            return
        self._patience.use(loop.time())
        octets = json_line(event).encode() + b"\n"
        for script in scripts:
            if len(self.tasks) >= RUNNING_MAX:
                self._refuse("too many scripts run", f"{script.name} is not started")
                continue
            task = loop.create_task(self._run(script, octets))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Kills what still runs."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _scripts(self) -> list[Path]:
        try:
            if not _is_trusted(self.directory.stat()):
                self._refuse("directory", "others can write it; chown root, chmod 755")
                return []
            found = sorted(one for one in self.directory.iterdir() if self._is_runnable(one))
        except OSError:
            return []
        for one in found[SCRIPTS_MAX:]:
            self._refuse("too many scripts", f"{one.name} is not run: {SCRIPTS_MAX} are")
        return found[:SCRIPTS_MAX]

    def _is_runnable(self, path: Path) -> bool:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            why = "it is not a regular file"
        elif not status.st_mode & EXECUTABLE:
            why = "it is not executable; chmod 755"
        elif not _is_trusted(status):
            why = "others can write it; chown root, chmod 755"
        else:
            return True
        self._refuse(path.name, why)
        return False

    def _refuse(self, what: str, why: str) -> None:
        """Counts it, and says so the first time."""
        self.refused[what] += 1
        if self.refused[what] == 1:
            logger.warning("events.d: %s: %s", printable(what), printable(why))

    async def _run(self, script: Path, octets: bytes) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                str(script),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                env=ENVIRONMENT,
                cwd="/",
            )
        except OSError as error:
            self._refuse(script.name, f"it does not start: {error.strerror}")
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                with contextlib.suppress(OSError):
                    await process.communicate(octets)
        except TimeoutError:
            self._refuse(script.name, f"it is killed after {self.timeout_s:g} s")
        finally:
            # Also what it has started and left behind.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        if process.returncode and process.returncode > 0:
            self._refuse(script.name, f"it ended with status {process.returncode}")


def _is_trusted(status: os.stat_result) -> bool:
    """Whether only root can have written it."""
    return status.st_uid == ROOT and not status.st_mode & WRITABLE_BY_OTHERS
