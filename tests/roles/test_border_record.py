# SPDX-License-Identifier: MIT
"""The record of a border: since when a provider works, what has changed, which switches were."""

from typing import Any

from noid.border_config import EVENTS_MAX
from noid.cli.border import event_line
from noid.flows.liveness import Liveness
from noid.roles.border_record import Record

ONE, TWO = "2001:db8:1::/48", "2001:db8:2::/48"


def test_only_changes_are_events_and_each_is_published() -> None:
    record, published = Record(), list[dict[str, Any]]()
    record.publish = published.append
    for second, works in enumerate((True, True, False, False, True)):
        why = "" if works else f"no carrier {second}"
        record.see({"one": (works, why)}, float(second))
    up, down = record.last(10)
    assert published == [down, up]
    assert (down["old"], down["new"], down["at"], down["lasted_s"]) == ("up", "down", 2.0, 2.0)
    assert (up["new"], up["why"], up["lasted_s"]) == ("up", "no carrier 3", 2.0)
    assert record.providers["one"].since_s == 4.0
    assert event_line(down) == "provider one: up -> down after 2.0 s: no carrier 2"


def test_a_switch_names_the_prefixes_that_have_moved() -> None:
    record = Record()
    record.switched({ONE: "one", TWO: "two"}, {ONE: "two", TWO: "two"}, "auto", 1.0)
    record.switched({ONE: "two", TWO: "two"}, {ONE: "", TWO: ""}, "auto", 2.0)
    record.switched({ONE: "", TWO: ""}, {ONE: "", TWO: ""}, "two", 3.0)
    last, first = record.last(10)
    assert first["prefixes"] == [{"prefix": ONE, "old": "one", "new": "two"}]
    assert event_line(first) == f"switched (use auto): {ONE} leaves by two, before by one"
    assert event_line(last).endswith(f"{TWO} leaves by none, before by two")


def test_a_provider_that_comes_back_to_the_configuration_is_new() -> None:
    """The record has entries only for providers that are configured."""
    record = Record()
    record.see({"one": (False, "no carrier"), "two": (True, "")}, 1.0)
    record.liveness = {name: Liveness(0) for name in ("one", "two")}
    by_provider = [value for value in vars(record).values() if isinstance(value, dict)]
    assert all(found.keys() == {"one", "two"} for found in by_provider), "each is tried"
    record.keep(["two"])
    by_provider = [value for value in vars(record).values() if isinstance(value, dict)]
    assert all(found.keys() == {"two"} for found in by_provider)


def test_the_record_is_bounded_and_forgets_providers_that_are_gone() -> None:
    record = Record()
    for second in range(3 * EVENTS_MAX):
        record.see({"one": (second % 2 == 0, "")}, float(second))
    assert len(list(record.last(10 * EVENTS_MAX))) == EVENTS_MAX
    record.keep(["two"])
    record.see({"one": (True, "")}, 1e9)
    assert record.events[0]["at"] < 1e9, "it is new again"
