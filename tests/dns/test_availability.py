# SPDX-License-Identifier: MIT
"""Whether a resolver answers: found out beside everything else, reported once [D49]."""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest

from noid.constants import Codepoints
from noid.resolver.availability import RETRY_FIRST_S, RETRY_MAX_S, Availability
from noid.resolver.port import Server
from noid.resolver.resolvers import PATHS_MAX, RACE_ROUNDS_MAX, TRIES_MAX
from noid.resolver.upstream import Upstream
from tests.dns.conftest import (
    HOST,
    NOBODY,
    RESOLVER,
    Pretend,
    answer_only,
    answering,
    locators,
    prepare_loopback,
    refusing,
)
from tests.namespaces import in_network_namespace, ip
from tests.waiting import until

OUTAGES, WAITS = 3, 5


class Watched:
    """A watch over resolvers that can be replaced; NOBODY refuses at once, as an outage.

    Attributes:
        servers: the resolvers of the moment.
        availability: the watch.
    """

    def __init__(self, servers: Sequence[Server], retry_s: float) -> None:
        self.servers = tuple(servers)
        self.upstream = Upstream(servers, Codepoints(), tuple, 0, total_s=60)
        self.availability = Availability(
            self.upstream,
            lambda: self.servers,
            retry_first_s=retry_s,
            retry_max_s=4 * retry_s,
            check_interval_s=0.001,
        )

    async def answers(self) -> None:
        await until(lambda: self.availability.describe() == "answers")

    async def fails(self) -> None:
        await until(lambda: self.availability.describe().startswith("no answer since "))


def watching(
    scenario: Callable[[Watched], Awaitable[None]], *servers: Server, retry_s: float = 0.002
) -> None:
    """Runs a scenario beside the watch over some resolvers."""

    async def run() -> None:
        watched = Watched(servers, retry_s)
        task = asyncio.create_task(watched.availability.watch())
        try:
            await scenario(watched)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await watched.upstream.close()

    asyncio.run(run())


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """What was logged of the resolvers."""
    return [(one.levelno, one.getMessage()) for one in caplog.records if one.name == "noid"]


