# SPDX-License-Identifier: MIT
"""Waiting in labs: the first answers are asked for soon, later ones less often."""

import pytest

from noid.errors import PlatformError
from noid.lab.waiting import PAUSES_PER_WAIT, POLL_MAX_S, POLL_S, pause_s, wait_for


@pytest.mark.parametrize(
    ("waited_s", "expected_s"),
    [(0.0, POLL_S), (POLL_S, POLL_S), (0.5, 0.5 / PAUSES_PER_WAIT), (60.0, POLL_MAX_S)],
)
def test_a_pause_grows_with_the_wait_up_to_a_limit(waited_s: float, expected_s: float) -> None:
    assert pause_s(waited_s) == expected_s


def test_a_condition_that_holds_is_asked_once() -> None:
    answers = iter(["yes"])
    assert wait_for("it holds", lambda: next(answers), 0) == "yes"


def test_what_does_not_become_true_in_time_is_named() -> None:
    with pytest.raises(PlatformError, match=r"not within 0\.02 s: it holds"):
        wait_for("it holds", lambda: False, 0.02)
