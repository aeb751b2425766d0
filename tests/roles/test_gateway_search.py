# SPDX-License-Identifier: MIT
"""The gateways of silent uplinks are asked for at once, then ever more rarely, and not for long."""

import asyncio
import contextlib
from collections.abc import Collection

from noid.locators import Locator
from noid.roles.gateway_search import WAITS_S, GatewaySearch
from tests.engine.network import A1, A2
from tests.waiting import until

QUICKLY = tuple(wait / 1000 for wait in WAITS_S)


def test_each_is_asked_for_as_often_as_there_are_waits() -> None:
    asked: list[Locator] = []

    def ask(sources: Collection[Locator], *_: object) -> None:
        asked.extend(sources)

    async def scenario() -> None:
        search = GatewaySearch(contextlib.nullcontext, ask=ask, waits_s=QUICKLY)
        task = asyncio.create_task(search.watch())
        times = 1 + len(WAITS_S)
        search.suspect([A1])
        await until(lambda: asked == [A1])
        search.suspect([A1, A2])
        search.suspect([A2])
        await until(lambda: len(asked) >= 2 * times)
        assert [asked.count(one) for one in (A1, A2)] == [times, times]
        search.suspect([A2])
        await until(lambda: asked.count(A2) > times)
        task.cancel()

    asyncio.run(scenario())
