# SPDX-License-Identifier: MIT
"""What commands answer in JSON is what docs/json.md says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from noid.cli.history import Tally, ping_row
from noid.cli.main import main
from noid.control.uplink_reports import change_event, switch_report, uplink_report
from noid.control.uplinks import Change, Health, Reason, Sighting, Switch, Uplinks
from noid.roles.border_record import Record
from tests.engine.network import A1, A2, B1, B2

PAGE = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
TYPES: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
    "null": (type(None),),
}
SECTION = re.compile(r"<!-- schema: (\w+) -->\n\n((?:\|[^\n]*\n)+)")
ROW = re.compile(r"^\| `(\w+)` \| ([a-z ]+) \|", re.MULTILINE)


def schemas() -> dict[str, dict[str, tuple[type, ...]]]:
    """Of each table of the page the keys, and the types that each may have."""
    return {
        name: {
            key: tuple(kind for word in kinds.split(" or ") for kind in TYPES[word])
            for key, kinds in ROW.findall(table)
        }
        for name, table in SECTION.findall(PAGE)
    }


SCHEMAS = schemas()


def check(name: str, value: dict[str, Any]) -> None:
    """Asserts that an object has the keys and types of a table of the page, and no others."""
    schema = SCHEMAS[name]
    assert value.keys() == schema.keys()
    for key, kinds in schema.items():
        assert isinstance(value[key], kinds), key
        assert bool in kinds or not isinstance(value[key], bool), key


SWITCH = Switch(1.0, B1, (A1, B1), (A2, B2), "nothing heard")


@pytest.mark.parametrize("name", SCHEMAS)
def test_keys_are_identifiers(name: str) -> None:
    assert SCHEMAS[name]
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", key) for key in SCHEMAS[name])


def test_an_uplink_is_as_the_page_says() -> None:
    uplinks = Uplinks()
    uplinks.see([Sighting("up1", is_up=True, carries=True, locators=(A1,))], 1.0)
    report = uplink_report(uplinks.by_name["up1"], {}, {})
    check("uplink", report)
    check("paths", {"now": 1.0, "uplinks": [report]})
    check("switch", switch_report(SWITCH))


def test_a_change_of_an_uplink_is_as_the_page_says() -> None:
    change = Change(1.0, "up1", Health.UP, Health.DOWN, Reason.SILENT, 1.0)
    check("uplink_changed", change_event(change))


def test_an_event_of_a_border_is_as_the_page_says() -> None:
    record = Record()
    record.see({"one": (True, "")}, 1.0)
    record.see({"one": (False, "no carrier")}, 2.0)
    record.switched({"2001:db8::/48": "one"}, {"2001:db8::/48": "two"}, "auto", 2.0)
    switch, change = record.last(2)
    check("border_switched", switch)
    check("provider_changed", change)


def test_the_records_of_a_host_are_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zone", "a.example", "--locator", "2001:db8::1", "--json"]) == 0
    check("zone", json.loads(capsys.readouterr().out))


def test_the_state_of_resolv_conf_is_as_the_page_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 2001:db8::53\n")
    assert main(["resolver", "status", "--resolv-conf", str(path), "--json"]) == 1
    check("resolver", json.loads(capsys.readouterr().out))


def test_a_pair_that_was_measured_is_as_the_page_says() -> None:
    check("ping", ping_row(("a", "b"), Tally(sent=1)))
    check("ping", ping_row(("a", "b"), Tally(sent=1, round_trips=[5])))
