# SPDX-License-Identifier: MIT
"""What is remembered of addresses that are away has a limit."""

from dataclasses import replace

from noid.config import HostSection
from noid.host.survey import Survey
from noid.locators import Locator
from noid.roles.local_locators import AWAY_MAX, LocalLocators
from tests.engine.network import A1
from tests.roles.test_preferring import survey


def without_routes(found: Survey) -> Survey:
    locators = tuple(one._replace(leads_out=False) for one in found.locators)
    return replace(found, locators=locators)


def test_the_last_addresses_that_are_away_are_remembered_to_have_had_a_route() -> None:
    own = LocalLocators(HostSection())
    others = [Locator(A1[:8] + number.to_bytes(8)) for number in range(1, AWAY_MAX + 3)]
    for one in others:
        own.look(survey(("up1", one)))
    for one, is_remembered in ((others[-2], True), (others[0], False)):
        own.look(without_routes(survey(("up1", one))))
        assert (one in own.said.broken) == is_remembered
