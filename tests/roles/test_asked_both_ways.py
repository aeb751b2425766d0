# SPDX-License-Identifier: MIT
"""What requests in both ways over a pair say of its directions."""

import pytest

from noid.engine.events import PairMeasured
from noid.identifiers import Label
from noid.locators import Locator
from noid.roles.measuring import Round, both_ways
from tests.engine.network import A1, A2, B1, B2

ASKED = ((A1, B1), (A2, B2))


def round_of(*, here: bool, answered: dict[Locator, bool]) -> Round:
    """A round over two pairs; those of our locators that were answered, and if at themselves."""
    one = Round(Label(1), dict.fromkeys(ASKED), here)
    for pair in ASKED:
        if pair[0] in answered:
            returned = answered[pair[0]]
            one.take(PairMeasured(Label(1), pair, 1_000, here=here, returned=returned))
    return one


@pytest.mark.parametrize(
    ("there", "back", "returned", "unreturned"),
    [
        ({A1: False, A2: True}, {A1: True, A2: True}, {A1, A2}, set()),
        ({A1: False, A2: True}, {A2: True}, {A2}, {A1}),
        ({A1: False, A2: True}, {A1: False, A2: True}, {A2}, set()),
        ({A2: True}, {A2: True}, {A2}, set()),
        ({A1: False, A2: False}, {}, set(), set()),
        ({A2: True}, {A1: True, A2: True}, {A1, A2}, set()),
        ({}, {A2: True}, {A2}, set()),
    ],
    ids=[
        *("both work", "inbound fails", "a peer without the flag", "outbound fails", "unknown"),
        *("the others are lost", "the pair in use fails"),
    ],
)
def test_what_is_asked_in_both_ways_tells_the_directions_apart(
    there: dict[Locator, bool],
    back: dict[Locator, bool],
    returned: set[Locator],
    unreturned: set[Locator],
) -> None:
    asked = both_ways(round_of(here=False, answered=there), round_of(here=True, answered=back))
    assert asked.returned == returned
    assert asked.unreturned == unreturned
    assert asked.answered.keys() == there.keys() | back.keys()
    assert asked.unanswered == {A1, A2} - asked.answered.keys()


def test_an_answer_to_a_request_of_the_other_kind_is_none() -> None:
    one = Round(Label(1), dict.fromkeys(ASKED), here=True)
    one.take(PairMeasured(Label(1), ASKED[0], 1_000))
    assert one.answers[ASKED[0]] is None
