# SPDX-License-Identifier: MIT
"""Deadlines: set, stop, next, expired.

A heap of deadlines, and a table of the valid ones. A deadline that was stopped or changed stays in
the heap until its time and is then skipped, so that setting and stopping cost O(log n).

A million contexts have several timers each. So a key is a small integer, and a deadline and its key
are one integer: the deadline in the high bits, which orders them, and the key in the low bits.
"""

import heapq

KEY_BITS = 24
KEY_MASK = (1 << KEY_BITS) - 1


class Timers:
    """At most one deadline for each key; equal deadlines are ordered by key."""

    def __init__(self) -> None:
        self._entries: dict[int, int] = {}
        self._heap: list[int] = []

    def set(self, key: int, at_ns: int) -> None:
        """Sets the deadline of ``key``; replaces an earlier one."""
        assert 0 <= key <= KEY_MASK
        entry = self._entries[key] = at_ns << KEY_BITS | key
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = sorted(self._entries.values())

    def bring_forward(self, key: int, at_ns: int) -> None:
        """Makes the deadline of ``key``, if it has one, no later than this."""
        if at_ns < self._entries.get(key, 0) >> KEY_BITS:
            self.set(key, at_ns)

    def stop(self, key: int) -> None:
        """Removes the deadline of ``key``, if it has one."""
        self._entries.pop(key, None)

    def is_set(self, key: int) -> bool:
        """Whether ``key`` has a deadline."""
        return key in self._entries

    def is_due(self, key: int, now_ns: int) -> bool:
        """Whether ``key`` has a deadline that has passed."""
        entry = self._entries.get(key)
        return entry is not None and entry >> KEY_BITS <= now_ns

    def next(self) -> tuple[int, int] | None:
        """The earliest deadline and its key."""
        while self._heap:
            entry = self._heap[0]
            key = entry & KEY_MASK
            if self._entries.get(key) == entry:
                return entry >> KEY_BITS, key
            heapq.heappop(self._heap)
        return None

    def rebuilt(self) -> "Timers":
        """All deadlines, without those that were stopped or set anew."""
        timers = Timers()
        for entry in sorted(self._entries.values()):
            timers.set(entry & KEY_MASK, entry >> KEY_BITS)
        return timers
