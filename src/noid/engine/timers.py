# SPDX-License-Identifier: MIT
"""Deadlines: set, stop, next, expired.

A heap of deadlines with the table of those that still hold; one that was stopped or set anew stays
in the heap until its time and is then passed over, so that setting and stopping cost O(log n).

There are several for each of a million contexts. So a key is a small integer, and a deadline and
its key are one integer: the deadline in front, which orders them, and the key behind.
"""

import heapq

KEY_BITS = 24
KEY_MASK = (1 << KEY_BITS) - 1


class Timers:
    """One deadline at most for each key; of two at one time the smaller key's is first."""

    def __init__(self) -> None:
        self._entries: dict[int, int] = {}
        self._heap: list[int] = []

    def set(self, key: int, at_ns: int) -> None:
        """Sets the deadline of ``key``, in place of the one it may have."""
        assert 0 <= key <= KEY_MASK
        entry = self._entries[key] = at_ns << KEY_BITS | key
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = sorted(self._entries.values())

    def bring_forward(self, key: int, at_ns: int) -> None:
        """Makes the deadline of ``key``, which has one, no later than this."""
        if at_ns < self._entries[key] >> KEY_BITS:
            self.set(key, at_ns)

    def stop(self, key: int) -> None:
        """Removes the deadline of ``key``, if it has one."""
        self._entries.pop(key, None)

    def is_set(self, key: int) -> bool:
        """Whether ``key`` has a deadline."""
        return key in self._entries

    def next(self) -> tuple[int, int] | None:
        """The earliest deadline and its key."""
        while self._heap:
            entry = self._heap[0]
            key = entry & KEY_MASK
            if self._entries.get(key) == entry:
                return entry >> KEY_BITS, key
            heapq.heappop(self._heap)
        return None
