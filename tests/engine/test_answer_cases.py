# SPDX-License-Identifier: MIT
"""Every case of an answer to a request of ours: which pair is kept, or used from now on."""

import pytest

from noid.constants import FOLLOW_INTERVAL, MILLISECOND, NEVER, SECOND
from noid.engine import following, searching
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import InstallFlow, SendAgain, Switched
from noid.engine.history import History, Pair
from noid.engine.phases import Finding, Probe, Search
from noid.engine.state import Path
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.control import Flag
from tests.engine.network import A1, A2, B1, B2, packet
from tests.engine.test_asking_cases import path_of, search_of
from tests.engine.test_probing_cases import FAR, FIRST, NEAR, NOTHING, OTHER, put, sent
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable

NONCE = Nonce(1 << 50)
RTT_NS = 20 * MILLISECOND
LOST = packet(A1, B1, b"lost")


@pytest.fixture
def network() -> Timetable:
    return settled()


def probed(
    core: Core,
    context: Context,
    path: Path,
    pair: Pair,
    ago_ns: int = RTT_NS,
    *,
    why: Cause = Cause.NOTHING_HEARD,
    is_plain: bool = False,
) -> Search:
    """A search in which a request over a pair waits for its answer."""
    one = put(core, context, path, why)
    one.probes = {NONCE: Probe(pair, core.now_ns - ago_ns, is_plain=is_plain)}
    one.started_ns = core.now_ns - ago_ns
    one.packet = LOST
    if path is Path.FOLLOWING:
        one.left, one.followed = FIRST, OTHER
    return one


def late_of(context: Context) -> dict[Nonce, Probe]:
    """The requests whose answers only measure, as they are now."""
    return context.late or {}


def again(core: Core) -> list[tuple[bytes, int]]:
    """The packets that are sent again, and the outage that is said."""
    return [(one.packet, one.silent_ns) for one in core.outputs if isinstance(one, SendAgain)]


def switches(core: Core) -> list[tuple[Pair, Cause]]:
    return [(one.new, one.why) for one in core.outputs if isinstance(one, Switched)]


# --- over the pair in use -------------------------------------------------------------------------


@pytest.mark.parametrize("path", [Path.ASKING, Path.DOUBTING, Path.SEARCHING, Path.ASIDE])
@pytest.mark.parametrize("by", [None, FIRST, OTHER])
def test_an_answer_over_the_pair_in_use_keeps_it(
    network: Timetable, core: Core, context: Context, path: Path, by: Pair | None
) -> None:
    one = probed(core, context, path, FIRST)
    searching.acknowledged(core, context, NONCE, B1, by=by)
    is_confirmed = by is not None and path in (Path.SEARCHING, Path.ASIDE)
    assert path_of(context) is (Path.ASKING if is_confirmed else Path.STEADY)
    assert (NONCE in one.probes) is (by is not None)
    if path in (Path.SEARCHING, Path.ASIDE):
        assert again(core)[0][0] == LOST
        assert context.history_of(FIRST).used_ns == core.now_ns
    else:
        assert again(core) == []
    if is_confirmed:
        assert search_of(context).why is Cause.ONLY_PEER_SAYS
        expected = [FIRST] if by == FIRST else [FIRST, OTHER]
        assert [pair for pair, *_ in sent(network)] == expected
    core.outputs.clear()


@pytest.mark.parametrize(
    ("ago_ns", "keeps"), [(50 * MILLISECOND, True), (50 * MILLISECOND + 1, False)]
)
@pytest.mark.parametrize("path", [Path.DOUBTING, Path.SEARCHING])
def test_a_request_of_the_peer_that_names_an_old_one_of_ours_is_not_enough(
    network: Timetable, core: Core, context: Context, ago_ns: int, keeps: bool, path: Path
) -> None:
    one = probed(core, context, path, FIRST, ago_ns)
    searching.acknowledged(core, context, NONCE, B1, by=FIRST)
    assert (context.search is not one) is (keeps or path is Path.SEARCHING)
    if context.search is one:
        assert sent(network) == [(FIRST, True, Flag(0))], "asked once more"
    core.outputs.clear()
    other = probed(core, context, path, FIRST, ago_ns)
    searching.acknowledged(core, context, NONCE, B1)
    assert context.search is not other, "the answer itself is enough"
    core.outputs.clear()


