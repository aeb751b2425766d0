# SPDX-License-Identifier: MIT
"""Every case of data that goes plainly for a time, and of what ends that or hurries a search."""

import pytest

from noid.constants import (
    CYCLE_TIME,
    EMPTY_PACKETS,
    MILLISECOND,
    NEVER,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    PLAIN_ANSWER_WAIT,
    PLAIN_CHECK_FIRST,
    PLAIN_CHECK_INTERVAL,
    PROBE_INTERVAL,
    REJECTED_TIME,
    SEARCH_INTERVAL_MIN,
    SECOND,
    SUSPICION_TIME,
)
from noid.engine import probing
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import PeerUnable, RememberLater, SendControl, TimePassed
from noid.engine.history import History, Pair
from noid.engine.phases import Finding, Probe, Search
from noid.engine.state import Cue, Path, Timer
from noid.identifiers import Nonce
from noid.wire.control import Flag
from tests.engine.network import B1, B2
from tests.engine.test_asking_cases import path_of, search_of
from tests.engine.test_probing_cases import FAR, FIRST, NEAR, NOTHING, OTHER, put, sent
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable


@pytest.fixture
def network() -> Timetable:
    return settled()


def found_by(one: Search) -> Finding | None:
    """The pair that has answered, as it is now."""
    return one.found


# --- data goes plainly for a time -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "rejected", "asides", "wait_ns", "why"),
    [
        (True, False, 0, PEER_UNABLE_TIME, Cause.M6_DROPPED),
        (True, False, 5, PEER_UNABLE_TIME, Cause.M6_DROPPED),
        (False, True, 0, REJECTED_TIME, Cause.M6_UNKNOWN),
        (True, True, 3, 8 * REJECTED_TIME, Cause.M6_UNKNOWN),
        (False, True, 40, PEER_UNABLE_MAX, Cause.M6_UNKNOWN),
    ],
)
def test_a_context_is_set_aside_if_only_plain_messages_pass_or_m6_is_rejected(
    core: Core, context: Context, plain: bool, rejected: bool, asides: int, wait_ns: int, why: Cause
) -> None:
    one = put(core, context, Path.SEARCHING)
    one.asides, one.empties = asides, 3
    one.plain_ns, one.rejected_ns = one.cycle_ns * plain, one.cycle_ns * rejected
    probing.batch(core, context, one)
    assert path_of(context) is Path.ASIDE
    assert (one.batch_at_ns, one.asides, one.empties) == (core.now_ns + wait_ns, asides + 1, 0)
    assert core.outputs == [PeerUnable(B1, why)]
    core.outputs.clear()


def test_it_is_not_if_they_passed_before_the_cycle(core: Core, context: Context) -> None:
    one = put(core, context, Path.SEARCHING)
    one.cycle_ns, one.plain_ns, one.rejected_ns = 9, 8, 8
    probing.batch(core, context, one)
    assert path_of(context) is Path.SEARCHING
    core.outputs.clear()


@pytest.mark.parametrize(
    ("losses", "wait_ns"),
    [
        ([], PEER_UNABLE_TIME),
        ([0, 1], PEER_UNABLE_TIME),
        ([1, 2], 2 * PEER_UNABLE_TIME),
        ([4, 1], 8 * PEER_UNABLE_TIME),
        ([5], PEER_UNABLE_MAX),
        ([60], PEER_UNABLE_MAX),
    ],
)
@pytest.mark.parametrize("doubtful", [False, True])
def test_where_data_is_lost_over_all_pairs_the_time_doubles(
    core: Core, context: Context, losses: list[int], wait_ns: int, doubtful: bool
) -> None:
    one = put(core, context, Path.SEARCHING)
    context.history = {
        pair: History(losses=some) for pair, some in zip((FIRST, OTHER), losses, strict=False)
    }
    one.loses_all, one.plain_ns = not doubtful, one.cycle_ns
    one.doubtful = Finding(OTHER, B2) if doubtful else None
    probing.batch(core, context, one)
    assert (one.batch_at_ns, one.loses_all, one.doubtful) == (core.now_ns + wait_ns, True, None)
    assert RememberLater(context.local_label) in core.outputs
    core.outputs.clear()


