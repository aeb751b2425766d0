"""A network that was dead altogether comes back, and is found soon [D20]."""

from noid.constants import (
    MILLISECOND,
    MINUTE,
    PROBE_INTERVAL_FIRST,
    PROBE_INTERVAL_WANTED,
    SECOND,
    SEGMENT_LIFETIME,
    SUSPICION_TIME,
)
from noid.datapath.events import IcmpErrorReceived
from noid.engine.context import Pair
from noid.engine.events import LocatorsChanged, SendAgain, SendControl
from noid.engine.state import State
from noid.locators import Locator
from noid.wire import icmpv6
from tests.engine.network import A1, A2, B1, B2, Network, Station, established, packet, state_of
from tests.engine.test_reachability import silence

UNANSWERED = packet(B1, A1, b"unanswered")
ROUND_TRIP = 25 * MILLISECOND
"""There and back, and a little."""


def dead(*, for_ns: int) -> Network:
    """Two hosts; b has sent into silence, and nothing has come through for a while."""
    network = established()
    network.run(5 * MINUTE)
    network.kill_provider(1)
    network.kill_provider(2)
    network.give(network.b, silence(network.b))
    network.run(for_ns)
    network.a.outputs.clear()
    network.b.outputs.clear()
    return network


def revive(network: Network, *pairs: Pair) -> None:
    """These pairs carry again, both ways."""
    network.dead -= {*pairs, *((other, one) for one, other in pairs)}


def probes(station: Station) -> list[Pair]:
    sent = [one.packet for one in station.outputs if isinstance(one, SendControl)]
    return [(Locator(one[8:24]), Locator(one[24:40])) for one in sent]


def test_a_packet_of_the_ulp_brings_the_next_round_forward() -> None:
    network = dead(for_ns=40 * SECOND)
    revive(network, (B2, A2))
    network.give(network.b, silence(network.b))
    network.run(ROUND_TRIP)
    assert network.b.context.pair == (B2, A2)
    assert UNANSWERED in network.a.delivered


def test_packets_of_the_ulp_bring_no_round_sooner_than_the_rate_allows() -> None:
    network = dead(for_ns=40 * SECOND)
    for _ in range(1000):
        network.give(network.b, silence(network.b))
        network.run(10 * MILLISECOND)
    rounds = 10 * SECOND // PROBE_INTERVAL_WANTED
    assert rounds <= probes(network.b).count((B2, A1)) <= rounds + 1


def test_a_pair_in_use_that_was_dead_carries_the_packet_again() -> None:
    network = dead(for_ns=40 * SECOND)
    long = packet(B1, A1, bytes(1460))
    revive(network, (B1, A1))
    network.b.context.search.packet = long  # type: ignore[union-attr] # it searches
    network.give(network.b, LocatorsChanged((B1,)))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(SECOND)
    assert SendAgain(network.b.context.local_label, long) in network.b.outputs
    assert network.a.delivered == [long] * 2, "at once and two round trips later"


def test_a_locator_of_ours_that_is_back_is_tried_at_once() -> None:
    network = established()
    network.give(network.b, LocatorsChanged((B1, B2), broken=frozenset({B2})))
    network.run(SECOND)
    network.kill_provider(1)
    network.kill_provider(2)
    network.give(network.b, silence(network.b))
    network.run(40 * SECOND)
    revive(network, (B2, A2))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(PROBE_INTERVAL_FIRST)
    assert network.b.context.pair == (B2, A2)


def test_probing_begins_afresh_where_a_locator_is_back() -> None:
    network = dead(for_ns=40 * SECOND)
    network.give(network.b, LocatorsChanged((B1,)))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(300 * MILLISECOND)
    revive(network, (B2, A2))
    network.run(SECOND)
    assert network.b.context.pair == (B2, A2)


def test_a_locator_of_the_peers_that_is_back_is_tried_at_once() -> None:
    network = established()
    network.give(network.a, LocatorsChanged((A1, A2), broken=frozenset({A2})))
    network.run(SECOND)
    network.kill_provider(1)
    network.kill_provider(2)
    network.give(network.b, silence(network.b))
    network.run(40 * SECOND)
    assert network.b.context.marks_of(A2)
    revive(network, (B1, A1), (B2, A2))
    network.dead.add((B1, A1))
    network.give(network.a, LocatorsChanged((A1, A2)))
    network.run(PROBE_INTERVAL_FIRST + ROUND_TRIP)
    assert network.b.context.pair == (B2, A2)


def test_a_search_that_was_given_up_begins_again_when_a_locator_is_back() -> None:
    network = dead(for_ns=SUSPICION_TIME + 20 * SECOND)
    assert network.b.context.search is None
    network.give(network.b, LocatorsChanged((B1,)))
    revive(network, (B2, A2))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(ROUND_TRIP)
    assert network.b.context.pair == (B2, A2)
    assert network.a.delivered == [UNANSWERED]
    assert network.b.context.fruitless is None


def test_a_packet_too_old_does_not_ride_on_it() -> None:
    network = dead(for_ns=SEGMENT_LIFETIME + SECOND)
    network.give(network.b, LocatorsChanged((B1,)))
    revive(network, (B2, A2))
    network.give(network.b, LocatorsChanged((B1, B2)))
    network.run(ROUND_TRIP)
    assert network.b.context.pair == (B2, A2)
    assert network.a.delivered == []


def test_a_search_that_was_given_up_begins_again_when_the_peer_is_heard() -> None:
    network = dead(for_ns=SUSPICION_TIME + 20 * SECOND)
    revive(network, (B2, A2))
    network.give(network.a, silence(network.a))
    network.run(2 * ROUND_TRIP)
    assert network.b.context.pair == (B2, A2)
    assert network.a.context.pair == (A2, B2)


def test_where_nothing_was_looked_for_a_locator_that_is_back_changes_nothing() -> None:
    network = established()
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(SECOND)
    network.give(network.b, LocatorsChanged((B1, B2)))
    assert network.b.context.search is None


def test_what_was_given_up_is_forgotten_with_the_exchange() -> None:
    network = dead(for_ns=SUSPICION_TIME + 20 * SECOND)
    assert network.b.context.fruitless is not None
    network.run(20 * MINUTE)
    assert network.b.context.state is State.CLOSING
    assert network.b.context.fruitless is None


def test_an_error_about_a_probe_is_no_news() -> None:
    network = dead(for_ns=SECOND)
    for _ in range(100):
        sent = [one.packet for one in network.b.outputs if isinstance(one, SendControl)]
        network.b.outputs.clear()
        for quote in sent:
            error = icmpv6.ErrorMessage(type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=quote)
            octets = error.encode_packet(A1, B1)[40:]
            network.give(network.b, IcmpErrorReceived(A1, B1, octets))
        network.run(SECOND)
    assert network.b.context.search is None


def test_a_probe_that_was_sent_after_an_update_acknowledges_it_too() -> None:
    network = dead(for_ns=SECOND)
    network.give(network.b, LocatorsChanged((B1, B2), deprecated=frozenset({B1})))
    network.run(MINUTE)
    assert state_of(network.b) is State.UR_SENT
    revive(network, (B2, A2))
    network.give(network.b, silence(network.b))
    network.run(2 * SECOND)
    assert state_of(network.b) is State.ESTABLISHED
    assert network.a.context.marks_of(B1)
