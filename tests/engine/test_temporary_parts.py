# SPDX-License-Identifier: MIT
"""What a context has for a time has a timer that ends it; once all is quiet, nothing of it is left.

So it is not only while both hosts are what they say: another host, on the path of one provider of
b, gets what is sent to B2, sets contexts up in the name of b, and says that b has lost its context.
"""

import random
from collections.abc import Callable
from functools import cache
from typing import Final

import pytest

from noid.constants import (
    CONTESTED_TIME,
    CONTEXT_IDLE_TIME,
    MILLISECOND,
    MINUTE,
    NEVER,
    SECOND,
)
from noid.engine.context import Context
from noid.engine.events import Input, Output
from noid.engine.state import State, Timer
from tests.attacks.test_first_come import FirstCome
from tests.engine.network import A1, B1, Network, Station, packet
from tests.engine.test_second_lives import STEPS_OF, heal, reboot, regain_locators, talk
from tests.engine.test_trial import unfounded

SEEDS: Final = range(16)
STEPS: Final = 40
QUIET_NS: Final = 2 * CONTESTED_TIME


def searches(context: Context) -> bool:
    """Whether the next step of a search has a time; without one, it waits for a program."""
    one = context.search
    return one is not None and min(one.ask_at_ns, one.batch_at_ns) < NEVER


ENDED_BY: Final[dict[str, tuple[Timer, Callable[[Context], object]]]] = {
    "set-up": (Timer.RETRANSMIT, lambda one: one.exchange),
    "update": (Timer.RETRANSMIT, lambda one: one.update),
    "search": (Timer.PROBE, searches),
    "repetition": (Timer.REPEAT, lambda one: one.repeating),
    "inquiry": (Timer.DNS_RETRY, lambda one: one.verification.failed and not one.closing),
    "test": (Timer.TRIAL, lambda one: one.trial),
    "CCR in its place": (Timer.TRIAL, lambda one: one.rival),
    "contest": (Timer.TRIAL, lambda one: one.contested_until_ns),
    "probation": (Timer.PROVISIONAL, lambda one: one.state is State.PROVISIONAL),
    "closing": (Timer.CLOSE, lambda one: one.closing),
    "life": (Timer.IDLE, lambda one: one.is_settled),
}
"""What a context has for a time, the timer that is set then, and whether it has it."""
PASSING: Final = ENDED_BY.keys() - {"life"}


def parts_of(context: Context) -> set[str]:
    return {name for name, (_, has) in ENDED_BY.items() if has(context)}


class Watched(FirstCome):
    """Stations whose contexts are looked at after each event.

    Attributes:
        seen: what contexts had for a time.
    """

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.depth = 0
        super().__init__()

    def give(self, station: Station, event: Input) -> list[Output]:
        """Looks at the contexts once all that follows at once is done."""
        self.depth += 1
        outputs = super().give(station, event)
        self.depth -= 1
        for context in station.host.contexts if not self.depth else ():
            has = parts_of(context)
            self.seen |= has
            for name in has:
                timer = ENDED_BY[name][0]
                assert station.host.core.is_timer_set(context, timer), (name, event)
        return outputs


def doubt(network: Network, _: Station) -> None:
    """A UC that proves nothing says that b has no context."""
    if network.a.rewriter.flow_of(packet(A1, B1)) is not None:
        network.give(network.a, unfounded(network))


def intrude(network: Network, _: Station) -> None:
    """The other host begins a set-up with a, in the name of b."""
    assert isinstance(network, FirstCome)
    network.attack()


def lose(network: Network, station: Station) -> None:
    """A host comes up again without its contexts."""
    reboot(network, station)


def rest(network: Network, _: Station) -> None:
    """Nothing is sent for so long that contexts close."""
    network.run(CONTEXT_IDLE_TIME + MINUTE)


EVERY: Final = [*STEPS_OF, *[doubt, intrude] * 3, lose, rest]


@cache
def with_history(seed: int) -> Watched:
    """A network in which much has happened."""
    chance, network = random.Random(seed), Watched()
    ends = network.a, network.b
    for station in ends:
        talk(network, station)
    network.run(SECOND)
    for _ in range(STEPS):
        chance.choice(EVERY)(network, chance.choice(ends))
        network.run(chance.choice([5 * MILLISECOND, 200 * MILLISECOND, 3 * SECOND]))
    return network


@pytest.mark.parametrize("seed", SEEDS)
def test_what_a_context_has_for_a_time_has_a_timer_and_ends(seed: int) -> None:
    network = with_history(seed)
    ends = network.a, network.b
    network.stations = list(ends)  # the other host is gone
    for station in ends:
        heal(network, station)
        regain_locators(network, station)
    for _ in range(3):
        network.run(QUIET_NS)
        for station in ends:
            talk(network, station)
    network.run(QUIET_NS)
    left = [parts_of(context) & PASSING for station in ends for context in station.host.contexts]
    assert not any(left), left


def test_the_histories_have_everything_in_them() -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        seen |= with_history(seed).seen
    assert seen == ENDED_BY.keys()
