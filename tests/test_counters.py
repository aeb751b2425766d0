# SPDX-License-Identifier: MIT
"""Counters: identifiers that programs can rely on."""

import re
from collections import Counter

import pytest

from noid.counters import (
    COUNTERS,
    BorderCounter,
    CounterName,
    Drop,
    StubCounter,
    counter_report,
    counters_of,
)
from noid.wire.control import Code

FAULTS = (
    *("FOR_NO_CONTEXT", "BETWEEN_UNKNOWN_LOCATORS", "NOT_AUTHENTIC", "OVER_RATE"),
    "WHILE_DOUBTED",
)
KINDS: tuple[type[CounterName], ...] = (*COUNTERS, BorderCounter)
EVERY = [one for kind in KINDS for one in kind]


@pytest.mark.parametrize("one", EVERY, ids=str)
def test_a_counter_has_a_key_a_metric_and_a_description(one: CounterName) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", one.identifier)
    assert re.fullmatch(r"noid_[a-z]+(_[a-z0-9]+)+_total", one.metric)
    assert one.description.isprintable()
    assert one.description
    assert not one.description.endswith(".")


def test_no_two_counters_have_one_metric() -> None:
    assert len({one.metric for one in EVERY}) == len(EVERY)


def test_a_report_has_every_counter_from_the_start() -> None:
    report = counter_report(StubCounter, {StubCounter.QUERIES: 3})
    assert list(report) == [one.identifier for one in StubCounter]
    assert report == dict.fromkeys(report, 0) | {"queries": 3}
    assert counters_of(StubCounter, report) == Counter({StubCounter.QUERIES: 3})


@pytest.mark.parametrize("code", [Code.UR, Code.UA, Code.KEEPALIVE], ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_message_of_a_context_has_each_fault_as_a_reason_of_its_own(
    code: Code, fault: str
) -> None:
    assert Drop[f"{code.name}_{fault}"].description.startswith(code.name)