def test_after_that_time_it_searches_again_or_tries_whether_data_passes(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.ASIDE)
    probing.batch(core, context, one)
    assert path_of(context) is Path.SEARCHING
    assert one.ask_at_ns == NEVER
    assert len(sent(network)) == 5
    other = put(core, context, Path.ASIDE)
    other.loses_all = True
    probing.batch(core, context, other)
    assert path_of(context) is Path.ASIDE
    assert other.empties == 1
    other.wanted_ns = core.now_ns - SUSPICION_TIME - 1
    probing.batch(core, context, other)
    assert (other.empties, other.batch_at_ns) == (1, NEVER), "no program sends"
    core.outputs.clear()


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("is_new", [False, True])
def test_plain_packets_are_checked_at_intervals_while_they_are_used(
    network: Timetable, core: Core, context: Context, is_told: bool, answered: bool, is_new: bool
) -> None:
    one = put(core, context, Path.ASIDE)
    one.cycle_ns = 5
    one.started_ns = core.now_ns - PEER_UNABLE_TIME + is_new
    if is_told or not answered:
        wait_ns = context.expected.verdict_wait_ns
    else:
        wait_ns = PLAIN_CHECK_FIRST if is_new else PLAIN_CHECK_INTERVAL
    for sooner_ns, asks in ((1, 0), (0, 1)):
        one.plain_sent_ns = core.now_ns - wait_ns + sooner_ns
        one.plain_ns = one.plain_sent_ns - (not answered)
        one.plain_asked_ns = one.plain_ns + 1
        probing.check_plain(core, context, one, is_told=is_told)
        assert sent(network) == [(FIRST, False, Flag(0))] * asks
        assert path_of(context) is Path.ASIDE
    expected_ns = core.now_ns if answered else one.plain_ns + 1
    assert one.plain_asked_ns == expected_ns
    assert one.ask_at_ns == core.now_ns + context.expected.verdict_wait_ns


def test_they_are_not_if_m6_is_rejected_or_the_context_searches(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.ASIDE)
    one.cycle_ns = one.rejected_ns = 5
    probing.check_plain(core, context, one, is_told=True)
    assert sent(network) == []
    one.rejected_ns, context.path = 4, Path.SEARCHING
    probing.check_plain(core, context, one, is_told=True)
    assert sent(network) == []
    context.path = Path.ASIDE
    probing.check_plain(core, context, one, is_told=True)
    assert len(sent(network)) == 1


@pytest.mark.parametrize(("round_trip_ms", "limit_ms"), [(20, 250), (100, 300)])
def test_plain_packets_do_not_pass_any_more_if_no_check_is_answered(
    network: Timetable, core: Core, context: Context, round_trip_ms: int, limit_ms: int
) -> None:
    assert PLAIN_ANSWER_WAIT == 250 * MILLISECOND
    context.note(FIRST, History(round_trip_ns=round_trip_ms * MILLISECOND))
    context.first_round_trip_ns = 0
    one = put(core, context, Path.ASIDE)
    one.plain_asked_ns = core.now_ns - limit_ms * MILLISECOND + 1
    probing.check_again(core, context, one)
    assert path_of(context) is Path.ASIDE
    assert len(sent(network)) == 1
    one.plain_asked_ns -= 1
    probing.check_again(core, context, one)
    assert path_of(context) is Path.SEARCHING
    other = put(core, context, Path.ASIDE)
    other.plain_asked_ns = other.plain_ns = 1
    other.ask_at_ns = 7
    probing.check_again(core, context, other)
    assert (path_of(context), other.ask_at_ns) == (Path.ASIDE, NEVER)


# --- changes --------------------------------------------------------------------------------------


def test_a_change_begins_a_new_cycle(core: Core, context: Context) -> None:
    for path in (Path.STEADY, Path.ASKING, Path.DOUBTING, Path.LEAVING):
        one = put(core, context, path)
        one.backoff = 3
        probing.resume(core, context)
        assert (path_of(context), one.backoff) == (path, 3)
    for path in (Path.SEARCHING, Path.ASIDE):
        one = put(core, context, path)
        one.started_ns, one.lost_before_ns, one.batch_ns = core.now_ns - 7, 5, core.now_ns - 9
        one.backoff, one.untried, one.empties, one.ask_at_ns = 3, [OTHER], 2, 4
        one.loses_all = one.names_newest = True
        one.wanted_ns = 0
        probing.resume(core, context)
        assert path_of(context) is Path.SEARCHING
        assert (one.backoff, one.untried, one.cycle_ns, one.empties) == (0, [], 0, 0)
        assert (one.loses_all, one.names_newest) == (False, False)
        assert (one.lost_before_ns, one.started_ns, one.wanted_ns) == (12, core.now_ns, core.now_ns)
        assert one.batch_at_ns == core.now_ns - 9 + SEARCH_INTERVAL_MIN
        assert one.ask_at_ns == NEVER
        assert core.is_timer_set(context, Timer.PROBE)


