# SPDX-License-Identifier: MIT
"""Which peers are looked up again where routes of the host change, and in how many turns."""

import asyncio
from collections.abc import Awaitable, Callable

from noid.host.routes import Prefix
from noid.locators import Locator
from noid.planes.inquiries import AT_ONCE, COMPARED_AT_ONCE, PREFIXES_MAX, Inquiries
from tests.waiting import until

MANY = 5 * COMPARED_AT_ONCE


def peer(number: int) -> Locator:
    return Locator(bytes.fromhex("20010db8") + number.to_bytes(12, "big"))


def prefix(number: int) -> Prefix:
    """The one that leads to a single peer."""
    return Prefix(peer(number), 128)


def play(scenario: Callable[[Inquiries, list[Locator]], Awaitable[None]]) -> None:
    found: list[Locator] = []

    async def run() -> None:
        await scenario(Inquiries(found.extend), found)

    asyncio.run(run())


def test_of_very_many_peers_those_in_the_prefixes_are_looked_up_in_several_turns() -> None:
    peers = dict.fromkeys(map(peer, range(MANY)))

    async def scenario(inquiries: Inquiries, found: list[Locator]) -> None:
        inquiries.add([prefix(1), prefix(MANY - 1)], peers)
        assert not found
        await asyncio.sleep(0)
        assert found == [peer(1)], "the other one is not in the first batch"
        inquiries.add([prefix(2)], peers)  # the first batch is over
        await until(lambda: len(found) == 3)
        assert found == [peer(1), peer(MANY - 1), peer(2)]

    play(scenario)


def test_few_are_looked_up_in_one_turn_and_each_once() -> None:
    async def scenario(inquiries: Inquiries, found: list[Locator]) -> None:
        some = [peer(number) for number in range(2 * AT_ONCE + 1)]
        inquiries.add_all(some)
        inquiries.add_all(some)
        turns = []
        for _ in range(4):
            await asyncio.sleep(0)
            turns.append(len(found))
        assert turns == [AT_ONCE, 2 * AT_ONCE, 2 * AT_ONCE + 1, 2 * AT_ONCE + 1]

    play(scenario)


def test_a_batch_is_looked_up_in_one_call() -> None:
    some, calls = [peer(number) for number in range(AT_ONCE + 1)], list[list[Locator]]()

    async def scenario() -> None:
        Inquiries(lambda aids: calls.append(list(aids))).add_all(some)
        await until(lambda: len(calls) == 2)

    asyncio.run(scenario())
    assert calls == [some[:AT_ONCE], some[AT_ONCE:]]


def test_with_very_many_prefixes_every_peer_is_looked_up() -> None:
    async def scenario(inquiries: Inquiries, found: list[Locator]) -> None:
        for number in range(PREFIXES_MAX + 1):
            inquiries.add([prefix(number + 10)], [peer(1), peer(2)])
        await until(lambda: len(found) == 2)

    play(scenario)


def test_what_waits_is_not_looked_up_after_the_end() -> None:
    async def scenario(inquiries: Inquiries, found: list[Locator]) -> None:
        inquiries.add([prefix(1)], [peer(1)])
        inquiries.add_all([peer(2)])
        inquiries.close()
        for _ in range(4):
            await asyncio.sleep(0)
        assert not found

    play(scenario)
