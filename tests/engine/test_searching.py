# SPDX-License-Identifier: MIT
"""A search for a working pair, and data that travels plain while there is none [D43, D47]."""

import pytest

from noid.constants import (
    CYCLE_TIME,
    CYCLE_TIME_LARGE,
    MILLISECOND,
    MINUTE,
    PROBE_INTERVAL,
    PROBE_INTERVAL_LARGE,
    PROBE_INTERVAL_MAX,
    PROBES_AT_FIRST,
    PROBES_KEPT_MAX,
    PROBES_PER_ROUND_MAX,
    SECOND,
    SILENCE_UNMEASURED,
    SUSPICION_TIME,
    WANTED_TIME,
)
from noid.engine.events import LocatorsChanged, SendAgain
from noid.engine.history import Pair
from noid.engine.phases import Search
from noid.engine.state import Path, Timer
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, Flag
from tests.engine.network import A1, A2, B1, B2, Network, Station, established, packet
from tests.engine.test_asking import asked
from tests.engine.test_backup import kept_back
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_reachability import silence

EVERY = {(one, other) for one in (A1, A2, B1, B2) for other in (A1, A2, B1, B2)}


def cut_off(network: Network | None = None) -> Network:
    """Two hosts with a context between which nothing passes any more."""
    network = network or established()
    network.run(SECOND)
    network.dead |= {
        (one, other)
        for one in (*network.a.locators, *network.b.locators)
        for other in (*network.a.locators, *network.b.locators)
    }
    return network


def searching(network: Network | None = None) -> Network:
    """Host b has found every pair silent."""
    network = cut_off(network)
    network.give(network.b, silence(network.b))
    network.run(SILENCE_UNMEASURED + 50 * MILLISECOND)
    assert network.b.context.path is Path.SEARCHING
    return network


def with_locators(own: int, peer: int) -> Network:
    """A network with a context between hosts with so many locators."""
    network = Network()
    for station, first, count in ((network.a, A1, own), (network.b, B1, peer)):
        station.locators = tuple(
            Locator(first[:5] + bytes((number,)) + first[6:]) for number in range(1, count + 1)
        )
        network.names[station.name] = list(station.locators)
        network.reverse |= dict.fromkeys(station.locators, station.name)
        network.give(station, LocatorsChanged(station.locators))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    return network


def search_of(station: Station) -> Search:
    under_way = station.context.search
    assert under_way is not None
    return under_way


def alone(network: Network, *pairs: Pair) -> None:
    """These directed pairs pass, and no other does."""
    network.dead -= set(pairs)


