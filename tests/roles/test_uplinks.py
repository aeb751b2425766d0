# SPDX-License-Identifier: MIT
"""Asking peers over the uplinks: few at a time, however many contexts there are."""

import asyncio
import random

import pytest

from noid.config import HostSection
from noid.constants import Codepoints
from noid.control.uplinks import Change, Health, Sighting, Switch
from noid.dns.verification import Verification
from noid.engine.causes import Cause
from noid.engine.events import Input, LocatorsChanged, MeasurePairs, PairMeasured, Switched
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.locators import Locator
from noid.roles.local_locators import LocalLocators
from noid.roles.uplinks import ROUNDS_MAX, SUSPECTS_MAX, Round, UplinkWatch
from tests.engine.network import A1, A2, B1, B2, established

MANY = 100_000


def watch_of(host: Host, events: list[Input], changes: list[Change]) -> UplinkWatch:
    switches: list[Switch] = []
    watch = UplinkWatch(
        host,
        LocalLocators(HostSection()),
        handle=events.append,
        compare=lambda: None,
        received_ns=lambda label: 0,
        changed=changes.append,
        switched=switches.append,
    )
    seen = [Sighting("up1", True, True, (A1,)), Sighting("up2", True, True, (A2,))]
    watch.uplinks.see(seen, 1.0)
    return watch


def crowded() -> Host:
    """A host with very many contexts, half of them on each uplink."""
    options = HostOptions(
        codepoints=Codepoints(), birthday=1, reset_key=bytes(32), mtu=1500, contexts_max=MANY
    )
    host = Host(options, random.Random(1).randbytes)
    host.handle(LocatorsChanged((A1, A2)), 1)
    for number in range(MANY):
        peer = Locator(bytes.fromhex("20010db8") + number.to_bytes(12, "big"))
        host.core.create(A1 if number % 2 else A2, peer, Verification(peer, ""), (A1, A2))
    return host


@pytest.mark.slow
def test_very_many_contexts_are_counted_by_uplink() -> None:
    report = watch_of(crowded(), [], []).report({})
    assert [one["contexts"] for one in report["uplinks"]] == [MANY // 2, MANY // 2]


@pytest.mark.slow
def test_a_suspicion_causes_requests_over_every_pair_and_counts_the_answers() -> None:
    async def play() -> None:
        host = established().a.host
        (context,) = host.contexts
        events: list[Input] = []
        changes: list[Change] = []
        watch = watch_of(host, events, changes)
        task = asyncio.create_task(watch.watch())
        watch.take(Switched(A1, B1, (A1, B1), (A2, B2), Cause.NOTHING_HEARD))
        while not events:
            await asyncio.sleep(0.01)
        (first, *_) = events
        assert isinstance(first, MeasurePairs)
        assert set(first.pairs) == {(A1, B1), (A1, B2), (A2, B1), (A2, B2)}
        watch.take(PairMeasured(context.local_label, (A2, B2), 1_000))
        while not changes:
            await asyncio.sleep(0.01)
        assert (changes[0].uplink, changes[0].new) == ("up1", Health.DOWN)
        known = len(events)
        while len(events) == known:
            await asyncio.sleep(0.01)
        sample = events[-1]
        assert isinstance(sample, MeasurePairs)
        (pair,) = sample.pairs
        assert pair[0] == A1, "only the silent uplink is asked"
        watch.take(PairMeasured(context.local_label, pair, 1_000))
        while len(changes) < 2:
            await asyncio.sleep(0.01)
        assert (changes[1].uplink, changes[1].new) == ("up1", Health.UP)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


def test_only_a_few_suspicions_are_kept() -> None:
    async def play() -> None:
        watch = watch_of(established().a.host, [], [])
        for number in range(3 * SUSPECTS_MAX):
            peer = Locator(B1[:-1] + bytes([number]))
            watch.take(Switched(A1, peer, (A1, peer), (A2, peer), Cause.NOTHING_HEARD))
        assert len(watch.suspects) == SUSPECTS_MAX

    asyncio.run(play())


@pytest.mark.parametrize(
    ("peer", "rounds", "why"), [("x.example", 0, "no context"), ("b.example", ROUNDS_MAX, "many")]
)
def test_a_ping_that_cannot_be_is_refused(peer: str, rounds: int, why: str) -> None:
    async def play() -> None:
        watch = watch_of(established().a.host, [], [])
        watch.rounds = [Round(0)] * rounds
        answer = await watch.ping({"peer": peer})
        assert why in answer["error"]

    asyncio.run(play())
