# SPDX-License-Identifier: MIT
"""Rates that sources share."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from noid.constants import SECOND
from noid.shares.policy import POLICY, REGION_SHIFT, SHARES, Row
from noid.shares.rates import FREQUENT_MAX, KEY_LIFETIME, USERS_SPARE, Each, Frequent, Rate

ROW = Row(name="events", limit=800, each=200, burst=1)


def site(region: int, number: int = 0) -> int:
    return region << REGION_SHIFT | number


def taken(rate: Rate, where: int, count: int, now_ns: int = 0) -> int:
    return sum(rate.take(where, now_ns) for _ in range(count))


def test_a_site_gets_its_burst_and_then_its_rate() -> None:
    rate = Rate(ROW)
    assert taken(rate, site(1), 500) == ROW.each
    assert taken(rate, site(1), 500, SECOND // 2) == ROW.each // 2
    assert taken(rate, site(1), 500, 100 * SECOND) == ROW.each


def test_all_sites_together_get_the_total() -> None:
    rate = Rate(ROW, key=0x9E3779B97F4A7C15)
    assert sum(taken(rate, site(number), 1) for number in range(2 * ROW.limit)) == ROW.limit


def test_a_region_gets_more_than_its_share_only_while_half_is_free() -> None:
    rate = Rate(ROW, key=0x9E3779B97F4A7C15)
    of_one = sum(taken(rate, site(1, number), 1) for number in range(2 * ROW.limit))
    assert ROW.limit // 2 <= of_one <= ROW.limit // 2 + ROW.share + 1
    assert sum(taken(rate, site(number), 1) for number in range(2, 200)) == 198


def test_a_flooding_region_never_gets_more_than_its_share() -> None:
    rate = Rate(ROW, key=0x9E3779B97F4A7C15)
    flood = others = wanted = 0
    for tick in range(10_000):
        now_ns = tick * SECOND // 1000
        flood += taken(rate, site(1, tick % 500), 3, now_ns)
        if tick % 2:
            wanted += 1
            others += taken(rate, site(2 + tick), 1, now_ns)
    assert others == wanted
    assert flood <= 10 * (ROW.limit - 500) + ROW.limit


def neighbour(evil: int) -> int:
    """A site of another region that a rate at first counts in the place of a site that floods."""
    rate = Rate(Row(name="many", limit=1 << 24, each=ROW.each, burst=ROW.burst))
    taken(rate, evil, ROW.each)
    others = (site(number, number) for number in range(2, 1 << 20))
    return next(one for one in others if not rate.take(one, 0))


def test_a_site_that_meets_one_that_floods_in_its_place_is_served_again_soon() -> None:
    evil, rate = site(1), Rate(ROW)
    other = neighbour(evil)
    served_ns: list[int] = []
    passed = 0
    for now_ns in range(0, 60 * SECOND, SECOND // 400):
        passed += taken(rate, evil, 4, now_ns)
        if now_ns % (SECOND // 2) == 0 and rate.take(other, now_ns):
            served_ns.append(now_ns)
    gaps = [after - before for before, after in itertools.pairwise([*served_ns, 60 * SECOND])]
    assert gaps[0] > SECOND, "they meet at first"
    assert max(gaps) <= KEY_LIFETIME + (ROW.burst + 1) * SECOND
    assert passed <= 61 * ROW.each, "another place is no new burst"


def test_who_is_refused_most_is_known() -> None:
    rate = Rate(ROW)
    taken(rate, site(7), 1000)
    assert rate.refused.counts == {site(7): 1000 - ROW.each}


def test_each_user_has_a_separate_rate_and_expired_users_are_removed() -> None:
    row = Row(name="messages", limit=0, each=4, burst=2, user="context")
    each = Each(row)
    assert sum(each.take(1, 0) for _ in range(20)) == 8
    assert each.take(2, 0)
    assert sum(each.take(1, SECOND) for _ in range(20)) == 4
    for user in range(20 * USERS_SPARE):
        assert each.take(user, 100 * SECOND + user * SECOND)
    assert len(each) <= USERS_SPARE + 8


@given(st.lists(st.integers(0, 200), max_size=2000))
def test_the_most_frequent_are_found_in_little_room(users: list[int]) -> None:
    frequent = Frequent()
    for user in users:
        frequent.note(user)
        assert len(frequent.counts) <= FREQUENT_MAX
    for user in set(users):
        if users.count(user) > len(users) / FREQUENT_MAX:
            assert user in frequent.counts


def test_a_share_is_an_eighth_of_every_row_and_each_row_has_a_name() -> None:
    assert len({row.name for row in POLICY}) == len(POLICY)
    for row in POLICY:
        assert row.share == max(1, row.limit // SHARES)