def keep_sending(network: Network, duration_ns: int) -> None:
    """A program of b sends ten packets a second."""
    for _ in range(duration_ns // (100 * MILLISECOND)):
        network.ulp_sends(network.b, packet(B1, A1, b"more"))
        network.run(100 * MILLISECOND)


def test_data_travels_plain_between_the_aids_while_no_pair_answers() -> None:
    network = searching()
    network.ulp_sends(network.b, packet(B1, A1, b"plain"))
    assert network.wire[-1][1] == packet(B1, A1, b"plain")


def test_data_uses_the_context_again_after_a_pair_answers() -> None:
    network = searching()
    alone(network, (B2, A2), (A2, B2))
    network.run(CYCLE_TIME + 50 * MILLISECOND)
    assert network.b.context.path is Path.STEADY
    network.run(SECOND)
    network.ulp_sends(network.b, packet(B1, A1, b"by the context"))
    network.run(20 * MILLISECOND)
    assert network.a.delivered[-1] == packet(B1, A1, b"by the context")


def test_the_whole_outage_is_said_though_the_search_began_anew_in_its_end() -> None:
    """The plane has TCP go on at once only after more than its first timer."""
    network = searching()
    network.run(6 * SECOND)
    network.a.locators = (A1,)
    network.give(network.a, LocatorsChanged((A1,)))
    alone(network, (B1, A1), (A1, B1))
    network.b.outputs.clear()
    network.run(SECOND)
    lost_ns = [one.silent_ns for one in network.b.outputs if isinstance(one, SendAgain)]
    assert max(lost_ns) > 6 * SECOND


def test_the_pair_in_use_is_probed_again_like_every_other() -> None:
    network = searching()
    alone(network, (B1, A1), (A1, B1))
    network.run(CYCLE_TIME + 50 * MILLISECOND)
    assert network.b.context.path is Path.STEADY
    assert network.b.context.pair == (B1, A1)


@pytest.mark.parametrize(("own", "peer"), [(1, 1), (2, 3), (3, 3), (4, 4), (1, 6)])
def test_any_pair_that_works_alone_is_found_within_a_second(own: int, peer: int) -> None:
    network = with_locators(own, peer)
    pairs = [(one, other) for one in network.b.locators for other in network.a.locators]
    for pair in pairs[:: max(1, len(pairs) // 4)]:
        network = cut_off(with_locators(own, peer))
        alone(network, pair, (pair[1], pair[0]))
        network.give(network.b, silence(network.b))
        network.run(SECOND)
        assert network.b.context.pair == pair


def test_of_very_many_pairs_each_is_found_within_five_seconds() -> None:
    network = cut_off(with_locators(16, 16))
    pair = network.b.locators[-1], network.a.locators[-1]
    alone(network, pair, (pair[1], pair[0]))
    network.give(network.b, silence(network.b))
    network.run(5 * SECOND)
    assert network.b.context.pair == pair


def test_the_number_of_probes_per_second_is_limited() -> None:
    network = cut_off(with_locators(16, 16))
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    network.run(900 * MILLISECOND)
    others = [pair for pair in asked(network.b) if pair != (B1, A1)]
    assert len(others) == len(set(others)) == PROBES_AT_FIRST
    network.run(2 * SECOND)
    later = len([pair for pair in asked(network.b) if pair != (B1, A1)]) - PROBES_AT_FIRST
    per_second = SECOND // PROBE_INTERVAL_LARGE * PROBES_PER_ROUND_MAX
    assert per_second == 64
    assert 1.5 * per_second <= later <= 2 * per_second
    assert PROBE_INTERVAL * PROBES_AT_FIRST // PROBES_PER_ROUND_MAX <= SECOND


@pytest.mark.parametrize("for_ns", [SECOND, 10 * SECOND, 5 * MINUTE])
def test_a_pair_that_is_back_is_found_within_a_second_while_programs_send(for_ns: int) -> None:
    network = searching()
    keep_sending(network, for_ns)
    alone(network, (B2, A1), (A1, B2))
    keep_sending(network, SECOND)
    assert network.b.context.pair == (B2, A1)


def test_probing_is_bounded_while_programs_send_and_nothing_answers() -> None:
    network = searching()
    keep_sending(network, 10 * SECOND)
    network.b.outputs.clear()
    keep_sending(network, 10 * SECOND)
    cycles = 10 * SECOND // CYCLE_TIME + 1
    assert len(asked(network.b)) <= cycles * (4 + 1), "four pairs, and one plain probe"


def test_of_very_many_pairs_a_cycle_takes_longer() -> None:
    network = searching(with_locators(6, 6))
    keep_sending(network, 10 * SECOND)
    network.b.outputs.clear()
    keep_sending(network, 2 * CYCLE_TIME_LARGE)
    assert len(asked(network.b)) <= 3 * 37


def test_probing_backs_off_while_no_program_sends_and_ends() -> None:
    network = searching()
    network.run(WANTED_TIME + 4 * CYCLE_TIME)
    network.b.outputs.clear()
    network.run(SUSPICION_TIME // 2)
    assert 4 <= len(asked(network.b)) <= 40
    network.run(SUSPICION_TIME + PROBE_INTERVAL_MAX)
    network.b.outputs.clear()
    network.run(5 * MINUTE)
    assert asked(network.b) == []
    assert network.b.context.path is Path.SEARCHING


def test_a_packet_of_a_program_begins_it_again() -> None:
    network = searching()
    network.run(3 * MINUTE)
    alone(network, (B2, A2), (A2, B2))
    network.ulp_sends(network.b, packet(B1, A1, b"at last"))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A2)
    assert packet(B1, A1, b"at last") in network.a.delivered


def test_a_locator_that_is_back_begins_it_again() -> None:
    network = cut_off()
    network.give(network.b, LocatorsChanged((B1, B2), broken=frozenset({B2})))
    searching(network)
    network.run(3 * MINUTE)
    alone(network, (B2, A2), (A2, B2))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A2)


def test_a_word_of_the_peers_begins_it_again() -> None:
    network = searching()
    network.run(3 * MINUTE)
    alone(network, (B2, A2), (A2, B2))
    network.give(network.a, silence(network.a))
    network.run(2 * SECOND)
    assert network.a.context.pair == (A2, B2)
    assert network.b.context.pair == (B2, A2)


def test_the_latest_packet_rides_on_the_probes_of_a_search() -> None:
    network = searching()
    network.b.outputs.clear()
    network.ulp_sends(network.b, packet(B1, A1, b"later"))
    network.run(CYCLE_TIME)
    carried = {one.piggyback.payload for _, one in sent_by(network.b, Code.UR) if one.piggyback}
    assert carried == {b"later"}


def test_a_packet_whose_protocol_does_not_know_duplicates_rides_on_none() -> None:
    network = searching()
    network.b.outputs.clear()
    search_of(network.b).packet = b""
    datagram = bytearray(packet(B1, A1, b"datagram"))
    datagram[6] = ipv6.UDP
    network.ulp_sends(network.b, bytes(datagram))
    network.run(CYCLE_TIME)
    assert not any(one.piggyback for _, one in sent_by(network.b, Code.UR))


def test_the_oldest_probes_are_forgotten() -> None:
    network = searching(with_locators(8, 8))
    keep_sending(network, 60 * SECOND)
    assert len(search_of(network.b).probes) == PROBES_KEPT_MAX


def test_pairs_that_are_gone_are_not_probed() -> None:
    network = searching()
    network.give(network.b, LocatorsChanged((B1,)))
    network.b.outputs.clear()
    keep_sending(network, 2 * SECOND)
    assert {source for source, _ in asked(network.b)} == {B1}


def test_a_host_that_was_informed_reports_silence_when_it_searches() -> None:
    network = established()
    network.run(SECOND)
    network.dead |= {(A1, B1), (A1, B2), (A2, B1), (A2, B2)}
    network.give(network.b, silence(network.b))
    for path, says_so in ((Path.DOUBTING, False), (Path.SEARCHING, True)):
        network.a.outputs.clear()
        while network.a.context.path is not path:
            network.run(MILLISECOND)
        network.run(100 * MILLISECOND)
        flags = [message.flags & Flag.HEARS_NOTHING for _, message in sent_by(network.a, Code.UR)]
        assert flags
        assert any(flags) == says_so


def test_a_try_that_fails_is_no_sign_of_trouble() -> None:
    network = established()
    network.dead |= {(A2, B1), (A2, B2)}
    network.give(network.a, LocatorsChanged((A1, A2), deprecated=frozenset({A1})))
    network.run(SUSPICION_TIME + 30 * SECOND)
    assert network.a.context.path is Path.STEADY


def test_a_better_pair_is_not_tried_apart_while_every_pair_is() -> None:
    network = kept_back(A2)
    network.kill_provider(1)
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    network.kill_provider(2)
    network.give(network.a, silence(network.a))
    network.run(SECOND)
    core = network.a.host.core
    core.set_timer(network.a.context, Timer.BETTER, 0)
    network.run(SECOND)
    assert network.a.context.path is Path.SEARCHING


# --- pairs that work one way alone ----------------------------------------------------------------


@pytest.mark.parametrize(("there", "back"), [((B2, A1), (A2, B1)), ((B1, A2), (A1, B1))])
def test_pairs_that_work_in_opposite_directions_find_each_other(there: Pair, back: Pair) -> None:
    network = cut_off()
    alone(network, there, back)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    assert network.b.context.pair == there
    assert network.a.context.pair == back


def test_the_plain_probe_follows_the_others() -> None:
    """A peer that asks names the first probe that it hears, which is to be of a pair for data."""
    network = cut_off()
    network.b.outputs.clear()
    network.give(network.b, silence(network.b))
    network.run(2 * SECOND)
    sent = [header.next_header == ipv6.ICMPV6 for header, _ in sent_by(network.b, Code.UR)]
    first = sent.index(True)
    assert sent[first - 1 : first + 1] == [False, True]
    assert sent[first + 1 :].count(True) > 0
    assert all(not sent[at - 1] for at in range(1, len(sent)) if sent[at]), "after some others"


def test_they_stay_on_these_pairs() -> None:
    network = cut_off()
    alone(network, (B2, A1), (A2, B1))
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    for _ in range(20):
        for station in network.stations:
            network.give(station, silence(station))
        network.run(SECOND)
    assert network.b.context.pair == (B2, A1)
    assert network.a.context.pair == (A2, B1)
    assert all(station.context.path is Path.STEADY for station in network.stations)


def test_a_request_names_the_newest_request_that_its_sender_has_heard() -> None:
    network = established()
    network.run(SECOND)
    network.give(network.b, silence(network.b))
    network.run(SECOND)
    _, request = sent_by(network.b, Code.UR)[-1]
    network.give(network.a, silence(network.a))
    _, answer = sent_by(network.a, Code.UR)[-1]
    assert answer.heard == request.nonce


# --- firewalls ------------------------------------------------------------------------------------
