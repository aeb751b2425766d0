# SPDX-License-Identifier: MIT
"""How long it takes until a failure is reported, at most, and what the measurements cost.

Two hosts run in virtual time, so that the worst moment of a failure can be searched for. The bounds
are those of docs/monitoring.md.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.control.uplinks import LOST_MIN, Health, Reason
from noid.engine.events import PairMeasured
from noid.roles.measuring import Measuring
from noid.roles.sampling import IN_USE_EVERY, PERIOD_NS, TURN_NS
from tests.engine.network import A1, A2, B1, B2, established
from tests.roles.watched import Hosts
from tests.virtual_time import Clock

DELAY_NS: Final = 2 * MILLISECOND
LONG_DELAY_NS: Final = 10 * MILLISECOND
MOMENTS: Final = 8
LIMIT_S: Final = 1.0
SETTLED_S: Final = 5.0
OBSERVED_S: Final = 30.0
LOSSY_S: Final = 120.0
BUSY_TIMES: Final = 100
OFTEN, RARE = 50, 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Virtual time."""
    return Clock(monkeypatch)


def play(
    clock: Clock,
    rate: float,
    scene: Callable[[Hosts], Awaitable[None]],
    seed: int = 0,
    delay_ns: int = DELAY_NS,
    uplinks: tuple[int, int] = (2, 2),
) -> None:
    """Lets two hosts settle that send so many packets a second, and plays a scene with them."""

    async def whole() -> None:
        hosts = Hosts(seed, delay_ns, uplinks)
        await hosts.begin(1 / rate, later_s=0.3)
        await asyncio.sleep(SETTLED_S)
        await scene(hosts)
        await hosts.end()

    clock.run(whole())


def worst_s(
    clock: Clock,
    rate: float,
    fault: str,
    *,
    is_used: bool,
    lost: int = 0,
    delay_ns: int = DELAY_NS,
    uplinks: tuple[int, int] = (2, 2),
) -> float:
    """After how long a failure is reported, at the worst of several moments."""
    return max(
        reported_s(clock, rate, fault, moment, is_used, lost, delay_ns, uplinks)
        for moment in range(MOMENTS)
    )


def reported_s(
    clock: Clock,
    rate: float,
    fault: str,
    moment: int,
    is_used: bool,
    lost: int,
    delay_ns: int,
    uplinks: tuple[int, int],
) -> float:
    """After how long a failure at one of several moments is reported."""
    found: list[float] = []

    async def scene(hosts: Hosts) -> None:
        await asyncio.sleep(moment * 2 * PERIOD_NS / MOMENTS / SECOND)
        uplink = hosts.uplink(is_used=is_used)
        uplink.samples.extend([False] * lost)
        hosts.changes.clear()
        began_ns = clock.now_ns
        hosts.cut(uplink.locators[0], fault)
        await asyncio.sleep(2 * LIMIT_S)
        ((at_ns, change),) = hosts.changes
        assert change.uplink == uplink.name
        one_way = (Health.DEGRADED, Reason.INBOUND_SILENT)
        expected = one_way if fault == "one-way" else (Health.DOWN, Reason.SILENT)
        assert (change.new, change.reason) == expected
        found.append((at_ns - began_ns) / SECOND)

    play(clock, rate, scene, delay_ns=delay_ns, uplinks=uplinks)
    return found[0]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["silent", "one-way", "one-way-up"])
@pytest.mark.parametrize("is_used", [True, False], ids=["in use", "idle"])
@pytest.mark.parametrize("rate", [OFTEN, RARE])
def test_each_failure_is_reported_once_and_within_a_second(
    clock: Clock, rate: float, fault: str, is_used: bool
) -> None:
    assert worst_s(clock, rate, fault, is_used=is_used) <= LIMIT_S


@pytest.mark.slow
@pytest.mark.parametrize("is_used", [True, False], ids=["in use", "idle"])
@pytest.mark.parametrize("uplinks", [(2, 1), (3, 3)], ids=["peer has one uplink", "three uplinks"])
def test_with_other_numbers_of_uplinks_it_takes_no_longer(
    clock: Clock, uplinks: tuple[int, int], is_used: bool
) -> None:
    assert worst_s(clock, OFTEN, "silent", is_used=is_used, uplinks=uplinks) <= LIMIT_S


@pytest.mark.slow
def test_over_a_long_path_it_takes_no_longer(clock: Clock) -> None:
    assert worst_s(clock, RARE, "silent", is_used=True, delay_ns=LONG_DELAY_NS) <= LIMIT_S


@pytest.mark.slow
@pytest.mark.parametrize(("lost", "limit_s"), [(1, 1.0), (LOST_MIN, 1.4)])
def test_lost_measurements_before_make_the_report_a_bit_later(
    clock: Clock, lost: int, limit_s: float
) -> None:
    assert worst_s(clock, OFTEN, "silent", is_used=False, lost=lost) <= limit_s


@pytest.mark.slow
@pytest.mark.parametrize("rate", [OFTEN, RARE])
def test_while_nothing_fails_few_requests_are_sent(clock: Clock, rate: float) -> None:
    async def scene(hosts: Hosts) -> None:
        before = hosts.requests
        await asyncio.sleep(OBSERVED_S)
        of_each_end = (hosts.requests - before) / 2 / OBSERVED_S
        of_idle = SECOND / PERIOD_NS
        of_used = of_idle / IN_USE_EVERY if rate == OFTEN else SECOND / TURN_NS / 2
        assert of_each_end <= of_idle + of_used + 2 / OBSERVED_S
        assert not hosts.changes

    play(clock, rate, scene)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [OFTEN, RARE])
def test_a_lossy_line_is_never_down(clock: Clock, rate: float, seed: int) -> None:
    async def scene(hosts: Hosts) -> None:
        hosts.loss = 0.2
        await asyncio.sleep(LOSSY_S)
        reasons = {change.reason for _, change in hosts.changes}
        assert reasons <= {Reason.NONE, Reason.LOSS, Reason.PARTLY_SILENT}
        assert all(change.new is not Health.DOWN for _, change in hosts.changes)

    play(clock, rate, scene, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rate", [OFTEN, RARE])
def test_a_peer_that_is_busy_again_and_again_is_no_loss(
    clock: Clock, rate: float, seed: int
) -> None:
    chance = random.Random(seed)

    async def scene(hosts: Hosts) -> None:
        for _ in range(BUSY_TIMES):
            await asyncio.sleep(chance.uniform(0.5, 2.0))
            hosts.busy_until_ns = clock.now_ns + int(chance.uniform(0.1, 0.4) * SECOND)
        assert not hosts.changes

    play(clock, rate, scene, seed)


def test_a_peer_that_was_stopped_is_heard_over_both_uplinks(clock: Clock) -> None:
    """Its answers come at once when it goes on, and the long wait is for the first of them."""
    (context,) = established().a.host.contexts
    pairs = [(A1, B1), (A2, B2)]
    usual = {A1: 300 * MILLISECOND, A2: 3 * MILLISECOND}
    measuring = Measuring(lambda event: None, usual.__getitem__)

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        for late_s, pair in zip((0.5, 0.502), pairs, strict=True):
            answer = PairMeasured(
                context.local_label, pair, int(late_s * SECOND), here=True, returned=True
            )
            loop.call_later(late_s, measuring.take, answer)
        (found,) = await measuring.measure([context], pairs, times=3, here=True, in_doubt=True)
        assert not found.unanswered

    clock.run(scene())
