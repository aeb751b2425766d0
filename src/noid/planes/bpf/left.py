# SPDX-License-Identifier: MIT
"""Uplinks that flows have left, and what still waits there for a neighbour."""

from collections.abc import Callable
from typing import Final

from noid.planes.delayed import Delayed

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
        self._dropping = Delayed(self._drop_all, LEFT_S)

    def close(self) -> None:
        """Drops nothing any more."""
        self._dropping.cancel()

    def add(self, row: int) -> None:
        """A flow has left the uplink of this row."""
        self._rows.add(row)
        self._dropping.request()

    def _drop_all(self) -> None:
        rows, self._rows = self._rows, set()
        for row in rows:
            self._drop(row)
