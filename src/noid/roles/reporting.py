# SPDX-License-Identifier: MIT
"""Says what happens: a line of log for what matters, an event for monitors, scripts and history."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from noid.control.reports import LEVELS, Event, event_of, uplink_line
from noid.control.uplink_reports import change_event, switch_report
from noid.control.uplinks import Change, Switch
from noid.engine.events import Output
from noid.roles.scripts import Scripts
from noid.state.history import NEWEST, HistoryStore, Page
from noid.text import line_of

WRITE_DELAY_S: Final = 1.0
"""How long after the first of several events they are written to the history."""
WRITE_AGAIN_S: Final = 10.0
"""How long after the history could not be written it is tried again."""
SWITCHES_WRITTEN_MAX: Final = 500
"""Switches written at one time; of further ones only the number."""
HISTORY_SHOWN_MAX: Final = 1_000
"""Events in one answer."""
HISTORY_SHOWN: Final = 50

logger = logging.getLogger("noid")


class Reporter:
    """Where everything goes that people and programs may want to know.

    Args:
        publish: takes events for the monitors of the control socket.
        scripts: the directory of the operator's scripts.
    """

    def __init__(self, publish: Callable[[Event], None], scripts: Path) -> None:
        self.publish = publish
        self.scripts = Scripts(scripts)
        self.store: HistoryStore | None = None
        self._unwritten: list[dict[str, Any]] = []
        self._omitted = 0
        self._writing: asyncio.TimerHandle | None = None

    def open(self, directory: Path) -> None:
        """Opens the history in the state directory."""
        self.store = HistoryStore(directory)
        self._write()

    async def close(self) -> None:
        """Ends the scripts, and writes what is left."""
        await self.scripts.close()
        self._write()
        if self._writing is not None:
            self._writing.cancel()
        if self.store is not None:
            self.store.close()

    @property
    def troubles(self) -> list[str]:
        """The problems of the history's file."""
        return [] if self.store is None else self.store.troubles

    def report(self, output: Output) -> None:
        """What the engine reports."""
        event = event_of(output)
        assert event is not None, f"{output} is neither order nor report"
        level = LEVELS[event["event"]]
        if logger.isEnabledFor(level):
            logger.log(level, line_of(event))
        self.publish({**_now(), **event})

    def uplink_changed(self, change: Change) -> None:
        """An uplink is in another state."""
        level, line = uplink_line(change)
        logger.log(level, line)
        event = change_event(change)
        self.publish({**_now(), **event})
        self.scripts.run(event)
        self._unwritten.append(event)
        self._write_soon()

    def switched(self, switch: Switch) -> None:
        """A context uses another pair of locators."""
        if len(self._unwritten) < SWITCHES_WRITTEN_MAX:
            self._unwritten.append({"event": "switched", **switch_report(switch)})
        else:
            self._omitted += 1
        self._write_soon()

    async def history(self, request: dict[str, Any]) -> dict[str, Any]:
        """What ``noid history`` shows: the newest first, or those before the last answer."""
        count, before = request.get("count", HISTORY_SHOWN), request.get("before", NEWEST)
        if not isinstance(count, int) or not 0 < count <= HISTORY_SHOWN_MAX:
            return {"error": f"count must be 1 to {HISTORY_SHOWN_MAX}"}
        if not isinstance(before, int) or not 0 < before <= NEWEST:
            return {"error": "before must be that of an answer"}
        self._write()
        page = Page([], 0) if self.store is None else self.store.page(count, before)
        return {"now": round(time.time(), 3), "events": page.events, "before": page.before}

    def _write_soon(self) -> None:
        if self._writing is None:
            self._write_in(WRITE_DELAY_S)

    def _write_in(self, delay_s: float) -> None:
        self._writing = asyncio.get_running_loop().call_later(delay_s, self._write)

    def _write(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        events, self._unwritten = self._unwritten, []
        omitted, self._omitted = self._omitted, 0
        if omitted:
            events.append({"event": "omitted", "at": round(time.time(), 3), "switches": omitted})
        if self.store is not None and (events or self.store.owes):
            self.store.add(events)
            if self.store.owes:
                self._write_in(WRITE_AGAIN_S)


def _now() -> dict[str, Any]:
    """The time of an event, by the clock of the machine and by the wall clock."""
    return {"at_ns": time.monotonic_ns(), "at": round(time.time(), 3)}
