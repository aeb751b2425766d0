# SPDX-License-Identifier: MIT
"""Which locators are really one host's: from both ends, in every order [D14, D29, D30]."""

import pytest

from noid.constants import LOCATORS_MAX, NAMES_PER_LOCATOR_MAX, TTL_BELIEVED_MAX
from noid.dns.records import Answer, Kind, Question, Status, canonical_name, reverse_name
from noid.dns.verification import Verification
from noid.locators import Locator, parse_locator

NAME = "host.example"
A1, A2, A3 = (parse_locator(f"2001:db8:{number}::a") for number in (1, 2, 3))
VICTIM = parse_locator("2001:db8:bad::1")
ABSENT = Answer(status=Status.ABSENT)
UNREACHABLE = Answer(status=Status.UNREACHABLE)


def names(*found: str) -> Answer:
    return Answer(status=Status.FOUND, names=found)


def locators(*found: Locator) -> Answer:
    return Answer(status=Status.FOUND, locators=found)


def reverse(locator: Locator) -> Question:
    return Question(Kind.NAMES, reverse_name(locator))


def forward(name: str) -> Question:
    return Question(Kind.LOCATORS, name)


def initiator(*found: Locator) -> Verification:
    return Verification(found[0], NAME, found)


def responder() -> Verification:
    return Verification(A1, None)


def test_a_name_is_compared_without_its_case_and_its_final_dot() -> None:
    assert canonical_name("Host.Example.") == NAME


def test_a_locator_asks_under_ip6_arpa() -> None:
    assert reverse_name(A1) == ("a" + ".0" * 19 + ".1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa")


# --- the initiator, who begins with the name ------------------------------------------------------


def test_an_initiator_asks_for_the_reverse_of_every_locator_the_aid_first() -> None:
    inquiry = Verification(A2, NAME, (A1, A2, A1, A3))
    assert inquiry.begin() == [reverse(A2), reverse(A1), reverse(A3)]
    assert inquiry.remote == (A2, A1, A3)
    assert inquiry.verified == set()


def test_a_locator_with_the_peers_name_is_verified_when_the_aid_has_it_too() -> None:
    inquiry = initiator(A1, A2, A3)
    inquiry.begin()
    assert inquiry.receive(reverse(A2), names("other.example", "HOST.example.")) == []
    assert inquiry.verified == set()
    inquiry.receive(reverse(A1), names(NAME))
    assert inquiry.verified == {A1, A2}
    inquiry.receive(reverse(A3), names(NAME))
    assert inquiry.verified == {A1, A2, A3}


def test_an_inquiry_is_settled_once_everything_is_answered() -> None:
    inquiry = initiator(A1, A2)
    for question in inquiry.begin():
        inquiry.receive(question, names(NAME))
    assert inquiry.settled
    assert inquiry.verified == {A1, A2}


@pytest.mark.parametrize("answer", [ABSENT, names("stranger.example")])
def test_a_locator_that_does_not_name_the_peer_is_excluded(answer: Answer) -> None:
    inquiry = initiator(A1, A2)
    inquiry.begin()
    inquiry.receive(reverse(A2), answer)
    assert inquiry.remote == (A1,)
    assert inquiry.verified == set()


@pytest.mark.parametrize("answer", [ABSENT, names("stranger.example")])
def test_of_an_aid_that_does_not_name_the_peer_nothing_else_is_believed(answer: Answer) -> None:
    inquiry = initiator(A1, A2, A3)
    inquiry.begin()
    inquiry.receive(reverse(A2), names(NAME))
    for question in inquiry.receive(reverse(A1), answer):
        inquiry.receive(question, ABSENT)
    inquiry.receive(reverse(A3), names(NAME))
    assert inquiry.remote == (A1,)
    assert inquiry.verified == set()


def test_of_two_names_that_list_the_aid_the_one_it_names_wins() -> None:
    inquiry = Verification(A1, "other.example", (A1, VICTIM))
    inquiry.begin()
    inquiry.receive(reverse(VICTIM), names("other.example"))
    assert inquiry.receive(reverse(A1), names(NAME)) == [forward(NAME)]
    assert inquiry.receive(forward(NAME), locators(A1, A2)) == [reverse(A2)]
    inquiry.receive(reverse(A2), names(NAME))
    assert (inquiry.name, inquiry.remote, inquiry.verified) == (NAME, (A1, A2), frozenset({A1, A2}))


