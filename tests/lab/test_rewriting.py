# SPDX-License-Identifier: MIT
"""The scenarios of sites with borders, as ``noid lab run`` plays them."""

import socket
from collections.abc import Iterator

import pytest

from noid.counters import BorderCounter
from noid.errors import UsageError
from noid.lab import namespaces
from noid.lab.borders import border_daemons, start_borders
from noid.lab.lab import Lab
from noid.lab.passing import TCP_OF_CONTEXTS
from noid.lab.refusing import run_filter, run_plain
from noid.lab.renumbering import NEW, run_renumber
from noid.lab.rewriting import Rewritten, run_bfd, run_both, run_rewrite, run_two_borders
from noid.lab.router_scenarios import ROUTER_SCENARIOS
from noid.lab.topology import NAME_SERVER, locators
from noid.lab.upgrading import run_restart

ATTEMPTS = 3


@pytest.fixture(scope="module")
def site_without_noid(lab_machine: None) -> Iterator[Lab]:
    with Lab.create(sites="one") as lab:
        yield lab


def assert_moved(outcome: Rewritten) -> None:
    assert outcome.survived
    assert outcome.intact
    assert outcome.rewritten > 0
    assert outcome.peer_ms is not None, "the peer sent by provider 2"
    assert outcome.peer_ms > 0, "and not before the border's switch"
    assert outcome.good
    assert outcome.peer_bound_ms > 10
    is_early = outcome.peer_ms <= outcome.peer_bound_ms
    assert outcome.within_bounds == (is_early and outcome.gap_ms <= 60)


@pytest.mark.alone  # the host and the border need a processor at once
def test_the_border_moves_both_directions_before_a_host_probes(lab_machine: None) -> None:
    """On a busy machine the border may wait for a processor until a host has noticed silence."""
    for _ in range(ATTEMPTS):
        with Lab.create(plane="bpf", sites="one") as lab:
            outcome = run_rewrite(lab)
        if outcome.probed_before == []:
            break
    assert outcome.probed_before == []
    assert_moved(outcome)


def test_the_border_moves_the_site_when_bfd_tells_that_a_line_passes_nothing(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="one") as lab:
        outcome = run_bfd(lab)
        (border,) = border_daemons(lab)
        (why, _) = (row["why"] for row in border.status()["providers"])
    assert "BFD with the gateway is down" in why
    assert outcome.gap_bound_ms == 150
    assert outcome.good


def send_rewritable(source: str = locators("a")[0]) -> None:
    """A packet of host a that says "rewrite ok"."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, TCP_OF_CONTEXTS) as sender:
        sender.bind((source, 0))
        sender.sendto(bytes(20), (NAME_SERVER, 0))


def test_a_border_hands_what_it_has_rewritten_to_the_border_of_the_other_provider(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="two-borders") as lab:
        outcome = run_two_borders(lab)
        assert outcome.survived
        assert outcome.intact
        first, second = border_daemons(lab)
        first.await_leaves_by("isp2", "isp2")
        # It asks a router beyond the first border for an answer, which has none any more.
        second.await_leaves_by("isp2", "isp2")
        rewritten = first.count(BorderCounter.PACKETS_REWRITTEN)
        forwarded = second.count(BorderCounter.PACKETS_FORWARDED)
        for _ in range(10):
            namespaces.inside(namespaces.namespace(lab.name, "a"), send_rewritable)
        lab.wait_for(
            "the first has rewritten them",
            lambda: first.count(BorderCounter.PACKETS_REWRITTEN) >= rewritten + 10,
            30,
        )
        lab.wait_for(
            "the second has forwarded them",
            lambda: second.count(BorderCounter.PACKETS_FORWARDED) >= forwarded + 10,
            30,
        )


def test_borders_without_a_working_uplink_do_not_pass_packets_to_each_other(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="two-borders") as lab:
        first, second = borders = start_borders(lab)
        for one in borders:
            text = one.config.read_text(encoding="utf-8")
            one.reload(text.replace("check_down = 4", "check_down = 1000"))
        for number, one in enumerate(borders, 1):
            one.await_leaves_by("isp1", "isp2")
            lab.run(one.router.node, ["ip", "link", "set", f"up{number}", "down"])
        first.await_leaves_by("isp2", "isp2")
        second.await_leaves_by("isp1", "isp1")
        before = [one.count(BorderCounter.PACKETS_REWRITTEN) for one in borders]
        refused = second.count(BorderCounter.REFUSED_NO_UPLINK)
        for _ in range(10):
            namespaces.inside(namespaces.namespace(lab.name, "a"), send_rewritable)
        lab.wait_for(
            "the second has refused them",
            lambda: second.count(BorderCounter.REFUSED_NO_UPLINK) >= refused + 10,
            30,
        )
        after = [one.count(BorderCounter.PACKETS_REWRITTEN) for one in borders]
        assert after == [before[0] + 10, before[1]]


def test_a_connection_survives_when_both_its_sites_lose_the_same_provider(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="both") as lab:
        outcome = run_both(lab)
    assert outcome.survived
    assert outcome.intact
    assert set(outcome.rewritten_by) == {"border", "borderb"}
    assert all(outcome.rewritten_by.values())
    assert outcome.good


def test_the_border_rewrites_to_a_prefix_that_came_while_the_connection_was_open(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="one") as lab:
        outcome = run_renumber(lab)
        (border,) = border_daemons(lab)
        assert [row["prefix"] for row in border.status()["prefixes"]] == ["2001:db8:1:a::/64", NEW]
    assert outcome.survived
    assert outcome.intact
    assert outcome.by_new_prefix > 0
    assert outcome.by_old_prefix == 0
    assert outcome.good


def test_wrong_sources_pass_a_border_in_no_direction(lab_machine: None) -> None:
    with Lab.create(plane="bpf", sites="one") as lab:
        outcome = run_filter(lab)
    assert outcome.tried_out > 0
    assert outcome.left == 0
    assert outcome.tried_in > 0
    assert outcome.came_in == 0
    assert all(outcome.dropped.values()), outcome.dropped
    assert outcome.survived
    assert outcome.good


def test_rewriting_continues_while_the_border_is_killed_and_upgraded(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="one") as lab:
        outcome = run_restart(lab)
    assert outcome.survived
    assert outcome.intact
    # Half a second of the pace and more passed without a daemon, each time.
    assert outcome.rewritten_while_killed > 100
    assert outcome.rewritten_while_upgraded > 100
    assert outcome.not_rewritten == 0
    assert outcome.good


def test_what_may_not_be_rewritten_is_refused_and_waits_for_its_provider(
    lab_machine: None,
) -> None:
    with Lab.create(plane="bpf", sites="one") as lab:
        outcome = run_plain(lab)
    assert outcome.plain_heard == "EACCES"
    assert outcome.refused > 0
    assert outcome.rewritten == 0
    assert outcome.survived
    assert outcome.good


@pytest.mark.parametrize("name", sorted(ROUTER_SCENARIOS))
def test_a_lab_without_noid_has_nothing_to_rewrite(site_without_noid: Lab, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: without noid no packet is rewritten"):
        ROUTER_SCENARIOS[name].play(site_without_noid)


def test_a_lab_without_borders_is_refused(plain_lab: Lab) -> None:
    with pytest.raises(UsageError, match="has no borders; build one with: noid lab up --sites"):
        border_daemons(plain_lab)
