# SPDX-License-Identifier: MIT
"""Data from another locator of the peer's moves Lp(peer), until that is refuted [D41]."""

import pytest

from noid.constants import (
    FOLLOW_AGAIN,
    FOLLOW_ASKS,
    FOLLOW_INTERVAL,
    FOLLOW_REST,
    MILLISECOND,
    NEVER,
    SECOND,
    UNPROVEN_TIME,
)
from noid.engine.events import SendAgain, Switched
from noid.engine.state import Path
from noid.flows.events import SourceMoved, UnansweredPacket
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, Flag
from noid.wire.ipv6 import ADDRESSES_AT
from noid.wire.slots import slot_of
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, START_NS, Network, Station, packet
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_reachability import reports, silence

ROUND_TRIP_NS = 20 * MILLISECOND
PERIOD_NS = 2 * MILLISECOND


class Site(Network):
    """A network in which border routers rewrite the sources of packets that allow it.

    Attributes:
        borders: locators, and by which others routers replace them.
        sent: when packets were sent, and their ends.
    """

    def __init__(self) -> None:
        self.borders: dict[Locator, Locator] = {}
        self.sent: list[tuple[int, Locator, Locator]] = []
        super().__init__()
        self.resolve(self.a, self.b)
        self.ulp_sends(self.a, packet(A1, B1))
        self.run(SECOND)
        self.a.outputs.clear()
        self.b.outputs.clear()

    def put(self, packet: bytes) -> None:
        """A packet leaves a site."""
        source = Locator(packet[ADDRESSES_AT : ADDRESSES_AT + 16])
        self.sent.append((self.now_ns, source, Locator(packet[24:40])))
        slot = slot_of(packet[6], CODEPOINTS)
        if slot is not None and slot.rewritable and source in self.borders:
            packet = packet[:ADDRESSES_AT] + self.borders[source] + packet[24:]
        super().put(packet)

    def rewrite(self, source: Locator, other: Locator, *, dies: bool = True) -> None:
        """The border sends what comes from a locator by another provider from now on."""
        self.borders = {source: other}
        if dies:
            self.dead = {
                pair for one in (A1, A2, B1, B2) for pair in ((one, source), (source, one))
            }

    def converse(self, duration_ns: int, period_ns: int = PERIOD_NS) -> None:
        """Both ends send."""
        until_ns = self.now_ns + duration_ns
        while self.now_ns < until_ns:
            self.ulp_sends(self.a, packet(A1, B1))
            self.ulp_sends(self.b, packet(B1, A1))
            self.run(period_ns)

    def lost(self, duration_ns: int, period_ns: int = PERIOD_NS) -> int:
        """How many packets of a's do not arrive in a conversation."""
        self.run(ROUND_TRIP_NS)
        before = len(self.b.delivered)
        self.converse(duration_ns, period_ns)
        sent = duration_ns // period_ns
        self.run(ROUND_TRIP_NS)
        return int(sent - (len(self.b.delivered) - before))

    def moved(self, *, followed: bool = False) -> None:
        """Data of b's comes to a from b's other locator."""
        self.give(self.a, SourceMoved(self.a.context.local_label, B2, followed))


def asked(station: Station) -> list[tuple[bytes, bytes]]:
    """The pairs over which a station has sent URs."""
    return [(header.source, header.destination) for header, _ in sent_by(station, Code.UR)]


def path_of(station: Station) -> Path:
    """What a station believes of its pair, as it is now."""
    return station.context.path


def forged(site: Site, source: Locator) -> None:
    """Data with the label of a, by one who knows that."""
    header = ipv6.Header(
        source=source,
        destination=A1,
        next_header=CODEPOINTS.fixed_first,
        payload_octets=20,
        flow_label=site.a.context.local_label,
    )
    octets = header.encode() + bytes(20)
    site.follow(site.a, site.a.datapath.from_network(octets, site.now_ns))


def test_the_peer_follows_a_border_switch_within_a_round_trip_and_10_ms() -> None:
    site = Site()
    site.converse(SECOND)
    switched_ns = site.now_ns
    site.rewrite(B1, B2)
    site.converse(SECOND)
    followed_ns = next(at for at, _, to in site.sent if at > switched_ns and to == B2)
    assert followed_ns - switched_ns <= ROUND_TRIP_NS + 10 * MILLISECOND
    assert site.a.context.pair == (A1, B2)
    assert path_of(site.a) is Path.STEADY
    assert site.lost(SECOND) == 0
    (switch,) = reports(site.a, Switched)
    assert isinstance(switch, Switched)
    assert switch.new == (A1, B2)


