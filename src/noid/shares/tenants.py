# SPDX-License-Identifier: MIT
"""The items of a table by their owners, and which item is removed when it is full. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class Tenants(Generic[Item]):
    """The items in a table, by owner (tenant) and time of insertion."""

    def __init__(self) -> None:
        self._items: dict[Item, tuple[Hashable, float]] = {}
        self._of: dict[Hashable, dict[Item, None]] = {}

    @property
    def count(self) -> int:
        """The number of items."""
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
        """The owner of an item."""
        return self._items[item][0]

    def since(self, item: Item) -> float:
        """When an item was added."""
        return self._items[item][1]

    def oldest_of_largest(self, newcomer: Hashable) -> Item:
        """The item to remove for a new item: the oldest of the tenant with the most items.

        The new item is counted for its tenant. The table must not be empty.
        """

        def size(tenant: Hashable) -> int:
            return len(self._of[tenant]) + (tenant == newcomer)

        return next(iter(self._of[max(self._of, key=size)]))
