# SPDX-License-Identifier: MIT
"""A queue that serves its users in rotation. Pure.

A user with many items delays only itself: if n users have waiting items, each is served every
n-th time. The items of one user are also served in rotation by lane, so that many of one kind do
not delay the rest.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items of users, each in a lane of its user."""

    def __init__(self) -> None:
        self.count = 0
        self._users: dict[Hashable, dict[Hashable, deque[Item]]] = {}
        self._counts: dict[Hashable, int] = {}

    def count_of(self, user: Hashable) -> int:
        """How many items of one user are waiting."""
        return self._counts.get(user, 0)

    def put(self, user: Hashable, lane: Hashable, item: Item) -> None:
        """Appends an item to its lane."""
        self._users.setdefault(user, {}).setdefault(lane, deque()).append(item)
        self._counts[user] = self.count_of(user) + 1
        self.count += 1

    def take(
        self, may: Callable[[Hashable], bool] = lambda _: True
    ) -> tuple[Hashable, Item] | None:
        """Removes the next item and returns it with its user; None if there is none.

        Args:
            may: whether it may be an item of this user.
        """
        for user in self._users:
            if may(user):
                return user, self._take_of(user)
        return None

    def _take_of(self, user: Hashable) -> Item:
        lanes = self._users.pop(user)
        lane, items = next(iter(lanes.items()))
        del lanes[lane]
        item = items.popleft()
        if items:
            lanes[lane] = items
        self.count -= 1
        if lanes:
            self._users[user] = lanes
            self._counts[user] -= 1
        else:
            del self._counts[user]
        return item

    def take_of_largest(self) -> Item:
        """Removes and returns an item of the user with the most items; the queue is not empty."""
        return self._take_of(max(self._counts, key=self._counts.__getitem__))
