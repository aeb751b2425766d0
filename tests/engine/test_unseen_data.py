# SPDX-License-Identifier: MIT
"""Both ends send unasked, and what one of them sends is lost alone [D41, D47].

It hears data of the other, which hears its keepalives. So neither is silent for the other.
"""

import pytest

from noid.constants import DATA_UNSEEN, MILLISECOND, QUESTION_LASTS, SECOND, UNPROVEN_TIME
from noid.engine import data_loss
from noid.engine.events import MeasurePairs, Switched
from noid.engine.reachability import on_long_unproven
from noid.flows.events import LongUnproven, UnansweredPacket
from noid.wire import ipv6
from noid.wire.control import Code, Flag
from tests.engine.network import Network, Station, established, packet
from tests.engine.test_conformance_setup import sent_by

SLOW_MS, FAST_MS = 500, 50


def both_talk(network: Network, duration_ns: int, slow: Station, fast: Station) -> int:
    """One end sends twice a second, the other 20 times; how much of the former arrives."""
    arrived = 0
    for now_ms in range(0, duration_ns // MILLISECOND, FAST_MS):
        for one, other, every_ms in ((fast, slow, FAST_MS), (slow, fast, SLOW_MS)):
            if now_ms % every_ms == 0:
                datagram = packet(one.locators[0], other.locators[0], protocol=ipv6.UDP)
                network.ulp_sends(one, datagram)
        fast.delivered.clear()
        network.run(FAST_MS * MILLISECOND)
        arrived += len(fast.delivered)
    return arrived


@pytest.mark.parametrize("slow_begins", [True, False])
def test_the_loss_of_what_one_end_sends_alone_is_noticed(slow_begins: bool) -> None:
    network = established()
    slow, fast = network.stations if slow_begins else network.stations[::-1]
    assert both_talk(network, 20 * SECOND, slow, fast) == 40
    used = slow.context.pair
    network.drops_data = {used}
    both_talk(network, (DATA_UNSEEN + 2) * (UNPROVEN_TIME + SECOND), slow, fast)
    assert slow.context.pair != used
    assert both_talk(network, 10 * SECOND, slow, fast) == 20


def without_first_answers(network: Network, station: Station) -> None:
    """An attacker loses the first answer to each question of a station."""
    arrive, lost_ns = network.arrive, [network.now_ns]

    def arrive_unless_first(packet: bytes) -> None:
        header = ipv6.Header.decode(packet)
        is_answer = packet[ipv6.HEADER_OCTETS + 1] == Code.UA
        if is_answer and header.destination in station.locators:
            since_ns, lost_ns[0] = network.now_ns - lost_ns[0], network.now_ns
            if since_ns > SECOND:
                return
        arrive(packet)

    network.arrive = arrive_unless_first  # type: ignore[method-assign]


@pytest.mark.parametrize("attacked", [False, True])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("slow_begins", [True, False])
def test_neither_other_requests_nor_lost_answers_hide_the_loss(
    *, slow_begins: bool, measured: bool, attacked: bool
) -> None:
    network = established()
    slow, fast = network.stations if slow_begins else network.stations[::-1]

    def talk(seconds: int) -> int:
        arrived = 0
        for _ in range(seconds):
            if measured:
                pairs = (fast.context.pair,)
                network.give(fast, MeasurePairs(fast.context.local_label, pairs))
            arrived += both_talk(network, SECOND, slow, fast)
        return arrived

    assert talk(20) == 40
    used = slow.context.pair
    network.drops_data = {used}
    if attacked:
        without_first_answers(network, slow)
    talk(2 * (DATA_UNSEEN + 1) * (UNPROVEN_TIME // SECOND + 1))
    assert slow.context.pair != used
    assert talk(10) == 20


@pytest.mark.parametrize("slow_begins", [True, False])
def test_questions_of_the_peer_hide_the_loss_for_a_time_only(slow_begins: bool) -> None:
    network = established()
    slow, fast = network.stations if slow_begins else network.stations[::-1]
    both_talk(network, 20 * SECOND, slow, fast)
    used = slow.context.pair
    network.drops_data = {used}
    lasts_ns = QUESTION_LASTS + (DATA_UNSEEN + 2) * (UNPROVEN_TIME + SECOND)
    for _ in range(lasts_ns // SECOND):
        label, ends = fast.context.local_label, (fast.locators[0], slow.locators[0])
        network.give(fast, UnansweredPacket(label, packet(*ends, protocol=ipv6.UDP), SECOND))
        both_talk(network, SECOND, slow, fast)
    assert slow.context.pair != used


@pytest.mark.parametrize("slow_begins", [True, False])
def test_what_arrives_is_not_lost(slow_begins: bool) -> None:
    network = established()
    slow, fast = network.stations if slow_begins else network.stations[::-1]
    assert both_talk(network, 60 * SECOND, slow, fast) == 120
    for station in network.stations:
        assert not any(isinstance(one, Switched) for one in station.outputs)
        asked = [one for _, one in sent_by(station, Code.UR) if one.flags & Flag.DATA_ASKED]
        assert len(asked) <= 60 * SECOND // UNPROVEN_TIME


def test_only_a_peer_that_checks_for_data_can_lose_it() -> None:
    network = established()
    core, context = network.a.host.core, network.a.context
    for is_checked, is_unseen in ((False, False), (True, True)):
        for _ in range(DATA_UNSEEN + 1):
            on_long_unproven(core, LongUnproven(context.local_label))
            data_loss.proven(context, is_checked=is_checked)
        assert data_loss.is_unseen(core, context) is is_unseen


@pytest.mark.parametrize(("misses", "unseen"), [(0, DATA_UNSEEN), (1, 2 * DATA_UNSEEN)])
def test_where_requests_are_lost_twice_as_many_must_say_that_no_data_comes(
    misses: int, unseen: int
) -> None:
    network = established()
    core, context = network.a.host.core, network.a.context
    history = context.history_of(context.pair)._replace(misses=misses)
    context.note(context.pair, history._replace(unseen=unseen - 1))
    assert not data_loss.is_unseen(core, context)
    context.note(context.pair, history._replace(unseen=unseen))
    assert data_loss.is_unseen(core, context)
