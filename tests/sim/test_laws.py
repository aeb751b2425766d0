# SPDX-License-Identifier: MIT
"""The laws over time: each holds where it should, and each fires where an engine is broken."""

import dataclasses
from collections.abc import Callable

import pytest

from noid.engine.events import (
    Input,
    InstallFlow,
    LocatorsChanged,
    Output,
    SendControl,
    StateChanged,
)
from noid.engine.host import Host
from noid.flows.events import ControlMessageReceived, UnansweredPacket
from noid.sim.families import FAMILIES
from noid.sim.history import ACTIONS, History, Step, Traffic, decode, play
from noid.sim.laws import AGREEMENT, LAWS, LIVENESS, PLAIN, RENUMBERING, SETUP
from noid.sim.node import MakeHost
from noid.sim.quiet import QUIET
from noid.sim.shrink import shrink, violation_of
from noid.sim.violation import Violation
from noid.sim.world import World
from noid.wire.control import Code

CUT = Step(2_000, "cut", (0, 0, 3))
SURVIVED = History(seed=1, locators=(2, 2), duration_ms=8_000, steps=(CUT, Step(5_000, "heal")))
LONG = History(seed=1, locators=(1, 1), duration_ms=20_000)
RENUMBERED = FAMILIES["renumbering-by-rules"].history(1)
REBOOTED = dataclasses.replace(SURVIVED, steps=(Step(2_000, "reboot", (1, 1)),))
CHANGED = dataclasses.replace(SURVIVED, steps=(Step(2_000, "have", (1, 1)),))
APART = History(seed=1, locators=(2, 2), duration_ms=20_000, steps=(Step(0, "cut", (0, 0, 3)),))
AVOIDED = dataclasses.replace(
    SURVIVED,
    steps=(Step(2_000, "mark", (0, 1, 0)),),
    duration_ms=160_000,
    traffic=Traffic(interval_us=500_000),
    lossless_ms=160_000,
)
HISTORIES = {
    LIVENESS: SURVIVED,
    PLAIN: REBOOTED,
    AGREEMENT: CHANGED,
    QUIET: LONG,
    RENUMBERING: RENUMBERED,
    SETUP: LONG,
}


class Deaf(Host):
    """A host that is never told that nothing answers."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        return [] if isinstance(event, UnansweredPacket) else super().handle(event, now_ns)


class Secretive(Host):
    """A host that never says that it has no context."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        outputs = super().handle(event, now_ns)
        return [one for one in outputs if not is_control(one, Code.UC)]


class Clinging(Secretive):
    """And that never sends data plain once it has a context."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        outputs = super().handle(event, now_ns)
        return [
            one
            for one in outputs
            if not isinstance(one, InstallFlow) or one.flow.transmits or one.flow.aside
        ]


class Stubborn(Host):
    """A host that acknowledges new sets and does not take them."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        before = {one: one.peer_local for one in self.contexts}
        outputs = super().handle(event, now_ns)
        if isinstance(event, ControlMessageReceived) and event.octets[1] == Code.UR:
            for context in self.contexts:
                context.peer_local = before.get(context, context.peer_local)
        return outputs


class Chatty(Host):
    """A host that sends an acknowledgement of nothing with each keepalive."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        outputs = super().handle(event, now_ns)
        for one in list(outputs):
            if isinstance(one, SendControl) and is_control(one, Code.KEEPALIVE):
                outputs.append(SendControl(one.packet[:41] + bytes([Code.UA]) + one.packet[42:]))
        return outputs


class Timid(Host):
    """A host that begins no set-up but between the AIDs."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        outputs = super().handle(event, now_ns)
        aids = {one.local_aid + one.peer_aid for one in self.contexts}
        return [
            one
            for one in outputs
            if not is_control(one, Code.INIT)
            or (isinstance(one, SendControl) and one.packet[8:40] in aids)
        ]


class Restless(Host):
    """A host that never leaves a locator because it is to be left."""

    def handle(self, event: Input, now_ns: int) -> list[Output]:
        if isinstance(event, LocatorsChanged):
            event = LocatorsChanged(event.locators)
        return super().handle(event, now_ns)


