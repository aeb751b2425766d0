# SPDX-License-Identifier: MIT
"""Histories that violated a law once, each as short as it can be; they violate none any more."""

from pathlib import Path

import pytest

from noid.sim.history import History, decode
from noid.sim.runs import play_again

PLACE = Path(__file__).with_name("histories.jsonl")
HISTORIES = [decode(line) for line in PLACE.read_bytes().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("history", HISTORIES, ids=range(len(HISTORIES)))
def test_a_history_that_violated_a_law_once_violates_none(history: History) -> None:
    assert not play_again(history, PLACE.name).violation
