# SPDX-License-Identifier: MIT
"""Asking peers over the uplinks: few at a time, however many contexts there are."""

import asyncio
import contextlib
import random
import time
from typing import Any

import pytest

from noid.config import HostSection
from noid.constants import Codepoints
from noid.control.reports import context_report
from noid.control.uplinks import LOST_MIN, Asked, Change, Health, Pair, Reason, Sighting, Switch
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.events import Input, LocatorsChanged, MeasurePairs, PairMeasured, Switched
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator, format_locator
from noid.roles.gateway_search import GatewaySearch
from noid.roles.local_locators import LocalLocators
from noid.roles.measuring import (
    ANSWER_WAIT_IN_DOUBT_S,
    ANSWER_WAIT_MAX_S,
    ANSWER_WAIT_MIN_S,
    ANSWER_WAIT_UNMEASURED_S,
    ROUND_TRIPS_MAX,
    ROUND_TRIPS_WAITED,
    Round,
)
from noid.roles.uplinks import ROUNDS_MAX, SUSPECTS_MAX, UplinkWatch
from tests.engine.network import A1, A2, B1, B2, established
from tests.waiting import until

MANY = 100_000
MS = 1_000_000


def watch_of(host: Host, events: list[Input], changes: list[Change]) -> UplinkWatch:
    switches: list[Switch] = []
    watch = UplinkWatch(
        host,
        LocalLocators(HostSection()),
        handle=events.append,
        compare=lambda: None,
        heard_ns=lambda label: 0,
        changed=changes.append,
        switched=switches.append,
        gateways=GatewaySearch(contextlib.nullcontext),
    )
    seen = [Sighting("up1", True, True, (A1,)), Sighting("up2", True, True, (A2,))]
    watch.uplinks.see(seen, 1.0)
    return watch


def heard(events: list[Input]) -> tuple[Context, UplinkWatch]:
    """A context whose peer sends all the time, and its watch."""
    host = established().a.host
    watch = watch_of(host, events, [])
    watch.heard_ns = lambda label: time.monotonic_ns()
    (context,) = host.contexts
    return context, watch


def answer_both(watch: UplinkWatch, context: Context, pair: Pair) -> None:
    """Both kinds of requests over a pair are answered, and the answers return over it."""
    for here in (False, True):
        watch.take(PairMeasured(context.local_label, pair, 1_000, here, returned=True))


def crowded() -> Host:
    """A host with very many contexts, half of them on each uplink."""
    options = HostOptions(
        codepoints=Codepoints(), birthday=1, reset_key=bytes(32), mtu=1500, contexts_max=MANY
    )
    host = Host(options, random.Random(1).randbytes)
    host.handle(LocatorsChanged((A1, A2)), 1)
    for number in range(MANY):
        peer = Locator(bytes.fromhex("20010db8") + number.to_bytes(12, "big"))
        host.inspection.create(A1 if number % 2 else A2, peer)
    return host


