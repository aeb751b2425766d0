# SPDX-License-Identifier: MIT
"""An uplink fails with its first bad sign, and works again when all were good for a time."""

import pytest

from noid.constants import NEVER, SECOND
from noid.flows.liveness import Liveness


def test_it_works_at_once_when_nothing_was_ever_wrong() -> None:
    liveness = Liveness(3 * SECOND)
    liveness.take("carrier", "", 0)
    assert liveness.works(0)
    assert not liveness.why(0)


def test_one_bad_sign_is_a_failure_at_once() -> None:
    liveness = Liveness(3 * SECOND)
    liveness.take("carrier", "", 0)
    liveness.take("route", "no default route", 1)
    assert not liveness.works(1)
    assert liveness.why(1) == "no default route"
    assert liveness.deadline_ns() == NEVER


def test_it_returns_after_all_signs_have_been_good_for_the_time() -> None:
    liveness = Liveness(3 * SECOND)
    liveness.take("carrier", "no carrier", 0)
    liveness.take("route", "no default route", 0)
    liveness.take("carrier", "", SECOND)
    assert liveness.why(SECOND) == "no default route"
    liveness.take("route", "", 2 * SECOND)
    assert liveness.deadline_ns() == 5 * SECOND
    assert not liveness.works(5 * SECOND - 1)
    assert liveness.why(4 * SECOND)
    assert liveness.works(5 * SECOND)


def test_an_uplink_that_comes_and_goes_is_not_switched_to() -> None:
    liveness = Liveness(3 * SECOND)
    for second in range(20):
        liveness.take("carrier", "no carrier" if second % 2 else "", second * SECOND)
        assert liveness.works(second * SECOND) == (second == 0)


def test_the_time_can_be_ended_until_the_next_failure() -> None:
    liveness = Liveness(3 * SECOND)
    liveness.take("carrier", "no carrier", 0)
    liveness.trust()
    assert not liveness.works(SECOND)
    liveness.take("carrier", "", SECOND)
    assert not liveness.works(SECOND)
    liveness.trust()
    assert liveness.works(SECOND)
    assert not liveness.why(SECOND)
    liveness.take("carrier", "no carrier", SECOND)
    liveness.take("carrier", "", SECOND)
    assert not liveness.works(SECOND)


@pytest.mark.parametrize(("bad_for_s", "works"), [(0, True), (5, True), (7, False)])
def test_a_longer_time_after_a_reload_stops_no_uplink_in_use(bad_for_s: int, works: bool) -> None:
    """It has to be good for the new time only if it had not been good for the former one."""
    before = Liveness(3 * SECOND)
    before.take("carrier", "no carrier", 0)
    before.take("carrier", "", bad_for_s * SECOND)
    after = Liveness(3600 * SECOND)
    after.go_on(before, 8 * SECOND)
    assert after.works(9 * SECOND) == works
