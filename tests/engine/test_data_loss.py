# SPDX-License-Identifier: MIT
"""Data that is lost although messages in its form are answered: never worse than without noid."""

import itertools
from dataclasses import replace

import pytest

from noid.constants import (
    DATA_ASKED_TIME,
    DATA_ASKED_WAIT,
    DATA_LOST_REPORTS,
    DATA_LOST_REPORTS_AGAIN,
    DATA_LOST_TIME,
    EMPTY_OCTETS,
    EMPTY_PACKETS,
    MILLISECOND,
    PEER_UNABLE_TIME,
    PLAIN_ANSWER_WAIT,
    PLAIN_CHECK_INTERVAL,
    SECOND,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.data_loss import is_lost, lose
from noid.engine.events import CheckData, DataHasCome, NoteHeard, SendControl, Switched
from noid.engine.history import Pair
from noid.engine.phases import Probe
from noid.engine.state import Path
from noid.engine.switching import switch
from noid.engine.update import next_nonce, request
from noid.flows.events import ControlMessageReceived, IcmpErrorReceived, UnansweredPacket
from noid.identifiers import Label, Nonce
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, Flag, encode_packet
from noid.wire.slots import m6_next_headers
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    DELAY_NS,
    X1,
    Network,
    established,
    packet,
)
from tests.engine.test_conformance_setup import sent_by

EVERY = {
    ends
    for one, other in itertools.product((A1, A2), (B1, B2))
    for ends in ((one, other), (other, one))
}
ACKNOWLEDGEMENT = bytes((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5 << 4, 0x10, 0, 0, 0, 0, 0, 0))


def talk(network: Network, duration_ns: int) -> list[int]:
    """A program of a sends each 20 ms, and b's TCP acknowledges; when a is acknowledged."""
    heard = []
    for _ in range(duration_ns // (20 * MILLISECOND)):
        network.ulp_sends(network.a, packet(A1, B1))
        network.b.delivered.clear()
        network.a.delivered.clear()
        network.run(10 * MILLISECOND)
        if network.b.delivered:
            network.ulp_sends(network.b, packet(B1, A1, ACKNOWLEDGEMENT))
        network.run(10 * MILLISECOND)
        heard += [network.now_ns] * any(
            one[40:60] == ACKNOWLEDGEMENT for one in network.a.delivered
        )
    return heard


def silences(network: Network, duration_ns: int) -> list[int]:
    """The silences of a conversation of so long, the longest first."""
    start_ns = network.now_ns
    times = [start_ns, *talk(network, duration_ns), network.now_ns]
    return sorted((later - sooner for sooner, later in itertools.pairwise(times)), reverse=True)


def test_data_that_is_lost_on_one_pair_goes_by_another() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    assert silences(network, 10 * SECOND)[0] < 2 * SECOND
    assert network.a.context.pair != (A1, B1)
    assert network.a.context.path is Path.STEADY


def test_only_the_end_whose_data_is_lost_leaves_its_pair() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(B1, A1)}
    assert silences(network, 10 * SECOND)[0] < 2 * SECOND
    assert network.a.context.pair == (A1, B1)
    assert not network.a.context.history_of((A1, B1)).losses
    assert network.b.context.pair != (B1, A1)
    assert any(one.flags & Flag.DATA_ASKED for _, one in sent_by(network.b, Code.KEEPALIVE))


@pytest.mark.parametrize("protocol", [ipv6.TCP, ipv6.UDP])
@pytest.mark.parametrize(
    ("round_trip_ms", "every_ms", "within_ns"),
    [
        (20, 500, 4 * SECOND),
        (20, 1_000, 8 * SECOND),
        (400, 50, 3 * SECOND),
        (800, 50, 6 * SECOND),
    ],
)
def test_data_that_is_rare_or_slow_and_lost_goes_by_another_pair(
    round_trip_ms: int, every_ms: int, within_ns: int, protocol: int
) -> None:
    network = Network()
    network.delay_ns = round_trip_ms * MILLISECOND // 2
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    converse(network, 4 * SECOND, every_ms, protocol)
    network.drops_data = {(A1, B1), (B1, A1)}
    converse(network, within_ns, every_ms, protocol)
    assert network.a.context.pair == (A2, B2)
    assert network.a.context.path is Path.STEADY


