# SPDX-License-Identifier: MIT
"""The site of ``noid lab demo --sites`` whose router has NPTv6 in place of noid."""

import pytest

from noid.lab import site_failover
from noid.lab.lab import Lab

ATTEMPTS = 3
STALL_AFTER_S = 20.0


@pytest.mark.alone  # on a busy machine a often has nothing to acknowledge when the line fails
def test_npt_moves_new_connections_alone(lab_machine: None) -> None:
    """A host that has nothing to send when the line fails hears of no reset: it is tried again."""
    for _ in range(ATTEMPTS):
        with Lab.create(sites="one") as lab:
            site_failover.prepare(lab)
            outcome = site_failover.run(lab, stall_after_s=STALL_AFTER_S)
        assert not outcome.survived
        assert 0 < outcome.bytes < lab.description.content_octets
        if outcome.reset:
            break
    assert outcome.reset
    assert outcome.new_connection
    assert outcome.figures["longest silence"] == "broken off"
