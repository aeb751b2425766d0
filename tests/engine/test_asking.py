# SPDX-License-Identifier: MIT
"""A pair that is suspected is asked, and left only if it is silent [D43]."""

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest

from noid.constants import (
    ASKS,
    ASKS_AFTER_ALARM,
    FOLLOW_ASKS,
    MILLISECOND,
    MINUTE,
    ROUTINE_ASKS,
    SEARCH_INTERVAL_MAX,
    SEARCH_INTERVAL_MIN,
    SECOND,
    TOLERANCE_MAX,
    TOLERANCE_TIME,
)
from noid.engine.causes import Cause
from noid.engine.events import LocatorsChanged, SendAgain, Switched
from noid.engine.history import History, Pair
from noid.engine.searching import search
from noid.engine.state import Path, Timer
from noid.engine.switching import switch
from noid.flows.events import LongUnproven, SourceMoved, UnansweredPacket
from noid.locators import Locator
from noid.wire.control import Code, Flag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    Station,
    established,
    packet,
)
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_reachability import reports, silence

ROUND_TRIP_NS = 20 * MILLISECOND
PAIR = (B1, A1)


def asked(station: Station) -> list[tuple[bytes, bytes]]:
    """The pairs over which a station has sent URs."""
    return [(header.source, header.destination) for header, _ in sent_by(station, Code.UR)]


def path_of(station: Station) -> Path:
    """What a station believes of its pair, as it is now."""
    return station.context.path


def suspected() -> Network:
    """Host b has just asked the pair in use."""
    network = established()
    network.run(SECOND)
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    return network


def test_the_pair_in_use_is_asked_first_and_alone() -> None:
    network = suspected()
    ((header, message),) = sent_by(network.b, Code.UR)
    assert (header.source, header.destination) == PAIR
    assert message.flags & Flag.HEARS_NOTHING == 0
    assert network.b.context.path is Path.ASKING


def test_it_is_asked_in_the_form_of_data() -> None:
    network = suspected()
    ((header, _),) = sent_by(network.b, Code.UR)
    assert header.next_header == CODEPOINTS.rewritable_first + 6


def test_a_pair_that_answers_costs_two_messages() -> None:
    network = suspected()
    network.run(SECOND)
    assert asked(network.b) == [PAIR]
    assert len(sent_by(network.a, Code.UA)) == 1
    assert network.b.context.path is Path.STEADY
    assert network.b.context.pair == PAIR


def test_no_packet_is_delivered_by_asking() -> None:
    network = suspected()
    network.a.delivered.clear()
    network.run(SECOND)
    assert network.a.delivered == []
    assert not any(isinstance(one, SendAgain) for one in network.b.outputs)


