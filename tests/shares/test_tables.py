# SPDX-License-Identifier: MIT
"""Tables that sources share, held against a table that is looked through from end to end."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from noid.constants import SECOND
from noid.shares.policy import NEEDED_TIME, RECALLED_MAX, REGION_SHIFT, SHARES, Row
from noid.shares.tables import CANDIDATES, Rank, Ranking, Table

LIMIT = 64
SHARE = LIMIT // SHARES
ROW = Row(name="entries", limit=LIMIT)
LONG_AGO = 0


def site(region: int, number: int = 0) -> int:
    return region << REGION_SHIFT | number


@dataclass
class Model:
    """What a table is about: its entries, whose they are, which are proven, and their last use."""

    table: Table[int] = field(default_factory=lambda: Table(ROW))
    sites: dict[int, int] = field(default_factory=dict)
    proven: set[int] = field(default_factory=set)
    used: dict[int, int] = field(default_factory=dict)
    made: int = 0

    def rank(self, entry: int) -> Rank:
        return entry in self.proven, self.used.get(entry, 0)

    def come(self, where: int, now_ns: int = 0) -> list[int]:
        """A newcomer; returns what went for it."""
        gone = []
        is_full = self.table.is_full
        for entry in self.table.in_the_way(where, now_ns, LONG_AGO, self.rank, is_full=is_full):
            self.table.remove(self.sites.pop(entry), entry)
            gone.append(entry)
        if not self.table.is_full:
            self.made += 1
            self.sites[self.made] = where
            self.table.add(where, self.made)
        return gone

    def use(self, entry: int, *, proven: bool, at_ns: int = 1) -> None:
        self.used[entry] = at_ns
        self.proven |= {entry} if proven else set()
        self.table.use(self.sites[entry], entry, is_proven=proven)

    def of(self, where: int) -> list[int]:
        return [entry for entry, one in self.sites.items() if one == where]

    def has(self, region: int) -> int:
        return sum(one >> REGION_SHIFT == region for one in self.sites.values())


def full() -> Model:
    """A table that one site has filled."""
    model = Model()
    for _ in range(LIMIT):
        assert model.come(site(1)) == []
    return model


def test_a_site_may_have_the_whole_table_while_it_is_alone() -> None:
    model = full()
    assert len(model.of(site(1))) == LIMIT
    assert model.come(site(1)) == [1], "its own, the oldest"
    assert len(model.of(site(1))) == LIMIT


def test_newcomers_are_served_and_a_site_is_brought_down_to_its_share() -> None:
    model = full()
    for number in range(2, LIMIT - SHARE + 2):
        model.come(site(number))
        assert model.of(site(number)), "it has its entry"
    assert len(model.of(site(1))) == SHARE


def test_a_newcomer_takes_no_more_than_so_many_entries_back() -> None:
    assert len(full().come(site(2))) == 1 + RECALLED_MAX


def test_above_its_share_a_site_replaces_its_own_while_the_table_is_needed() -> None:
    model = full()
    model.come(site(2))
    before = len(model.of(site(1)))
    assert len(model.come(site(1), NEEDED_TIME - 1)) == 1
    assert len(model.of(site(1))) == before
    assert model.come(site(1), NEEDED_TIME) == []


def test_many_sites_of_one_region_have_one_share_together() -> None:
    model = Model()
    for number in range(LIMIT):
        model.come(site(1, number))
    for number in range(2, LIMIT - SHARE + 2):
        model.come(site(number))
    assert model.has(1) == SHARE


def test_of_the_largest_region_the_largest_site_gives_room() -> None:
    model = Model()
    for number in range(LIMIT - 5):
        model.come(site(1, number))
    for _ in range(5):
        model.come(site(1, LIMIT))
    gone = model.come(site(2))
    assert model.of(site(1, LIMIT)) == []
    assert set(gone) >= set(range(LIMIT - 4, LIMIT + 1))


def test_unproven_entries_are_evicted_first_then_the_least_recently_used() -> None:
    model = full()
    for entry in range(1, LIMIT - 1):
        model.use(entry, proven=True, at_ns=entry)
    model.use(1, proven=True, at_ns=LIMIT)
    gone = [entry for _ in range(4) for entry in model.come(site(1))]
    assert gone[:2] == [LIMIT - 1, LIMIT], "unproven"
    assert set(gone[2:]) == {LIMIT + 1, LIMIT + 2}, "unproven too, and newer"
    for entry in set(model.of(site(1))) - model.proven:
        model.use(entry, proven=True, at_ns=2 * LIMIT)
    assert model.come(site(1)) == [2], "the first was used since"


def test_an_entry_in_use_is_evicted_only_if_its_region_exceeds_its_share() -> None:
    model = Model()
    for number in range(LIMIT):
        model.come(site(number % SHARES))
    for entry in list(model.sites):
        model.use(entry, proven=True)
    assert model.come(site(SHARES)) == []
    assert not model.of(site(SHARES)), "there is no room"


def test_of_sites_with_one_entry_the_worst_of_some_goes() -> None:
    model = Model()
    for number in range(LIMIT):
        model.come(site(1, number))
    for entry in range(1, CANDIDATES):
        model.use(entry, proven=True)
    assert model.come(site(2))[0] == CANDIDATES


def test_what_ends_goes_first() -> None:
    model = full()
    model.table.end(site(1), 9)
    assert model.come(site(1)) == [9]


def test_an_exempt_newcomer_is_always_let_in() -> None:
    model = full()
    for entry in list(model.sites):
        model.use(entry, proven=True)
    rank = model.rank
    (victim,) = model.table.in_the_way(None, SECOND, LONG_AGO, rank, is_full=True)
    assert victim == 1


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2), st.booleans()), max_size=400
)


@given(STEPS)
def test_the_greatest_of_a_ranking_is_the_greatest(steps: list[tuple[int, int, int, bool]]) -> None:
    ranking, counts = Ranking(), Counter[int]()
    for _, user, _, more in steps:
        counts[user] = max(0, counts[user] + (1 if more else -1))
        ranking.set(user, counts[user])
        greatest = ranking.greatest()
        assert (counts[greatest] if greatest is not None else 0) == max(counts.values())
    assert ranking.largest(3) == sorted(ranking.largest(3), key=lambda one: -counts[one[0]]), (
        "the greatest first"
    )
    assert {one: count for one, count in counts.items() if count} == ranking.counts


@given(STEPS)
def test_a_table_counts_right_whatever_happens(steps: list[tuple[int, int, int, bool]]) -> None:
    model = Model()
    for kind, region, number, flag in steps:
        where, entries = site(region, number), model.of(site(region, number))
        match kind:
            case 0 | 1:
                model.come(where, model.made * SECOND)
            case 2 if entries:
                model.use(entries[0], proven=flag, at_ns=model.made)
            case 3 if entries and flag:
                model.table.remove(where, entries[-1])
                del model.sites[entries[-1]]
            case 3 if entries:
                model.table.end(where, entries[-1])
            case _:
                pass
    assert model.table.count == len(model.sites) <= LIMIT
    by_region = Counter(one >> REGION_SHIFT for one in model.sites.values())
    assert model.table.ranking.counts == by_region
    greatest = model.table.ranking.greatest()
    assert greatest is None or by_region[greatest] == max(by_region.values())
    by_site = Counter(model.sites.values())
    for one, count in by_site.items():
        assert model.table.regions[one >> REGION_SHIFT].count(one) == count
