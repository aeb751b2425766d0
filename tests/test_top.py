# SPDX-License-Identifier: MIT
"""``noid top``, ``noid history`` and ``noid ping`` before a daemon's answers."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Static

from noid.cli.history import Tallies, add, ping_row
from noid.cli.live import Top
from noid.cli.main import main
from noid.cli.paths import COLUMNS
from noid.control.schema import Answer
from noid.control.server import ControlServer
from noid.control.uplink_reports import change_event, switch_report, uplink_report
from noid.control.uplinks import Change, Health, Reason, Sighting, Switch, Uplinks
from tests.engine.network import A1, A2, B1, B2
from tests.test_text import HOSTILE

SWITCH = Switch(100.0, B1, (A1, B1), (A2, B2), "nothing heard")
CHANGE = Change(101.0, "up1", Health.UP, Health.DOWN, Reason.SILENT, 60.0)
HISTORY = [change_event(CHANGE), {"event": "switched", **switch_report(SWITCH)}]


def paths() -> dict[str, Any]:
    uplinks = Uplinks()
    seen = [
        Sighting("up1", is_up=True, carries=True, locators=(A1,), deprecated=frozenset({A1})),
        Sighting("up2", is_up=True, carries=True, locators=(A2,)),
    ]
    uplinks.see(seen, 1.0)
    uplinks.lose("up1", is_up=True, now_s=100.0)
    first, second = uplinks.by_name.values()
    first.preference, first.share = "avoid", 0.0
    second.preference, second.share = "use", 1.0
    return {"now": 110.0, "uplinks": [uplink_report(one, {}, {}) for one in (first, second)]}


async def history(request: dict[str, Any]) -> dict[str, Any]:
    return {"now": 110.0, "events": HISTORY[: request["count"]]}


def test_top_shows_uplinks_and_events_and_says_when_the_daemon_is_gone(tmp_path: Path) -> None:
    async def play() -> None:
        path = tmp_path / "noid.sock"
        server = ControlServer(path, {"paths": paths}, {"history": history})
        await server.start()
        app = Top(path)
        async with app.run_test(size=(160, 40)) as pilot:
            await pilot.pause()
            table: DataTable[Any] = app.query_one(DataTable)
            assert [str(cell) for cell in table.get_row_at(0)][:2] == ["up1", "down"]
            assert "up -> down" in str(app.query_one("#events", Static).render())
            avoided, used = (list(map(str, table.get_row_at(number))) for number in range(2))
            assert "deprecated, avoided until noid auto" in avoided[-1]
            assert used[-1] == "used before all others"
            share = [str(one) for one in COLUMNS].index("share")
            assert (avoided[share], used[share]) == ("0 %", "100 %")
            await server.stop()
            await app.refresh_now()
            assert "no noid answers" in str(app.query_one("#trouble", Static).render())
            await pilot.press("q")

    asyncio.run(play())


@pytest.mark.parametrize("text", HOSTILE, ids=list(map(ascii, HOSTILE)))
def test_what_top_shows_is_escaped(tmp_path: Path, text: str) -> None:
    """Names of uplinks, reasons, and what a daemon says that refuses."""
    text = text.encode(errors="replace").decode()
    answers: list[dict[str, Any]] = [{**paths(), "uplinks": [named(text)]}, {"error": text}]

    def hostile_paths() -> Answer:
        return answers[0]

    async def hostile_history(_: dict[str, Any]) -> dict[str, Any]:
        events = [{**one, "uplink": text, "why": text} for one in HISTORY]
        return {"now": 110.0, "events": events}

    async def play() -> None:
        path = tmp_path / "noid.sock"
        server = ControlServer(path, {"paths": hostile_paths}, {"history": hostile_history})
        await server.start()
        app = Top(path)
        async with app.run_test(size=(160, 40)) as pilot:
            await pilot.pause()
            shown = [str(one) for one in app.query_one(DataTable).get_row_at(0)]
            shown += str(app.query_one("#events", Static).render()).splitlines()
            answers.pop(0)
            await app.refresh_now()
            shown.append(str(app.query_one("#trouble", Static).render()))
            assert len(shown) > len(COLUMNS) + len(HISTORY)
            assert all(one.isprintable() for one in shown)
        await server.stop()

    asyncio.run(play())


def named(text: str) -> dict[str, Any]:
    """An uplink with a name and a reason of others."""
    return {**paths()["uplinks"][0], "uplink": text, "reason": text}


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_a_key_ends_top(key: str, tmp_path: Path) -> None:
    async def play() -> None:
        app = Top(tmp_path / "noid.sock")
        async with app.run_test() as pilot:
            await pilot.press(key)
            await pilot.pause()
            assert not app.is_running

    asyncio.run(play())


def test_without_textual_top_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "noid.cli.live", raising=False)
    monkeypatch.setitem(sys.modules, "textual.app", None)
    assert main(["top"]) == 1
    assert "pip install 'noid-m6[top]'" in capsys.readouterr().err


def test_tallies_count_what_each_pair_has_answered() -> None:
    tallies: Tallies = {}
    pair = {"local_locator": "a", "peer_locator": "b", "in_use": True}
    add(tallies, [{**pair, "round_trip_us": 10}])
    add(tallies, [{**pair, "round_trip_us": None}])
    add(tallies, [{**pair, "round_trip_us": 30}])
    assert ping_row(("a", "b"), tallies["a", "b"]) == {
        **pair,
        "sent": 3,
        "received": 2,
        "loss": 0.3333,
        "round_trip_min_us": 10,
        "round_trip_mean_us": 20,
        "round_trip_max_us": 30,
    }


@pytest.mark.parametrize("words", [["history", "--count", "0"], ["ping", "b", "--count", "x"]])
def test_a_count_is_a_number(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)


def test_events_are_json_too() -> None:
    assert json.loads(json.dumps(HISTORY)) == HISTORY


def test_top_without_a_terminal_names_the_command_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", "--socket", str(tmp_path / "noid.sock")]) == 1
    assert capsys.readouterr().err.endswith("for programs: noid paths --json\n")
