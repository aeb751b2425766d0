# SPDX-License-Identifier: MIT
"""From which locator new connections start: pins before weights, weights before routes."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from noid.config import HostSection
from noid.dns.records import Answer, Kind, Question, Status
from noid.host.survey import Survey
from noid.locators import Locator, parse_locator
from noid.policy_config import UplinkSection, UplinkSections
from noid.roles.listing import Listing
from noid.roles.local_locators import NO_UPLINKS, LocalLocators
from noid.roles.spreading import Spreading
from tests.engine.network import A1, A2, B1
from tests.roles.test_preferring import TWO, survey

MANY = 4_000
NO_PIN: frozenset[Locator] = frozenset()


U1, U2, PRIVATE_PEER = map(parse_locator, ("fd00:1::a", "fd00:2::a", "fd00:9::b"))
WITH_PRIVATE = survey(("up1", U1), ("up1", A1), ("up2", U2), ("up2", A2))


def spreading(
    sections: UplinkSections, pinned: frozenset[Locator] = NO_PIN, seen: Survey = TWO
) -> Spreading:
    own = LocalLocators(HostSection(), sections)
    own.look(seen)
    return Spreading(own, lambda aid: pinned, Path("verifier.log"))


def address(number: int, at: Locator = B1) -> Locator:
    return Locator(at[:8] + number.to_bytes(8, "big"))


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


def test_a_source_of_the_kind_of_the_address_comes_first() -> None:
    """A provider drops a unique local source; its router may have announced one all the same."""
    one = spreading(NO_UPLINKS, seen=WITH_PRIVATE)
    assert one.sources(B1) == (A1, A2, U1, U2)
    assert one.sources(PRIVATE_PEER) == (U1, U2, A1, A2)


def test_weights_are_of_global_addresses_and_not_for_unique_local_peers() -> None:
    weights = {"up1": UplinkSection(weight=1), "up2": UplinkSection(weight=1)}
    one = spreading(weights, seen=WITH_PRIVATE)
    assert one.own.weights == {A1: 1, A2: 1}
    assert {one.sources(address(number)) for number in range(100)} == {(A1,), (A2,)}
    assert one.sources(PRIVATE_PEER) == (U1, U2, A1, A2)


def test_of_an_uplink_the_addresses_that_the_dns_has_are_sources() -> None:
    """An address that is not there has no other locator at its peers, and dies with its uplink."""
    slaac = address(1, at=A1)
    one = spreading(NO_UPLINKS, seen=survey(("up1", slaac), ("up1", A1), ("up2", A2)))
    assert one.sources(B1) == (slaac, A1, A2)
    one.own.listed = frozenset({A1})
    assert one.sources(B1) == (A1, A2), "up2 has no other address"


def test_the_weight_of_an_uplink_is_of_an_address_that_the_dns_has() -> None:
    slaac = address(1, at=A1)
    weights = {"up1": UplinkSection(weight=1), "up2": UplinkSection(weight=1)}
    one = spreading(weights, seen=survey(("up1", slaac), ("up1", A1), ("up2", A2)))
    one.own.listed = frozenset({A1})
    assert one.own.weights == {A1: 1, A2: 1}


def test_what_the_dns_has_is_learnt_and_kept_while_it_does_not_answer() -> None:
    own = LocalLocators(HostSection())
    names = ["A.example.", "a.example", "a.example", ""]
    asked: list[Question] = []
    answers = [
        Answer(status=Status.FOUND, locators=(A1, A2)),
        Answer(status=Status.UNREACHABLE),
        Answer(status=Status.ABSENT),
    ]

    async def ask(question: Question) -> Answer:
        asked.append(question)
        return answers.pop(0)

    listing = Listing(own, lambda: names.pop(0), ask)
    for expected in ({A1, A2}, {A1, A2}, set()):
        asyncio.run(listing.look())
        assert own.listed == expected
    own.listed = frozenset({A1})
    asyncio.run(listing.look())
    assert own.listed == frozenset(), "the host has no name any more"
    assert asked == [Question(Kind.LOCATORS, "a.example")] * 3
