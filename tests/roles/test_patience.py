# SPDX-License-Identifier: MIT
"""What others undo is done again a few times at once, and at a rate from then on."""

import pytest

from noid.roles.patience import Patience

BURST, INTERVAL_S = 3, 2.0


def test_after_a_burst_it_is_done_once_in_an_interval() -> None:
    patience = Patience(BURST, INTERVAL_S)
    for _ in range(BURST):
        assert patience.wait_s(100.0) == 0
        patience.use(100.0)
    assert patience.wait_s(100.0) == pytest.approx(INTERVAL_S)
    assert patience.wait_s(101.5) == pytest.approx(0.5)
    assert patience.wait_s(102.0) == 0
    patience.use(102.0)
    assert patience.wait_s(102.0) == pytest.approx(INTERVAL_S)


def test_after_a_pause_there_is_a_burst_again_and_no_more() -> None:
    patience = Patience(BURST, INTERVAL_S)
    for now_s in (0.0, 1000.0):
        for _ in range(BURST):
            assert patience.wait_s(now_s) == 0
            patience.use(now_s)
        assert patience.wait_s(now_s) > 0
