"""How many queries for one site's reverse names are on their way at one time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from noid.dns.queries import make_query
from noid.dns.records import Kind, Question, reverse_name
from noid.dns.turns import (
    SITE_QUERIES_FIRST,
    SITE_QUERIES_MAX,
    Sites,
    site_asked,
    site_of,
)
from noid.locators import parse_locator

SITE, OTHER = b"a", b"b"


class Queue:
    """Queries of one site, and which of them may be on their way."""

    def __init__(self, sites: Sites, count: int, until_s: float) -> None:
        self.sites = sites
        self.tasks = [asyncio.create_task(sites.enter(SITE, until_s)) for _ in range(count)]

    async def begun(self) -> int:
        """How many have had their turn, once all that can happen has."""
        for _ in range(3):
            await asyncio.sleep(0)
        return sum(task.done() and not task.cancelled() and task.result() for task in self.tasks)


def played(scenario: Callable[[Sites, float], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await scenario(Sites(), asyncio.get_running_loop().time() + 60)

    asyncio.run(run())


def test_few_are_asked_until_one_is_answered_and_then_one_more_for_each_answer() -> None:
    async def scenario(sites: Sites, until_s: float) -> None:
        queue = Queue(sites, 3 * SITE_QUERIES_MAX, until_s)
        assert await queue.begun() == SITE_QUERIES_FIRST
        sites.leave(SITE, answered=True)
        assert await queue.begun() == SITE_QUERIES_FIRST + 2
        sites.leave(SITE, answered=False)
        assert await queue.begun() == SITE_QUERIES_FIRST + 3
        for _ in range(SITE_QUERIES_MAX):
            sites.leave(SITE, answered=True)
        assert await queue.begun() == 2 + SITE_QUERIES_MAX + SITE_QUERIES_MAX, "no more than that"
        assert await sites.enter(OTHER, until_s), "another site is another matter"
        sites.close()
        await asyncio.gather(*queue.tasks)

    played(scenario)


def test_who_waits_too_long_or_goes_away_takes_nobodys_turn() -> None:
    async def scenario(sites: Sites, until_s: float) -> None:
        queue = Queue(sites, SITE_QUERIES_FIRST, until_s)
        assert await queue.begun() == SITE_QUERIES_FIRST
        assert not await sites.enter(SITE, 0), "it was over before it began"
        hasty = asyncio.create_task(sites.enter(SITE, until_s))
        patient = asyncio.create_task(sites.enter(SITE, until_s))
        await queue.begun()
        hasty.cancel()
        sites.leave(SITE, answered=False)
        assert await patient

    played(scenario)


def test_a_turn_that_comes_to_one_who_just_left_goes_to_the_next() -> None:
    async def scenario(sites: Sites, until_s: float) -> None:
        queue = Queue(sites, SITE_QUERIES_FIRST, until_s)
        await queue.begun()
        hasty = asyncio.create_task(sites.enter(SITE, until_s))
        patient = asyncio.create_task(sites.enter(SITE, until_s))
        await queue.begun()
        sites.leave(SITE, answered=False)
        hasty.cancel()
        assert await patient

    played(scenario)


def test_a_query_and_a_question_have_the_same_site() -> None:
    name = reverse_name(parse_locator("2001:db8:12::1"))
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    site = site_of(make_query(wire.upper(), 12))
    assert site == site_asked(Question(Kind.NAMES, name)) == b"21008bd01002"
    neighbour = reverse_name(parse_locator("2001:db8:12:ffff::1"))
    assert site_asked(Question(Kind.NAMES, neighbour)) == site
    assert site_asked(Question(Kind.NAMES, "b.example")) is None
    assert site_asked(Question(Kind.LOCATORS, name)) is None
    assert site_of(make_query(b"\1b\0", 12)) is None
