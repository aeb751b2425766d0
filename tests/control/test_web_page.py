# SPDX-License-Identifier: MIT
"""The page of ``noid web`` in a real browser, before a daemon's canned answers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from noid.control.schema import Handler
from noid.control.server import ControlServer
from noid.control.uplink_reports import uplink_report
from noid.control.uplinks import Sighting, Uplinks
from tests.browser import browsing
from tests.canned import serving
from tests.engine.network import A1

HOSTILE = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
KEYS = ("peer_aid", "peer_name", "state", "local_locator", "peer_locator", "why", "event")
SWITCH_KEYS = ("old_local_locator", "old_peer_locator", "new_local_locator", "new_peer_locator")


def paths() -> dict[str, Any]:
    uplinks = Uplinks()
    uplinks.see([Sighting(HOSTILE, is_up=True, carries=True, locators=(A1,))], 1.0)
    report = uplink_report(uplinks.by_name[HOSTILE], {}, {})
    hostile = {**report, "state": HOSTILE, "reason": HOSTILE, "preference": "avoid"}
    return {"now": 110.0, "uplinks": [hostile]}


async def history(_request: dict[str, Any]) -> dict[str, Any]:
    switch = {**dict.fromkeys((*KEYS, *SWITCH_KEYS), HOSTILE), "event": "switched", "at": 1.0}
    change = {"event": "uplink_changed", "at": 1.0, "uplink": HOSTILE, "lasted_s": 1.0}
    states = {"old": HOSTILE, "new": HOSTILE, "reason": HOSTILE}
    return {"now": 110.0, "events": [switch, {**change, **states}]}


def add_history(server: ControlServer) -> None:
    server.requests["history"] = history


@pytest.mark.slow
def test_hostile_names_stay_texts_and_a_daemon_or_server_that_ends_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "noid.sock"
    commands: dict[str, Handler] = {
        "status": lambda: {"name": HOSTILE, "contexts": {"established": 1}},
        "paths": paths,
        "contexts": lambda: iter([dict.fromkeys(KEYS, HOSTILE)]),
    }
    words = [sys.executable, "-m", "noid", "web", "--listen", "[::1]:0", "--socket", str(path)]
    with serving(path, commands) as daemon, browsing() as browser:
        daemon.call(add_history, daemon.server)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                browser.open(process.stdout.readline().split()[-1])
                browser.wait_for("document.querySelectorAll('#contexts tr').length === 1")
                text = str(browser.value("document.body.textContent"))
                assert text.count(HOSTILE) > len(SWITCH_KEYS)
                assert browser.value("document.querySelectorAll('img, script').length") == 1
                assert browser.value("document.title") == f"noid {HOSTILE}"
                assert "avoided until noid auto" in text
                assert not browser.complaints
                daemon.stop()
                browser.wait_for("document.querySelector('#trouble:not([hidden])')")
                browser.wait_for("document.body.classList.contains('stale')")
            finally:
                process.terminate()
            assert process.wait(20) == 0
        browser.wait_for("document.querySelector('#connection').textContent.startsWith('no conn')")