@pytest.mark.parametrize(("source", "known"), [(B1, None), (B2, B2)])
def test_where_an_answer_comes_from_the_peer_sends_from(
    core: Core, context: Context, source: Locator, known: Locator | None
) -> None:
    probed(core, context, Path.ASKING, FIRST)
    searching.acknowledged(core, context, NONCE, source)
    assert context.peer_source == known
    context.peer_source = None
    for pair, expected in ((FIRST, known), (OTHER, None)):
        context.late, context.peer_source = {NONCE: Probe(pair, core.now_ns - RTT_NS)}, None
        searching.acknowledged(core, context, NONCE, source)
        assert context.peer_source == expected
        assert context.late == {}
        context.late = {NONCE: Probe(pair, core.now_ns - RTT_NS)}
        searching.acknowledged(core, context, NONCE, source, by=FIRST)
        assert NONCE in context.late
    core.outputs.clear()


def test_an_answer_to_nothing_changes_nothing(core: Core, context: Context) -> None:
    searching.acknowledged(core, context, NONCE, B2)
    one = probed(core, context, Path.DOUBTING, OTHER)
    searching.acknowledged(core, context, Nonce(5), B2)
    assert (context.search, one.found, core.outputs) == (one, None, [])


# --- over another pair ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [Path.ASKING, Path.DOUBTING])
def test_another_pair_is_stored_until_that_in_use_is_silent(
    core: Core, context: Context, path: Path
) -> None:
    context.note(FIRST, context.history_of(FIRST))
    one = probed(core, context, path, OTHER)
    one.asked_ns, one.ask_at_ns = 0, core.now_ns + 5
    searching.acknowledged(core, context, NONCE, B2)
    assert (context.search, one.found) == (one, Finding(OTHER, B2))
    assert one.ask_at_ns == core.now_ns + 5
    assert context.history_of(OTHER).round_trip_ns == RTT_NS


@pytest.mark.parametrize(("asked_ago_ms", "left_ms"), [(50, 100), (200, 5)])
def test_where_others_answer_slowly_the_pair_in_use_gets_as_much_time(
    core: Core, context: Context, asked_ago_ms: int, left_ms: int
) -> None:
    one = probed(core, context, Path.DOUBTING, OTHER, 100 * MILLISECOND)
    one.asked_ns = core.now_ns - asked_ago_ms * MILLISECOND
    one.ask_at_ns = core.now_ns + 5 * MILLISECOND
    searching.acknowledged(core, context, NONCE, B2)
    assert one.ask_at_ns == core.now_ns + left_ms * MILLISECOND
    other = probed(core, context, Path.DOUBTING, OTHER, 100 * MILLISECOND)
    other.asked_ns, other.ask_at_ns = core.now_ns, core.now_ns + 5
    searching.acknowledged(core, context, NONCE, B2, by=OTHER)
    assert other.ask_at_ns == core.now_ns + 5, "a request of the peer measures nothing"


@pytest.mark.parametrize(
    ("before", "pair", "by", "after"),
    [
        (None, OTHER, None, Finding(OTHER, B2)),
        (None, OTHER, FAR, Finding(OTHER, B2, FAR)),
        (Finding(OTHER, B1, FAR), OTHER, None, Finding(OTHER, B2)),
        (Finding(OTHER, B1), OTHER, FAR, Finding(OTHER, B1)),
        (Finding(FAR, B1), OTHER, None, Finding(FAR, B1)),
    ],
)
def test_the_first_that_answers_is_found_and_its_own_answer_counts_more(
    core: Core,
    context: Context,
    before: Finding | None,
    pair: Pair,
    by: Pair | None,
    after: Finding,
) -> None:
    one = probed(core, context, Path.DOUBTING, pair)
    one.found = before
    searching.acknowledged(core, context, NONCE, B2, by=by)
    assert one.found == after


@pytest.mark.parametrize("how", ["searching", "aside", "silent", "leaving"])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("by", [None, NEAR])
def test_another_pair_is_used_at_once_if_that_in_use_is_silent_or_is_to_be_left(
    network: Timetable,
    core: Core,
    context: Context,
    how: str,
    told: bool,
    heard: bool,
    by: Pair | None,
) -> None:
    paths = {"searching": Path.SEARCHING, "aside": Path.ASIDE, "leaving": Path.LEAVING}
    one = probed(core, context, paths.get(how, Path.DOUBTING), OTHER)
    one.is_silent, one.told_by_peer = how == "silent", told
    one.until_ns = core.now_ns + SECOND if how == "leaving" else NEVER
    context.note(OTHER, History(heard_ns=one.started_ns - (not heard)))
    context.late = None
    searching.acknowledged(core, context, NONCE, B2, by=by)
    assert (context.pair, path_of(context)) == (
        OTHER,
        Path.STEADY if by is None or (heard and not told and how != "leaving") else Path.ASKING,
    )
    assert switches(core) == [(OTHER, Cause.NOTHING_HEARD)]
    lost_ns = 0 if how == "leaving" else core.now_ns - one.started_ns
    assert again(core)[0] == (LOST, lost_ns)
    says_so = heard and not told and how != "leaving"
    flags = [flag for pair, _, flag in sent(network) if pair == OTHER]
    assert (Flag.HEARS_HERE in flags) is says_so
    assert context.searched_ns == 0 or path_of(context) is Path.STEADY
    assert context.history_of(OTHER).used_ns == core.now_ns
    rest_ns = FOLLOW_INTERVAL + 4 * context.round_trip_ns
    assert context.follow_ns == core.now_ns + rest_ns