@pytest.mark.slow
def test_very_many_contexts_are_counted_by_uplink() -> None:
    report = watch_of(crowded(), [], []).report({})
    assert [one["contexts"] for one in report["uplinks"]] == [MANY // 2, MANY // 2]


def answer_about(watch: UplinkWatch, **request: object) -> dict[str, Any]:
    return asyncio.run(watch.context(request))


def test_one_context_is_found_by_its_ends() -> None:
    host = established().a.host
    (context,) = host.contexts
    watch = watch_of(host, [], [])
    ends = {"local_aid": format_locator(A1), "peer_aid": format_locator(B1)}
    found = answer_about(watch, **ends)
    assert found == {"context": context_report(context), "uplink": "up1"}
    none = {"context": None, "uplink": ""}
    assert answer_about(watch, **{**ends, "peer_aid": format_locator(B2)}) == none
    assert "is not an IPv6 address" in answer_about(watch, local_aid="x", peer_aid=3)["error"]
    assert "is not an IPv6 address" in answer_about(watch)["error"]


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
        await until(lambda: events)
        (first, *_) = events
        assert isinstance(first, MeasurePairs)
        assert set(first.pairs) == {(A1, B1), (A1, B2), (A2, B1), (A2, B2)}
        watch.take(PairMeasured(context.local_label, (A2, B2), 1_000))
        await until(lambda: changes)
        assert (changes[0].uplink, changes[0].new) == ("up1", Health.DOWN)
        known = len(events)
        await until(lambda: len(events) > known)
        sample = events[-1]
        assert isinstance(sample, MeasurePairs)
        (pair,) = sample.pairs
        assert pair[0] == A1, "only the silent uplink is asked"
        answer_both(watch, context, pair)
        await until(lambda: len(changes) == 2)
        assert (changes[1].uplink, changes[1].new) == ("up1", Health.UP)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


@pytest.mark.slow
@pytest.mark.parametrize("lossy", [False, True], ids=["none was lost before", "some were"])
def test_a_sample_without_an_answer_is_a_suspicion_at_once_unless_some_are_lost_anyway(
    lossy: bool,
) -> None:
    async def play() -> None:
        events: list[Input] = []
        context, watch = heard(events)
        idle = watch.uplinks.by_name["up2"]
        if lossy:
            idle.samples.extend([False] * LOST_MIN)
        task = asyncio.create_task(watch.watch())
        await until(lambda: len(events) > 1)
        first, second = events[:2]
        assert isinstance(first, MeasurePairs)
        assert isinstance(second, MeasurePairs)
        assert first.pairs == ((A2, B2), (A1, B1))
        assert len(second.pairs) == (1 if lossy else 4)
        known = len(idle.samples)

        def is_counted() -> bool:
            answer_both(watch, context, (A2, B2))
            return len(idle.samples) > known

        await until(is_counted)
        assert idle.samples[known] is False, "it counts as lost"
        assert idle.health is Health.UP
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


@pytest.mark.slow
def test_a_sample_that_does_not_return_over_its_uplink_is_no_loss() -> None:
    async def play() -> None:
        context, watch = heard([])
        idle = watch.uplinks.by_name["up2"]
        task = asyncio.create_task(watch.watch())

        def is_shown() -> bool:
            for pair in ((A1, B1), (A2, B2)):
                label, returned = context.local_label, pair[0] == A1
                watch.take(PairMeasured(label, pair, 1_000, here=False, returned=returned))
            watch.take(PairMeasured(label, (A1, B1), 1_000, here=True, returned=True))
            return idle.reason is Reason.INBOUND_SILENT

        await until(is_shown)
        assert False not in idle.samples
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


@pytest.mark.slow
def test_a_provider_of_the_peer_that_fails_is_no_loss_of_an_uplink() -> None:
    async def play() -> None:
        context, watch = heard([])
        idle = watch.uplinks.by_name["up2"]
        task = asyncio.create_task(watch.watch())

        def is_sampled_again() -> bool:
            for pair in ((A1, B1), (A1, B2), (A2, B1)):
                answer_both(watch, context, pair)
            return len(idle.samples) > 0

        await until(is_sampled_again)
        assert list(idle.samples) == [True], "over the peer's other provider"
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


@pytest.mark.slow
def test_while_an_uplink_is_silent_the_others_are_measured_too() -> None:
    async def play() -> None:
        events: list[Input] = []
        context, watch = heard(events)
        silent, other = watch.uplinks.by_name["up1"], watch.uplinks.by_name["up2"]
        task = asyncio.create_task(watch.watch())

        def answered() -> None:
            for pair in ((A2, B1), (A2, B2)):
                answer_both(watch, context, pair)

        def is_silent() -> bool:
            answered()
            return silent.reason is Reason.SILENT

        def are_both_measured() -> bool:
            answered()
            asked = [one.pairs for one in events if isinstance(one, MeasurePairs)]
            alone = [pairs[0] for pairs in asked[known:] if pairs]
            return len(other.samples) > counted and {(A1, B1), (A1, B2)} <= set(alone)

        await until(is_silent)
        known, counted = len(events), len(other.samples)
        await until(are_both_measured)
        assert silent.reason is Reason.SILENT
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(play())


class Peer:
    """A peer that answers every request after some time, which depends on the uplink.

    Args:
        watch: who asks it.
        late_s: by our locator in a request, how long until the answer; none if it is lost.
        used: our locator at which answers arrive that need not use the pair of the request.
    """

    def __init__(
        self, watch: UplinkWatch, late_s: dict[Locator, float], used: Locator = A1
    ) -> None:
        self.watch, self.late_s, self.used = watch, late_s, used
        self.asked: list[MeasurePairs] = []
        self.outbound = False
        """Whether requests over every uplink arrive."""
        watch.measuring.handle = self.take

    def take(self, event: Input) -> None:
        assert isinstance(event, MeasurePairs)
        self.asked.append(event)
        for pair in event.pairs:
            back = pair[0] if event.here else self.used
            arrives = self.outbound or pair[0] in self.late_s
            if arrives and back in self.late_s:
                late_s = (self.late_s.get(pair[0], 0.0) + self.late_s[back]) / 2
                returned = back == pair[0]
                answer = PairMeasured(
                    event.local_label, pair, int(late_s * 1e9), event.here, returned
                )
                asyncio.get_running_loop().call_later(late_s, self.watch.take, answer)


async def ended(task: asyncio.Task[None]) -> None:
    """Ends a watch."""
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.slow
def test_a_satellite_beside_a_fibre_is_up_loses_nothing_and_causes_no_suspicion() -> None:
    async def play() -> None:
        _, watch = heard([])
        slow = watch.uplinks.by_name["up2"]
        peer = Peer(watch, {A1: 0.001, A2: 0.6})
        task = asyncio.create_task(watch.watch())
        await until(lambda: len(slow.samples) > 3)
        assert set(slow.samples) == {True}
        assert slow.health is Health.UP
        assert len(peer.asked) <= len(slow.samples) + 1, "one request for each sample"
        peer.late_s.pop(A2)
        await until(lambda: slow.reason is Reason.SILENT)
        await ended(task)

    asyncio.run(play())


def test_each_pair_is_waited_for_by_its_own_round_trip_also_if_the_answer_was_late() -> None:
    context, watch = heard([])
    waits = watch.measuring

    def wait_s(pair: Pair, *, here: bool = True) -> float:
        return waits.wait_s(context, pair, here=here)

    assert wait_s((A2, B2)) == ANSWER_WAIT_UNMEASURED_S
    waits.take(PairMeasured(context.local_label, (A2, B2), 600_000_000, here=True))
    assert wait_s((A2, B2)) == ROUND_TRIPS_WAITED * 0.6
    assert wait_s((A2, B2), here=False) == ROUND_TRIPS_WAITED * 0.6
    assert wait_s((A1, B1)) == ANSWER_WAIT_UNMEASURED_S
    waits.take(PairMeasured(context.local_label, (A1, B1), 1_000_000, here=True))
    assert wait_s((A1, B1)) == ANSWER_WAIT_MIN_S
    waits.take(PairMeasured(context.local_label, (A1, B1), 60_000_000_000, here=True))
    assert wait_s((A1, B1)) == ANSWER_WAIT_MAX_S


@pytest.mark.parametrize(
    ("round_trip_ms", "wait_s"),
    [(1, ANSWER_WAIT_MIN_S), (20, 0.2), (100, ANSWER_WAIT_IN_DOUBT_S), (500, 1.0)],
)
def test_an_uplink_whose_round_trip_is_ten_times_as_long_at_once_is_not_down(
    round_trip_ms: int, wait_s: float
) -> None:
    context, watch = heard([])
    watch.take(PairMeasured(context.local_label, (A2, B2), round_trip_ms * MS, here=True))
    in_doubt = watch.measuring.wait_s(context, (A2, B2), here=True, in_doubt=True)
    assert in_doubt == pytest.approx(wait_s)


@pytest.mark.slow
def test_answers_that_are_late_by_a_full_queue_count_in_doubt() -> None:
    async def play() -> None:
        events: list[Input] = []
        changes: list[Change] = []
        host = established().a.host
        (context,) = host.contexts
        watch = watch_of(host, events, changes)
        watch.heard_ns = lambda label: time.monotonic_ns()
        loop = asyncio.get_running_loop()

        def answer(event: Input) -> None:
            if isinstance(event, MeasurePairs):
                for pair in event.pairs:
                    of = PairMeasured(event.local_label, pair, 20 * MS, event.here, returned=True)
                    loop.call_later(0.25 if pair[0] == A2 else 0.0, watch.take, of)

        watch.measuring.handle = answer
        for pair in ((A2, B1), (A2, B2)):
            for here in (False, True):
                watch.take(PairMeasured(context.local_label, pair, 20 * MS, here=here))
        watch.take(Switched(A1, B1, (A1, B1), (A1, B2), Cause.NOTHING_HEARD))
        await watch._ask()
        assert not changes

    asyncio.run(play())


@pytest.mark.slow
def test_an_answer_that_was_held_up_in_an_outage_counts_for_some_seconds_only() -> None:
    context, watch = heard([])
    idle = watch.uplinks.by_name["up2"]
    idle.measured(1_000_000)
    watch.take(PairMeasured(context.local_label, (A2, B2), 1_500_000_000, here=True))

    def wait_s() -> float:
        return watch.measuring.wait_s(context, (A2, B2), here=True)

    assert wait_s() == ANSWER_WAIT_MAX_S
    asyncio.run(until(lambda: wait_s() < ANSWER_WAIT_UNMEASURED_S))


@pytest.mark.parametrize("is_one_way", [False, True])
def test_a_late_answer_over_a_silent_uplink_shows_that_it_works(is_one_way: bool) -> None:
    """The round trip has become long suddenly, such as by a full queue."""
    context, watch = heard([])
    idle = watch.uplinks.by_name["up2"]
    over_both = Asked({A1: 1_000, A2: 1_000}, frozenset(), frozenset({A1}), frozenset({A2}))
    over_one = Asked({A1: 1_000}, frozenset({A2}))
    watch.uplinks.judge([over_both if is_one_way else over_one], 2.0)
    round_trip_ns = idle.round_trip_ns
    for returned in (False, True):
        assert idle.reason is (Reason.INBOUND_SILENT if is_one_way else Reason.SILENT)
        watch.take(
            PairMeasured(context.local_label, (A2, B2), 600_000_000, here=True, returned=returned)
        )
    assert idle.health is Health.UP
    assert idle.round_trip_ns == round_trip_ns, "it may have been held up in an outage"


def test_only_so_many_round_trips_are_kept() -> None:
    context, watch = heard([])
    for label in range(context.local_label + 1, context.local_label + ROUND_TRIPS_MAX + 2):
        watch.take(PairMeasured(Label(label), (A2, B2), 600_000_000, here=True))
    watch.take(PairMeasured(context.local_label, (A2, B2), 600_000_000, here=True))
    assert watch.measuring.wait_s(context, (A2, B2), here=True) > ANSWER_WAIT_UNMEASURED_S
    context.local_label = Label(context.local_label + 1)
    assert watch.measuring.wait_s(context, (A2, B2), here=True) == ANSWER_WAIT_UNMEASURED_S


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
        watch.measuring.rounds = [Round(NO_LABEL)] * rounds
        answer = await watch.ping({"peer": peer})
        assert why in answer["error"]

    asyncio.run(play())
