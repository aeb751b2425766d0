# SPDX-License-Identifier: MIT
"""Any records of the DNS, in any order: only what they prove is verified."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.dns.verification import Verification
from noid.locators import Locator
from tests.dns.test_verification import A1, A2, A3, NAME, UNREACHABLE, VICTIM

POOL = [A1, A2, A3, VICTIM]


NAMES = [NAME, "victim.example", "third.example"]


@dataclass
class Zone:
    """What the DNS holds."""

    forward: dict[str, list[Locator]]
    reverse: dict[Locator, list[str]]

    def answer(self, question: Question) -> Answer:
        if question.kind is Kind.LOCATORS:
            listed = tuple(self.forward.get(question.name, ()))
            return Answer(status=Status.FOUND if listed else Status.ABSENT, locators=listed)
        (locator,) = [one for one in POOL if reverse_name(one) == question.name]
        named = tuple(self.reverse.get(locator, ()))
        return Answer(status=Status.FOUND if named else Status.ABSENT, names=named)

    def inquiry(self, *, is_initiator: bool) -> Verification:
        if is_initiator:
            return Verification(A1, NAME, tuple(self.forward.get(NAME, ())))
        return Verification(A1, None)


def zones() -> st.SearchStrategy[Zone]:
    listed = st.lists(st.sampled_from(POOL), unique=True)
    named = st.lists(st.sampled_from(NAMES), unique=True)
    return st.builds(
        Zone,
        st.dictionaries(st.sampled_from(NAMES), listed),
        st.dictionaries(st.sampled_from(POOL), named),
    )


@pytest.mark.slow
@given(zones(), st.booleans(), st.data())
def test_nothing_is_verified_that_forward_and_reverse_do_not_both_say(
    zone: Zone, is_initiator: bool, data: st.DataObject
) -> None:
    inquiry = zone.inquiry(is_initiator=is_initiator)
    waiting = inquiry.begin()
    for _ in range(100):
        waiting = waiting or inquiry.retry()
        if not waiting:
            break
        question = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
        fails = data.draw(st.integers(0, 3)) == 0
        waiting += inquiry.receive(question, UNREACHABLE if fails else zone.answer(question))
        assert set(inquiry.open) == set(waiting)
        assert inquiry.remote[:1] in ((), (A1,)), "the AID first"
        assert inquiry.verified <= set(inquiry.remote)
        for locator in inquiry.verified:
            assert {locator, A1} <= set(zone.forward[inquiry.name])
            assert inquiry.name in zone.reverse[locator]


@pytest.mark.slow
@given(zones(), st.booleans(), st.randoms(use_true_random=False))
def test_without_errors_everything_that_both_say_is_verified_in_any_order(
    zone: Zone, is_initiator: bool, order: Random
) -> None:
    zone.reverse[A1] = [NAME]
    zone.forward[NAME] = list({*zone.forward.get(NAME, ()), A1})
    inquiry = zone.inquiry(is_initiator=is_initiator)
    waiting = inquiry.begin()
    while waiting:
        order.shuffle(waiting)
        question = waiting.pop()
        waiting += inquiry.receive(question, zone.answer(question))
    both = {one for one in zone.forward[NAME] if NAME in zone.reverse.get(one, ())}
    assert inquiry.settled
    assert inquiry.verified == set(inquiry.remote) == both
