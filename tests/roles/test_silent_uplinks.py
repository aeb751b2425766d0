# SPDX-License-Identifier: MIT
"""Which uplinks are asked, how often, while nothing arrives over one or a peer is in doubt."""

import asyncio
import time

import pytest

from noid.control.uplinks import Health, Reason
from noid.engine.causes import Cause
from noid.engine.events import PeerDoubts, Switched
from noid.roles.measuring import ANSWER_WAIT_UNMEASURED_S
from noid.roles.uplinks import ASKED_IN_ALL_MAX
from tests.engine.network import A1, A2, B1, B2
from tests.roles.test_uplinks import Peer, ended, heard
from tests.waiting import until


@pytest.mark.slow
def test_a_suspicion_does_not_wait_for_the_end_of_a_sample() -> None:
    async def play() -> None:
        _, watch = heard([])
        peer = Peer(watch, {A1: 0.001})
        task = asyncio.create_task(watch.watch())
        await until(lambda: peer.asked)
        assert watch.measuring.rounds[0].wait_s == ANSWER_WAIT_UNMEASURED_S
        watch.take(Switched(A1, B1, (A1, B1), (A2, B2), Cause.NOTHING_HEARD))
        assert watch.measuring.rounds[0].wait_s == 0
        await until(lambda: len(peer.asked) > 1)
        assert len(peer.asked[1].pairs) == 4
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_an_uplink_over_which_nothing_arrives_is_measured_often_until_something_does() -> None:
    async def play() -> None:
        _, watch = heard([])
        idle = watch.uplinks.by_name["up2"]
        idle.inbound_silent, idle.health, idle.reason = True, Health.DEGRADED, Reason.INBOUND_SILENT
        peer = Peer(watch, {A1: 0.001, A2: 0.001})
        task = asyncio.create_task(watch.watch())
        await until(lambda: idle.health is Health.UP)
        sample = next(one for one in peer.asked if one.pairs[0][0] == A2)
        assert sample.here
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_an_uplink_over_which_nothing_arrives_is_asked_over_one_pair_while_it_stays_so() -> None:
    async def play() -> None:
        _, watch = heard([])
        idle = watch.uplinks.by_name["up2"]
        idle.inbound_silent, idle.health, idle.reason = True, Health.DEGRADED, Reason.INBOUND_SILENT
        peer = Peer(watch, {A1: 0.001})
        peer.outbound = True
        task = asyncio.create_task(watch.watch())
        await until(lambda: sum(one.pairs[0][0] == A2 for one in peer.asked) > 5)
        assert idle.reason is Reason.INBOUND_SILENT
        assert all(len(one.pairs) <= 2 for one in peer.asked), "nothing is suspected"
        assert {one.here for one in peer.asked if one.pairs[0][0] == A2} == {True, False}
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_a_silent_uplink_of_which_one_direction_returns_is_not_shown_as_up() -> None:
    async def play() -> None:
        _, watch = heard([])
        idle = watch.uplinks.by_name["up2"]
        peer = Peer(watch, {A1: 0.001})
        task = asyncio.create_task(watch.watch())
        await until(lambda: idle.reason is Reason.SILENT)
        reasons: set[Reason] = set()

        def is_one_way() -> bool:
            reasons.add(idle.reason)
            return idle.reason is Reason.INBOUND_SILENT

        peer.outbound = True
        await until(is_one_way)
        assert reasons == {Reason.SILENT, Reason.INBOUND_SILENT}
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_an_uplink_over_which_nothing_arrives_may_fail_wholly() -> None:
    async def play() -> None:
        _, watch = heard([])
        idle = watch.uplinks.by_name["up2"]
        idle.inbound_silent, idle.health, idle.reason = True, Health.DEGRADED, Reason.INBOUND_SILENT
        Peer(watch, {A1: 0.001})
        task = asyncio.create_task(watch.watch())
        await until(lambda: idle.reason is Reason.SILENT)
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_the_pair_in_use_is_watched_also_where_data_comes_seldom() -> None:
    async def play() -> None:
        context, watch = heard([])
        watch.heard_ns = lambda label: time.monotonic_ns() - 1_000_000_000
        used = watch.uplinks.by_name["up1"]
        assert context.local_locator == A1
        peer = Peer(watch, {A1: 0.001, A2: 0.001})
        task = asyncio.create_task(watch.watch())
        await until(lambda: sum((A1, B1) in one.pairs for one in peer.asked) > 2)
        assert used.health is Health.UP
        peer.late_s.pop(A1)
        await until(lambda: used.reason is Reason.SILENT)
        assert watch.uplinks.by_name["up2"].health is Health.UP
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_a_peer_whose_answers_are_lost_is_asked_again_before_it_is_judged() -> None:
    """It switches soon: then it is known that requests over its former pair arrive."""

    async def play() -> None:
        context, watch = heard([])
        used = watch.uplinks.by_name["up1"]
        peer = Peer(watch, {A2: 0.001}, used=A1)
        peer.outbound = True
        reasons: set[Reason] = set()
        task = asyncio.create_task(watch.watch())
        watch.take(PeerDoubts(context.local_label))

        def is_shown() -> bool:
            if sum(one.here for one in peer.asked) > 3:
                peer.used = A2
            reasons.add(used.reason)
            return used.reason is Reason.INBOUND_SILENT

        await until(is_shown)
        assert reasons == {Reason.NONE, Reason.INBOUND_SILENT}
        await ended(task)

    asyncio.run(play())


@pytest.mark.slow
def test_a_peer_that_does_not_switch_is_judged_by_the_answers_that_come() -> None:
    async def play() -> None:
        context, watch = heard([])
        used = watch.uplinks.by_name["up1"]
        peer = Peer(watch, {A2: 0.001}, used=A1)
        peer.outbound = True
        task = asyncio.create_task(watch.watch())
        watch.take(PeerDoubts(context.local_label))
        await until(lambda: used.reason is Reason.SILENT)
        rounds = [one for one in peer.asked if one.here and len(one.pairs) == 4]
        assert len(rounds) == 1 + ASKED_IN_ALL_MAX, "it doubts, and is asked alone first"
        await ended(task)

    asyncio.run(play())
