# SPDX-License-Identifier: MIT
"""How much it takes until data or long packets count as lost, and how that is forgotten."""

import pytest

from noid.constants import (
    DATA_LOST_GAPS,
    DATA_LOST_PACKETS,
    DATA_LOST_REPORTS,
    DATA_LOST_REPORTS_AGAIN,
    DATA_LOST_TIME,
    DATA_UNSEEN,
    LONG_LOST_TIME,
    LONGER_ASKED_TIME,
    MILLISECOND,
    MTU_MIN,
    PEER_UNABLE_TIME,
    SECOND,
    UNANSWERED_MANY,
)
from noid.engine import data_loss, widening
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.history import History
from noid.engine.searching import search
from noid.engine.state import Path, Timer
from noid.engine.tolerance import on_tolerance_timer
from noid.flows.events import UnansweredPacket
from noid.identifiers import Nonce
from noid.wire import ipv6
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    Network,
    in_step,
    packet,
)

PAIR, OTHER = (A1, B1), (A2, B2)


@pytest.fixture
def network() -> Network:
    return in_step()


def at(core: Core, now_ns: int) -> None:
    """Lets the clock of a host show a time."""
    core.now_ns = now_ns


def report(core: Core, context: Context, **changes: int) -> UnansweredPacket:
    fields = {"packets": 1, "received_ns": 0, "gap_ns": 0, **changes}
    return UnansweredPacket(context.local_label, packet(A1, B1), SECOND, **fields)


def reported(core: Core, context: Context, count: int, apart_ns: int, **changes: int) -> list[bool]:
    """Reports of unanswered data while requests are answered; which say that it is lost."""
    found = []
    for _ in range(count):
        found.append(data_loss.is_lost(core, context, report(core, context, **changes)))
        at(core, core.now_ns + apart_ns)
        context.hear(PAIR, core.now_ns, in_slot=True)
    return found


def test_data_is_lost_after_four_reports_and_800_ms(core: Core, context: Context) -> None:
    apart_ns = DATA_LOST_TIME // (DATA_LOST_REPORTS - 1)
    assert reported(core, context, 4, apart_ns + 1) == [False, False, False, True]


def test_four_reports_in_less_time_are_not_enough(core: Core, context: Context) -> None:
    apart_ns = DATA_LOST_TIME // (DATA_LOST_REPORTS - 1)
    assert reported(core, context, 5, apart_ns) == [False, False, False, False, True]


