# SPDX-License-Identifier: MIT
"""What a border goes on with, of its providers, after a reload or a restart."""

import pytest

from noid.border_config import parse_border_config
from noid.constants import SECOND
from noid.flows.border import Choice
from noid.planes.bpf.border_tables import Left, choice_entry, left_in, prefix_entry
from noid.roles.border_prefixes import KnownPrefixes
from noid.roles.border_providers import NO_CARRIER, ProviderState

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
