# SPDX-License-Identifier: MIT
"""Runs the operator's executables in ``/etc/noid/events.d`` when an uplink changes.

Each gets the event as one JSON object on its standard input. Only regular files are run that belong
to root and that others cannot write, in a directory of which the same is true. A script runs in a
process group of its own, which is killed when the script ends, or when its time is over.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from noid.host.scripts import scripts_in
from noid.roles.patience import Patience
from noid.text import json_line, printable

RUNNING_MAX: Final = 32
"""Scripts that run at one time; the scripts of an event have equal shares of it."""
TIMEOUT_S: Final = 10.0
"""How long a script may run."""
EVENTS_BURST: Final = 20
EVENT_INTERVAL_S: Final = 1.0
"""So many events are passed on at once, and then one in this time."""
ENVIRONMENT: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

logger = logging.getLogger("noid")


class Scripts:
    """The scripts of one directory.

    Args:
        directory: where they are; it need not exist.
        timeout_s: how long each may run.

    Attributes:
        tasks: what runs, each with its script.
        refused: how often each script was not started or failed, by its name, and how often events
            and scripts were too many.
    """

    def __init__(self, directory: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self.directory = directory
        self.timeout_s = timeout_s
        self.tasks: dict[asyncio.Task[None], Path] = {}
        self.refused: Counter[str] = Counter()
        self._patience = Patience(EVENTS_BURST, EVENT_INTERVAL_S)

    def run(self, event: dict[str, Any]) -> None:
        """Starts every script with an event, and waits for none."""
        scripts = self.examine()
        loop = asyncio.get_running_loop()
        if not scripts:
            return
        if self._patience.wait_s(loop.time()):
            self._refuse("too many events", "an event is not passed on")
            return
        self._patience.use(loop.time())
        octets = json_line(event).encode() + b"\n"
        share = RUNNING_MAX // len(scripts)
        running = Counter(self.tasks.values())
        for script in scripts:
            if running[script] >= share or len(self.tasks) >= RUNNING_MAX:
                why = f"it is not started: it runs {running[script]} times, all scripts "
                self._refuse(script.name, f"{why}{len(self.tasks)} times")
                continue
            task = loop.create_task(self._run(script, octets))
            self.tasks[task] = script
            task.add_done_callback(self.tasks.pop)

    async def close(self) -> None:
        """Kills what still runs."""
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def describe(self) -> Mapping[str, int]:
        """What did not run as it should, as ``noid status`` shows it."""
        return {printable(what): times for what, times in self.refused.items()}

    def examine(self) -> list[Path]:
        """The scripts to run; says what is not run."""
        scripts, refused = scripts_in(self.directory)
        for one in refused:
            self._refuse(one.what, one.why)
        return scripts

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
            return
        finally:
            # Also what it has started and left behind.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        match process.returncode:
            case int(status) if status > 0:
                self._refuse(script.name, f"it ended with status {status}")
            case int(status) if status < 0:
                self._refuse(script.name, f"it ended by signal {-status}")
