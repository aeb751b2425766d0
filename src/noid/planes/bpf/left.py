# SPDX-License-Identifier: MIT
"""Uplinks that flows have left, and what still waits there for a neighbour."""

import asyncio
from collections.abc import Callable
from typing import Final

LEFT_S: Final = 0.05
"""How long after the first of some flows has left an uplink what waits there is dropped."""


class LeftUplinks:
    """Drops what waits for a neighbour on an uplink that flows have left, once for all of them.

    The neighbour may be dead, and TCP sends nothing again that is still in a queue of its host.

    Args:
        drop: drops what waits on the uplink of a row.
    """

    def __init__(self, drop: Callable[[int], None]) -> None:
        self._drop = drop
        self._rows: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Drops nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, row: int) -> None:
        """A flow has left the uplink of this row."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LEFT_S, self._drop_all)
        self._rows.add(row)

    def _drop_all(self) -> None:
        rows, self._rows, self._timer = self._rows, set(), None
        for row in rows:
            self._drop(row)
