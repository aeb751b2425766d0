# SPDX-License-Identifier: MIT
"""Round trips are measured only on messages that were sent once [D43]."""

from noid.constants import (
    MEASURE_AFTER,
    MEASURED_MAX,
    MILLISECOND,
    RETRANSMIT_FIRST,
    SECOND,
    SILENCE_MIN,
)
from noid.engine.events import LocatorsChanged
from noid.engine.state import Path, State
from noid.wire.control import Code
from tests.engine.network import A1, B1, DELAY_NS, Network, begun, packet
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_repetition import silent

ROUND_TRIP_NS = 2 * DELAY_NS


def test_both_ends_of_a_set_up_without_loss_know_the_round_trip() -> None:
    network = begun()
    network.run(SECOND)
    for station in network.stations:
        assert station.context.round_trip_ns == ROUND_TRIP_NS


def test_a_repeated_ccr_measures_nothing_at_either_end() -> None:
    network = begun()
    lose_first(network, Code.CCR)
    network.run(20 * SECOND)
    assert network.b.context.is_settled
    assert network.b.context.round_trip_ns == 0
    assert network.a.context.round_trip_ns == ROUND_TRIP_NS, "by INIT and CC"


def test_a_repeated_init_measures_nothing() -> None:
    network = begun()
    lose_first(network, Code.CC)
    while network.a.context.state is not State.CCR_SENT:
        network.run(MILLISECOND)
    exchange = network.a.context.exchange
    assert exchange is not None
    assert exchange.tries > 1
    assert network.a.context.round_trip_ns == 0


def test_no_ccr_is_repeated_sooner_than_one_that_is_measured() -> None:
    assert MEASURED_MAX <= RETRANSMIT_FIRST // 2


def test_a_repeated_update_measures_nothing() -> None:
    network = begun()
    network.run(SECOND)
    before_ns = network.a.context.round_trip_ns
    dead = set(network.dead)
    silent(network).give(network.a, LocatorsChanged((A1,)))
    network.run(SECOND)
    network.dead = dead
    network.run(20 * SECOND)
    assert network.a.context.update is None
    assert network.a.context.round_trip_ns == before_ns


def lose_first(network: Network, code: Code) -> None:
    """The first message of a kind is lost."""
    arrive = network.arrive
    lost: list[bytes] = []

    def arrive_unless_first(packet: bytes) -> None:
        if packet[41] == code and not lost:
            lost.append(packet)
        else:
            arrive(packet)

    network.arrive = arrive_unless_first  # type: ignore[method-assign] # a network that loses


def set_up_at(delay_ns: int) -> Network:
    """A set-up whose messages take so long, in a network that then takes its usual time."""
    network = Network(measure_after_ns=MEASURE_AFTER)
    network.delay_ns = delay_ns
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    while not all(one.host.contexts and one.context.is_settled for one in network.stations):
        network.run(MILLISECOND)
    network.delay_ns = DELAY_NS
    return network


def test_a_slow_set_up_is_followed_by_one_request_of_each_end_that_measures() -> None:
    network = set_up_at(8 * DELAY_NS)
    assert network.b.context.silence_ns > 2 * ROUND_TRIP_NS
    network.run(20 * SECOND)
    for station in network.stations:
        assert station.context.round_trip_ns == ROUND_TRIP_NS
        assert [flow.silence_ns for flow in station.rewriter.by_label.values()] == [
            2 * ROUND_TRIP_NS
        ]
        assert len(sent_by(station, Code.UR)) == 1


def test_a_pair_that_passes_set_up_but_no_data_is_abandoned_without_traffic() -> None:
    network = set_up_at(8 * DELAY_NS)
    network.drops_m6 = True
    network.run(3 * SECOND)
    for station in network.stations:
        assert station.context.path is Path.ASIDE
        assert not any(flow.transmits for flow in station.rewriter.by_label.values())


def test_a_set_up_whose_t_is_the_least_there_is_needs_no_such_request() -> None:
    network = set_up_at(MILLISECOND)
    network.run(20 * SECOND)
    for station in network.stations:
        assert station.context.silence_ns == SILENCE_MIN
        assert not sent_by(station, Code.UR)