def test_a_locator_that_pointed_at_the_name_that_lost_is_asked_about_again() -> None:
    inquiry = Verification(A1, "other.example", (A1, A2))
    inquiry.begin()
    inquiry.receive(reverse(A2), names("other.example"))
    inquiry.receive(reverse(A1), names(NAME))
    assert inquiry.receive(forward(NAME), locators(A1, A2)) == [reverse(A2)]
    assert inquiry.verified == {A1}


def test_an_aid_that_its_name_does_not_list_is_unproven() -> None:
    inquiry = Verification(A1, NAME, (A2, A3))
    assert inquiry.begin() == []
    assert inquiry.remote == (A1,)
    assert inquiry.settled


# --- the responder, who begins with the AID -------------------------------------------------------


def test_a_responder_goes_from_the_aid_to_the_name_to_the_others() -> None:
    inquiry = responder()
    assert inquiry.begin() == [reverse(A1)]
    assert inquiry.receive(reverse(A1), names("Host.Example.")) == [forward(NAME)]
    assert inquiry.receive(forward(NAME), locators(A2, A1)) == [reverse(A2)]
    assert inquiry.name == NAME
    assert inquiry.remote == (A1, A2)
    assert inquiry.verified == {A1}
    assert inquiry.receive(reverse(A2), names(NAME)) == []
    assert inquiry.verified == {A1, A2}
    assert inquiry.settled


def test_a_peer_without_a_name_has_its_aid_alone() -> None:
    inquiry = responder()
    inquiry.begin()
    assert inquiry.receive(reverse(A1), ABSENT) == []
    assert (inquiry.remote, inquiry.verified, inquiry.name) == ((A1,), frozenset(), "")
    assert inquiry.settled


@pytest.mark.parametrize("answer", [ABSENT, locators(VICTIM)])
def test_the_owner_of_a_reverse_zone_cannot_claim_addresses_of_a_victim(
    answer: Answer,
) -> None:
    inquiry = responder()
    inquiry.begin()
    inquiry.receive(reverse(A1), names("victim.example"))
    assert inquiry.receive(forward("victim.example"), answer) == []
    assert (inquiry.remote, inquiry.verified, inquiry.name) == ((A1,), frozenset(), "")


def test_any_one_of_several_names_may_be_the_peers() -> None:
    inquiry = responder()
    inquiry.begin()
    asked = inquiry.receive(reverse(A1), names("two.example", "one.example"))
    assert asked == [forward("one.example"), forward("two.example")]
    assert inquiry.receive(forward("one.example"), ABSENT) == []
    assert inquiry.remote == ()
    assert inquiry.receive(forward("two.example"), locators(A1, A2)) == [reverse(A2)]
    assert inquiry.name == "two.example"


def of_two_names(*said: Locator) -> Verification:
    """An inquiry about an AID with two names, of which each lists another locator too."""
    inquiry = responder()
    inquiry.begin()
    inquiry.receive(reverse(A1), names("one.example", "two.example"))
    assert inquiry.receive(forward("two.example"), locators(A1, A2, A3), said) == []
    (question,) = inquiry.receive(forward("one.example"), locators(A1, VICTIM), said)[:1]
    assert question in (reverse(A2), reverse(VICTIM))
    return inquiry


def test_the_name_that_lists_the_most_locators_of_the_peer_is_selected() -> None:
    assert of_two_names(A1, A2, A3).name == "two.example"


def test_the_first_of_two_equal_names_in_canonical_order_is_selected() -> None:
    assert of_two_names(A1).name == "one.example"


def test_names_are_ordered_by_their_last_label_first() -> None:
    inquiry = responder()
    inquiry.begin()
    asked = inquiry.receive(reverse(A1), names("a.z.example", "b.example", "c.a.example"))
    assert [one.name for one in asked] == ["c.a.example", "b.example", "a.z.example"]


