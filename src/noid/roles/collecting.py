# SPDX-License-Identifier: MIT
"""Python's collector of reference cycles, which must not pause a daemon with very many contexts.

A full collection examines every object: with 50,000 contexts it took up to 0.3 s, and there were
eleven while they all left a failed uplink. Contexts are in no cycle, so that nothing is found. An
object that survives a full collection is therefore not examined again; it is still freed when
nothing refers to it. Cycles among these objects, such as of connections that are closed later, are
found when there are many more objects than contexts need. To count all objects takes 40 ns for
each; so they are counted when enough have survived that there may be too many.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any, Final

FULL: Final = 2
"""The generation of a full collection."""
OBJECTS_PER_CONTEXT: Final = 16
"""What a context needs, and some room: 5 when it is new, more after it has searched."""
OBJECTS_SPARE: Final = 50_000
"""So many more objects than at first are not examined again; about 10 MB."""


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """During the block, nothing is collected; for imports, which make many objects that stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.contextmanager
def survivors_frozen(contexts: Callable[[], int]) -> Iterator[None]:
    """During the block, full collections examine only what is new since the one before.

    Args:
        contexts: the number of contexts.
    """
    others = survived = 0

    def freeze(phase: str, info: dict[str, Any]) -> None:
        nonlocal others, survived
        if phase != "stop" or info["generation"] != FULL:
            return
        survived += len(gc.get_objects(FULL))
        gc.freeze()
        of_contexts = OBJECTS_PER_CONTEXT * contexts()
        if others and survived <= OBJECTS_SPARE + of_contexts // 4:
            return
        beside = gc.get_freeze_count() - of_contexts
        others = others or max(beside, 1)
        survived = max(0, beside - others)
        if beside > others + OBJECTS_SPARE:
            gc.unfreeze()
            others = 0  # known again after the next collection, which examines all of them

    gc.callbacks.append(freeze)
    try:
        yield
    finally:
        gc.callbacks.remove(freeze)
