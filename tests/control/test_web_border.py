# SPDX-License-Identifier: MIT
"""What the page of ``noid web`` shows of a border."""

import json
from pathlib import Path
from typing import Any

from noid.control.web import watch
from noid.control.web.border import border_facts
from noid.counters import BorderCounter, counter_report
from noid.roles.border_record import Record
from tests.canned import Canned, serving

PREFIX = "2001:db8:1::/48"
HOSTILE = "\u202e<b>"
STATUS: dict[str, Any] = {
    "name": "router",
    "now": 110.0,
    "use": "auto",
    "providers": [
        {
            "provider": "one",
            "uplink": "wan1",
            "works": False,
            "why": "no carrier",
            "since": 100.0,
            "gateway": "fe80::1",
            "priority": 100,
            "weight": 1,
        }
    ],
    "prefixes": [{"prefix": PREFIX, "provider": "one", "leaves_by": "", "why": "no carrier"}],
    "switches": 1,
    "troubles": [HOSTILE],
    "counters": counter_report(BorderCounter, {BorderCounter.PACKETS_REWRITTEN: 7}),
}


def record() -> Record:
    made = Record()
    made.see({"one": (True, "")}, 90.0)
    made.see({"one": (False, "no carrier")}, 100.0)
    made.switched({PREFIX: "one"}, {PREFIX: ""}, "auto", 100.0)
    return made


def test_providers_are_uplinks_and_their_changes_are_changes_of_uplinks() -> None:
    facts = border_facts(STATUS, list(record().last(10)))
    (uplink,) = facts["uplinks"]
    assert (uplink["uplink"], uplink["state"], uplink["reason_text"]) == (
        "one",
        "down",
        "no carrier",
    )
    switch, change = facts["events"]
    assert (change["event"], change["uplink"], change["lasted_s"]) == (
        "uplink_changed",
        "one",
        10.0,
    )
    assert switch["event"] == "border_switched"
    assert facts["prefixes"] == [{"prefix": PREFIX, "provider": "one", "leaves_by": ""}]
    assert facts["counts"][0] == ["packets rewritten", 7]


def test_a_snapshot_of_a_border_is_made_from_its_socket(tmp_path: Path) -> None:
    path = tmp_path / "border.sock"

    async def history(request: dict[str, Any]) -> dict[str, Any]:
        return {"now": 110.0, "events": list(record().last(request["count"]))}

    def add_history(canned: Canned) -> None:
        canned.server.requests["history"] = history

    with serving(path, {"status": lambda: STATUS}) as daemon:
        daemon.call(add_history, daemon)
        said = json.loads(watch.snapshot(path))
    assert [one["event"] for one in said["events"]] == ["border_switched", "uplink_changed"]
    assert said["troubles"] == ["\\u202e<b>"], "nothing turns the direction of writing"
