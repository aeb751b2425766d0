# SPDX-License-Identifier: MIT
"""What is done for peers at a limited rate."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from noid.locators import Locator
from noid.planes.paced import BURST, PER_SECOND, WAITING_MAX, Paced
from tests.waiting import until

PEERS = [Locator(number.to_bytes(16)) for number in range(4 * BURST)]
OTHERS = [Locator((1 << 16 | number).to_bytes(16)) for number in range(2 * WAITING_MAX)]


def play(scenario: Callable[[Paced, list[Locator]], Awaitable[None]]) -> None:
    async def run() -> None:
        done: list[Locator] = []
        paced = Paced(done.append)
        try:
            await scenario(paced, done)
        finally:
            paced.close()

    asyncio.run(run())


def test_few_are_done_at_once_and_the_rest_later_in_order() -> None:
    async def scenario(paced: Paced, done: list[Locator]) -> None:
        began_s = time.monotonic()
        assert all(map(paced.put, PEERS))
        assert BURST <= len(done) < len(PEERS)
        await until(lambda: len(done) == len(PEERS))
        assert done == PEERS
        assert time.monotonic() - began_s >= (len(PEERS) - BURST) / PER_SECOND

    play(scenario)


def test_for_one_too_many_nothing_is_done() -> None:
    async def scenario(paced: Paced, done: list[Locator]) -> None:
        put = [one for one in OTHERS if paced.put(one)]
        assert WAITING_MAX <= len(put) < len(OTHERS)
        assert paced.put(put[-1]), "it waits already"
        paced.drop(put[-1])
        assert paced.put(OTHERS[-1]), "there is room again"

    play(scenario)


def test_what_is_dropped_or_closed_is_not_done() -> None:
    async def scenario(paced: Paced, done: list[Locator]) -> None:
        for one in PEERS:
            paced.put(one)
        for one in PEERS[:-1]:
            paced.drop(one)
        await until(lambda: PEERS[-1] in done)
        assert set(PEERS[3 * BURST : -1]).isdisjoint(done)
        for one in OTHERS[: 2 * BURST]:
            paced.put(one)
        count = len(done)
        paced.close()
        await asyncio.sleep(2 * BURST / PER_SECOND)
        assert len(done) == count

    play(scenario)
