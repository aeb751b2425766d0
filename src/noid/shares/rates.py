# SPDX-License-Identifier: MIT
"""Rates that sources share [D9, D46].

A rate is stored as the time at which its burst is available again: one number per user and one
addition per event. A secret key maps sites to places; two sites in one place share its rate until
the key changes.
"""

from collections.abc import Hashable

from noid.constants import SECOND
from noid.shares.policy import REGION_SHIFT, SHARES, Row, Standing, largest

PLACES = 4_096
KEY_SHIFT = 36
"""The bits of the product that depend on all bits of a site and of the key."""
KEY_LIFETIME = 5 * SECOND
"""How long a site may share a place with one that floods, plus the time of a burst."""
KEY_STEP = 0x9E37_79B9_7F4A_7C15
KEY_MASK = (1 << 64) - 1
CHANCES = 1 << 16
CHANCE_SHIFT = 64 - 16
FREQUENT_MAX = 64
"""Users whose refusals are counted."""
USERS_SPARE = 1_024
"""After this many new users, expired ones are removed."""


class Frequent:
    """The users with the most refusals, in a table of limited size (Misra and Gries).

    A user with more than 1/FREQUENT_MAX of all refusals is always in it.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def note(self, user: int) -> None:
        """Counts one refusal; if the table is full, all counts are reduced by one."""
        counts = self.counts
        if user in counts or len(counts) < FREQUENT_MAX:
            counts[user] = counts.get(user, 0) + 1
        else:
            self.counts = {one: count - 1 for one, count in counts.items() if count > 1}


class Rate:
    """Events in a second, in total, of a site, and of a region while others need it.

    Args:
        row: how many.
        key: a secret, odd number, so that a sender cannot choose the place that it uses up.
    """

    def __init__(self, row: Row, key: int = 1) -> None:
        self.row = row
        self.refused = Frequent()
        self._first_key = self._drawn = key
        self.forget()
        self._cost_ns = SECOND // row.limit
        self._site_cost_ns = SECOND // row.each
        self._region_cost_ns = SECOND * SHARES // row.limit
        self._burst_ns = row.burst * SECOND

    @property
    def standing(self) -> Standing:
        """The users with the most refusals."""
        return Standing(self.row, self.row.limit, 0, largest(self.refused.counts), {})

    def forget(self) -> None:
        """Forgets all events."""
        self._sites: dict[int, int] = {}
        self._regions: dict[int, int] = {}
        self._total_ns = 0
        self._key = self._key_before = self._first_key
        self._key_until_ns = self._moved_until_ns = 0

    def __len__(self) -> int:
        return len(self._sites) + len(self._regions)

    def take(self, site: int, now_ns: int) -> bool:
        """Whether one more event of a site may happen now."""
        if now_ns >= self._key_until_ns:
            self._change_key(now_ns)
        place = (site * self._key >> KEY_SHIFT) % PLACES
        site_ns = self._used_ns(self._sites, place, site, now_ns) + self._site_cost_ns
        total_ns = max(self._total_ns, now_ns) + self._cost_ns
        last_ns = now_ns + self._burst_ns
        if self.row.by_chance:
            last_ns -= self._burst_ns // 2 * self._chance() // CHANCES
        if site_ns > last_ns or total_ns > last_ns:
            self.refused.note(site)
            return False
        # Others need it when half of it is used.
        if total_ns > now_ns + self._burst_ns // 2 and not self._take_share(site, now_ns, last_ns):
            self.refused.note(site)
            return False
        self._sites[place] = site_ns
        self._total_ns = total_ns
        return True

    def _chance(self) -> int:
        """A number below CHANCES that depends on the secret key."""
        self._drawn = (self._drawn * KEY_STEP + self._first_key) & KEY_MASK
        return self._drawn >> CHANCE_SHIFT

    def _take_share(self, site: int, now_ns: int, last_ns: int) -> bool:
        region = site >> REGION_SHIFT
        place = (region * self._key >> KEY_SHIFT) % PLACES
        region_ns = self._used_ns(self._regions, place, region, now_ns) + self._region_cost_ns
        if region_ns > last_ns:
            return False
        self._regions[place] = region_ns
        return True

    def _used_ns(self, table: dict[int, int], place: int, user: int, now_ns: int) -> int:
        """When the full burst of a user is available again, by its present and its last place."""
        used_ns = max(table.get(place, 0), now_ns)
        if now_ns < self._moved_until_ns:
            before = (user * self._key_before >> KEY_SHIFT) % PLACES
            used_ns = max(used_ns, table.get(before, 0))
        return used_ns

    def _change_key(self, now_ns: int) -> None:
        """Gives every user another place; used bursts stay used."""
        if self._key_until_ns:
            self._key_before, self._key = self._key, self._key * KEY_STEP & KEY_MASK
            self._moved_until_ns = now_ns + self._burst_ns
        self._key_until_ns = now_ns + KEY_LIFETIME


class Each:
    """A separate rate for each user.

    Args:
        row: how many events of one user there may be in a second.
    """

    def __init__(self, row: Row) -> None:
        self.row = row
        self.forget()
        self._cost_ns = SECOND // row.each
        self._burst_ns = row.burst * SECOND

    def forget(self) -> None:
        """Forgets all events."""
        self._whole_ns: dict[Hashable, int] = {}
        self._looked_through = 0

    def __len__(self) -> int:
        return len(self._whole_ns)

    def take(self, user: Hashable, now_ns: int) -> bool:
        """Whether one more event of a user may happen now."""
        whole_ns = max(self._whole_ns.get(user, 0), now_ns) + self._cost_ns
        if whole_ns > now_ns + self._burst_ns:
            return False
        if len(self._whole_ns) > 2 * self._looked_through + USERS_SPARE:
            self._whole_ns = {one: ns for one, ns in self._whole_ns.items() if ns > now_ns}
            self._looked_through = len(self._whole_ns)
        self._whole_ns[user] = whole_ns
        return True