def test_both_ends_follow_where_both_borders_switch() -> None:
    site = Site()
    site.converse(SECOND)
    site.borders = {A1: A2, B1: B2}
    site.dead = {(A1, B1), (B1, A1), (A1, B2), (B2, A1), (A2, B1), (B1, A2)}
    site.converse(SECOND)
    # The border of each rewrites the other end of its own pair.
    assert (site.a.context.peer_locator, site.b.context.peer_locator) == (B2, A2)
    assert site.lost(SECOND) == 0


@pytest.mark.slow
def test_the_peer_follows_to_and_fro_with_each_provider_that_dies() -> None:
    site = Site()
    site.converse(SECOND)
    for turn in range(8):
        site.rewrite(*((B1, B2) if turn % 2 == 0 else (B2, B1)))
        if turn % 2:
            site.borders = {}
        site.converse(2 * SECOND)
        assert site.a.context.peer_locator == (B2 if turn % 2 == 0 else B1)
    assert site.lost(SECOND) == 0


def test_a_move_is_confirmed_by_three_requests_over_each_of_the_two_pairs() -> None:
    site = Site()
    site.rewrite(B1, B2)
    site.moved(followed=True)
    assert path_of(site.a) is Path.FOLLOWING
    assert site.a.context.pair == (A1, B2), "at once"
    site.run(SECOND)
    pairs = asked(site.a)
    assert pairs.count((A1, B1)) == pairs.count((A1, B2)) == FOLLOW_ASKS
    assert len(pairs) == 2 * FOLLOW_ASKS
    assert not any(message.flags & Flag.HEARS_NOTHING for _, message in sent_by(site.a, Code.UR))
    assert site.a.context.pair == (A1, B2)


def test_a_move_is_reverted_as_soon_as_the_pair_before_answers() -> None:
    site = Site()
    site.moved(followed=True)
    site.run(ROUND_TRIP_NS)
    assert path_of(site.a) is Path.STEADY
    assert site.a.context.pair == (A1, B1)
    assert site.a.context.flow().follow_ns == site.now_ns + FOLLOW_REST
    assert site.a.context.history_of((A1, B1)).alarms == 0


