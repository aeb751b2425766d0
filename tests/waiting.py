# SPDX-License-Identifier: MIT
"""Waiting for a condition beside other tasks of a loop; without a loop: ``noid.lab.waiting``."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

LIMIT_S: Final = 60.0
"""A busy machine."""
POLL_S: Final = 0.001


async def until(condition: Callable[[], object]) -> float:
    """Lets other tasks run until a condition holds; returns how long that took, in seconds."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < LIMIT_S, "the condition does not hold in time"
        await asyncio.sleep(POLL_S)
    return time.monotonic() - began_s
