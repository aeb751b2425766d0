"""Deadlines: set, stop, next, expired.

A heap of deadlines with the table of those that still hold; one that was stopped or set anew stays
in the heap until its time and is then passed over, so that setting and stopping cost O(log n).
"""

import heapq
from typing import Generic, TypeVar

Key = TypeVar("Key")


Entry = tuple[int, int, Key]
"""When, which in the order of setting, and what."""


class Timers(Generic[Key]):
    """One deadline at most for each key."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry[Key]] = {}
        self._heap: list[Entry[Key]] = []
        self._serial = 0

    def set(self, key: Key, at_ns: int) -> None:
        """Sets the deadline of ``key``, in place of the one it may have."""
        self._serial += 1
        entry = self._entries[key] = (at_ns, self._serial, key)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 64 + 4 * len(self._entries):
            self._heap = list(self._entries.values())
            heapq.heapify(self._heap)

    def stop(self, key: Key) -> None:
        """Removes the deadline of ``key``, if it has one."""
        self._entries.pop(key, None)

    def is_set(self, key: Key) -> bool:
        """Whether ``key`` has a deadline."""
        return key in self._entries

    def next(self) -> tuple[int, Key] | None:
        """The earliest deadline and its key."""
        while self._heap:
            entry = self._heap[0]
            at_ns, _, key = entry
            if self._entries.get(key) is entry:
                return at_ns, key
            heapq.heappop(self._heap)
        return None

    def expired(self, now_ns: int) -> Key | None:
        """Removes and returns a key whose deadline has come, the earliest first."""
        upcoming = self.next()
        if upcoming is None or upcoming[0] > now_ns:
            return None
        self.stop(upcoming[1])
        return upcoming[1]
