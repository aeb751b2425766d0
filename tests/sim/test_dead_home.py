# SPDX-License-Identifier: MIT
"""A host prefers another uplink for a while; meanwhile the uplink that it prefers usually dies."""

from collections import Counter

import pytest

from noid.constants import SECOND
from noid.sim.history import History, Step, Traffic, play
from noid.sim.parcel import is_control
from noid.sim.quiet import CONTROL_MAX
from noid.sim.trace import Line
from noid.sim.world import START_NS, World
from noid.wire import ipv6
from noid.wire.control import Code

ENDS_MS = 40_000
"""When the mark ends, or begins."""


@pytest.mark.parametrize("replies", [True, False])
@pytest.mark.parametrize("sides", [(0,), (0, 1)])
def test_the_end_of_a_backup_mark_causes_few_messages_while_the_home_pair_is_dead(
    sides: tuple[int, ...], *, replies: bool
) -> None:
    history = _history(
        *(Step(2_000, "keep-back", (side, 1)) for side in sides),
        Step(20_000, "provider", (0, 0, 0)),
        *(Step(ENDS_MS, "keep-back", (side, 0)) for side in sides),
        replies=replies,
    )
    assert max(_sent(history, ENDS_MS).values()) < CONTROL_MAX // 3, "at most one in three seconds"


@pytest.mark.parametrize("replies", [True, False])
@pytest.mark.parametrize("sides", [(0,), (0, 1)])
def test_marks_of_broken_locators_cause_few_messages_while_no_better_pair_works(
    sides: tuple[int, ...], *, replies: bool
) -> None:
    history = _history(
        Step(20_000, "provider", (0, 1, 0)),
        *(Step(ENDS_MS, "mark", (side, 0, 1)) for side in sides),
        replies=replies,
    )
    assert max(_sent(history, ENDS_MS + 1_000).values()) < CONTROL_MAX // 2


def _history(*steps: Step, replies: bool) -> History:
    """What happens to two hosts with two uplinks each, for a minute after ENDS_MS."""
    traffic = Traffic(replies=replies)
    return History(
        seed=1, locators=(2, 2), duration_ms=ENDS_MS + 60_000, steps=steps, traffic=traffic
    )


def _sent(history: History, since_ms: int) -> Counter[str]:
    """The control messages of each host from a time on, apart from keepalives."""
    world = World(history.seed)
    play(world, history)
    sent: Counter[str] = Counter()
    for line in map(Line._make, world.trace.lines):
        is_after = line.at_ns >= START_NS + since_ms * SECOND // 1_000
        if is_after and is_control(line.packet) and _code(line.packet) != Code.KEEPALIVE:
            sent[line.source] += 1
    return sent


def _code(packet: bytes) -> int:
    return packet[ipv6.HEADER_OCTETS + 1]
