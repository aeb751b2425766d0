# SPDX-License-Identifier: MIT
"""The next daemon finds every context, although the file was damaged in between."""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from noid.identifiers import NO_LABEL, Label
from noid.roles.keeping import KeptContexts
from noid.state.contexts import ContextStore
from noid.state.restore import PAGE
from tests.state.test_contexts import lose_columns, lose_table, memory
from tests.waiting import until

LABELS = [Label(number) for number in range(1, PAGE + 20)]
FEW = LABELS[:2]


def stored(directory: Path) -> list[Label]:
    with contextlib.closing(ContextStore(directory)) as store:
        return [label for label, _ in store.page(NO_LABEL, 2 * len(LABELS))]


@pytest.mark.parametrize("damage", [lose_table, lose_columns])
def test_contexts_that_do_not_change_are_written_again_too(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    async def play() -> None:
        kept = KeptContexts(store, memory, lambda: LABELS, renewed_s=0.01)
        kept.keep(LABELS)
        damage(store.path)
        kept.changed(FEW[0])
        await until(lambda: store.count() == len(LABELS))
        kept.close()

    with contextlib.closing(ContextStore(tmp_path)) as store:
        asyncio.run(play())
    assert stored(tmp_path) == LABELS


@pytest.mark.parametrize("is_changed", [False, True])
def test_damage_that_is_found_at_the_end_loses_none(tmp_path: Path, is_changed: bool) -> None:
    async def play() -> None:
        kept = KeptContexts(store, memory, lambda: LABELS)
        kept.keep(LABELS)
        lose_table(store.path)
        if is_changed:
            kept.changed(FEW[0])
        else:
            kept.renewed(FEW[0])
        kept.close()

    with contextlib.closing(ContextStore(tmp_path)) as store:
        asyncio.run(play())
    assert stored(tmp_path) == LABELS
