# SPDX-License-Identifier: MIT
"""A target that is silent for some intervals fails, and returns after some with an answer."""

from noid.flows.probing import SEQUENCES, Probing


def interval(probing: Probing, *, answered: bool) -> bool:
    """Plays one interval to its end; returns what is known then."""
    sequence = probing.begin()
    if answered:
        probing.heard(sequence)
    return probing.works


def known(probing: Probing, answers: str) -> str:
    """What is known after each interval: + works, - does not."""
    for one in answers:
        interval(probing, answered=one == "+")
    probing.begin()
    return "+" if probing.works else "-"


def test_a_target_fails_after_several_intervals_without_an_answer() -> None:
    assert known(Probing(3, 2), "") == "+"
    assert known(Probing(3, 2), "--") == "+"
    assert known(Probing(3, 2), "--+--") == "+"
    assert known(Probing(3, 2), "+---") == "-"


def test_a_target_works_after_several_intervals_with_an_answer() -> None:
    assert known(Probing(3, 2), "---+") == "-"
    assert known(Probing(3, 2), "---+-+") == "-"
    assert known(Probing(3, 2), "---++") == "+"
    assert known(Probing(1, 1), "-+-+") == "+"


def test_a_round_trip_longer_than_an_interval_is_no_failure() -> None:
    probing = Probing(3, 1)
    sent = [probing.begin()]
    for _ in range(20):
        sent.append(probing.begin())
        probing.heard(sent[-2])
    assert probing.works


def test_answers_of_long_ago_and_to_no_request_say_nothing() -> None:
    probing = Probing(3, 1)
    probing.heard(0)
    for _ in range(10):
        old = (probing.begin() - 3) % SEQUENCES
        probing.heard(old)
        probing.heard((old + 4) % SEQUENCES)
    assert not probing.works


def test_sequence_numbers_wrap() -> None:
    probing = Probing(2, 1)
    for _ in range(SEQUENCES + 10):
        assert interval(probing, answered=True)
