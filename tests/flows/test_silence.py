# SPDX-License-Identifier: MIT
"""Which unanswered packets are silence, and when a keepalive is due."""

import dataclasses

import pytest

from noid.constants import (
    GAP_MAX,
    GAPS_USUAL,
    KEEPALIVE_INTERVAL,
    KEEPALIVE_PACKETS,
    MANY_PATIENCE,
    MILLISECOND,
    SECOND,
    UNANSWERED_MANY,
    UNANSWERED_PATIENCE,
)
from noid.flows.flow import Flow
from noid.flows.rewrite import Delivery, Watch
from tests.flows.test_rewrite import FLOW_A


def delivered(flow: Flow) -> Delivery:
    """A packet that came from Lp(peer)."""
    return Delivery(flow, b"", flow.peer_locator, verified=True, elsewhere=False)


def test_many_unanswered_packets_are_silence_after_t() -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    watch = Watch()
    silences = [watch.sent(flow, SECOND + turn * 4 * MILLISECOND, is_tcp=True) for turn in range(6)]
    assert silences == [0] * UNANSWERED_MANY + [16 * MILLISECOND, 0]


def test_few_unanswered_packets_are_silence_later() -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    watch = Watch()
    watch.sent(flow, SECOND, is_tcp=True)
    assert watch.sent(flow, SECOND + UNANSWERED_PATIENCE, is_tcp=True) == 0
    assert (
        watch.sent(flow, SECOND + UNANSWERED_PATIENCE + 1, is_tcp=True) == UNANSWERED_PATIENCE + 1
    )


def test_non_tcp_silence_starts_after_nearly_twice_the_usual_interval() -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    watch = Watch()
    for turn in range(20):
        watch.heard(SECOND + turn * 100 * MILLISECOND)
    watch.sent(flow, 3 * SECOND, is_tcp=False)
    assert watch.sent(flow, 3 * SECOND + 175 * MILLISECOND, is_tcp=False) == 0
    assert watch.sent(flow, 3 * SECOND + 176 * MILLISECOND, is_tcp=False) == 176 * MILLISECOND


def test_a_pause_counts_as_a_gap_of_gap_max() -> None:
    watch = Watch()
    watch.heard(SECOND)
    watch.heard(SECOND + 100 * GAP_MAX)
    assert watch.gap_ns == GAP_MAX


def test_the_second_of_two_outages_in_a_row_is_noticed_within_three_usual_gaps() -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    usual_ns, watch = 400 * MILLISECOND, Watch()
    for turn in range(1, 20):
        watch.heard(turn * usual_ns)
    now_ns = 20 * usual_ns
    for outage_ns in (10 * usual_ns, usual_ns, 10 * usual_ns):
        now_ns += outage_ns
        watch.heard(now_ns)
    watch.sent(flow, now_ns, is_tcp=False)
    assert watch.sent(flow, now_ns + 3 * usual_ns, is_tcp=False)


def test_an_outage_counts_as_two_usual_gaps() -> None:
    watch = Watch()
    for turn in range(20):
        watch.heard(SECOND + turn * 100 * MILLISECOND)
    usual_ns = watch.gap_ns
    watch.heard(10 * SECOND)
    assert watch.gap_ns == (3 * usual_ns + GAPS_USUAL * usual_ns) // 4


def test_a_gap_that_is_shorter_than_any_patience_counts_in_full() -> None:
    watch = Watch()
    for turn in range(20):
        watch.heard(SECOND + turn)
    watch.heard(2 * SECOND)
    assert watch.gap_ns == (3 + UNANSWERED_PATIENCE) // 4


@pytest.mark.parametrize("gap_ns", [0, SECOND])
def test_more_than_four_packets_that_are_not_tcp_are_silence_when_two_keepalives_are_missing(
    gap_ns: int,
) -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    for apart_ns, silent_ns in (
        (50 * MILLISECOND, 200 * MILLISECOND),
        (40 * MILLISECOND, 200 * MILLISECOND),
        (20 * MILLISECOND, 180 * MILLISECOND),
    ):
        watch = Watch(gap_ns=gap_ns)
        times_ns = range(SECOND, 2 * SECOND, apart_ns)
        silences = (watch.sent(flow, one, is_tcp=False) for one in times_ns)
        assert next(filter(None, silences)) == silent_ns


def test_packets_that_reach_a_peer_that_has_just_sent_are_no_silence() -> None:
    """It asks once a second, gets six datagrams within 30 ms, and a seventh later."""
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    here, peer, one_way_ns = Watch(), Watch(), MILLISECOND
    for turn in range(1, 10):
        asked_ns = turn * SECOND
        peer.sent(flow, asked_ns, is_tcp=False)
        here.heard(asked_ns + one_way_ns)
        for later_ns in (*range(0, 30 * MILLISECOND, 5 * MILLISECOND), 600 * MILLISECOND):
            sent_ns = asked_ns + one_way_ns + later_ns
            assert not here.sent(flow, sent_ns, is_tcp=False)
            peer.received(delivered(flow), sent_ns + one_way_ns)
            if peer.owes_keepalive(sent_ns + one_way_ns):
                here.heard(sent_ns + 2 * one_way_ns)
    assert here.gap_ns > 2 * MANY_PATIENCE


def test_few_packets_that_are_not_tcp_are_no_silence_until_a_gap_is_known() -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    watch = Watch()
    silences = [watch.sent(flow, SECOND + turn * SECOND, is_tcp=False) for turn in range(5)]
    assert silences == [0] * UNANSWERED_MANY + [4 * SECOND]


def test_an_answer_that_was_asked_for_does_not_shorten_the_gap() -> None:
    watch = Watch()
    for turn in range(20):
        watch.heard(SECOND + turn * SECOND)
        watch.heard(SECOND + turn * SECOND + MILLISECOND, unasked=False)
    assert watch.gap_ns == SECOND
    watch.sent(FLOW_A, 30 * SECOND, is_tcp=False)
    watch.heard(30 * SECOND + 1, unasked=False)
    assert not watch.unanswered_ns, "but it is an answer"


def test_a_word_of_the_peers_is_an_answer_to_everything_sent() -> None:
    flow = dataclasses.replace(FLOW_A, silence_ns=10 * MILLISECOND)
    watch = Watch()
    for turn in range(UNANSWERED_MANY):
        watch.sent(flow, SECOND + turn, is_tcp=True)
    watch.heard(SECOND + UNANSWERED_MANY)
    assert watch.sent(flow, 2 * SECOND, is_tcp=True) == 0
    assert watch.sent(flow, 2 * SECOND + 20 * MILLISECOND, is_tcp=True) == 0


def test_a_keepalive_is_due_at_the_second_packet_after_its_interval() -> None:
    watch, due = Watch(), []
    for turn in range(1, 9):
        watch.received(delivered(FLOW_A), SECOND + turn * 10 * MILLISECOND)
        due.append(watch.owes_keepalive(SECOND + turn * 10 * MILLISECOND))
    assert KEEPALIVE_INTERVAL == 40 * MILLISECOND
    assert due == [False, True, False, False, False, True, False, False]
    assert KEEPALIVE_PACKETS == 2


def test_a_host_that_sends_data_owes_no_keepalive() -> None:
    watch = Watch()
    for turn in range(100):
        now_ns = SECOND + turn * 10 * MILLISECOND
        watch.sent(FLOW_A, now_ns, is_tcp=True)
        watch.received(delivered(FLOW_A), now_ns)
        assert not watch.owes_keepalive(now_ns + MILLISECOND)
