# SPDX-License-Identifier: MIT
"""An event loop whose timers are as exact as the kernel's.

``epoll`` counts milliseconds, rounded up. A verdict on a silent path waits for two timers in a row,
each of which costs a program that waits for data up to a millisecond more.

Its time goes on while the machine is suspended: what was cached before does not live longer.
"""

import asyncio
import select
import selectors
import time
from collections.abc import Coroutine
from typing import Any

ROUGH_S = 0.1
"""Longer waits are rounded to milliseconds."""
EARLY_S = 0.005
"""What is woken less early than this has had its look: a clock was read before it waited."""


def until_next(interval_s: float, now_s: float) -> float:
    """How long it is until the next multiple of an interval, in seconds.

    What is looked at periodically waits for this. Such looks then happen at the same time, so that
    the process is woken, and takes a processor from a program, once for all of them.

    Args:
        interval_s: the interval, in seconds.
        now_s: the time of the event loop, in seconds.
    """
    left_s = interval_s - now_s % interval_s
    return left_s if left_s > EARLY_S else left_s + interval_s


class PreciseSelector(selectors.EpollSelector):
    """An EpollSelector that rounds short waits to microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Waits for a file that is ready, or for ``timeout`` seconds; see the base class."""
        if timeout is not None and 0 < timeout < ROUGH_S:
            select.select([self], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end, as ``asyncio.run`` does."""
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(main)


class _Loop(asyncio.SelectorEventLoop):
    def time(self) -> float:
        """The time since boot, in seconds; see ``asyncio.AbstractEventLoop.time``."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def _loop() -> asyncio.SelectorEventLoop:
    return _Loop(PreciseSelector())