def test_the_silent_pair_in_use_is_asked_again_while_others_are_probed() -> None:
    network = suspected()
    network.kill_provider(1)
    network.run(ROUND_TRIP_NS * 3 // 2)
    assert network.b.context.path is Path.DOUBTING
    assert asked(network.b).count(PAIR) > 1
    assert set(asked(network.b)) == {PAIR, (B2, A2), (B1, A2), (B2, A1)}


def test_a_host_in_doubt_says_that_it_hears_nothing() -> None:
    network = suspected()
    network.kill_provider(1)
    network.run(ROUND_TRIP_NS * 3 // 2)
    first, *others = [message for _, message in sent_by(network.b, Code.UR)]
    assert not first.flags & Flag.HEARS_NOTHING
    assert all(one.flags & Flag.HEARS_NOTHING for one in others)


def test_every_request_has_a_nonce_of_its_own() -> None:
    network = suspected()
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(5 * SECOND)
    nonces = [message.nonce for _, message in sent_by(network.b, Code.UR)]
    assert len(set(nonces)) == len(nonces)


def test_another_pair_is_used_only_after_several_unanswered_requests() -> None:
    network = suspected()
    network.kill_provider(1)
    network.run(ROUND_TRIP_NS * 5 // 4)
    assert asked(network.b).count(PAIR) == ASKS
    assert network.b.context.pair == PAIR


def test_that_takes_three_round_trips_at_most() -> None:
    network = suspected()
    network.kill_provider(1)
    network.run(3 * ROUND_TRIP_NS)
    assert network.b.context.pair == (B2, A2)


def test_a_late_answer_keeps_the_pair() -> None:
    network = suspected()
    delayed, put = [], network.put
    network.put = lambda octets: delayed.append(octets)  # type: ignore[method-assign, assignment] # a slow network
    kept = list(network.wire)
    network.wire.clear()
    network.run(ROUND_TRIP_NS * 2)
    assert path_of(network.b) is Path.DOUBTING
    network.put = put  # type: ignore[method-assign] # no longer slow
    for _, octets in kept:
        network.put(octets)
    network.run(ROUND_TRIP_NS)
    assert path_of(network.b) is Path.STEADY
    assert network.b.context.pair == PAIR
    assert network.b.context.history_of(PAIR).round_trip_ns > ROUND_TRIP_NS, "measured by it"


def test_after_a_false_alarm_more_requests_are_needed() -> None:
    network = suspected()
    network.run(SECOND)
    assert network.b.context.history_of(PAIR).alarms == 1
    network.kill_provider(1)
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    while network.b.context.pair == PAIR:
        network.run(MILLISECOND)
    assert asked(network.b).count(PAIR) == ASKS_AFTER_ALARM


def test_false_alarms_become_rare() -> None:
    network = established()
    network.run(SECOND)
    network.b.outputs.clear()
    for _ in range(4000):
        event = silence(network.b)
        assert isinstance(event, UnansweredPacket)
        network.give(network.b, replace(event, received_ns=network.now_ns))
        network.run(10 * MILLISECOND)
    assert len(asked(network.b)) <= 8 + 40 * SECOND // SEARCH_INTERVAL_MAX


def test_the_first_alarms_are_no_closer_than_the_least_interval() -> None:
    network = suspected()
    network.run(SEARCH_INTERVAL_MIN)
    network.give(network.b, silence(network.b))
    assert len(asked(network.b)) == 1
    network.run(2 * SEARCH_INTERVAL_MIN)
    network.give(network.b, silence(network.b))
    assert len(asked(network.b)) == 2


def test_a_failure_soon_after_a_false_alarm_is_suspected_after_twice_t() -> None:
    network = suspected()
    network.run(SEARCH_INTERVAL_MIN // 2)
    network.kill_provider(1)
    context = network.b.context
    for count, times in (1, 1), (2, 2):
        silent_ns = times * context.silence_ns
        network.give(network.b, UnansweredPacket(context.local_label, packet(B1, A1), silent_ns))
        assert len(asked(network.b)) == count
    network.run(SEARCH_INTERVAL_MIN)
    assert context.pair == (B2, A2)


def test_a_silence_that_proved_harmless_is_no_news_again() -> None:
    network = suspected()
    before_ns = network.b.context.silence_ns
    network.run(SECOND)
    assert network.b.context.silence_ns == 2 * before_ns


def test_t_does_not_grow_beyond_its_limit() -> None:
    network = established()
    label = network.b.context.local_label
    for _ in range(10):
        network.give(network.b, UnansweredPacket(label, packet(B1, A1), 20 * SECOND))
        network.run(3 * SECOND)
    assert network.b.context.silence_ns == TOLERANCE_MAX


def test_what_false_alarms_taught_is_halved_again_and_again() -> None:
    network = suspected()
    network.run(SECOND)
    context = network.b.context
    tolerated_ns = context.tolerated_ns
    network.run(TOLERANCE_TIME)
    assert context.tolerated_ns == tolerated_ns // 2
    assert context.history_of(PAIR).alarms == 0
    network.run(10 * MINUTE)
    assert context.tolerated_ns == 0
    assert not network.b.host.core.is_timer_set(context, Timer.TOLERANCE)


def test_knowledge_of_false_alarms_survives_a_switch() -> None:
    network = suspected()
    network.run(SECOND)
    tolerated_ns = network.b.context.tolerated_ns
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A2)
    assert network.b.context.tolerated_ns == tolerated_ns
    assert network.b.context.history_of(PAIR).alarms == 1


def test_a_pair_that_has_just_been_taken_may_be_asked_at_once() -> None:
    network = suspected()
    network.kill_provider(1)
    network.run(SECOND)
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    assert asked(network.b) == [(B2, A2)]


def test_a_host_that_is_told_asks_also_after_false_alarms() -> None:
    network = suspected()
    network.run(SECOND)
    context = network.a.context
    context.note(context.pair, context.history_of(context.pair)._replace(alarms=9))
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)


def test_a_false_alarm_of_one_host_makes_the_other_ask_nothing() -> None:
    network = suspected()
    network.a.outputs.clear()
    network.run(SECOND)
    assert sent_by(network.a, Code.UR) == []


def test_a_host_whose_own_pair_is_dead_does_not_answer_a_request_by_another() -> None:
    network = suspected()
    network.run(SECOND)
    switch(network.a.host.core, network.a.context, (A2, B2), Cause.NOTHING_HEARD)
    network.dead |= {(A2, B2)}
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.a.context.pair != (A2, B2), "a has been told that b hears nothing"


def test_a_request_that_names_an_update_acknowledges_it() -> None:
    network = established()
    network.run(SECOND)
    network.dead |= {(B1, A1), (B2, A2), (B2, A1), (B1, A2)}
    network.give(network.a, LocatorsChanged((A1, A2), backup=frozenset({A2})))
    network.run(100 * MILLISECOND)
    network.dead.clear()
    network.give(network.b, silence(network.b))
    network.run(15 * MILLISECOND)
    assert network.a.context.update is None


# --- the peer's source moves ----------------------------------------------------------------------


def moved(network: Network) -> None:
    """Data of b's comes to a from b's other locator."""
    network.a.outputs.clear()
    network.give(network.a, SourceMoved(network.a.context.local_label, B2, False))


def test_data_from_another_source_changes_nothing_while_the_pair_answers() -> None:
    network = established()
    moved(network)
    assert set(asked(network.a)) == {(A1, B1), (A1, B2)}
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)
    assert reports(network.a, Switched) == []


def test_data_from_another_source_moves_the_pair_if_that_in_use_is_silent() -> None:
    network = established()
    network.run(SECOND)
    switch(network.b.host.core, network.b.context, (B2, A1), Cause.NOTHING_HEARD)
    network.dead |= {(A1, B1), (B1, A1)}
    moved(network)
    network.run(3 * ROUND_TRIP_NS)
    assert network.a.context.pair == (A1, B2)


def test_nothing_is_sent_to_a_source_that_is_not_proven() -> None:
    network = established()
    network.a.outputs.clear()
    network.give(network.a, SourceMoved(network.a.context.local_label, X1, False))
    network.run(SECOND)
    assert asked(network.a) == []


def test_a_source_that_moves_to_and_fro_is_asked_about_twice_a_minute() -> None:
    network = established()
    network.a.outputs.clear()
    for _ in range(60):
        network.give(network.a, SourceMoved(network.a.context.local_label, B2, False))
        network.run(SECOND)
    assert len(asked(network.a)) == 2 * 2 * FOLLOW_ASKS


def test_the_data_plane_may_follow_to_what_is_verified_and_not_broken() -> None:
    network = established()
    assert network.a.context.flow().verified_locators == {B1, B2}
    network.give(network.b, LocatorsChanged((B1, B2), broken=frozenset({B2})))
    network.run(SECOND)
    assert network.a.context.flow().verified_locators == {B1}


def test_a_better_pair_is_not_waited_for_once_the_pair_in_use_is_suspected() -> None:
    network = established()
    network.dead |= {(A2, B1), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    assert path_of(network.a) is Path.LEAVING
    network.give(network.a, silence(network.a))
    assert path_of(network.a) is Path.ASKING


def test_a_pair_that_passes_a_doubt_of_the_peer_is_asked_three_times_at_once() -> None:
    """That a request has come over it shows that single messages are lost there."""
    network = suspected()
    network.wire.popleft()
    network.a.outputs.clear()
    network.run(2 * ROUND_TRIP_NS)
    assert asked(network.a) == [PAIR[::-1]] * ROUTINE_ASKS
    assert path_of(network.a) is Path.ASKING


def test_a_pair_that_is_asked_only_for_a_proof_gets_three_requests_at_a_time() -> None:
    network = established()
    network.run(SECOND)
    network.kill_provider(1)
    network.kill_provider(2)
    network.a.outputs.clear()
    network.give(network.a, LongUnproven(network.a.context.local_label))
    counts, before = [], 0
    while path_of(network.a) is not Path.STEADY:
        network.run(MILLISECOND)
        now = asked(network.a).count(PAIR[::-1])
        counts += [now - before] if now > before else []
        before = now
    assert counts == [1] * ROUTINE_ASKS + [ROUTINE_ASKS] * (ASKS_AFTER_ALARM // ROUTINE_ASKS - 1)


class Slow(Network):
    """A network in which messages of a take longer over some pairs.

    Attributes:
        slow_ns: by how much, by pair.
    """

    slow_ns: Mapping[Pair, int] = MappingProxyType({})

    def put(self, packet: bytes) -> None:
        """A packet onto the wire, behind those that arrive before it."""
        pair = Locator(packet[8:24]), Locator(packet[24:40])
        self.wire.append((self.now_ns + self.delay_ns + self.slow_ns.get(pair, 0), packet))
        self.wire = deque(sorted(self.wire, key=lambda one: one[0]))


def test_a_pair_that_has_become_as_slow_as_the_others_is_kept() -> None:
    """It gets as much time to answer as they take."""
    network = Slow()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    context = network.a.context
    asked_ns = context.expected.ask_wait_ns
    others_ns = context.expected.verdict_wait_ns - MILLISECOND
    others = dict.fromkeys([(A1, B2), (A2, B1), (A2, B2)], others_ns - ROUND_TRIP_NS)
    longer_ns = History(round_trip_ns=others_ns).verdict_wait_ns - MILLISECOND
    network.slow_ns = others | {(A1, B1): asked_ns + longer_ns - ROUND_TRIP_NS}
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert context.path is Path.STEADY
    assert context.pair == (A1, B1)
    assert not any(isinstance(one, Switched) for one in network.a.outputs)


@pytest.mark.parametrize(("used_ms", "path"), [(400, Path.STEADY), (600, Path.ASKING)])
def test_silence_that_is_for_the_most_part_older_than_the_pair_says_nothing_of_it(
    used_ms: int, path: Path
) -> None:
    network = established()
    network.run(SECOND)
    context = network.a.context
    used_ns = network.now_ns - used_ms * MILLISECOND
    context.note(context.pair, context.history_of(context.pair)._replace(used_ns=used_ns))
    network.give(network.a, UnansweredPacket(context.local_label, packet(A1, B1), SECOND))
    assert path_of(network.a) is path


@pytest.mark.parametrize(("told", "path"), [(True, Path.ASKING), (False, Path.STEADY)])
def test_false_alarms_delay_no_search_that_the_peer_needs(told: bool, path: Path) -> None:
    network = established()
    network.run(SECOND)
    core, context = network.a.host.core, network.a.context
    context.note(context.pair, context.history_of(context.pair)._replace(alarms=1))
    context.searched_ns = network.now_ns - SEARCH_INTERVAL_MIN
    core.now_ns = network.now_ns
    search(core, context, Cause.PEER_HEARS_NOTHING, told_by_peer=told)
    assert path_of(network.a) is path