def test_a_move_is_reverted_where_neither_answers_and_all_pairs_are_probed() -> None:
    site = Site()
    site.dead = {(A1, B1), (A1, B2), (A2, B1)}
    site.moved(followed=True)
    site.run(ROUND_TRIP_NS * 3 // 2)
    assert path_of(site.a) is Path.DOUBTING
    assert site.a.context.pair == (A1, B1)
    assert site.a.context.flow().follow_ns > site.now_ns + FOLLOW_REST - SECOND
    site.run(3 * ROUND_TRIP_NS)
    assert site.a.context.pair == (A2, B2)


def test_no_data_moves_the_peer_while_a_move_is_not_confirmed_nor_soon_after() -> None:
    site = Site()
    site.rewrite(B1, B2)
    site.moved(followed=True)
    assert site.a.context.flow().follow_ns == NEVER
    site.run(SECOND)
    confirmed_ns = site.now_ns - SECOND + ROUND_TRIP_NS * 3 // 2
    assert 0 <= site.a.context.flow().follow_ns - confirmed_ns - FOLLOW_INTERVAL < ROUND_TRIP_NS


@pytest.mark.parametrize("rate_hz", [10, 50])
def test_forged_data_from_a_dead_locator_interrupts_for_a_round_trip_a_minute(rate_hz: int) -> None:
    site = Site()
    site.dead = {pair for one in (A1, A2) for pair in ((one, B2), (B2, one))}
    before, sent = len(site.b.delivered), 0
    while site.now_ns < START_NS + FOLLOW_REST:
        forged(site, B2)
        site.converse(SECOND // rate_hz, SECOND // 50)
        sent += 50 // rate_hz
    assert sent - (len(site.b.delivered) - before) <= 4, "those of a round trip, and on the way"
    assert site.a.context.pair == (A1, B1)
    assert len(reports(site.a, Switched)) <= 2


def test_a_plane_that_followed_too_early_goes_back() -> None:
    site = Site()
    site.moved(followed=True)
    site.run(SECOND)
    assert site.a.context.pair == (A1, B1)
    site.a.rewriter.by_label[site.a.context.local_label].peer_locator = B2
    site.moved(followed=True)
    assert site.a.context.pair == (A1, B1)
    assert site.a.rewriter.by_label[site.a.context.local_label].peer_locator == B1


@pytest.mark.slow
def test_per_packet_rewriting_changes_no_locator_and_is_asked_twice_a_minute() -> None:
    site = Site()
    site.converse(SECOND // 10)
    for _ in range(FOLLOW_AGAIN // (6 * MILLISECOND)):
        site.borders = {} if site.borders else {B1: B2}
        site.converse(3 * MILLISECOND, 3 * MILLISECOND)
    assert site.a.context.pair == (A1, B1)
    assert reports(site.a, Switched) == []
    proofs = FOLLOW_AGAIN // 2 // UNPROVEN_TIME
    assert len(asked(site.a)) <= 2 * FOLLOW_ASKS + proofs


def test_data_from_a_new_source_before_silence_asks_both_pairs_and_moves_later() -> None:
    site = Site()
    site.rewrite(B1, B2)
    site.moved()
    assert site.a.context.pair == (A1, B1)
    assert path_of(site.a) is Path.FOLLOWING
    site.moved(followed=True)
    assert site.a.context.pair == (A1, B2)
    assert len(asked(site.a)) == 2 * FOLLOW_ASKS, "no more for that"
    site.run(SECOND)
    assert site.a.context.pair == (A1, B2)


def test_a_silent_pair_is_replaced_by_the_pair_that_data_arrives_on() -> None:
    site = Site()
    site.rewrite(B1, B2)
    site.moved()
    site.run(ROUND_TRIP_NS * 3 // 2 + MILLISECOND)
    assert site.a.context.pair == (A1, B2)


def test_a_peer_with_different_pairs_per_direction_changes_the_pair_at_most_once() -> None:
    site = Site()
    site.rewrite(B1, B2, dies=False)
    site.dead = {(A1, B2), (A2, B2), (A2, B1)}
    assert site.lost(2 * SECOND) <= ROUND_TRIP_NS // PERIOD_NS + 1
    assert site.a.context.peer_source == B2
    asks = len(asked(site.a))
    assert site.lost(2 * FOLLOW_REST, 50 * MILLISECOND) == 0
    assert site.a.context.pair == (A1, B1)
    assert len(asked(site.a)) - asks <= 2 * FOLLOW_REST // (4 * SECOND), "proofs alone"


def test_a_failing_pair_is_replaced_although_data_arrives_from_another_locator() -> None:
    site = Site()
    site.rewrite(B1, B2, dies=False)
    site.converse(SECOND)
    assert site.a.context.pair == (A1, B1)
    site.rewrite(B1, B2)
    died_ns = site.now_ns
    while site.a.context.pair == (A1, B1):
        site.converse(PERIOD_NS)
    assert site.now_ns - died_ns < SECOND // 2


def test_a_host_without_a_pair_that_works_probes_first_where_data_comes_from() -> None:
    site = Site()
    site.dead = {(one, other) for one in (A1, A2) for other in (B1, B2)}
    site.converse(SECOND)
    assert path_of(site.a) is Path.SEARCHING
    site.run(SECOND)
    site.a.outputs.clear()
    site.moved()
    assert asked(site.a)[0] == (A1, B2)
    assert path_of(site.a) is Path.SEARCHING
    site.dead = set()
    site.moved()
    assert len(asked(site.a)) < 8, "but not always"
    site.run(SECOND)
    assert path_of(site.a) is Path.STEADY


def test_a_host_that_doubts_its_pair_follows() -> None:
    site = Site()
    site.converse(SECOND)
    site.rewrite(B1, B2)
    site.borders = {}
    site.run(20 * MILLISECOND)
    while path_of(site.a) is not Path.DOUBTING:
        site.ulp_sends(site.a, packet(A1, B1))
        site.run(PERIOD_NS)
    site.moved(followed=True)
    assert path_of(site.a) is Path.FOLLOWING
    assert site.a.context.pair == (A1, B2)


def test_what_goes_unanswered_while_the_peer_moves_is_sent_again() -> None:
    site = Site()
    site.rewrite(B1, B2)
    site.ulp_sends(site.a, packet(A1, B1, b"the segment that is lost"))
    delivered = len(site.b.delivered)
    site.moved(followed=True)
    site.run(ROUND_TRIP_NS)
    assert len(site.b.delivered) == delivered + 1


def test_data_from_where_the_pair_in_use_is_acknowledged_moves_nothing() -> None:
    site = Site()
    site.rewrite(B1, B2, dies=False)
    site.dead = {(A1, B2), (A2, B2), (A2, B1)}
    site.give(site.a, silence(site.a))
    site.run(SECOND)
    assert site.a.context.flow().peer_source == B2
    assert site.lost(2 * SECOND) == 0
    assert reports(site.a, Switched) == []


@pytest.mark.slow
def test_opposite_one_way_pairs_found_by_a_search_are_kept_despite_data() -> None:
    site = Site()
    ends = [(one, other) for one in (A1, A2) for other in (B1, B2)]
    site.dead = {*ends, *[(other, one) for one, other in ends]} - {(A2, B2), (B1, A2)}
    site.converse(5 * SECOND)
    assert site.a.context.pair == (A2, B2)
    assert site.b.context.pair == (B1, A2)
    assert site.lost(5 * SECOND) == 0
    assert len(reports(site.a, Switched)) == 1
    assert len(reports(site.b, Switched)) == 1


def test_a_host_that_its_peer_does_not_hear_continues_to_probe_despite_data() -> None:
    site = Site()
    site.dead = {(A1, B1), (A1, B2), (A2, B1), (A2, B2)}
    site.give(site.b, silence(site.b))
    while path_of(site.a) is not Path.DOUBTING:
        site.run(PERIOD_NS)
    site.moved(followed=True)
    assert path_of(site.a) is Path.DOUBTING
    assert site.a.context.pair == (A1, B1)
    assert asked(site.a)[-1] == (A1, B2)
    flow = site.a.rewriter.by_label[site.a.context.local_label]
    assert flow.peer_locator == B1, "the plane goes back"
    assert flow.follow_ns == site.now_ns + FOLLOW_INTERVAL, "and does not follow at once again"


def test_data_moves_nothing_shortly_after_a_search_has_found_a_pair() -> None:
    site = Site()
    site.kill_provider(1)
    site.give(site.a, silence(site.a))
    site.run(SECOND // 2)
    context = site.a.context
    assert context.pair == (A2, B2)
    assert context.follow_ns > site.now_ns
    assert context.flow().follow_ns == context.follow_ns


def test_data_moves_nothing_shortly_after_the_pair_in_use_was_found_to_work() -> None:
    """The peer may have left the pair by which it sends, which says nothing of ours."""
    site = Site()
    context = site.a.context
    assert context.follow_ns <= site.now_ns
    site.give(site.a, silence(site.a))
    site.run(2 * ROUND_TRIP_NS)
    assert path_of(site.a) is Path.STEADY
    assert context.pair == (A1, B1)
    rests_ns = context.flow().follow_ns - site.now_ns
    assert 0 < rests_ns - FOLLOW_INTERVAL < 4 * ROUND_TRIP_NS


def test_what_a_search_holds_is_sent_again_where_the_peer_is_followed() -> None:
    site = Site()
    site.rewrite(B1, B2)
    label, held = site.a.context.local_label, packet(A1, B1, b"unanswered")
    site.give(site.a, UnansweredPacket(label, held, site.a.context.silence_ns))
    site.a.outputs.clear()
    site.moved(followed=True)
    assert SendAgain(label, held) in site.a.outputs


def test_a_host_that_hears_over_neither_pair_says_so_while_it_doubts() -> None:
    site = Site()
    site.dead = {
        ends for one in (A1, A2) for other in (B1, B2) for ends in ((one, other), (other, one))
    }
    site.moved()
    while path_of(site.a) is Path.FOLLOWING:
        site.a.outputs.clear()
        site.run(MILLISECOND)
    flags = [one.flags for _, one in sent_by(site.a, Code.UR)]
    assert flags
    assert all(one & Flag.HEARS_NOTHING for one in flags)
