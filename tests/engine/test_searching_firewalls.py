# SPDX-License-Identifier: MIT
"""A search where a firewall drops M6 packets."""

import pytest

from noid.constants import (
    MILLISECOND,
    PEER_UNABLE_TIME,
    PLAIN_ANSWER_WAIT,
    PLAIN_CHECK_FIRST,
    PLAIN_CHECK_INTERVAL,
    SECOND,
    SUSPICION_TIME,
)
from noid.engine import data_loss, searching
from noid.engine.causes import Cause
from noid.engine.events import MeasurePairs, PeerUnable, SendAgain, TimePassed
from noid.engine.state import Path
from noid.wire.control import Code, Flag
from noid.wire.ipv6 import ICMPV6
from tests.engine.network import A1, A2, B1, B2, Network, established, packet
from tests.engine.test_asking import asked
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_reachability import reports, silence
from tests.engine.test_searching import keep_sending, with_locators


def firewalled() -> Network:
    """A firewall drops the M6 next headers; b has found that out."""
    network = established()
    network.run(SECOND)
    network.drops_m6 = True
    network.give(network.b, silence(network.b))
    keep_sending(network, 3 * SECOND)
    return network


def test_a_firewall_that_drops_m6_packets_alone_is_gone_round_plainly() -> None:
    network = firewalled()
    assert reports(network.b, PeerUnable) == [PeerUnable(A1, Cause.M6_DROPPED)]
    network.ulp_sends(network.b, packet(B1, A1, b"plain"))
    network.run(10 * MILLISECOND)
    assert network.a.delivered[-1] == packet(B1, A1, b"plain")
    assert network.b.context.pair == (B1, A1)


def test_a_message_in_the_form_of_data_ends_the_time_aside() -> None:
    network = firewalled()
    assert network.b.context.search is not None
    assert network.b.context.path is Path.ASIDE
    network.b.context.search.names_newest = True  # an earlier UR of a has been heard
    network.drops_m6 = False
    network.give(network.a, MeasurePairs(network.a.context.local_label, ((A1, B1),)))
    keep_sending(network, SECOND)
    assert network.b.context.search is None


def test_the_time_in_which_plain_packets_passed_is_no_outage() -> None:
    """The plane would tell TCP connections of it."""
    network = firewalled()
    keep_sending(network, 10 * SECOND)
    network.drops_m6 = False
    network.b.outputs.clear()
    network.give(network.a, MeasurePairs(network.a.context.local_label, ((A1, B1),)))
    keep_sending(network, SECOND)
    assert network.b.context.search is None
    assert [one.silent_ns for one in network.b.outputs if isinstance(one, SendAgain)][:1] == [0]


def test_while_plain_packets_pass_no_pair_is_probed_for_a_while() -> None:
    network = firewalled()
    network.b.outputs.clear()
    keep_sending(network, 20 * SECOND)
    assert set(asked(network.b)) == {(B1, A1)}
    assert len(asked(network.b)) <= 20 * SECOND // PLAIN_CHECK_FIRST


def test_plain_packets_are_checked_seldom_after_a_while() -> None:
    network = firewalled()
    keep_sending(network, PEER_UNABLE_TIME)
    network.b.outputs.clear()
    keep_sending(network, 20 * SECOND)
    assert len(asked(network.b)) <= 20 * SECOND // PLAIN_CHECK_INTERVAL


def test_every_pair_is_tried_again_after_a_while() -> None:
    network = firewalled()
    network.drops_m6 = False
    keep_sending(network, PEER_UNABLE_TIME)
    assert network.b.context.path is Path.STEADY


def test_when_plain_packets_do_not_pass_any_more_every_pair_is_tried() -> None:
    network = firewalled()
    network.drops_m6 = False
    network.dead |= {(B1, A1), (A1, B1)}
    keep_sending(network, PLAIN_CHECK_FIRST + PLAIN_ANSWER_WAIT + SECOND // 5)
    assert network.b.context.pair == (B2, A2)


def test_a_lost_answer_about_plain_packets_does_not_start_the_search_again() -> None:
    network = firewalled()
    network.b.outputs.clear()
    while not asked(network.b):
        keep_sending(network, 100 * MILLISECOND)
    network.wire.clear()
    network.dead = {(A1, B1)}
    while len(asked(network.b)) == 1:
        keep_sending(network, 100 * MILLISECOND)
    network.dead = set()
    keep_sending(network, 10 * SECOND)
    assert set(asked(network.b)) == {(B1, A1)}, "no pair is probed"


def test_a_search_skips_a_provider_whose_firewall_drops_m6_packets() -> None:
    network = with_locators(3, 3)
    network.kill_provider(1)
    a2, b2 = network.a.locators[1], network.b.locators[1]
    arrive = network.arrive

    def arrive_unless_filtered(octets: bytes) -> None:
        if octets[6] < 224 or not {octets[8:24], octets[24:40]} & {a2, b2}:
            arrive(octets)

    network.arrive = arrive_unless_filtered  # type: ignore[method-assign, assignment] # a firewall
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == (network.b.locators[2], network.a.locators[2])


def test_the_peer_follows_to_the_found_pair_after_one_request_and_measures_it() -> None:
    network = established()
    network.run(SECOND)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A2)
    assert network.a.context.pair == (A2, B2)
    asked, measured = sent_by(network.a, Code.UR)
    assert (asked[0].source, asked[0].destination) == (A1, B1)
    assert (measured[0].source, measured[0].destination) == (A2, B2)
    assert network.a.context.round_trip_ns, "or its silence would be noticed late"
    _, last = sent_by(network.b, Code.UR)[-1]
    assert last.flags == Flag.HEARS_HERE


def test_silence_at_one_host_costs_both_at_most_twenty_messages() -> None:
    network = established()
    network.run(SECOND)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SUSPICION_TIME)
    sent = [len(sent_by(one, code)) for one in network.stations for code in (Code.UR, Code.UA)]
    assert sum(sent) <= 20


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_peer_names_the_plain_request_only_if_no_other_has_come_unless_data_is_lost(
    is_lost: bool,
) -> None:
    """It names the newest; if data is lost, the others come, and it shall name the plain one."""
    network = established()
    core, context = network.a.host.core, network.a.context
    network.a.outputs.clear()
    if is_lost:
        data_loss.lose(core, context, b"")
    else:
        searching.go_on(core, context, 0)
        network.run(1)
    network.give(network.a, TimePassed())
    nonces = [
        (header.next_header == ICMPV6, one.nonce) for header, one in sent_by(network.a, Code.UR)
    ]
    (plain,) = [nonce for is_plain, nonce in nonces if is_plain]
    others = [nonce for is_plain, nonce in nonces if not is_plain]
    assert len(others) == 4
    assert plain > max(others) if is_lost else plain < min(others)
