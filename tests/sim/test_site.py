# SPDX-License-Identifier: MIT
"""Sites with borders in the simulator: what leaves with which source, and what is answered."""

import random
from collections import Counter

import pytest

from noid.constants import SECOND
from noid.locators import Locator
from noid.sim.bordered import calm
from noid.sim.history import play
from noid.sim.network import LinkConditions, Network, locator_of
from noid.sim.parcel import CODEPOINTS, Parcel
from noid.sim.quiet import QUIET
from noid.sim.site import SiteBorder
from noid.sim.world import World
from noid.wire import icmpv6, ipv6

OURS = locator_of(1, 10), locator_of(2, 10)
PEER = locator_of(17, 11)


@pytest.fixture
def network() -> Network:
    made = Network(random.Random(1), Counter(), LinkConditions(jitter_ns=0))
    made.present = {**dict.fromkeys(OURS, "a"), PEER: "b"}
    made.sites = {"a": SiteBorder(2, OURS)}
    return made


def carried(network: Network, number: int, source: Locator, target: Locator) -> tuple[Parcel, str]:
    header = ipv6.Header(source=source, destination=target, next_header=number, payload_octets=0)
    sender = network.present[source]
    parcel, _, fate = network.carry(Parcel(header.encode(), sender, SECOND), SECOND)
    return parcel, fate


def fail(border: SiteBorder, uplink: int) -> None:
    border.works[uplink] = False
    border.decide()


def test_data_of_a_failed_uplink_leaves_by_the_other(network: Network) -> None:
    fail(network.sites["a"], 0)
    assert network.sources_sent(OURS[0], PEER, rewritable=True) == (OURS[1],)
    assert network.sources_sent(OURS[0], PEER, rewritable=False) == ()
    assert not network.keeps(OURS[0], PEER)
    assert network.keeps(OURS[1], PEER)
    parcel, fate = carried(network, CODEPOINTS.rewritable_first, OURS[0], PEER)
    assert (parcel.octets[8:24], fate) == (OURS[1], "")


def test_what_may_not_be_rewritten_is_answered_with_code_5(network: Network) -> None:
    fail(network.sites["a"], 0)
    parcel, fate = carried(network, CODEPOINTS.fixed_first, OURS[0], PEER)
    error = network.error_about(parcel, fate)
    assert error is not None
    assert error[40:42] == bytes((icmpv6.DESTINATION_UNREACHABLE, 5))
    assert error[24:40] == OURS[0]


def test_a_dead_router_passes_nothing_and_a_source_of_the_site_does_not_come_in(
    network: Network,
) -> None:
    border = network.sites["a"]
    spoofed = border.carry_in(b"\x60" + bytes(7) + OURS[1] + OURS[0])
    assert spoofed == "source of the site"
    assert network.passes(PEER, OURS[0])
    border.is_alive = False
    assert not network.passes(PEER, OURS[0])
    assert network.sources_sent(OURS[0], PEER, rewritable=True) == ()
    assert carried(network, ipv6.UDP, PEER, OURS[0])[1] == "x router dead"
    network.heal()
    assert network.passes(PEER, OURS[0])


def test_without_a_daemon_the_last_choice_stays(network: Network) -> None:
    border = network.sites["a"]
    border.has_daemon = False
    fail(border, 0)
    assert network.sources_sent(OURS[0], PEER, rewritable=True) == (OURS[0],)
    assert not border.is_whole
    border.has_daemon = True
    border.decide()
    assert network.sources_sent(OURS[0], PEER, rewritable=True) == (OURS[1],)


def test_packets_between_lans_of_a_site_stay_in_it_whatever_uplinks_do(network: Network) -> None:
    other = locator_of(1, 12)
    network.present[other] = "c"
    network.sites["c"] = network.sites["a"]
    fail(network.sites["a"], 0)
    fail(network.sites["a"], 1)
    for number in (CODEPOINTS.rewritable_first, CODEPOINTS.fixed_first, ipv6.UDP):
        parcel, fate = carried(network, number, OURS[0], other)
        assert (parcel.octets[8:24], fate) == (OURS[0], "")
    assert network.keeps(OURS[0], other)
    network.sites["a"].is_alive = False
    assert carried(network, ipv6.UDP, OURS[0], other)[1] == "x router dead"


def test_only_sources_of_delegated_prefixes_leave(network: Network) -> None:
    border = network.sites["a"]
    border.delegated = 0b10
    border.decide()
    assert carried(network, ipv6.UDP, OURS[0], PEER)[1] == "x source outside the site"
    assert carried(network, ipv6.UDP, OURS[1], PEER)[1] == ""


@pytest.mark.slow
def test_a_border_that_rewrites_while_nothing_fails_leaves_hosts_quiet() -> None:
    world = World(1)
    play(world, calm(1))
    assert world.injected["rewritten"]
    assert world.laws is not None
    assert world.laws.judged[QUIET]
