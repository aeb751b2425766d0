# SPDX-License-Identifier: MIT
"""Calls a function once for several events that come together."""

import asyncio
from collections.abc import Callable


class Delayed:
    """A call that is made a fixed time after the first of several requests for it.

    Args:
        act: the function that is called.
        after_s: seconds from the first request to the call.
    """

    def __init__(self, act: Callable[[], None], after_s: float) -> None:
        self._act = act
        self._after_s = after_s
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_due(self) -> bool:
        """Whether the function will be called without another request."""
        return self._timer is not None

    def request(self) -> None:
        """Requests the call; a request before the call adds none."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._after_s, self._call)

    def cancel(self) -> None:
        """Drops the requests so far."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call(self) -> None:
        self._timer = None
        self._act()
