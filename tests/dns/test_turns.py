# SPDX-License-Identifier: MIT
"""Whose query goes to the resolvers next."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from noid.counters import UpstreamCounter
from noid.resolver.fairness import FairQueue
from noid.resolver.turns import Limits, Turns

ROOMY = Limits(quick=100, quick_each=100, begun=100, waiting=100, slow_s=60)


class Exchange:
    """A query that begins and is never answered."""

    def __init__(self, name: str, begun: list[str]) -> None:
        self.name = name
        self.begun = begun
        self.response: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        self.begun.append(self.name)

    def give_up(self) -> None:
        self.response.set_result(None)


class Table:
    """A table of turns, and what has begun in it."""

    def __init__(self, limits: Limits) -> None:
        self.counters = Counter[UpstreamCounter]()
        self.turns = Turns(limits, self.counters)
        self.begun: list[str] = []

    def enter(self, name: str, user: str = "u", lane: str = "") -> Exchange:
        exchange = Exchange(name, self.begun)
        self.turns.enter(exchange, user, lane)
        return exchange


def played(limits: Limits, scenario: Callable[[Table], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await scenario(Table(limits))

    asyncio.run(run())


def test_the_users_wait_in_rotation() -> None:
    async def scenario(table: Table) -> None:
        first = table.enter("a0", "a")
        for number in range(1, 4):
            table.enter(f"a{number}", "a")
        table.enter("b0", "b")
        table.turns.leave(first)
        assert table.begun == ["a0", "a1"]

    async def rotation(table: Table) -> None:
        running = table.enter("x", "x")
        entered = {name: table.enter(name, name[0]) for name in ("a0", "a1", "a2", "b0", "b1")}
        for _ in range(5):
            table.turns.leave(running)
            running = entered[table.begun[-1]]
        assert table.begun == ["x", "a0", "b0", "a1", "b1", "a2"]

    played(ROOMY._replace(quick=1), scenario)
    played(ROOMY._replace(quick=1), rotation)


def test_the_zones_of_one_user_wait_in_rotation() -> None:
    async def scenario(table: Table) -> None:
        running = table.enter("x")
        names = ("slow0", "slow1", "slow2", "fast0")
        entered = {name: table.enter(name, lane=name[:4]) for name in names}
        for _ in range(4):
            table.turns.leave(running)
            running = entered[table.begun[-1]]
        assert table.begun == ["x", "slow0", "fast0", "slow1", "slow2"]

    played(ROOMY._replace(quick=1), scenario)


def test_one_user_has_no_more_than_its_share() -> None:
    async def scenario(table: Table) -> None:
        for number in range(4):
            table.enter(f"a{number}", "a")
        table.enter("b0", "b")
        assert table.begun == ["a0", "a1", "b0"]

    played(ROOMY._replace(quick_each=2), scenario)


def test_a_slow_query_of_the_largest_user_is_abandoned_when_the_table_is_full() -> None:
    async def scenario(table: Table) -> None:
        other = table.enter("b0", "b")
        oldest, second = table.enter("a0", "a"), table.enter("a1", "a")
        table.enter("c0", "c")
        assert oldest.response.done()
        assert not other.response.done()
        assert not second.response.done()
        assert table.begun == ["b0", "a0", "a1", "c0"]
        assert table.counters[UpstreamCounter.OVERFLOW] == 1

    played(ROOMY._replace(begun=3, slow_s=0), scenario)


def test_while_none_is_slow_a_full_table_makes_others_wait() -> None:
    async def scenario(table: Table) -> None:
        table.enter("a0")
        waiting = table.enter("a1")
        assert table.begun == ["a0"]
        assert not waiting.response.done()

    played(ROOMY._replace(begun=1), scenario)


def test_one_more_than_may_wait_ends_a_query_of_the_user_that_has_most() -> None:
    async def scenario(table: Table) -> None:
        table.enter("x", "x")
        first, second = table.enter("a0", "a"), table.enter("a1", "a")
        last = table.enter("b0", "b")
        assert first.response.done()
        assert not second.response.done()
        assert not last.response.done()
        assert table.counters[UpstreamCounter.OVERFLOW] == 1

    played(ROOMY._replace(quick=1, waiting=2), scenario)


def test_a_query_that_is_over_before_its_turn_is_passed_over() -> None:
    async def scenario(table: Table) -> None:
        running = table.enter("x")
        table.enter("gone").give_up()
        table.enter("next")
        table.turns.leave(running)
        assert table.begun == ["x", "next"]

    played(ROOMY._replace(quick=1), scenario)


@pytest.mark.parametrize("users", [("a", "a", "b"), ("b", "a", "a")])
def test_a_queue_gives_way_by_the_user_that_has_most(users: tuple[str, ...]) -> None:
    queue: FairQueue[str] = FairQueue()
    for user in users:
        queue.put(user, None, user)
    assert queue.take_of_largest() == "a"
    assert queue.count == 2
    assert [queue.count_of(user) for user in "ab"] == [1, 1]