def test_one_that_is_not_measured_is_measured(
    network: Timetable, core: Core, context: Context
) -> None:
    for round_trip_ns, count in ((0, 1), (RTT_NS, 0)):
        context.note(OTHER, History(round_trip_ns=round_trip_ns))
        context.first_round_trip_ns = 0
        context.local_locator, context.peer_locator, context.late = A1, B1, None
        one = probed(core, context, Path.LEAVING, OTHER)
        searching.take(core, context, one, Finding(OTHER, B2))
        assert len(sent(network)) == count
        assert (NONCE in late_of(context)) is (count == 0)


@pytest.mark.parametrize("gone", ["own", "peer"])
def test_one_that_may_not_be_used_any_more_is_not(core: Core, context: Context, gone: str) -> None:
    one = probed(core, context, Path.SEARCHING, OTHER)
    if gone == "own":
        context.own_local = (A1,)
    else:
        context.peer_local = (B1,)
    searching.acknowledged(core, context, NONCE, B1)
    assert (context.pair, context.search, switches(core)) == (FIRST, None, [])
    assert one is not context.search
    assert any(isinstance(output, InstallFlow) for output in core.outputs)
    core.outputs.clear()


def test_a_pair_that_is_looked_for_because_of_marks_is_not_that_in_use(
    core: Core, context: Context
) -> None:
    one = probed(core, context, Path.LEAVING, FIRST)
    searching.acknowledged(core, context, NONCE, B1)
    assert (context.search, path_of(context)) == (one, Path.LEAVING)


# --- where data was lost --------------------------------------------------------------------------


@pytest.mark.parametrize("path", [Path.DOUBTING, Path.SEARCHING])
@pytest.mark.parametrize("pair", [FIRST, OTHER])
@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize("loses", [False, True])
@pytest.mark.parametrize("asks_plainly", [False, True])
def test_a_pair_that_lost_data_is_not_trusted_while_plain_packets_may_pass(
    core: Core,
    context: Context,
    path: Path,
    pair: Pair,
    all_pairs: bool,
    loses: bool,
    asks_plainly: bool,
) -> None:
    one = probed(core, context, path, pair)
    one.loses_all, one.is_silent = all_pairs, True
    one.plain_ns, one.plain_asked_ns = 5, 5 + asks_plainly
    one.plain_sent_ns = 9
    context.note(pair, History(losses=int(loses), lost_ns=core.now_ns, round_trip_ns=RTT_NS))
    searching.acknowledged(core, context, NONCE, pair[1])
    is_in_use = pair == FIRST and path is Path.DOUBTING
    distrusts = not is_in_use and not asks_plainly and (all_pairs or loses)
    assert (one.doubtful is not None) is distrusts
    assert (context.search is one) is distrusts
    core.outputs.clear()


@pytest.mark.parametrize(
    ("first_ns", "second_ns", "kept"), [(5, 6, FAR), (6, 5, OTHER), (5, 5, FAR)]
)
def test_of_two_such_pairs_that_which_lost_data_longest_ago_is_used(
    core: Core, context: Context, first_ns: int, second_ns: int, kept: Pair
) -> None:
    one = probed(core, context, Path.SEARCHING, OTHER)
    one.doubtful, one.loses_all = Finding(FAR, B2), True
    context.note(FAR, History(losses=1, lost_ns=first_ns))
    context.note(OTHER, History(losses=1, lost_ns=second_ns))
    searching.acknowledged(core, context, NONCE, B2)
    assert one.doubtful is not None
    assert one.doubtful.pair == kept
    core.outputs.clear()


