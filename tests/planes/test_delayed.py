# SPDX-License-Identifier: MIT
"""Several requests that come together cause one call."""

import asyncio
import time

import pytest

from noid.planes.delayed import Delayed
from tests.virtual_time import Clock

AFTER_S = 0.5


def test_requests_before_the_call_cause_one_call_and_later_ones_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[float] = []

    async def play() -> None:
        delayed = Delayed(lambda: calls.append(time.monotonic()), AFTER_S)
        for _ in range(2):
            delayed.request()
            await asyncio.sleep(AFTER_S / 2)
            delayed.request()
            assert delayed.is_due
            await asyncio.sleep(AFTER_S)
            assert not delayed.is_due

    clock = Clock(monkeypatch)
    began_s = time.monotonic()
    clock.run(play())
    assert [round(at_s - began_s, 2) for at_s in calls] == [AFTER_S, 2.5 * AFTER_S]


def test_a_call_that_is_cancelled_is_made_after_a_new_request_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[None] = []

    async def play() -> None:
        delayed = Delayed(lambda: calls.append(None), AFTER_S)
        delayed.request()
        delayed.cancel()
        await asyncio.sleep(2 * AFTER_S)
        assert not calls
        delayed.request()
        await asyncio.sleep(2 * AFTER_S)

    Clock(monkeypatch).run(play())
    assert len(calls) == 1