def test_a_late_name_is_selected_if_it_lists_more_and_proves_nothing_else() -> None:
    inquiry = responder()
    inquiry.begin()
    said = (A1, A2, A3)
    inquiry.receive(reverse(A1), names("one.example", "two.example"))
    inquiry.receive(forward("two.example"), UNREACHABLE, said)
    assert inquiry.receive(forward("one.example"), locators(A1, A2), said) == [reverse(A2)]
    (again,) = inquiry.retry()
    assert inquiry.receive(again, locators(A1, A2, A3), said) == [reverse(A3)]
    assert inquiry.name == "two.example"


def test_the_name_is_fixed_once_it_has_proven_another_locator() -> None:
    inquiry = responder()
    inquiry.begin()
    said = (A1, A2, A3)
    inquiry.receive(reverse(A1), names("one.example", "two.example"))
    inquiry.receive(forward("two.example"), UNREACHABLE, said)
    inquiry.receive(forward("one.example"), locators(A1, A2), said)
    inquiry.receive(reverse(A2), names("one.example", "two.example"))
    (again,) = inquiry.retry()
    assert inquiry.receive(again, locators(A1, A2, A3), said) == []
    assert (inquiry.name, inquiry.verified) == ("one.example", frozenset({A1, A2}))


# --- later inquiries, which begin with the name ---------------------------------------------------


def proven() -> Verification:
    """An inquiry that has proven two locators under a name."""
    inquiry = initiator(A1, A2)
    for question in inquiry.begin():
        inquiry.receive(question, names(NAME))
    return inquiry


def test_a_later_inquiry_begins_with_the_name() -> None:
    inquiry = proven().again()
    assert inquiry.begin() == [forward(NAME)]
    asked = inquiry.receive(forward(NAME), locators(A1, A2, A3))
    assert asked == [reverse(A1), reverse(A2), reverse(A3)]
    for question in asked:
        inquiry.receive(question, names(NAME))
    assert inquiry.verified == {A1, A2, A3}


def test_a_later_inquiry_proves_others_without_the_aid() -> None:
    inquiry = proven().again()
    inquiry.begin()
    inquiry.receive(forward(NAME), locators(A2, A3))
    inquiry.receive(reverse(A1), ABSENT)
    inquiry.receive(reverse(A2), names(NAME))
    inquiry.receive(reverse(A3), names(NAME))
    assert (inquiry.remote, inquiry.verified) == ((A1, A2, A3), frozenset({A2, A3}))
    assert inquiry.settled
    assert inquiry.another == ""


def test_an_aid_that_its_name_does_not_list_is_not_proven_by_its_ptr() -> None:
    inquiry = proven().again()
    inquiry.begin()
    inquiry.receive(forward(NAME), locators(A2))
    inquiry.receive(reverse(A1), names(NAME))
    assert inquiry.verified == set()


@pytest.mark.parametrize(
    ("answer", "another"), [(locators(A1), "other.example"), (locators(A2), ""), (ABSENT, "")]
)
def test_another_name_of_the_aid_counts_if_it_lists_the_aid(answer: Answer, another: str) -> None:
    inquiry = proven().again()
    inquiry.begin()
    inquiry.receive(forward(NAME), locators(A2))
    assert inquiry.receive(reverse(A1), names("other.example")) == [forward("other.example")]
    inquiry.receive(reverse(A2), names(NAME))
    inquiry.receive(forward("other.example"), answer)
    assert (inquiry.another, inquiry.name, inquiry.verified) == (another, NAME, frozenset({A2}))


def test_an_inquiry_that_proves_only_the_aid_is_followed_by_one_from_the_aid() -> None:
    inquiry = initiator(A1)
    for question in inquiry.begin():
        inquiry.receive(question, names(NAME))
    assert inquiry.again().begin() == [reverse(A1)]


def test_an_inquiry_recalled_is_followed_by_one_that_begins_with_the_name() -> None:
    recalled = Verification.recalled(A1, NAME, (A1, A2), (A1, A2))
    assert recalled.again().begin() == [forward(NAME)]


# --- errors that pass -----------------------------------------------------------------------------


def test_a_transient_error_excludes_nothing_and_is_asked_again() -> None:
    inquiry = initiator(A1, A2)
    for question in inquiry.begin():
        inquiry.receive(question, UNREACHABLE)
    assert inquiry.remote == (A1, A2)
    assert not inquiry.settled
    again = inquiry.retry()
    assert set(again) == {reverse(A1), reverse(A2)}
    assert inquiry.failed == ()
    for question in again:
        inquiry.receive(question, names(NAME))
    assert inquiry.verified == {A1, A2}


