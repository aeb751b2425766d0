# SPDX-License-Identifier: MIT
"""Tables that sources share: the entries of each source, and which entry is evicted [D46].

Entries are numbers. Every operation takes constant time for any size of the table; an entry
of a site that has but one takes a row of one table and no object of its own.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from noid.shares.policy import (
    LARGEST_SHOWN,
    NEEDED_TIME,
    RECALLED_MAX,
    REGION_SHIFT,
    Row,
    Standing,
    largest,
)

CANDIDATES = 8
"""Sites with one entry that are compared, where all sites of a region have but one."""
HOLES_SPARE = 64

Entry = TypeVar("Entry", bound=int)
"""The numbers of the entries of a table."""
Rank = tuple[bool, int]
"""How much an entry is worth: whether it is proven, and when it was last used."""


class Ranking:
    """Counts per user, with the user of the greatest count."""

    __slots__ = ("_greatest", "_having", "counts")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._having: dict[int, dict[int, None]] = {}
        self._greatest = 0

    def set(self, user: int, count: int) -> None:
        """Sets the count of a user, which changes by one; 0 removes the user."""
        before = self.counts.pop(user, 0)
        if before:
            alike = self._having[before]
            del alike[user]
            if not alike:
                del self._having[before]
        if count:
            self.counts[user] = count
            self._having.setdefault(count, {})[user] = None
        if count > self._greatest or (before == self._greatest and before not in self._having):
            self._greatest = count

    def greatest(self) -> int | None:
        """The user with the greatest count; None if there is none."""
        return next(iter(self._having[self._greatest])) if self._greatest else None

    def largest(self, count: int) -> list[tuple[int, int]]:
        """The given number of users with the greatest counts, and their counts."""
        found: list[tuple[int, int]] = []
        for size in sorted(self._having, reverse=True):
            found += ((one, size) for one in islice(self._having[size], count - len(found)))
            if len(found) >= count:
                break
        return found


class _Crowd(Generic[Entry]):
    """The entries of a site that has several; of each kind the least recently used first."""

    __slots__ = ("proven", "unproven")

    def __init__(self) -> None:
        self.unproven: OrderedDict[Entry, None] = OrderedDict()
        self.proven: OrderedDict[Entry, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.unproven) + len(self.proven)

    def remove(self, entry: Entry) -> None:
        if entry in self.unproven:
            del self.unproven[entry]
        else:
            del self.proven[entry]

    def least(self) -> Entry:
        return next(iter(self.unproven or self.proven))


class _Crowds(Generic[Entry]):
    """The sites of a region that have several entries, or had, and their counts."""

    __slots__ = ("of", "ranking")

    def __init__(self) -> None:
        self.of: dict[int, _Crowd[Entry]] = {}
        self.ranking = Ranking()


class _Region(Generic[Entry]):
    """The sites of a region: those with one entry, and those with several."""

    __slots__ = ("crowds", "holes", "single")

    def __init__(self) -> None:
        self.single: dict[int, Entry] = {}
        self.crowds: _Crowds[Entry] | None = None  # most regions have none
        self.holes = 0

    def crowd(self, site: int) -> _Crowd[Entry] | None:
        """The entries of a site that has several, or had."""
        return None if self.crowds is None else self.crowds.of.get(site)

    def count(self, site: int) -> int:
        """How many entries a site has."""
        crowd = self.crowd(site)
        return int(site in self.single) if crowd is None else len(crowd)

    def largest(self) -> dict[int, int]:
        """The sites with the most entries, and how many these are."""
        crowds = {} if self.crowds is None else dict(self.crowds.ranking.largest(LARGEST_SHOWN))
        return crowds or dict.fromkeys(islice(self.single, LARGEST_SHOWN), 1)

    def add(self, site: int, entry: Entry) -> None:
        crowd = self.crowd(site)
        if crowd is None and site not in self.single:
            self.single[site] = entry
            return
        if self.crowds is None:
            self.crowds = _Crowds()
        if crowd is None:
            crowd = self.crowds.of[site] = _Crowd()
            crowd.unproven[self._pop_single(site)] = None
        crowd.unproven[entry] = None
        self.crowds.ranking.set(site, len(crowd))

    def remove(self, site: int, entry: Entry) -> None:
        if site in self.single:
            self._pop_single(site)
            return
        assert self.crowds is not None
        crowd = self.crowds.of[site]
        crowd.remove(entry)
        self.crowds.ranking.set(site, len(crowd))
        if not crowd:
            del self.crowds.of[site]

    def _pop_single(self, site: int) -> Entry:
        """Removes a site; a table of many that were removed at its front is slow to begin."""
        entry = self.single.pop(site)
        self.holes += 1
        if self.holes > len(self.single) + HOLES_SPARE:
            self.single, self.holes = dict(self.single), 0
        return entry

    def least(self, site: int | None, rank: Callable[[Entry], Rank]) -> Entry:
        """The entry that is worth least of a site, or of the largest one."""
        if site is not None and site in self.single:
            return self.single[site]
        if self.crowds is not None:
            crowd = self.crowds.ranking.greatest() if site is None else site
            if crowd is not None:
                return self.crowds.of[crowd].least()
        return min(islice(self.single.values(), CANDIDATES), key=rank)


class Table(Generic[Entry]):
    """The entries of each site in a table.

    Args:
        row: the limits of the table.
        limit: maximum number of entries; that of the row by default.
    """

    def __init__(self, row: Row, limit: int = 0) -> None:
        self.row = row
        self.limit = limit or row.limit
        self.share = max(1, self.limit * row.share // row.limit)
        self.regions: dict[int, _Region[Entry]] = {}
        self.ranking = Ranking()
        self.count = 0
        self._needed_until_ns = 0

    @property
    def standing(self) -> Standing:
        """The sites and regions with the most entries."""
        regions = dict(self.ranking.largest(LARGEST_SHOWN))
        sites: dict[int, int] = {}
        for region in regions:
            sites |= self.regions[region].largest()
        return Standing(self.row, self.limit, self.count, largest(sites), regions)

    @property
    def is_full(self) -> bool:
        """Whether the table is full."""
        return self.count >= self.limit

    def count_of(self, region: int) -> int:
        """How many entries a region has."""
        return self.ranking.counts.get(region, 0)

    def add(self, site: int, entry: Entry) -> None:
        """Adds an entry, unproven."""
        region = site >> REGION_SHIFT
        if region not in self.regions:
            self.regions[region] = _Region()
        self.regions[region].add(site, entry)
        self.ranking.set(region, self.ranking.counts.get(region, 0) + 1)
        self.count += 1

    def remove(self, site: int, entry: Entry) -> None:
        """Removes an entry."""
        region = site >> REGION_SHIFT
        self.regions[region].remove(site, entry)
        self.count -= 1
        count = self.ranking.counts[region] - 1
        self.ranking.set(region, count)
        if not count:
            del self.regions[region]

    def use(self, site: int, entry: Entry, *, is_proven: bool) -> None:
        """Marks an entry as used now, or as proven."""
        crowd = self.regions[site >> REGION_SHIFT].crowd(site)
        if crowd is not None:
            crowd.remove(entry)
            (crowd.proven if is_proven else crowd.unproven)[entry] = None

    def end(self, site: int, entry: Entry) -> None:
        """Marks an entry as not needed: it is evicted first."""
        crowd = self.regions[site >> REGION_SHIFT].crowd(site)
        if crowd is not None:
            crowd.remove(entry)
            crowd.unproven[entry] = None
            crowd.unproven.move_to_end(entry, last=False)

    def in_the_way(
        self,
        site: int | None,
        now_ns: int,
        unused_ns: int,
        rank: Callable[[Entry], Rank],
        *,
        is_full: bool,
    ) -> Iterator[Entry]:
        """Yields the entries to evict before one is added; each is removed when it is yielded.

        Nothing comes where nothing can go: then a full table refuses the newcomer. An entry that is
        in use goes only if its region has more than its share.

        Args:
            site: of the newcomer; None if it is exempt.
            now_ns: the present.
            unused_ns: what was not used since then is not in use.
            rank: what an entry is worth.
            is_full: whether there is no room.
        """
        if not is_full and now_ns >= self._needed_until_ns:
            return
        is_over = site is not None and self._is_over(site)
        if is_full and not is_over:
            self._needed_until_ns = now_ns + NEEDED_TIME
        is_needed = now_ns < self._needed_until_ns
        if is_over and is_needed and not is_full and site is not None:
            yield self._own(site, rank)
            return
        if is_full:
            victim = self._largest(unused_ns, rank, is_full=True)
            if victim is None:
                return
            yield victim
        for _ in range(RECALLED_MAX if is_needed and not is_over else 0):
            victim = self._largest(unused_ns, rank, is_full=False)
            if victim is None:
                return
            yield victim

    def _is_over(self, site: int) -> bool:
        region = site >> REGION_SHIFT
        if self.ranking.counts.get(region, 0) >= self.share:
            return True
        return region in self.regions and self.regions[region].count(site) >= self.share

    def _own(self, site: int, rank: Callable[[Entry], Rank]) -> Entry:
        """What a site above its share gives for one more: its own, or one of its region."""
        region = self.regions[site >> REGION_SHIFT]
        return region.least(site if region.count(site) >= self.share else None, rank)

    def _largest(
        self, unused_ns: int, rank: Callable[[Entry], Rank], *, is_full: bool
    ) -> Entry | None:
        """The entry of the largest region's largest site that is worth least, if it may go."""
        region = self.ranking.greatest()
        if region is None:
            return None
        entry = self.regions[region].least(None, rank)
        is_used = rank(entry)[1] > unused_ns
        is_over = self.ranking.counts[region] > self.share
        may_go = is_over or not is_used if is_full else is_over and not is_used
        return entry if may_go else None