@pytest.mark.parametrize("path", [Path.DOUBTING, Path.SEARCHING])
@pytest.mark.parametrize(("plain_ns", "asks"), [(9, True), (8, False)])
def test_in_doubt_it_is_asked_whether_plain_packets_pass(
    network: Timetable, core: Core, context: Context, path: Path, plain_ns: int, asks: bool
) -> None:
    one = probed(core, context, path, OTHER)
    one.plain_sent_ns, one.plain_ns, one.plain_asked_ns = 9, plain_ns, 0
    context.note(OTHER, History(losses=1, lost_ns=core.now_ns))
    searching.acknowledged(core, context, NONCE, B2)
    expected = [(FIRST, False, NOTHING)] if asks and path is Path.DOUBTING else []
    assert sent(network) == expected


@pytest.mark.parametrize("by", [None, FIRST])
def test_an_answer_in_the_plain_form_shows_when_that_passed(
    core: Core, context: Context, by: Pair | None
) -> None:
    one = probed(core, context, Path.SEARCHING, FIRST, is_plain=True)
    searching.acknowledged(core, context, NONCE, B1, by=by)
    assert one.plain_ns == (core.now_ns if by is None else core.now_ns - RTT_NS)
    assert (context.search, context.pair) == (one, FIRST)
    one.plain_ns = core.now_ns + 1
    one.probes = {NONCE: Probe(FIRST, core.now_ns, is_plain=True)}
    searching.acknowledged(core, context, NONCE, B1, by=by)
    assert one.plain_ns == core.now_ns + 1


# --- where the peer moves -------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [FIRST, OTHER, FAR])
@pytest.mark.parametrize("by", [None, FIRST])
@pytest.mark.parametrize("moved", [False, True])
def test_the_pair_before_a_move_is_returned_to_if_it_answers(
    core: Core, context: Context, pair: Pair, by: Pair | None, moved: bool
) -> None:
    one = probed(core, context, Path.FOLLOWING, pair)
    if moved:
        context.local_locator, context.peer_locator = OTHER
    context.follow_ns = 0
    following.acknowledged(core, context, NONCE, B2, by=by)
    assert (NONCE in one.probes) is (by is not None)
    assert one.found == (Finding(OTHER, B2, by) if pair == OTHER else None)
    assert path_of(context) is (Path.STEADY if pair == FIRST else Path.FOLLOWING)
    if pair == FIRST:
        assert (context.pair, context.searched_ns, context.peer_source) == (FIRST, 0, B2)
        assert context.follow_ns == (core.now_ns + 60 * SECOND if moved else 0)
        assert [new for new, _ in switches(core)] == [FIRST] * moved
    core.outputs.clear()


@pytest.mark.parametrize("by", [None, OTHER])
def test_the_new_pair_is_kept_if_it_alone_answers(
    network: Timetable, core: Core, context: Context, by: Pair | None
) -> None:
    one = probed(core, context, Path.FOLLOWING, OTHER)
    one.found = Finding(OTHER, B1, by)
    following.on_probe_timer(core, context)
    assert context.pair == OTHER
    assert path_of(context) is (Path.STEADY if by is None else Path.ASKING)
    assert (context.follow_again_ns, context.peer_source) == (0, B1)
    assert context.follow_ns == core.now_ns + FOLLOW_INTERVAL
    assert again(core)[0][0] == LOST
    core.outputs.clear()


@pytest.mark.parametrize("gone", ["own", "peer"])
def test_it_is_not_if_it_may_not_be_used_any_more(core: Core, context: Context, gone: str) -> None:
    one = probed(core, context, Path.FOLLOWING, OTHER)
    one.found = Finding(OTHER, B2)
    if gone == "own":
        context.own_local = (A1,)
    else:
        context.peer_local = (B1,)
    following.on_probe_timer(core, context)
    assert (context.pair, path_of(context), switches(core)) == (FIRST, Path.STEADY, [])
    core.outputs.clear()


@pytest.mark.parametrize("gone", [None, "own", "peer"])
def test_if_none_answers_the_former_is_used_and_all_are_probed(
    network: Timetable, core: Core, context: Context, gone: str | None
) -> None:
    one = probed(core, context, Path.FOLLOWING, OTHER)
    one.left, one.followed = FAR, OTHER
    context.local_locator, context.peer_locator = OTHER
    if gone == "own":
        context.own_local = (A2,)
    elif gone == "peer":
        context.verification.proven = (B1,)
        context.peer_local = (B1, B2)
    following.on_probe_timer(core, context)
    assert (path_of(context), context.follow_ns) == (Path.DOUBTING, core.now_ns + 60 * SECOND)
    assert [new for new, _ in switches(core)] == ([FAR] if gone is None else [])
    core.outputs.clear()
