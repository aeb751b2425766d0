# SPDX-License-Identifier: MIT
"""The site of ``noid lab demo --sites`` whose router has NPTv6 in place of noid."""

import pytest

from noid.lab import site_failover
from noid.lab.lab import Lab


@pytest.mark.alone  # on a busy machine a has nothing to acknowledge when the line fails: no reset
def test_npt_moves_new_connections_alone(lab_machine: None) -> None:
    with Lab.create(sites="one") as lab:
        site_failover.prepare(lab)
        outcome = site_failover.run(lab, stall_after_s=60)
    assert not outcome.survived
    assert outcome.reset
    assert 0 < outcome.bytes < lab.description.content_octets
    assert outcome.new_connection
    assert outcome.figures["longest silence"] == "broken off"