@pytest.mark.parametrize(
    ("packets", "gap_ns", "enough"),
    [
        (DATA_LOST_PACKETS // 2, DATA_LOST_TIME // DATA_LOST_GAPS, True),
        (DATA_LOST_PACKETS // 2 - 1, DATA_LOST_TIME // DATA_LOST_GAPS, False),
        (DATA_LOST_PACKETS // 2, DATA_LOST_TIME // DATA_LOST_GAPS + 1, False),
        (UNANSWERED_MANY + 50, 0, True),
    ],
)
def test_two_reports_are_enough_if_they_are_about_many_packets_and_gaps(
    core: Core, context: Context, packets: int, gap_ns: int, enough: bool
) -> None:
    found = reported(core, context, 2, DATA_LOST_TIME, packets=packets, gap_ns=gap_ns)
    assert found == [False, enough]


def test_no_report_counts_more_than_four_packets(core: Core, context: Context) -> None:
    assert 2 * UNANSWERED_MANY > DATA_LOST_PACKETS > UNANSWERED_MANY
    data_loss.is_lost(core, context, report(core, context, packets=100))
    assert context.history_of(PAIR).unheard_packets == UNANSWERED_MANY


def test_they_are_not_where_requests_are_lost(core: Core, context: Context) -> None:
    context.note(PAIR, context.history_of(PAIR)._replace(misses=1))
    found = reported(core, context, 4, DATA_LOST_TIME, packets=UNANSWERED_MANY)
    assert found == [False, False, False, True]


def test_data_that_came_begins_the_count_anew(core: Core, context: Context) -> None:
    apart_ns = DATA_LOST_TIME
    assert reported(core, context, 3, apart_ns) == [False] * 3
    came_ns = context.history_of(PAIR).unheard_ns
    assert reported(core, context, 1, apart_ns, received_ns=came_ns) == [False]
    assert context.history_of(PAIR).unheard == 1
    assert reported(core, context, 3, apart_ns, received_ns=came_ns) == [False, False, True]


def test_two_reports_are_enough_where_another_pair_lost_data_within_a_minute(
    core: Core, context: Context
) -> None:
    context.note(OTHER, History(losses=1, lost_ns=core.now_ns))
    assert reported(core, context, 2, MILLISECOND) == [False, True]
    at(core, core.now_ns + PEER_UNABLE_TIME)
    context.note(PAIR, context.history_of(PAIR)._replace(unheard=0))
    assert reported(core, context, 2, MILLISECOND) == [False, False]


def test_they_are_enough_for_a_pair_over_which_no_data_has_come(
    core: Core, context: Context
) -> None:
    context.note(PAIR, context.history_of(PAIR)._replace(used_ns=core.now_ns))
    many = UNANSWERED_MANY
    at(core, core.now_ns + MILLISECOND)
    used_ns = context.history_of(PAIR).used_ns
    for received_ns, found in ((used_ns - 1, True), (used_ns, False)):
        context.note(PAIR, context.history_of(PAIR)._replace(unheard=0))
        lost = reported(core, context, 2, MILLISECOND, packets=many, received_ns=received_ns)
        assert lost == [False, found]
    assert DATA_LOST_REPORTS_AGAIN == 2


def test_no_report_counts_while_no_request_is_answered(core: Core, context: Context) -> None:
    for _ in range(2 * DATA_LOST_REPORTS):
        assert not data_loss.is_lost(core, context, report(core, context))
        at(core, core.now_ns + DATA_LOST_TIME)
    search(core, context, Cause.NOTHING_HEARD)
    assert context.path is Path.ASKING
    context.hear(PAIR, core.now_ns, in_slot=True)
    assert not data_loss.is_lost(core, context, report(core, context))


@pytest.mark.parametrize(
    ("octets", "ago_ns", "told"),
    [
        (MTU_MIN, None, False),
        (MTU_MIN + 1, None, True),
        (MTU_MIN + 1, LONG_LOST_TIME - 1, False),
        (MTU_MIN + 1, LONG_LOST_TIME, True),
    ],
)
def test_the_program_of_a_long_packet_is_told_once_in_ten_seconds(
    core: Core, context: Context, octets: int, ago_ns: int | None, told: bool
) -> None:
    if ago_ns is not None:
        history = context.history_of(PAIR)._replace(shortened_ns=core.now_ns - ago_ns, unheard=5)
        context.note(PAIR, history)
    whole = packet(A1, B1, bytes(octets - ipv6.HEADER_OCTETS))
    assert data_loss.is_shortened(core, context, whole) is told
    if told:
        assert context.history_of(PAIR).shortened_ns == core.now_ns
        assert context.history_of(PAIR).unheard == (1 if ago_ns else 0)
    core.outputs.clear()


@pytest.mark.parametrize(("misses", "wanted"), [(0, DATA_UNSEEN), (1, 2 * DATA_UNSEEN)])
def test_the_peer_has_seen_no_data_after_so_many_proofs(
    core: Core, context: Context, misses: int, wanted: int
) -> None:
    for unseen in (wanted - 1, wanted):
        context.note(PAIR, context.history_of(PAIR)._replace(unseen=unseen, misses=misses))
        assert data_loss.is_unseen(core, context) is (unseen == wanted)


def test_the_next_daemon_is_told_of_the_pairs_that_lost_data_last(
    core: Core, context: Context
) -> None:
    for number, pair in enumerate([PAIR, OTHER, (A1, B2), (A2, B1)]):
        context.note(pair, History(losses=number, lost_ns=(number * 3 + 1) % 5))
    remembered = data_loss.remember(context)
    assert [one.pair for one in remembered] == [OTHER, (A1, B2), (A2, B1)]
    assert [one.lost_ns for one in remembered] == [4, 2, 0]


def test_only_a_packet_longer_than_the_least_mtu_narrows_a_path(
    core: Core, context: Context
) -> None:
    lengths = ((MTU_MIN, None), (MTU_MIN + 1, MTU_MIN + 1), (9_000, core.options.mtu))
    for octets, asked in lengths:
        widening.narrowed(core, context, octets, MTU_MIN)
        now = context.narrowed
        assert (now and (now.octets, now.told)) == (asked and (asked, MTU_MIN))


@pytest.mark.parametrize(("beyond_ns", "asked"), [(-1, 3), (0, 0)])
def test_requests_are_counted_anew_after_ten_minutes(
    core: Core, context: Context, beyond_ns: int, asked: int
) -> None:
    widening.narrowed(core, context, 1_400, MTU_MIN)
    assert context.narrowed is not None
    context.narrowed = context.narrowed._replace(asked=3, nonce=Nonce(9))
    at(core, core.now_ns + LONGER_ASKED_TIME + beyond_ns)
    widening.narrowed(core, context, 1_400, MTU_MIN)
    assert (context.narrowed.asked, context.narrowed.nonce) == (asked, 0)


def test_a_request_over_a_pair_that_was_left_says_nothing_of_the_next(
    core: Core, context: Context
) -> None:
    widening.narrowed(core, context, 1_400, MTU_MIN)
    assert context.narrowed is not None
    context.narrowed = context.narrowed._replace(asked=3, nonce=Nonce(9))
    widening.switched(core, context)
    assert (context.narrowed.asked, context.narrowed.nonce) == (0, 0)
    assert context.narrowed.octets == 1_400
    core.outputs.clear()


@pytest.mark.parametrize(
    ("octets", "nonce", "taken"),
    [(1_300, 9, False), (1_301, 9, True), (1_399, 9, True), (1_400, 9, False), (1_350, 8, False)],
)
def test_a_router_may_permit_longer_packets_than_the_stack_sends(
    core: Core, context: Context, octets: int, nonce: int, taken: bool
) -> None:
    widening.narrowed(core, context, 1_400, 1_300)
    assert context.narrowed is not None
    context.narrowed = context.narrowed._replace(nonce=Nonce(9))
    widening.refused(context, Nonce(nonce), octets)
    assert context.narrowed.octets == (octets if taken else 1_400)
    assert context.narrowed.nonce == (0 if taken else 9)


@pytest.mark.parametrize(
    ("before_ns", "after_ns"),
    [(SECOND, SECOND // 2), (SECOND // 100 + 2, SECOND // 200 + 1), (SECOND // 100, 0), (0, 0)],
)
def test_a_harmless_silence_is_halved_until_it_is_short(
    core: Core, context: Context, before_ns: int, after_ns: int
) -> None:
    context.tolerated_ns = before_ns
    on_tolerance_timer(core, context)
    assert context.tolerated_ns == after_ns
    assert core.is_timer_set(context, Timer.TOLERANCE) is (after_ns > 0)
    core.outputs.clear()


@pytest.mark.parametrize(
    ("alarms", "misses", "goes_on"), [(3, 0, True), (0, 3, True), (1, 1, False), (5, 7, True)]
)
def test_alarms_and_misses_are_halved_until_none_is_left(
    core: Core, context: Context, alarms: int, misses: int, goes_on: bool
) -> None:
    context.note(OTHER, History(alarms=alarms, misses=misses))
    context.note(PAIR, context.history_of(PAIR)._replace(alarms=0, misses=0))
    on_tolerance_timer(core, context)
    history = context.history_of(OTHER)
    assert (history.alarms, history.misses) == (alarms // 2, misses // 2)
    assert core.is_timer_set(context, Timer.TOLERANCE) is goes_on
    core.outputs.clear()
