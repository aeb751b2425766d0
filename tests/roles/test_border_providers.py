# SPDX-License-Identifier: MIT
"""What a border goes on with, of its providers, after a reload or a restart."""

import pytest

from noid.border_config import parse_border_config
from noid.constants import SECOND
from noid.flows.border import NOWHERE, Choice, Site, SitePrefix, choose
from noid.locators import parse_locator
from noid.planes.bpf.border_tables import Left, choice_entry, left_in, prefix_entry
from noid.roles.border_prefixes import KnownPrefixes
from noid.roles.border_providers import NO_CARRIER, ProviderState, facts, facts_handed_over

CONFIG = parse_border_config(
    '[border]\nlans = ["lan0"]\nhold_s = 3\n[[border.providers]]\nname = "one"\nuplink = "wan1"\n'
    'prefixes = ["2001:db8:1::/48"]\n'
)


def provider() -> ProviderState:
    return ProviderState(CONFIG.border.providers[0], CONFIG)


def test_a_reload_does_not_end_the_wait_for_an_uplink_that_came_back() -> None:
    before, now = provider(), provider()
    before.liveness.take("carrier", NO_CARRIER, 0)
    before.liveness.take("carrier", "", SECOND)
    now.inherit(Left(), before.liveness, 2 * SECOND)
    assert not now.liveness.works(4 * SECOND - 1)
    assert now.liveness.works(4 * SECOND), "three seconds since it was good"


def test_an_uplink_that_comes_back_while_the_border_reloads_is_waited_for() -> None:
    before, now = provider(), provider()
    before.liveness.take("carrier", NO_CARRIER, 0)
    now.inherit(Left(), before.liveness, 2 * SECOND)
    now.liveness.take("carrier", "", 2 * SECOND)
    assert not now.liveness.works(5 * SECOND - 1)
    assert now.liveness.works(5 * SECOND)


@pytest.mark.parametrize("works", [True, False])
def test_a_restart_waits_for_an_uplink_that_was_not_in_use(works: bool) -> None:
    site = KnownPrefixes(CONFIG).site({"wan1": 7}, 0)
    entry = choice_entry(site, Choice((0,), int(works)))
    now = provider()
    now.inherit(left_in(entry, [prefix_entry(site.prefixes[0])]), None, SECOND)
    now.liveness.take("carrier", "", SECOND)
    assert now.liveness.works(4 * SECOND - 1) == works
    assert now.liveness.works(4 * SECOND)


def test_an_uplink_that_has_worked_works_after_a_reload() -> None:
    before, now = provider(), provider()
    before.liveness.take("carrier", "", 0)
    now.inherit(Left(), before.liveness, 1)
    assert now.liveness.works(1)


TWO = parse_border_config(
    '[border]\nlans = ["lan0"]\nhold_s = 30\n'
    '[[border.providers]]\nname = "one"\nuplink = "wan1"\nprefixes = ["2001:db8:1::/48"]\n'
    '[[border.providers]]\nname = "two"\nuplink = "wan2"\nprefixes = ["2001:db8:2::/48"]\n'
)
SITE = Site(
    48,
    (
        SitePrefix(parse_locator("2001:db8:1::")[:8], 1, "one"),
        SitePrefix(parse_locator("2001:db8:2::")[:8], 2, "two"),
    ),
)
BOTH, FIRST, SECOND_ONLY = Choice((0, 1), 0b11), Choice((0, 0), 0b01), Choice((1, 1), 0b10)
NONE = Choice((NOWHERE, NOWHERE), 0)


class Pair:
    """Two providers, and the choice at a second."""

    def __init__(self, site: Site = SITE, beyond: str = "") -> None:
        self.site = site
        self.states = [ProviderState(one, TWO) for one in TWO.border.providers]
        for one in self.states:
            one.is_beyond = one.table.name == beyond

    def carry(self, name: str, carries: bool, at_s: int) -> None:
        why = "" if carries else NO_CARRIER
        for one in self.states:
            if one.table.name == name:
                one.liveness.take("carrier", why, at_s * SECOND)

    def choice(self, at_s: int) -> Choice:
        found = facts(self.site, self.states, at_s * SECOND)
        for one in self.states:
            works = not one.liveness.why(at_s * SECOND)
            assert found[one.table.name].works == works, "the status agrees with the choice"
        return choose(self.site, found)

    def handed_over(self, at_s: int) -> Choice:
        found = facts_handed_over(self.site, self.states, at_s * SECOND)
        return choose(self.site, found, handed_over=True)


def test_an_uplink_is_used_at_once_while_none_works_and_the_next_one_waits() -> None:
    pair = Pair()
    assert pair.choice(0) == BOTH
    pair.carry("one", False, 0)
    pair.carry("two", False, 0)
    assert pair.choice(1) == NONE
    pair.carry("one", True, 10)
    assert pair.choice(10) == FIRST
    pair.carry("two", True, 20)
    for second in (20, 39, 40, 49):
        assert pair.choice(second) == FIRST, "no uplink is used, then refused"
    assert pair.choice(50) == BOTH


def test_an_uplink_that_waits_is_used_when_the_last_one_fails() -> None:
    pair = Pair()
    pair.carry("one", False, 0)
    pair.carry("one", True, 10)
    assert pair.choice(11) == SECOND_ONLY
    pair.carry("two", False, 12)
    assert pair.choice(12) == FIRST
    pair.carry("two", True, 13)
    assert pair.choice(14) == FIRST
    pair.carry("one", False, 15)
    assert pair.choice(15) == SECOND_ONLY


def test_an_uplink_with_new_prefixes_alone_or_without_a_device_is_no_reason_to_wait() -> None:
    new = SITE.prefixes[1]._replace(is_new=True)
    pair = Pair(Site(48, (SITE.prefixes[0], new)))
    pair.carry("one", False, 0)
    assert pair.choice(0) == Choice((NOWHERE, 1), 0b10)
    pair.carry("one", True, 10)
    assert pair.choice(10) == BOTH
    absent = SITE.prefixes[1]._replace(uplink=0)
    pair = Pair(Site(48, (SITE.prefixes[0], absent)))
    pair.carry("one", False, 0)
    pair.carry("one", True, 10)
    assert pair.choice(10) == FIRST


def test_packets_that_are_handed_over_use_an_uplink_here_that_waits() -> None:
    pair = Pair(beyond="two")
    pair.carry("one", False, 0)
    assert (pair.choice(0), pair.handed_over(0)) == (SECOND_ONLY, NONE)
    pair.carry("one", True, 10)
    for second in (10, 39):
        assert (pair.choice(second), pair.handed_over(second)) == (SECOND_ONLY, FIRST)
    assert (pair.choice(40), pair.handed_over(40)) == (BOTH, FIRST)
    pair.carry("one", False, 41)
    pair.carry("two", False, 41)
    assert (pair.choice(41), pair.handed_over(41)) == (NONE, NONE)
    pair.carry("two", True, 42)
    assert (pair.choice(42), pair.handed_over(42)) == (SECOND_ONLY, NONE)
