# SPDX-License-Identifier: MIT
"""The collector examines what survives once, and contexts are freed without it."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from noid.engine.context import Context
from noid.roles.collecting import OBJECTS_PER_CONTEXT, OBJECTS_SPARE, survivors_frozen
from tests.engine.network import A1, B1, established, packet

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Afterwards all objects are examined again."""
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
        gc.collect()


def contexts_left(before: frozenset[int]) -> int:
    """The contexts that are not freed, without those of other tests."""
    found = (one for one in gc.get_objects() if isinstance(one, Context))
    return sum(id(one) not in before for one in found)


def test_what_survives_a_full_collection_is_not_examined_again() -> None:
    with survivors_frozen(lambda: 0):
        kept = [[number] for number in range(1000)]
        gc.collect()
        frozen = gc.get_freeze_count()
        assert frozen > len(kept)
        assert not any(one is kept[0] for one in gc.get_objects())
        del kept
        assert gc.get_freeze_count() <= frozen - 1000, "it is freed nevertheless"
    gc.unfreeze()
    gc.collect()
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("contexts", [0, 100])
def test_cycles_that_are_garbage_later_do_not_grow(contexts: int) -> None:
    with survivors_frozen(lambda: contexts):
        gc.collect()
        first = gc.get_freeze_count()
        most = 0
        for _ in range(4 * OBJECTS_SPARE // 10_000):
            cycles: list[list[Any]] = [[] for _ in range(10_000)]
            for one in cycles:
                one.append(one)
            gc.collect()
            del cycles, one
            most = max(most, gc.get_freeze_count())
        assert most <= first + OBJECTS_SPARE + OBJECTS_PER_CONTEXT * contexts + 20_000
        assert most > OBJECTS_SPARE


def test_objects_are_counted_once_for_many_that_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    count = gc.get_freeze_count

    def counting() -> int:
        counted.append(count())
        return counted[-1]

    monkeypatch.setattr(gc, "get_freeze_count", counting)
    with survivors_frozen(lambda: 100_000):
        gc.collect()
        kept = []
        for _ in range(20):
            kept.append([[number] for number in range(1_000)])
            gc.collect()
    assert len(counted) == 1


def test_a_context_that_has_moved_and_ends_needs_no_collection() -> None:
    gc.collect()
    before = frozenset(id(one) for one in gc.get_objects() if isinstance(one, Context))
    gc.disable()
    network = established()
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.kill_provider(1)
    for _ in range(20):
        network.ulp_sends(network.a, packet(A1, B1))
        network.run(SECOND // 10)
    assert network.a.context.local_locator != A1
    assert contexts_left(before) == 2
    for station in network.stations:
        station.host.inspection.evict(station.context)
        station.outputs.clear()
    assert contexts_left(before) == 0
