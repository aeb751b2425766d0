# SPDX-License-Identifier: MIT
"""From where connections to a peer start while locators of this host come and go."""

import asyncio
import random

import pytest

from noid.flows.flow import Flow
from noid.locators import Locator, parse_locator
from noid.planes import default_sources
from noid.planes.default_sources import AT_ONCE, DefaultSources
from tests.planes.test_bpf import random_flow
from tests.waiting import until

AID, OTHER, NEW, PEER = (parse_locator(f"2001:db8:{number}::1") for number in (1, 2, 3, 4))


class Plane:
    """What the choices are made for: a peer with a context that speaks from AID.

    Args:
        others: locators that the peer may use besides.
    """

    def __init__(self, *others: Locator) -> None:
        self.flow = random_flow(random.Random(1))
        self.flow.local_aid = self.flow.local_locator = AID
        self.flow.local_locators |= {AID, OTHER}
        self.flow.usable_locators = frozenset({AID, *others})
        self.flows: dict[bytes, Flow] = {AID + PEER: self.flow}
        self.kept: list[Locator] = [AID, OTHER]
        self.down: set[Locator] = set()
        self.source: Locator | None = AID
        self.chooses = True
        self.choices = DefaultSources(
            lambda: self.kept,
            lambda: [one for one in self.kept if one not in self.down],
            self.flows,
            chooses=lambda aid: self.chooses,
            chosen=lambda aid: self.source,
            preferred=lambda aid: AID,
            choose=self._choose,
        )

    def _choose(self, aid: Locator) -> None:
        assert aid == PEER
        self.source = AID if self.choices.reaches(AID, PEER) else next(iter(self.kept), None)

    async def look(self) -> None:
        self.choices.look([PEER])
        await asyncio.sleep(0)


def test_without_another_locator_of_the_context_the_source_is_replaced_at_once() -> None:
    """The only provider has replaced its prefix: a peer cannot know the new one."""

    async def scenario() -> None:
        plane = Plane()
        plane.kept = [NEW]
        await plane.look()
        assert plane.source == NEW
        plane.kept = [AID, NEW]
        await plane.look()
        assert plane.source == AID

    asyncio.run(scenario())


def test_a_context_that_moves_keeps_the_source_that_it_had() -> None:
    async def scenario() -> None:
        plane = Plane(OTHER)
        plane.kept = [OTHER, NEW]
        await plane.look()
        assert plane.source == AID, "it has time to move"
        plane.flow.local_locator = OTHER
        await plane.look()
        assert plane.source == AID
        del plane.flows[AID + PEER]
        await plane.look()
        assert plane.source == OTHER, "nothing carries packets of the AID any more"
        plane.choices.close()

    asyncio.run(scenario())


def test_a_context_whose_other_locators_do_not_work_is_not_waited_for() -> None:
    """A provider replaces its prefix while the other one is dead."""

    async def scenario() -> None:
        plane = Plane(OTHER)
        plane.kept, plane.down = [NEW, OTHER], {OTHER}
        await plane.look()
        assert plane.source == NEW
        plane.flow.local_locator = OTHER
        await plane.look()
        assert plane.source == AID

    asyncio.run(scenario())


def test_a_context_that_does_not_move_in_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(default_sources, "MOVE_S", 0.01)

    async def scenario() -> None:
        plane = Plane(NEW)
        plane.kept = [NEW]
        await plane.look()
        assert plane.source == AID
        await until(lambda: plane.source == NEW)
        plane.flow.local_locator = NEW
        await plane.look()
        await until(lambda: plane.source == AID)

    asyncio.run(scenario())


def test_a_host_without_locators_leaves_the_choice_to_the_kernel_until_it_has_one() -> None:
    async def scenario() -> None:
        plane = Plane()
        plane.kept = []
        await plane.look()
        assert plane.source is None
        plane.kept = [NEW]
        await plane.look()
        assert plane.source == NEW

    asyncio.run(scenario())


def test_very_many_peers_are_looked_at_a_few_at_a_time() -> None:
    peers = [parse_locator(f"2001:db8:5::{number:x}") for number in range(2 * AT_ONCE + 1)]
    seen: list[Locator] = []
    turns: list[int] = []

    def is_chosen_for(aid: Locator) -> bool:
        seen.append(aid)
        return False

    async def scenario() -> None:
        choices = DefaultSources(
            tuple, tuple, {}, chooses=is_chosen_for, chosen=lambda aid: None, choose=seen.append
        )
        choices.look_at_all(peers[:1])
        choices.look_at_all(peers)
        while len(seen) < len(peers):
            await asyncio.sleep(0)
            turns.append(len(seen))

    asyncio.run(scenario())
    assert sorted(seen) == peers
    assert turns == [AT_ONCE, 2 * AT_ONCE, len(peers)]


def test_nothing_is_chosen_for_peers_that_are_reached_by_other_devices() -> None:
    async def scenario() -> None:
        plane = Plane()
        plane.kept, plane.chooses = [NEW], False
        await plane.look()
        assert plane.source == AID

    asyncio.run(scenario())