def test_a_resolver_that_refuses_answers(
    pretend: Pretend, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(watched: Watched) -> None:
        assert watched.availability.describe() == "not asked yet"
        await watched.answers()

    watching(scenario, pretend(refusing()))
    assert said(caplog) == []


def test_an_outage_is_reported_once_and_so_is_its_end(
    pretend: Pretend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server = pretend(refusing())

    async def scenario(watched: Watched) -> None:
        await until(lambda: watched.availability.checks > 3)
        await watched.fails()
        watched.servers = (server,)
        await watched.answers()

    watching(scenario, NOBODY)
    (warning, outage), (information, end) = said(caplog)
    assert (warning, information) == (logging.WARNING, logging.INFO)
    assert outage.startswith(f"dns.upstream: no answer from {NOBODY[0]} over any uplink; check")
    assert end == f"dns.upstream: a resolver answers again: {server[0]}"


def test_a_query_without_an_answer_causes_a_check(pretend: Pretend) -> None:
    async def scenario(watched: Watched) -> None:
        await watched.answers()
        watched.servers = (NOBODY,)
        watched.upstream.resolvers.use(watched.servers)
        await watched.upstream.ask(HOST)
        await watched.fails()

    watching(scenario, pretend(refusing()), retry_s=1000)


def test_a_query_with_an_answer_ends_the_outage(pretend: Pretend) -> None:
    server = pretend(answering())

    async def scenario(watched: Watched) -> None:
        await watched.fails()
        watched.servers = (server,)
        watched.upstream.resolvers.use(watched.servers)
        await watched.upstream.ask(HOST)
        await watched.answers()

    watching(scenario, NOBODY, retry_s=1000)


def test_a_change_of_the_network_ends_the_wait(pretend: Pretend) -> None:
    server = pretend(refusing())

    async def scenario(watched: Watched) -> None:
        await watched.fails()
        watched.servers = (server,)
        watched.availability.check_soon()
        await watched.answers()

    watching(scenario, NOBODY, retry_s=1000)


def test_without_any_resolver_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(watched: Watched) -> None:
        await until(lambda: watched.availability.checks > 3)

    watching(scenario)
    assert len(said(caplog)) == 1


def test_the_wait_between_two_checks_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float | None] = []
    timeout = asyncio.timeout

    def noting(delay_s: float | None) -> asyncio.Timeout:
        waits.append(delay_s)
        return timeout(0)

    async def scenario(watched: Watched) -> None:
        watched.availability.retry_max_s = RETRY_MAX_S
        async with timeout(30):
            while len(waits) < 10:
                await asyncio.sleep(0.001)

    monkeypatch.setattr(asyncio, "timeout", noting)
    watching(scenario, retry_s=RETRY_FIRST_S)
    assert waits[:3] == [RETRY_FIRST_S, 2 * RETRY_FIRST_S, 4 * RETRY_FIRST_S]
    assert max(filter(None, waits)) <= RETRY_MAX_S


def test_each_outage_is_asked_about_as_soon_as_the_first(
    pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = pretend(refusing())
    waits: list[float | None] = []
    timeout = asyncio.timeout

    def noting(delay_s: float | None) -> asyncio.Timeout:
        waits.append(delay_s)
        return timeout(0)

    def outages() -> list[list[float | None]]:
        """The waits of each outage; while a resolver answers there is no limit."""
        runs = itertools.groupby(waits, key=lambda one: one is None)
        return [list(some) for answers, some in runs if not answers]

    async def outage(watched: Watched, number: int) -> None:
        watched.servers = (NOBODY,)
        await until(lambda: len(outages()) == number and len(outages()[-1]) >= WAITS)
        watched.servers = (server,)
        await watched.answers()
        await until(lambda: waits[-1] is None)

    async def scenario(watched: Watched) -> None:
        for number in range(1, OUTAGES + 1):
            await outage(watched, number)

    monkeypatch.setattr(asyncio, "timeout", noting)
    watching(scenario, NOBODY)
    first, *others = (one[:WAITS] for one in outages())
    assert len(set(first)) > 1, "it backs off"
    assert others == [first] * (OUTAGES - 1)


# --- every path ---


async def reach_over(count: int) -> tuple[bool, list[str]]:
    """Whether a resolver is reached that hears only the last of so many locators."""
    sources: list[str] = []
    texts = [f"2001:db8:{number:x}::1" for number in range(1, count + 1)]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listening:
        listening.setblocking(False)
        listening.bind((RESOLVER, 53))
        server = asyncio.create_task(answer_only(listening, texts[-1], sources))
        client = Upstream([(RESOLVER, 53)], Codepoints(), lambda: locators(*texts), 0)
        reached = await client.reachable()
        await client.close()
        server.cancel()
        await asyncio.wait({server})
    return reached, sources


@pytest.mark.lab
def test_every_locator_is_tried_at_once() -> None:
    count = 2 * TRIES_MAX

    def scenario() -> tuple[bool, list[str]]:
        prepare_loopback()
        for number in range(3, count + 1):
            ip(f"address add 2001:db8:{number:x}::1/128 dev lo nodad")
        return asyncio.run(reach_over(count))

    reached, sources = in_network_namespace(scenario)
    assert reached
    assert len(set(sources)) >= count


def test_the_race_has_so_many_tries_and_no_more() -> None:
    sources = locators(*(f"2001:db8:{number:x}::1" for number in range(1, 100)))
    client = Upstream([(RESOLVER, 53)], Codepoints(), lambda: sources, 0)
    tries = list(client.resolvers.race())
    assert len(tries) == PATHS_MAX * RACE_ROUNDS_MAX
    assert len({path for path, _ in tries}) == PATHS_MAX