def converse(network: Network, duration_ns: int, every_ms: int, protocol: int) -> None:
    """A program of a sends so often, and one of b answers each packet."""
    for number in range(duration_ns // (10 * MILLISECOND)):
        if number * 10 % every_ms == 0:
            network.ulp_sends(network.a, packet(A1, B1, protocol=protocol))
        network.run(10 * MILLISECOND)
        for _ in network.b.delivered:
            network.ulp_sends(network.b, packet(B1, A1, ACKNOWLEDGEMENT, protocol=protocol))
        network.b.delivered.clear()


def test_data_that_is_lost_on_all_pairs_goes_plainly_at_both_ends() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = EVERY
    assert sum(one for one in silences(network, 30 * SECOND) if one > SECOND // 2) < 3 * SECOND
    assert not network.a.context.flow().transmits
    assert not network.b.context.flow().transmits
    plain = [
        one for header, one in sent_by(network.a, Code.UR) if header.next_header == ipv6.ICMPV6
    ]
    assert any(one.flags & Flag.ALL_DATA_LOST for one in plain)


@pytest.mark.slow
def test_the_form_of_data_is_tried_again_ever_more_rarely() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = EVERY
    silent = silences(network, 10 * PEER_UNABLE_TIME)
    assert sum(one for one in silent if one > SECOND // 2) < 3 * SECOND, "no trial loses data"
    empties = [
        one.packet
        for one in network.a.outputs
        if isinstance(one, SendControl) and one.packet[ipv6.HEADER_OCTETS :] == bytes(EMPTY_OCTETS)
    ]
    trials = 3  # after 60, 120 and 240 s
    assert len(empties) == trials * EMPTY_PACKETS
    assert len({one[8:40] for one in empties}) == trials, "each over another pair"
    assert {one[6] for one in empties} == {CODEPOINTS.rewritable_first}, "in the slot of TCP"


@pytest.mark.slow
def test_a_peer_that_sends_data_itself_says_whether_data_comes() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(one, other) for one in (A1, A2) for other in (B1, B2)}
    silent = silences(network, PEER_UNABLE_TIME - SECOND)
    assert sum(one for one in silent if one > SECOND // 2) < 3 * SECOND
    for passes in (False, True):
        network.drops_data = set() if passes else network.drops_data
        network.a.outputs.clear()
        assert silences(network, 2 * PEER_UNABLE_TIME)[0] < 100 * MILLISECOND, "no trial loses data"
        asked = sum(one.flags == Flag.DATA_ASKED for _, one in sent_by(network.a, Code.UR))
        assert asked > 1 if passes else asked == 1, "once while data is plain"
        assert network.b.context.flow().transmits, "its data passes"
        assert network.a.context.flow().transmits is passes


def asks_about_data(network: Network) -> bool:
    """Host a asks whether data comes; whether b looks, which its acknowledgement says, too."""
    message = request(
        network.a.host.core, network.a.context, next_nonce(network.a.context), flags=Flag.DATA_ASKED
    )
    asked = encode_packet(message, A1, B1, CODEPOINTS, in_slot=True)[ipv6.HEADER_OCTETS :]
    outputs = network.give(network.b, ControlMessageReceived(A1, B1, True, asked))
    since_ns = network.now_ns - DATA_ASKED_TIME
    label = network.b.context.local_label
    looks = CheckData(label, since_ns, DATA_ASKED_WAIT, by_peer=True) in outputs
    _, answer = sent_by(network.b, Code.UA)[-1]
    assert bool(answer.flags & Flag.DATA_ASKED) is looks
    return looks


def test_a_host_looks_once_a_second_also_if_errors_come() -> None:
    network = established()
    flow = network.b.rewriter.flow_of(packet(B1, A1))
    assert flow is not None
    quote = network.b.rewriter.outbound(packet(B1, A1), flow)
    error = icmpv6.ErrorMessage(type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=quote)
    octets = error.encode_packet(X1, B1)[ipv6.HEADER_OCTETS :]
    network.b.outputs.clear()
    network.give(network.b, IcmpErrorReceived(X1, B1, octets))
    assert sent_by(network.b, Code.UR), "the error counts"
    assert asks_about_data(network)
    assert not asks_about_data(network)
    network.now_ns += SECOND
    assert asks_about_data(network)


def test_a_host_says_that_data_comes_and_this_shows_no_interval() -> None:
    network = established()
    label = network.b.context.local_label
    network.a.outputs.clear()
    network.give(network.b, DataHasCome(label, 0, by_peer=True))
    network.give(network.b, DataHasCome(Label(label + 1), 0, by_peer=True))
    network.run(SECOND)
    ((_, message),) = sent_by(network.b, Code.KEEPALIVE)
    assert message.flags == Flag.DATA_ASKED
    assert NoteHeard(network.a.context.local_label, unasked=False) in network.a.outputs


def test_a_host_says_that_data_comes_also_by_the_pair_of_the_request() -> None:
    network = established()
    switch(network.b.host.core, network.b.context, (B2, A2), Cause.NOTHING_HEARD)
    network.dead.add((B2, A2))
    assert asks_about_data(network)
    network.give(network.b, DataHasCome(network.b.context.local_label, 0, by_peer=True))
    network.run(SECOND)
    ends = [(one.source, one.destination) for one, _ in sent_by(network.b, Code.KEEPALIVE)]
    assert ends == [(B2, A2), (B1, A1)]
    assert network.a.context.history_of((A1, B1)).passes_ns


@pytest.mark.parametrize("flag", [Flag.HEARS_NOTHING, Flag.DATA_LOST])
def test_plain_packets_are_checked_at_once_if_the_peer_hears_nothing(flag: Flag) -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = EVERY
    talk(network, 10 * SECOND)
    a, b = network.a.context, network.b.context
    assert network.b.context.path is Path.ASIDE
    while network.now_ns - checked_ns(b) > PLAIN_CHECK_INTERVAL // 4:
        talk(network, 20 * MILLISECOND)
    talk(network, PLAIN_CHECK_INTERVAL // 8)
    network.dead |= {(A1, B1), (B1, A1)}
    message = request(network.a.host.core, a, next_nonce(a), flags=flag)
    octets = encode_packet(message, A2, B2, CODEPOINTS, in_slot=True)[ipv6.HEADER_OCTETS :]
    network.give(network.b, ControlMessageReceived(A2, B2, True, octets))
    begin_ns = network.now_ns
    while b.path is Path.ASIDE:
        network.ulp_sends(network.b, packet(B1, A1))
        network.run(20 * MILLISECOND)
    assert network.now_ns - begin_ns < PLAIN_ANSWER_WAIT + 100 * MILLISECOND


def checked_ns(context: Context) -> int:
    """When a context last checked whether plain packets pass."""
    assert context.search is not None
    return context.search.plain_sent_ns


def test_data_goes_in_its_form_again_once_that_passes() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = EVERY
    talk(network, 10 * SECOND)
    network.drops_data = set()
    talk(network, 2 * PEER_UNABLE_TIME)
    assert network.a.context.flow().transmits
    assert network.b.context.flow().transmits


def test_a_pair_that_is_new_is_soon_found_to_lose_data() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A2, B2), (B2, A2)}
    network.dead = {(A1, B1), (B1, A1)}
    assert silences(network, 5 * SECOND)[0] < SECOND
    switches = [one.new for one in network.a.outputs if isinstance(one, Switched)]
    assert switches[0] == (A2, B2)
    assert network.a.context.pair in {(A1, B2), (A2, B1)}


@pytest.mark.parametrize("loses", [{(A1, B1), (B1, A1)}, {(A1, B1), (A1, B2), (B1, A1), (B2, A1)}])
def test_a_search_of_the_peer_brings_nobody_back_to_a_pair_that_loses_data(
    loses: set[Pair],
) -> None:
    network = Network()
    network.delay_ns = 120 * MILLISECOND
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    converse(network, 2 * SECOND, 50, ipv6.UDP)
    network.drops_data = set(loses)
    network.a.outputs.clear()
    converse(network, 4 * SECOND, 50, ipv6.UDP)
    switches = [one.new for one in network.a.outputs if isinstance(one, Switched)]
    assert switches
    assert (A1, B1) not in switches
    assert network.a.context.history_of((A1, B1)).losses == 1


def test_a_pair_that_lost_data_is_used_where_nothing_else_passes() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    talk(network, 2 * SECOND)
    network.drops_data = set()
    network.dead = EVERY - {(A1, B1), (B1, A1)}
    talk(network, SECOND)
    assert network.a.context.path is Path.SEARCHING, "data passes plainly"
    assert silences(network, SECOND)[0] < SECOND // 10
    arrive, forms = network.arrive, m6_next_headers(CODEPOINTS)

    def arrive_not_plain(packet: bytes) -> None:
        if packet[6] in forms:
            arrive(packet)

    network.arrive = arrive_not_plain  # type: ignore[method-assign] # a firewall
    talk(network, 8 * SECOND)
    assert network.a.context.pair == (A1, B1)
    assert network.a.context.flow().transmits


def test_of_pairs_that_answer_one_that_never_lost_data_is_used() -> None:
    network = Network()
    network.delay_ns = 40 * MILLISECOND
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(5 * SECOND)
    converse(network, 2 * SECOND, 50, ipv6.UDP)
    lossy = {(A1, B2), (A2, B2)}
    network.drops_data = lossy | {(other, one) for one, other in lossy}
    network.dead = {(A1, B1), (B1, A1)}
    network.a.outputs.clear()
    converse(network, 4 * SECOND, 50, ipv6.UDP)
    switches = [one.new for one in network.a.outputs if isinstance(one, Switched)]
    assert switches == [(A2, B2), (A1, B2), (A2, B1)]


def test_data_that_comes_now_and_then_is_not_lost() -> None:
    network = established()
    context = network.a.context
    for number in range(1, 3 * DATA_LOST_REPORTS):
        event = UnansweredPacket(context.local_label, packet(A1, B1), context.silence_ns)
        recent_ns = network.now_ns if number % (DATA_LOST_REPORTS - 1) == 0 else 0
        network.give(network.a, replace(event, received_ns=recent_ns))
        network.run(DATA_LOST_TIME)
    assert context.pair == (A1, B1)
    assert DATA_LOST_REPORTS_AGAIN < DATA_LOST_REPORTS


@pytest.mark.parametrize(("is_lost", "reports"), [(False, 1), (True, 2)])
def test_more_reports_are_needed_where_requests_are_lost(is_lost: bool, reports: int) -> None:
    """A request that is answered late is not lost."""
    network = established()
    context = network.a.context
    given = 0
    while not context.history_of((A1, B1)).losses:
        network.delay_ns = DELAY_NS * 2
        network.dead = {(A1, B1)} if is_lost else set()
        event = UnansweredPacket(context.local_label, packet(A1, B1), context.silence_ns)
        network.give(network.a, event)
        network.delay_ns = DELAY_NS
        network.run(DELAY_NS * 2)
        network.dead = set()
        network.run(DATA_LOST_TIME)
        given += 1
    assert context.history_of((A1, B1)).misses
    assert given == reports * DATA_LOST_REPORTS


def test_keepalives_prove_that_data_passes() -> None:
    network = established()
    for _ in range(1_000):
        datagram = packet(A1, B1, protocol=ipv6.UDP)
        network.ulp_sends(network.a, datagram)
        network.run(20 * MILLISECOND)
    assert network.a.context.pair == (A1, B1)
    assert network.a.context.flow().transmits


def test_a_host_that_has_looked_for_itself_says_nothing_once_another_pair_is_in_use() -> None:
    network = established()
    network.run(SECOND)
    network.kill_provider(1)
    network.kill_provider(2)
    label, lost = network.a.context.local_label, packet(A1, B1, b"lost")
    network.give(network.a, UnansweredPacket(label, lost, SECOND // 10))
    while not network.checks:
        network.run(MILLISECOND)
    ((_, _, look),) = network.checks
    network.checks.clear()
    network.dead.clear()
    network.kill_provider(1)
    while network.a.context.search is not None:
        network.run(MILLISECOND)
    assert network.a.context.pair == (A2, B2)
    outputs = network.give(network.a, DataHasCome(label, look.since_ns, look.by_peer))
    assert outputs == [], "b would take it for data that has come over its pair"


def test_what_was_counted_before_a_loss_does_not_count_after_it() -> None:
    network = established()
    core, context = network.a.host.core, network.a.context
    pair = context.pair
    context.note(pair, context.history_of(pair)._replace(unheard=3, unseen=2, losses=1))
    lose(core, context, b"")
    history = context.history_of(pair)
    assert (history.unheard, history.unseen, history.losses) == (0, 0, 2)
    assert history.lost_ns == core.now_ns


@pytest.mark.parametrize(
    ("pair", "sent_ns", "counts"),
    [((A1, B1), 0, True), ((A1, B1), -1, False), ((A2, B2), 0, False)],
)
def test_unanswered_requests_over_the_pair_since_the_first_report_show_that_it_loses_them(
    pair: Pair, sent_ns: int, counts: bool
) -> None:
    network = established()
    core, context = network.a.host.core, network.a.context
    context.late = {Nonce(1): Probe(pair, core.now_ns + sent_ns)}
    report = UnansweredPacket(context.local_label, packet(A1, B1), SECOND)
    assert not is_lost(core, context, report)
    assert context.history_of(context.pair).loses_requests is counts
