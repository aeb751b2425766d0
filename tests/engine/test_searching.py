"""A search for a working pair that is under way, and what else happens meanwhile [D20]."""

from noid.constants import MILLISECOND, MINUTE, SECOND, SUSPICION_TIME
from noid.datapath.events import UnansweredPacket
from noid.engine.context import Search
from noid.engine.events import LocatorsChanged, ProbeStarted
from noid.engine.reachability import search as look
from noid.engine.state import State, Timer, Trigger
from noid.engine.update import request
from noid.wire.control import Code, Flag
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    DELAY_NS,
    Network,
    Station,
    established,
    packet,
    state_of,
)
from tests.engine.test_backup import kept_back
from tests.engine.test_conformance_later import unknown_context
from tests.engine.test_conformance_setup import receive, sent_by
from tests.engine.test_provisional import provisional
from tests.engine.test_reachability import reports, silence


def cut_off() -> Network:
    """Two hosts with a context between whom nothing passes any more."""
    network = established()
    network.kill_provider(1)
    network.kill_provider(2)
    return network


def search_of(station: Station) -> Search:
    under_way = station.context.search
    assert under_way is not None
    return under_way


def doubts(station: Station) -> set[bool]:
    """Whether the probes of a station said that it hears nothing."""
    return {bool(one.flags & Flag.HEARS_NOTHING) for _, one in sent_by(station, Code.UR)}


def test_the_latest_unanswered_packet_rides_on_the_next_round() -> None:
    network = cut_off()
    network.give(network.b, silence(network.b))
    label = network.b.context.local_label
    network.give(network.b, UnansweredPacket(label, packet(B1, A1, b"later"), SECOND))
    network.give(network.b, UnansweredPacket(label, b"", SECOND))
    network.b.outputs.clear()
    network.run(SECOND)
    carried = {one.piggyback.payload for _, one in sent_by(network.b, Code.UR) if one.piggyback}
    assert carried == {b"later"}


def test_who_is_not_heard_either_stops_saying_that_it_hears_nothing() -> None:
    network = cut_off()
    network.give(network.b, silence(network.b))
    assert doubts(network.b) == {True}
    core = network.b.host.core
    core.trigger = Trigger.UR
    look(core, network.b.context, "the peer hears nothing", told_by_peer=True)
    network.b.outputs.clear()
    network.run(SECOND)
    assert doubts(network.b) == {False}
    network.give(network.b, silence(network.b))
    network.b.outputs.clear()
    network.run(2 * SECOND)
    assert doubts(network.b) == {False}


def test_in_doubt_the_pair_in_use_is_asked_also_when_it_is_to_be_left_by_now() -> None:
    network = cut_off()
    network.give(network.b, silence(network.b))
    network.give(network.b, LocatorsChanged((B1, B2), deprecated=frozenset({B1})))
    network.b.outputs.clear()
    network.run(2 * SECOND)
    sent = {(header.source, header.destination) for header, _ in sent_by(network.b, Code.UR)}
    assert (B1, A1) in sent


def test_a_context_that_is_not_proven_looks_for_nothing_though_its_aid_is() -> None:
    network = provisional(A2)
    network.dns_works = True
    del network.reverse[A2]
    network.run(5 * MILLISECOND)
    context = network.b.context
    context.aid_proven = True
    assert context.is_provisional
    assert context.peer_verified == {A1}
    network.give(network.b, UnansweredPacket(context.local_label, packet(B1, A1), SECOND))
    assert context.search is None


def test_a_context_that_begins_anew_looks_for_nothing_though_all_is_proven() -> None:
    network = established()
    receive(network, network.a, unknown_context(network), B1, A1)
    assert state_of(network.a) is State.INIT_SENT
    network.give(network.a, silence(network.a))
    assert state_of(network.a) is State.INIT_SENT


def test_what_needless_searches_taught_is_not_forgotten_before_its_time() -> None:
    network = established()
    network.run(3 * MINUTE)
    for count in (1, 2, 3):
        network.give(network.b, silence(network.b))
        network.run(20 * SECOND)
        assert network.b.context.searches_for_nothing == count


def test_the_intervals_begin_afresh_where_a_locator_is_back() -> None:
    network = cut_off()
    network.give(network.b, silence(network.b))
    network.run(20 * SECOND)
    assert search_of(network.b).rounds > 5
    network.give(network.b, LocatorsChanged((B1,)))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(1)
    assert search_of(network.b).rounds == 2


def test_a_locator_of_the_peers_that_is_deprecated_no_more_was_there_all_the_time() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A2})))
    network.run(SECOND)
    network.dead |= {(B1, A1), (B1, A2), (B2, A1), (B2, A2)}
    network.give(network.b, silence(network.b))
    network.run(20 * SECOND)
    rounds = search_of(network.b).rounds
    assert rounds > 5
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(2 * DELAY_NS)
    assert network.b.context.peer_marks == ()
    assert search_of(network.b).rounds >= rounds


def test_a_better_pair_is_not_tried_apart_while_every_pair_is() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    network.kill_provider(2)
    network.give(network.a, silence(network.a))
    network.run(20 * SECOND)
    rounds = search_of(network.a).rounds
    while search_of(network.a).rounds == rounds:
        network.run(10 * MILLISECOND)
    core = network.a.host.core
    core.set_timer(network.a.context, Timer.BETTER, 0)
    network.run(2 * SECOND)
    assert search_of(network.a).rounds == rounds + 1


def test_a_try_that_fails_is_no_sign_of_trouble() -> None:
    network = established()
    network.dead |= {(A2, B1), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.run(SUSPICION_TIME + 20 * SECOND)
    assert network.a.context.search is None
    assert network.a.context.fruitless is None


def test_a_request_that_comes_again_makes_nobody_leave_a_pair_anew() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.b, silence(network.b))
    network.run(5 * SECOND)
    *_, (_, message) = sent_by(network.a, Code.UR)
    assert state_of(network.b) is State.ESTABLISHED
    network.b.outputs.clear()
    receive(network, network.b, message, A2, B2)
    assert sent_by(network.b, Code.UA)
    assert reports(network.b, ProbeStarted) == []


def test_other_sets_under_a_nonce_that_was_used_are_not_applied() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(SECOND)
    context, core = network.a.context, network.a.host.core
    context.own_local = (A1, A2)
    again = request(core, context, context.update_nonce)
    receive(network, network.b, again, A1, B1)
    assert network.b.context.peer_local == (A1,)


def test_an_update_that_a_later_probe_acknowledges_measures_nothing() -> None:
    network = cut_off()
    before_ns = network.b.context.round_trip_ns
    network.give(network.b, LocatorsChanged((B1, B2), backup=frozenset({B2})))
    network.give(network.b, silence(network.b))
    network.run(30 * SECOND)
    network.dead.clear()
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert state_of(network.b) is State.ESTABLISHED
    assert network.b.context.round_trip_ns <= 2 * before_ns