def is_control(output: Output, *codes: Code) -> bool:
    return isinstance(output, SendControl) and output.packet[41] in codes


def violated(history: History, make_host: MakeHost = Host) -> str:
    check, _ = violation_of(history, make_host)
    return check


def judged(history: History) -> set[str]:
    world = World(history.seed)
    play(world, history)
    assert world.laws is not None
    return set(world.laws.judged)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_a_law_holds_and_is_judged(law: str) -> None:
    assert law in judged(HISTORIES[law])


@pytest.mark.parametrize(
    ("law", "history", "make_host"),
    [
        (LIVENESS, SURVIVED, Deaf),
        (PLAIN, REBOOTED, Clinging),
        (AGREEMENT, CHANGED, Stubborn),
        (SETUP, APART, Timid),
        (QUIET, AVOIDED, Restless),
        (LIVENESS, FAMILIES["bordered"].history(15), Deaf),
        (
            RENUMBERING,
            dataclasses.replace(
                SURVIVED, steps=(Step(1_000, "publish", (0, 3)), CUT), lossless_ms=8_000
            ),
            Host,
        ),
    ],
)
def test_a_law_is_violated_by_a_host_that_is_broken(
    law: str, history: History, make_host: Callable[..., Host]
) -> None:
    assert violated(history, make_host) == law


@pytest.mark.slow
def test_a_host_that_avoids_an_uplink_loses_nothing_and_is_quiet_afterwards() -> None:
    assert judged(AVOIDED) >= {PLAIN, QUIET}


def test_control_messages_that_are_filtered_are_no_harm() -> None:
    steps = tuple(
        Step(2_000, "filter-control", (one, other, 3)) for one in (0, 1) for other in (0, 1)
    )
    assert not violated(dataclasses.replace(SURVIVED, steps=steps))


@pytest.mark.slow
def test_a_host_that_sends_unsolicited_messages_is_not_quiet() -> None:
    history = dataclasses.replace(
        SURVIVED,
        steps=(),
        duration_ms=15_000,
        traffic=Traffic(interval_us=20_000, replies=False),
    )
    assert violated(history, Chatty) == QUIET


def test_a_history_is_made_as_short_as_it_can_be() -> None:
    noise = tuple(Step(3_000 + at, "delay", (1, 1, 3, 20)) for at in range(5))
    history = dataclasses.replace(SURVIVED, steps=(CUT, *noise), duration_ms=12_000, jitter_ms=1)
    short = shrink(history, Deaf)
    assert short.steps == (CUT,)
    assert short.jitter_ms == 0
    assert short.duration_ms < 6_000
    assert violated(short, Deaf) == LIVENESS


def test_a_history_is_the_same_after_it_was_written_down() -> None:
    for family in FAMILIES.values():
        history = family.history(7)
        assert decode(history.encode()) == history


def test_the_same_history_is_played_twice_the_same() -> None:
    digests = []
    for _ in range(2):
        world = World(SURVIVED.seed)
        play(world, SURVIVED)
        digests.append(world.trace.digest())
    assert digests[0] == digests[1]


def test_the_exhaustive_families_have_no_history_twice() -> None:
    for name in ("cuts-1x2", "cuts-2x2", "lost-update"):
        family = FAMILIES[name]
        histories = {family.history(number).steps for number in range(family.count)}
        assert len(histories) == family.count, name


def test_walks_take_every_step_there_is() -> None:
    kinds = {
        step.kind
        for name, family in FAMILIES.items()
        for number in range(60)
        for step in family.history(number).steps
        if not name.startswith("cuts-3")
    }
    assert kinds >= ACTIONS.keys() - {"stop"}


def test_a_violation_says_when() -> None:
    world = World(SURVIVED.seed, Deaf)
    with pytest.raises(Violation, match=r"ms after the last change"):
        play(world, SURVIVED)
    assert not any(isinstance(one, StateChanged) for one in world.trace.lines)
