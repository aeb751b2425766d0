# SPDX-License-Identifier: MIT
"""Events: each has its time; those that cannot be written to the history are written later."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from noid.cli.main import main
from noid.control.reports import Event
from noid.control.server import ControlServer
from noid.control.uplinks import Change, Health, Reason
from noid.counters import Drop
from noid.engine.events import Dropped
from noid.roles import reporting
from noid.roles.reporting import Reporter
from noid.state.history import EVENTS_MAX, FILE_NAME, HistoryStore
from tests.waiting import until


def test_a_history_that_cannot_be_written_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "WRITE_AGAIN_S", 0.01)
    path = tmp_path / FILE_NAME
    path.touch()
    path.chmod(0o666)

    async def play() -> None:
        reporter = Reporter(lambda event: None, tmp_path / "events.d")
        reporter.open(tmp_path)
        assert "chmod 600" in reporter.troubles[0]
        path.chmod(0o600)
        await until(lambda: not reporter.troubles)
        await reporter.close()

    asyncio.run(play())


def test_every_event_that_is_kept_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o700)
    store = HistoryStore(tmp_path)
    store.add({"n": number} for number in range(EVENTS_MAX))
    store.close()

    async def play() -> None:
        reporter = Reporter(lambda event: None, tmp_path / "events.d")
        reporter.open(tmp_path)
        server = ControlServer(tmp_path / "noid.sock", {}, {"history": reporter.history})
        await server.start()
        words = ["history", "--json", "--count", str(EVENTS_MAX)]
        words += ["--socket", str(server.path)]
        assert await asyncio.to_thread(main, words) == 0
        assert "before" in (await reporter.history({"before": 0}))["error"]
        await server.stop()
        await reporter.close()

    asyncio.run(play())
    events = json.loads(capsys.readouterr().out)["events"]
    assert [one["n"] for one in events] == list(reversed(range(EVENTS_MAX)))


def test_every_event_for_monitors_has_both_times(tmp_path: Path) -> None:
    events: list[Event] = []

    async def play() -> None:
        reporter = Reporter(events.append, tmp_path / "events.d")
        reporter.report(Dropped(Drop.TRUNCATED, "why"))
        reporter.uplink_changed(Change(1.5, "up1", Health.UP, Health.DOWN, Reason.SILENT, 1.0))
        await reporter.close()

    before_s, before_ns = time.time(), time.monotonic_ns()
    asyncio.run(play())
    dropped, changed = events
    assert before_s - 0.001 <= dropped["at"] <= time.time() + 0.001
    assert changed["at"] == 1.5, "since when it is so"
    assert all(before_ns <= one["at_ns"] <= time.monotonic_ns() for one in events)
