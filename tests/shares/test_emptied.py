# SPDX-License-Identifier: MIT
"""A table from which everything has gone is as a new one, in any order of coming and going."""

from collections import Counter
from collections.abc import Callable
from typing import Final, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.constants import SECOND
from noid.resolver.fairness import FairQueue
from noid.shares.policy import QUARANTINE, REGION_SHIFT
from noid.shares.tables import Table
from noid.shares.tenants import Tenants
from tests.contents import attributes, differences

OWNERS: Final = 4
STEPS_MIN: Final = 16
MOVES: Final = st.tuples(st.booleans(), st.integers(0, OWNERS - 1), st.integers(0, 99))
"""Whether one comes or goes, whose, and which of those that are there goes."""
ORDER: Final = frozenset({"holes"})
"""How often a region was left; it is thrown away with the region."""


class Filled(Protocol):
    """A table that is played with."""

    @property
    def table(self) -> object: ...

    def come(self, owner: int, item: int) -> None: ...
    def go(self, owner: int, item: int) -> None: ...


class OfTenants:
    def __init__(self) -> None:
        self.table = Tenants[int]()
        self.owners: dict[int, int] = {}

    def come(self, owner: int, item: int) -> None:
        self.table.add(owner, item, 1.0)
        self.owners[item] = owner
        self.check()

    def go(self, owner: int, item: int) -> None:
        del self.owners[item]
        self.table.remove(item)
        self.check()

    def check(self) -> None:
        """The item that makes room is one of those that are there, for any newcomer."""
        counts = Counter(self.owners.values())
        for newcomer in range(OWNERS if self.owners else 0):
            found = self.table.oldest_of_largest(newcomer)
            owner = self.owners[found]
            assert self.table.tenant(found) == owner
            sizes = {one: count + (one == newcomer) for one, count in counts.items()}
            assert sizes[owner] == max(sizes.values())
            assert found == next(item for item, one in self.owners.items() if one == owner)


class OfQueue:
    def __init__(self) -> None:
        self.table = FairQueue[int]()

    def come(self, owner: int, item: int) -> None:
        self.table.put(owner, item % 2, item)

    def go(self, owner: int, item: int) -> None:
        assert self.table.take() is not None


class OfShares:
    def __init__(self) -> None:
        self.table = Table[int](QUARANTINE)

    def come(self, owner: int, item: int) -> None:
        site = owner << REGION_SHIFT - 1
        self.table.add(site, item)
        self.table.use(site, item, is_proven=item % 2 == 0)
        assert not list(self.table.in_the_way(site, SECOND, 0, lambda _: (False, 0), is_full=False))

    def go(self, owner: int, item: int) -> None:
        site = owner << REGION_SHIFT - 1
        self.table.end(site, item)
        self.table.remove(site, item)


def is_hollow(thing: object) -> bool:
    """Whether there is nothing in a thing, or only things in which there is nothing."""
    if isinstance(thing, dict):
        thing = list(thing.values())
    return isinstance(thing, list | set) and all(map(is_hollow, thing))


def hollows(thing: object) -> list[object]:
    """The owners and items for which something is kept in which there is nothing."""
    if isinstance(thing, list):
        return [one for part in thing for one in hollows(part)]
    if not isinstance(thing, dict):
        return []
    found = [key for key, value in thing.items() if not isinstance(key, str) and is_hollow(value)]
    return found + hollows(list(thing.values()))


KINDS: Final[dict[str, Callable[[], Filled]]] = {
    "tenants": OfTenants,
    "queue": OfQueue,
    "shares": OfShares,
}


@pytest.mark.parametrize("kind", KINDS)
@given(moves=st.lists(MOVES, min_size=STEPS_MIN))
def test_a_table_from_which_everything_has_gone_is_as_a_new_one(
    kind: str, moves: list[tuple[bool, int, int]]
) -> None:
    one, new, there = KINDS[kind](), KINDS[kind](), list[tuple[int, int]]()
    for number, (comes, owner, place) in enumerate(moves):
        if comes:
            one.come(owner, number)
            there.append((owner, number))
        elif there:
            one.go(*there.pop(place % len(there)))
        assert hollows(attributes(one.table)) == []
    while there:
        one.go(*there.pop())
    assert differences(one.table, new.table, without=ORDER) == {}
