# SPDX-License-Identifier: MIT
"""Peers that doubt a pair: few are asked, and others only if an uplink is silent."""

import asyncio
import itertools
import time
from dataclasses import replace

import pytest

from noid.constants import SECOND
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.events import (
    ContextRestored,
    Input,
    MeasurePairs,
    PeerDoubts,
    Switched,
)
from noid.engine.host import Host
from noid.identifiers import Label
from noid.locators import Locator
from noid.roles.doubters import ASKS_APART_S, DOUBTERS_MAX
from noid.roles.uplinks import PEERS_ASKED_MAX, SUSPECTS_MAX
from tests.engine.network import A1, A2, B1, B2, START_NS, X1, established
from tests.roles.test_uplinks import (
    Peer,
    ended,
    heard,
    watch_of,
)
from tests.waiting import until


@pytest.mark.slow
def test_a_peer_that_doubts_a_pair_is_asked_once() -> None:
    async def play() -> None:
        context, watch = heard([])
        peer = Peer(watch, {A1: 0.001, A2: 0.001})
        task = asyncio.create_task(watch.watch())

        def asked() -> list[MeasurePairs]:
            return [one for one in peer.asked if len(one.pairs) == 4]

        await until(lambda: peer.asked)
        watch.take(PeerDoubts(context.local_label))
        await until(lambda: len(asked()) == 2)
        watch.take(PeerDoubts(context.local_label))
        assert not watch.suspects, "our requests have made it doubt"
        await ended(task)

    asyncio.run(play())


def with_others(context: Context, host: Host, count: int) -> None:
    """Adds contexts with other peers to a host."""
    memory = host.memory_of(context.local_label)
    assert memory is not None
    for number in range(count):
        peer = Locator(X1[:15] + bytes((number,)))
        other = replace(
            memory,
            local_label=Label(context.local_label ^ number + 1),
            peer_aid=peer,
            peer_locator=peer,
            peer_local=(peer,),
            remote=(peer,),
            proven=(peer,),
        )
        host.handle(ContextRestored(other), START_NS + 100 * SECOND)


@pytest.mark.slow
@pytest.mark.parametrize("is_founded", [False, True])
def test_others_are_asked_because_of_a_doubt_only_if_an_uplink_is_silent(is_founded: bool) -> None:
    async def play() -> None:
        context, watch = heard([])
        with_others(context, watch.host, 8)
        peer = Peer(watch, {A1: 0.001} if is_founded else {A1: 0.001, A2: 0.001})
        watch.heard_ns = lambda label: 0  # nothing else is measured
        task = asyncio.create_task(watch.watch())
        watch.take(PeerDoubts(context.local_label))
        await until(lambda: len(peer.asked) > is_founded * SUSPECTS_MAX)
        if not is_founded:
            await until(lambda: not watch.measuring.rounds)
            assert not watch.hurry.is_set()
        labels = {one.local_label for one in peer.asked}
        assert (labels == {context.local_label}) is not is_founded
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_suspicions_without_a_pause_do_not_cause_questions_without_a_pause() -> None:
    """While very many contexts switch, the questions would take the time of the engine."""
    at_s: list[float] = []
    switched = Switched(A1, B1, (A1, B1), (A2, B2), Cause.NOTHING_HEARD)

    async def play() -> None:
        _, watch = heard([])
        peer = Peer(watch, {A1: 0.001, A2: 0.001})

        def take(event: Input) -> None:
            is_question = isinstance(event, MeasurePairs) and len(event.pairs) == 4
            if is_question and not watch.measuring.rounds[0].here and not watch.hurry.is_set():
                at_s.append(time.monotonic())
                watch.take(switched)
            peer.take(event)

        watch.measuring.handle = take
        task = asyncio.create_task(watch.watch())
        watch.take(switched)
        await until(lambda: len(at_s) > 3)
        await ended(task)

    asyncio.run(play())
    assert all(later - earlier >= ASKS_APART_S for earlier, later in itertools.pairwise(at_s))


def test_doubts_about_many_contexts_cause_few_questions() -> None:
    """Each would ask four peers; one peer may have as many contexts as it wants."""
    host = established().a.host
    for number in range(3 * PEERS_ASKED_MAX):
        host.inspection.create(A1, Locator(B2[:-1] + bytes([100 + number])))
    watch = watch_of(host, [], [])
    for context in host.contexts:
        watch.take(PeerDoubts(context.local_label))
    assert not watch.suspects
    assert len(watch.doubters.labels) == DOUBTERS_MAX
