# SPDX-License-Identifier: MIT
"""From which locator new connections start: pins before weights, weights before routes."""

from collections import Counter
from pathlib import Path

import pytest

from noid.config import HostSection
from noid.locators import Locator
from noid.policy_config import UplinkSection, UplinkSections
from noid.roles.local_locators import NO_UPLINKS, LocalLocators
from noid.roles.spreading import Spreading
from tests.engine.network import A1, A2, B1
from tests.roles.test_preferring import TWO

MANY = 4_000
NO_PIN: frozenset[Locator] = frozenset()


def spreading(sections: UplinkSections, pinned: frozenset[Locator] = NO_PIN) -> Spreading:
    own = LocalLocators(HostSection(), sections)
    own.look(TWO)
    return Spreading(own, lambda aid: pinned, Path("verifier.log"))


def address(number: int) -> Locator:
    return Locator(B1[:8] + number.to_bytes(8, "big"))


def test_without_weights_the_plane_may_take_each_source() -> None:
    assert spreading(NO_UPLINKS).sources(B1) == (A1, A2)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 1), (8, 2)])
def test_addresses_of_peers_get_their_source_by_weight(first: int, second: int) -> None:
    one = spreading({"up1": UplinkSection(weight=first), "up2": UplinkSection(weight=second)})
    counts = Counter(one.sources(address(number)) for number in range(MANY))
    assert counts.keys() == {(A1,), (A2,)}
    assert counts[(A1,)] / MANY == pytest.approx(first / (first + second), abs=0.03)


def test_an_address_keeps_its_source() -> None:
    weights = {"up1": UplinkSection(weight=1), "up2": UplinkSection(weight=1)}
    assert spreading(weights).sources(B1) == spreading(weights).sources(B1)


def test_a_pin_takes_precedence_over_weights() -> None:
    one = spreading({"up1": UplinkSection(weight=8)}, pinned=frozenset({A2}))
    assert {one.sources(address(number)) for number in range(100)} == {(A2,)}


def test_a_pinned_peer_starts_at_another_uplink_while_its_own_is_down() -> None:
    one = spreading(NO_UPLINKS, pinned=frozenset({A2}))
    one.own.set_down(frozenset({A2}))
    assert one.sources(B1) == (A1,)
