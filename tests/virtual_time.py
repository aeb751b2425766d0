# SPDX-License-Identifier: MIT
"""An event loop whose time passes only while all tasks wait, and then at once."""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, Final

import pytest

START_NS: Final = 1_000_000_000_000
WALL_S: Final = 1_700_000_000
ROUNDED_NS: Final = 1_000
"""Added to each wait, so that no timer is due a moment too early by rounding."""


class Clock:
    """The time, which the functions of ``time`` return from now on.

    Args:
        monkeypatch: undoes this at the end of a test.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = START_NS
        monkeypatch.setattr(time, "monotonic_ns", lambda: self.now_ns)
        monkeypatch.setattr(time, "monotonic", lambda: self.now_ns / 1e9)
        monkeypatch.setattr(time, "time", lambda: WALL_S + self.now_ns / 1e9)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs a task and those that it starts, in this time."""
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(self)) as runner:
            runner.run(work)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_Waits(clock))
        self._of = clock

    def time(self) -> float:
        """The time of its clock."""
        return self._of.now_ns / 1e9


class _Waits(selectors.SelectSelector):
    """Lets time pass where a loop would wait. No files are waited for."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "every task waits for something that never comes"
        if timeout > 0:
            self._clock.now_ns += int(timeout * 1e9) + ROUNDED_NS
        return []
