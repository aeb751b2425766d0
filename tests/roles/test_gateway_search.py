# SPDX-License-Identifier: MIT
"""The gateways of silent uplinks are asked for at once, then ever more rarely, and not for long."""

import asyncio
import contextlib
import itertools
from collections.abc import Collection

from noid.locators import Locator
from noid.roles.gateway_search import WAITS_S, GatewaySearch
from tests.engine.network import A1, A2
from tests.waiting import until

LEAST_S = 0.01
QUICKLY = tuple(wait / 1000 for wait in WAITS_S)


def test_each_is_asked_for_as_often_as_there_are_waits() -> None:
    asked: list[Locator] = []

    def ask(sources: Collection[Locator], *_: object) -> None:
        asked.extend(sources)

    async def scenario() -> None:
        search = GatewaySearch(contextlib.nullcontext, ask=ask, waits_s=QUICKLY)
        task = asyncio.create_task(search.watch())
        times = 1 + len(WAITS_S)
        search.suspect([A1, A2])
        search.suspect([A1])
        await until(lambda: len(asked) >= 2 * times)
        assert [asked.count(one) for one in (A1, A2)] == [times, times]
        search.suspect([A2])
        await until(lambda: len(asked) >= 3 * times)
        assert asked.count(A2) == 2 * times
        task.cancel()

    asyncio.run(scenario())


def test_another_suspicion_begins_anew_and_asks_no_sooner() -> None:
    asked: list[float] = []

    async def scenario() -> None:
        def ask(*_: object) -> None:
            asked.append(loop.time())

        loop = asyncio.get_running_loop()
        search = GatewaySearch(contextlib.nullcontext, ask=ask, waits_s=(LEAST_S, LEAST_S, 3600))
        task = asyncio.create_task(search.watch())
        search.suspect([A1])
        await until(lambda: len(asked) == 3)
        search.suspect([A1])
        await until(lambda: len(asked) == 6)
        task.cancel()

    asyncio.run(scenario())
    assert all(later - earlier >= LEAST_S for earlier, later in itertools.pairwise(asked))
