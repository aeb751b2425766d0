# SPDX-License-Identifier: MIT
"""Every interleaving of the small worlds, within bounds that fit a test; broken engines are found.

A deeper walk is one command, ``noid sim explore``, and takes minutes.
"""

from dataclasses import replace

import pytest

from noid.engine.events import Input, Output
from noid.engine.host import Host
from noid.errors import UsageError
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.sim.explore import WORLDS, Bounds, explore, run
from noid.wire.control import Code

BOUNDS = {
    "initiate": Bounds(timers=2, duplicates=0),
    "cross": Bounds(timers=1, duplicates=0),
    "init-after-cc": Bounds(timers=1, duplicates=0),
    "lose": Bounds(timers=1, drops=0, duplicates=0),
    "update": Bounds(timers=1, duplicates=0),
    "close": Bounds(timers=1),
    "other-locator": Bounds(timers=2),
}
NO_FAULTS = Bounds(timers=0, drops=0, duplicates=0)


class TwoKeys(Host):
    """A host that agrees on another key at every CCR, whatever it has told before [D40]."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        outputs = super().handle(event, now_ns)
        if isinstance(event, ControlMessageReceived) and event.octets[1] == Code.CCR:
            for context in self.contexts:
                context.agreed_key = bytes(32)
        return outputs


class Eager(Host):
    """A host that makes a context of an INIT."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        outputs = super().handle(event, now_ns)
        if isinstance(event, ControlMessageReceived) and event.octets[1] == Code.INIT:
            local_aid, peer_aid = Locator(event.octets[32:48]), event.source
            if self.context_between(local_aid, peer_aid) is None:
                self.inspection.create(local_aid, peer_aid)
        return outputs


class Fragile(Host):
    """A host that CONF makes raise."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        if isinstance(event, ControlMessageReceived):
            assert event.octets[1] != Code.CONF, "a CONF"
        return super().handle(event, now_ns)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_no_interleaving_breaks_a_law(name: str) -> None:
    found = run(name, BOUNDS[name])
    assert not found.violations, "\n".join(map(str, found.violations))
    assert found.complete
    assert found.transitions >= found.states > 10


def test_two_ends_with_different_keys_are_found_by_the_shortest_sequence() -> None:
    found = explore(replace(WORLDS["init-after-cc"], engine=TwoKeys), NO_FAULTS)
    laws = {violation.law: violation for violation in found.violations}
    keys = laws["keys match when all is quiet"]
    assert len(keys.steps) == 3
    assert f"  3. {keys.steps[-1]}" in str(keys)


def test_a_state_out_of_an_init_alone_is_found() -> None:
    found = explore(replace(WORLDS["initiate"], engine=Eager), NO_FAULTS)
    (eager,) = (one for one in found.violations if one.law == "no state from INIT alone")
    assert eager.steps == ("a: ulp sends", "INIT a1 to b1 arrives")


def test_an_exception_is_a_counterexample() -> None:
    found = explore(replace(WORLDS["initiate"], engine=Fragile), NO_FAULTS)
    laws = {violation.law: violation for violation in found.violations}
    assert laws["no exception"].steps[-1] == "CONF b1 to a1 arrives"
    assert "a CONF" in laws["no exception"].what


def test_the_same_walk_finds_the_same() -> None:
    assert run("initiate", NO_FAULTS) == run("initiate", NO_FAULTS)


def test_a_walk_that_is_cut_short_says_so() -> None:
    found = run("cross", Bounds(states=50))
    assert found.states == 50
    assert not found.complete


def test_an_unknown_world_is_refused() -> None:
    with pytest.raises(UsageError, match="initiate"):
        run("flat")