def test_a_question_that_has_failed_and_is_asked_about_another_name_is_asked_once() -> None:
    inquiry = Verification(A1, "other.example", (A1, A2))
    inquiry.begin()
    inquiry.receive(reverse(A2), UNREACHABLE)
    inquiry.receive(reverse(A1), names(NAME))
    assert inquiry.receive(forward(NAME), locators(A1, A2)) == [reverse(A2)]
    inquiry.receive(reverse(A2), UNREACHABLE)
    assert inquiry.retry() == [reverse(A2)]


def test_a_transient_error_withdraws_nothing_that_was_verified() -> None:
    inquiry = initiator(A1, A2)
    inquiry.begin()
    inquiry.receive(reverse(A1), names(NAME))
    inquiry.begin()
    inquiry.receive(reverse(A1), UNREACHABLE)
    assert inquiry.verified == {A1}


def test_every_step_of_a_responder_may_fail_for_a_while() -> None:
    inquiry = responder()
    inquiry.begin()
    for question, answer in (
        (reverse(A1), names(NAME)),
        (forward(NAME), locators(A1, A2)),
        (reverse(A2), names(NAME)),
    ):
        assert inquiry.receive(question, UNREACHABLE) == []
        assert inquiry.retry() == [question]
        inquiry.receive(question, answer)
    assert inquiry.verified == {A1, A2}
    assert inquiry.settled


def test_an_answer_to_no_open_question_is_ignored() -> None:
    inquiry = initiator(A1, A2)
    assert inquiry.receive(reverse(A1), names(NAME)) == []
    inquiry.begin()
    assert inquiry.receive(reverse(VICTIM), names(NAME)) == []
    inquiry.receive(reverse(A1), names(NAME))
    assert inquiry.receive(reverse(A1), ABSENT) == []
    assert inquiry.verified == {A1}


def test_a_question_already_open_is_not_asked_twice() -> None:
    inquiry = responder()
    inquiry.begin()
    asked = inquiry.receive(reverse(A1), names(NAME, "HOST.EXAMPLE", "host.example."))
    assert asked == [forward(NAME)]


@pytest.mark.parametrize("failed", [True, False])
def test_a_restored_inquiry_asks_its_open_questions_again(failed: bool) -> None:
    inquiry = initiator(A1, A2)
    asked = inquiry.begin()
    if failed:
        for question in asked:
            inquiry.receive(question, UNREACHABLE)
    assert inquiry.begin() == asked
    assert inquiry.open == tuple(asked)
    assert inquiry.failed == ()


# --- limits ---------------------------------------------------------------------------------------


def test_the_name_may_be_any_of_those_of_a_locator() -> None:
    others = [f"{number}.example" for number in range(NAMES_PER_LOCATOR_MAX)]
    inquiry = initiator(A1, A2)
    for question in inquiry.begin():
        inquiry.receive(question, names(*others, "zone.host.example", NAME))
    assert inquiry.verified == {A1, A2}


def test_a_responder_tries_so_many_names_and_no_more() -> None:
    inquiry = responder()
    inquiry.begin()
    many = [f"{number}.example" for number in range(NAMES_PER_LOCATOR_MAX + 1)]
    assert inquiry.receive(reverse(A1), names(*many)) == [forward(one) for one in many[:-1]]


def test_so_many_locators_of_a_name_are_looked_at_and_no_more() -> None:
    many = [Locator(A1[:15] + bytes((number,))) for number in range(1, LOCATORS_MAX + 2)]
    inquiry = Verification(many[-1], NAME, tuple(many))
    assert len(inquiry.begin()) == LOCATORS_MAX
    assert inquiry.remote == (many[-1], *many[: LOCATORS_MAX - 1])


# --- whatever the DNS says, and in whatever order -------------------------------------------------


def test_a_ttl_of_years_counts_as_a_day() -> None:
    inquiry = responder()
    inquiry.begin()
    answer = Answer(status=Status.FOUND, names=(NAME,), ttl_seconds=2**31 - 1)
    inquiry.receive(reverse(A1), answer)
    assert inquiry.ttl_seconds == TTL_BELIEVED_MAX