@pytest.mark.parametrize("path", [Path.DOUBTING, Path.SEARCHING, Path.ASKING])
@pytest.mark.parametrize("pair", [FIRST, OTHER])
@pytest.mark.parametrize("named", [False, True])
def test_a_request_of_the_peer_makes_all_pairs_be_probed_once_more(
    network: Timetable, core: Core, context: Context, path: Path, pair: Pair, named: bool
) -> None:
    one = put(core, context, path)
    one.batch_ns, one.batch_at_ns, one.cycles, one.cycle_ns = core.now_ns - 1, NEVER, 3, 9
    one.names_newest, one.untried = named, [NEAR]
    one.count = 4
    probing.answer_search(core, context, pair, in_slot=True)
    begins = path in (Path.DOUBTING, Path.SEARCHING) and not named
    assert (one.names_newest, one.untried == []) == (named or begins, begins)
    assert (one.cycles, one.cycle_ns) == ((0, 0) if begins else (3, 9))
    if begins:
        assert one.batch_at_ns == core.now_ns - 1 + PROBE_INTERVAL
    asks = [(FIRST, True, NOTHING)] if begins and path is Path.DOUBTING and pair == FIRST else []
    assert sent(network) == asks


@pytest.mark.parametrize("in_slot", [False, True])
@pytest.mark.parametrize("loses_all", [False, True])
def test_one_in_the_form_of_data_ends_the_time_aside_unless_data_is_lost(
    core: Core, context: Context, in_slot: bool, loses_all: bool
) -> None:
    one = put(core, context, Path.ASIDE)
    one.loses_all, one.batch_at_ns = loses_all, core.now_ns + SECOND
    probing.answer_search(core, context, FIRST, in_slot=in_slot)
    ends = in_slot and not loses_all
    assert path_of(context) is (Path.SEARCHING if ends else Path.ASIDE)
    assert one.wanted_ns == core.now_ns
    core.outputs.clear()


def test_a_program_that_sends_hurries_a_search(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.SEARCHING)
    one.batch_ns, one.batch_at_ns, one.count, one.cycles = core.now_ns, NEVER, 4, 2
    one.backoff, one.wanted_ns = 3, 0
    probing.want(core, context, one)
    assert (one.backoff, one.wanted_ns) == (0, core.now_ns)
    assert one.batch_at_ns == core.now_ns + CYCLE_TIME
    assert sent(network) == []
    one.batch_ns = core.now_ns - CYCLE_TIME
    one.doubtful = Finding(OTHER, B2)
    probing.want(core, context, one)
    assert (sent(network), one.batch_at_ns) == ([], core.now_ns)
    one.doubtful = None
    probing.want(core, context, one)
    assert len(sent(network)) == 5
    aside = put(core, context, Path.ASIDE)
    for at_ns, after_ns in ((NEVER, core.now_ns), (core.now_ns + 5, core.now_ns + 5)):
        aside.batch_at_ns, aside.wanted_ns = at_ns, 0
        probing.want(core, context, aside)
        assert (aside.batch_at_ns, aside.wanted_ns) == (after_ns, core.now_ns)
    asking = put(core, context, Path.ASKING)
    asking.wanted_ns = 0
    probing.want(core, context, asking)
    assert asking.wanted_ns == 0


