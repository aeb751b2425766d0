# SPDX-License-Identifier: MIT
"""How often the process is woken to look at contexts."""

import asyncio

import pytest

from noid.identifiers import Label
from noid.locators import Locator
from noid.roles.uplinks import CONTEXTS_LOOKED_AT_MAX, UplinkWatch
from tests.engine.network import A1, B1, established
from tests.roles.test_uplinks import watch_of
from tests.virtual_time import Clock


def looks_in(watch: UplinkWatch, clock: Clock, duration_s: float) -> int:
    """How often the contexts of a host are looked at, none of which is to be measured."""
    looks_ns: set[int] = set()

    def heard_ns(label: Label) -> int:
        looks_ns.add(clock.now_ns)
        return 0

    async def play() -> None:
        watch.heard_ns = heard_ns
        task = asyncio.create_task(watch.watch())
        await asyncio.sleep(duration_s)
        task.cancel()

    clock.run(play())
    return len(looks_ns)


def test_the_process_is_woken_twice_a_second_while_nothing_is_to_be_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, watch = Clock(monkeypatch), watch_of(established().a.host, [], [])
    assert 19 <= looks_in(watch, clock, 10) <= 21


def test_contexts_that_are_not_all_looked_at_at_once_are_looked_at_more_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = established().a.host
    for number in range(CONTEXTS_LOOKED_AT_MAX):
        host.inspection.create(A1, Locator(B1[:-2] + (1000 + number).to_bytes(2, "big")))
    assert looks_in(watch_of(host, [], []), Clock(monkeypatch), 10) > 50
