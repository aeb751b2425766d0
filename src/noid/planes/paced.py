# SPDX-License-Identifier: MIT
"""Does something for one peer at a time, as often as a rate allows; what is above waits."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from noid.locators import Locator

PER_SECOND: Final = 128
"""A question to the kernel takes about a millisecond."""
BURST: Final = 64
WAITING_MAX: Final = 1_024
"""Peers that wait; for one more nothing is done."""
TURN_S: Final = 0.125
"""How long those that wait do so, between two batches."""


class Paced:
    """Peers for which something takes long.

    Args:
        act: what is done for one peer.
    """

    def __init__(self, act: Callable[[Locator], None]) -> None:
        self._act = act
        self._waiting: dict[Locator, None] = {}
        self._free_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, peer: Locator) -> bool:
        """Acts at once, or later, in order; False if too many wait, and nothing will be done."""
        if not self._waiting and self._may_act():
            self._act(peer)
            return True
        if len(self._waiting) >= WAITING_MAX and peer not in self._waiting:
            return False
        self._waiting[peer] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TURN_S, self._go_on)
        return True

    def drop(self, peer: Locator) -> None:
        """Nothing needs to be done for a peer any more."""
        self._waiting.pop(peer, None)

    def close(self) -> None:
        """Nothing is done any more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _may_act(self) -> bool:
        now_s = time.monotonic()
        free_s = max(self._free_s, now_s) + 1 / PER_SECOND
        if free_s > now_s + BURST / PER_SECOND:
            return False
        self._free_s = free_s
        return True

    def _go_on(self) -> None:
        self._timer = None
        while self._waiting and self._may_act():
            peer = next(iter(self._waiting))
            del self._waiting[peer]
            self._act(peer)
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(TURN_S, self._go_on)