def test_the_end_of_a_search_leaves_its_probes_to_measure(core: Core, context: Context) -> None:
    one = put(core, context, Path.SEARCHING)
    one.probes = {Nonce(1): Probe(OTHER, 1), Nonce(2): Probe(FAR, 1)}
    one.found = Finding(OTHER, B2)
    probing.keep(context, one, {FIRST, FAR})
    assert found_by(one) is None
    assert one.is_silent
    assert (context.late, one.probes) == ({1: Probe(OTHER, 1)}, {2: Probe(FAR, 1)})
    one.found = Finding(FAR, B2)
    probing.keep(context, one, {FIRST, FAR})
    assert found_by(one) == Finding(FAR, B2)
    probing.arm(core, context, one)
    assert not core.is_timer_set(context, Timer.PROBE)
    one.ask_at_ns = core.now_ns - 1
    probing.arm(core, context, one)
    assert core.is_timer_set(context, Timer.PROBE)
    probing.end(core, context, Cue.THIS_ANSWERS)
    assert (context.late, context.search, context.searched_ns) == (one.probes, None, core.now_ns)
    assert not core.is_timer_set(context, Timer.PROBE)


@pytest.mark.parametrize(("doubted", "path"), [(True, Path.STEADY), (False, Path.SEARCHING)])
def test_a_pair_that_may_lose_data_is_used_if_plain_packets_do_not_pass(
    network: Timetable, core: Core, context: Context, doubted: bool, path: Path
) -> None:
    one = put(core, context, Path.SEARCHING)
    one.cycle_ns = one.plain_sent_ns = core.now_ns
    one.cycles, one.count = 1, 4
    one.doubtful = Finding(OTHER, B2) if doubted else None
    one.batch_at_ns = core.now_ns + CYCLE_TIME // 2
    probing.arm(core, context, one)
    network.dead = {FIRST, OTHER, FAR, NEAR}
    sent(network)
    network.give(network.a, TimePassed())
    network.run(CYCLE_TIME // 2 - 1)
    assert path_of(context) is Path.SEARCHING
    network.run(1)
    assert path_of(context) is path
    assert (context.pair == OTHER) is doubted


def test_it_is_not_while_they_do(network: Timetable, core: Core, context: Context) -> None:
    one = put(core, context, Path.SEARCHING)
    one.cycle_ns = one.plain_sent_ns = one.plain_ns = core.now_ns
    one.cycles, one.count = 1, 4
    one.doubtful = Finding(OTHER, B2)
    one.batch_at_ns = core.now_ns + CYCLE_TIME // 2
    probing.arm(core, context, one)
    network.dead = {FIRST, OTHER, FAR, NEAR}
    began_ns = core.now_ns
    network.run(CYCLE_TIME // 2)
    assert one.batch_at_ns == began_ns + CYCLE_TIME
    network.run(CYCLE_TIME // 2)
    assert (path_of(context), one.loses_all) == (Path.ASIDE, True)


def test_measurements_go_over_the_pair_in_use_if_nothing_else_is_under_way(
    network: Timetable, core: Core, context: Context
) -> None:
    probing.measure(core, context)
    assert sent(network) == [(FIRST, True, Flag(0))]
    assert context.late == {context.update_nonce: Probe(FIRST, core.now_ns)}
    one = put(core, context, Path.ASKING)
    probing.measure(core, context)
    assert sent(network) == []
    assert search_of(context) is one


@pytest.mark.parametrize("unwanted_ns", [SUSPICION_TIME, SUSPICION_TIME + 1])
def test_empty_packets_go_while_a_program_sends_and_a_loss_is_counted_at_the_end(
    core: Core, context: Context, unwanted_ns: int
) -> None:
    one = put(core, context, Path.ASIDE)
    one.loses_all, one.wanted_ns = True, core.now_ns - unwanted_ns
    for empties in (3, EMPTY_PACKETS):
        one.empties, one.retried = empties, FIRST
        context.history = {FIRST: History(losses=2, lost_ns=7)}
        probing.batch(core, context, one)
        is_over = empties == EMPTY_PACKETS and unwanted_ns == SUSPICION_TIME
        history = context.history_of(FIRST)
        assert (history.losses, history.lost_ns) == ((3, core.now_ns) if is_over else (2, 7))
        controls = [output for output in core.outputs if isinstance(output, SendControl)]
        assert len(controls) == (empties == 3 and unwanted_ns == SUSPICION_TIME)
        core.outputs.clear()


def test_a_program_that_sends_checks_plain_packets_less_often_than_the_peer_makes_them_checked(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.ASIDE)
    one.cycle_ns = 5
    one.plain_ns = one.plain_sent_ns = core.now_ns - PLAIN_CHECK_FIRST + 1
    probing.check_plain(core, context, one)
    assert sent(network) == []
    probing.check_plain(core, context, one, is_told=True)
    assert len(sent(network)) == 1
