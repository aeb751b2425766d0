# SPDX-License-Identifier: MIT
"""The scenarios of a site with a border, as ``noid lab run`` plays them."""

from collections.abc import Iterator

import pytest

from noid.errors import UsageError
from noid.lab.lab import Lab
from noid.lab.rewriting import ROUTER_SCENARIOS, run_plain, run_restart, run_rewrite
from noid.lab.sites import site_plan

pytestmark = pytest.mark.alone  # a border has to be quicker than its hosts


@pytest.fixture(scope="module")
def site_without_noid(lab_machine: None) -> Iterator[Lab]:
    with Lab.create(plan=site_plan()) as lab:
        yield lab


def test_the_border_moves_both_directions_before_a_host_probes(lab_machine: None) -> None:
    with Lab.create(plane="bpf", plan=site_plan()) as lab:
        outcome = run_rewrite(lab)
    assert outcome.survived
    assert outcome.intact
    assert outcome.rewritten > 0
    assert outcome.peer_ms is not None, "the peer sent by provider 2"
    assert outcome.peer_ms > 0, "and not before the border's switch"
    assert outcome.probed_before == []
    assert outcome.good


def test_rewriting_goes_on_under_load_while_the_border_is_killed(lab_machine: None) -> None:
    with Lab.create(plane="bpf", plan=site_plan()) as lab:
        outcome = run_restart(lab)
    assert outcome.survived
    assert outcome.intact
    assert outcome.good
    # Two spans of half a second, in each direction; what is found waiting is less.
    assert outcome.seconds > 1


def test_what_may_not_be_rewritten_is_refused_and_waits_for_its_provider(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", plan=site_plan()) as lab:
        outcome = run_plain(lab)
    assert outcome.plain_heard == "EACCES"
    assert outcome.refused > 0
    assert outcome.rewritten == 0
    assert outcome.survived
    assert outcome.good


@pytest.mark.parametrize("name", sorted(ROUTER_SCENARIOS))
def test_a_lab_without_noid_has_nothing_to_rewrite(site_without_noid: Lab, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: without noid no packet is rewritten"):
        ROUTER_SCENARIOS[name](site_without_noid)
