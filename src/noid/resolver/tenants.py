# SPDX-License-Identifier: MIT
"""Who holds the places of a table, and which one gives way when it is full. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Tenants(Generic[Item]):
    """The items in a table, by whose they are and since when they are there."""

    def __init__(self) -> None:
        self._items: dict[Item, tuple[Hashable, float]] = {}
        self._of: dict[Hashable, dict[Item, None]] = {}

    @property
    def count(self) -> int:
        """How many items there are."""
        return len(self._items)

    def add(self, tenant: Hashable, item: Item, now_s: float) -> None:
        """Adds an item of a tenant."""
        self._items[item] = tenant, now_s
        self._of.setdefault(tenant, {})[item] = None

    def remove(self, item: Item) -> None:
        """Removes an item, if it is there."""
        if item in self._items:
            tenant, _ = self._items.pop(item)
            del self._of[tenant][item]
            if not self._of[tenant]:
                del self._of[tenant]

    def tenant(self, item: Item) -> Hashable:
        """Whose an item is."""
        return self._items[item][0]

    def since(self, item: Item) -> float:
        """When an item was added."""
        return self._items[item][1]

    def oldest_of_largest(self, newcomer: Hashable) -> Item:
        """The item that gives way to one of a newcomer: the oldest of the tenant that has most.

        The newcomer has one more than are there. There has to be an item.
        """

        def size(tenant: Hashable) -> int:
            return len(self._of[tenant]) + (tenant == newcomer)

        return next(iter(self._of[max(self._of, key=size)]))
