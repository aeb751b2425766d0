# SPDX-License-Identifier: MIT
"""Every case of a search: what its probes say, and which pairs are probed when."""

import pytest

from noid.constants import (
    CYCLE_TIME,
    CYCLE_TIME_LARGE,
    MILLISECOND,
    NEVER,
    PROBE_INTERVAL,
    PROBE_INTERVAL_MAX,
    SECOND,
    SUSPICION_TIME,
    WANTED_TIME,
)
from noid.engine import probing
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import ProbeStarted, SendControl
from noid.engine.history import History, Pair
from noid.engine.phases import Probe, Search
from noid.engine.state import Path
from noid.identifiers import Nonce
from noid.wire.control import Code, Flag
from tests.engine.network import A1, A2, B1, B2, packet
from tests.engine.test_asking_cases import path_of
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable

FIRST, OTHER, FAR, NEAR = (A1, B1), (A2, B2), (A1, B2), (A2, B1)
NOTHING, DATA_LOST, ALL_LOST = Flag.HEARS_NOTHING, Flag.DATA_LOST, Flag.ALL_DATA_LOST


@pytest.fixture
def network() -> Timetable:
    return settled()


def put(core: Core, context: Context, path: Path, why: Cause = Cause.NOTHING_HEARD) -> Search:
    """A search of a context that is somewhere in it; a program wants a pair now."""
    one = Search(why, core.now_ns, b"", 0, told_by_peer=False)
    context.search, context.path = one, path
    one.wanted_ns = core.now_ns
    one.cycle_ns = one.batch_ns = 1 if path in (Path.SEARCHING, Path.ASIDE) else 0
    return one


Sent = list[tuple[Pair, bool, Flag]]


def sent(network: Timetable) -> Sent:
    """The requests that a has sent: the pair, whether in the form of data, and the flags."""
    outputs, network.a.host.core.outputs = network.a.host.core.outputs, []
    for output in outputs:
        network.carry_out(network.a, output)
    found = [(pair, form, one.flags) for _, pair, form, one in network.sent(network.a, Code.UR)]
    network.begin()
    return found


# --- what a probe says ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [Path.ASKING, Path.DOUBTING, Path.SEARCHING, Path.FOLLOWING])
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("asks_back", [False, True])
def test_a_probe_says_that_nothing_is_heard_if_that_is_so(
    network: Timetable, core: Core, context: Context, path: Path, told: bool, asks_back: bool
) -> None:
    """A host that was told by its peer, which hears nothing, says it only once it searches."""
    one = put(core, context, path)
    one.told_by_peer = told
    probing.send_probe(core, context, one, OTHER, asks_back=asks_back)
    hears_nothing = path is Path.SEARCHING or (path is Path.DOUBTING and not told)
    assert sent(network) == [(OTHER, True, NOTHING if hears_nothing and asks_back else Flag(0))]
    assert one.probes == {context.update_nonce: Probe(OTHER, core.now_ns)}


@pytest.mark.parametrize(
    ("cycles", "told", "all_pairs", "flags"),
    [
        (0, False, False, DATA_LOST),
        (1, False, False, DATA_LOST),
        (2, False, False, Flag(0)),
        (1, True, False, Flag(0)),
        (1, False, True, ALL_LOST),
        (2, False, True, Flag(0)),
    ],
)
def test_the_probes_of_the_first_cycle_tell_the_peer_that_data_is_lost(
    network: Timetable,
    core: Core,
    context: Context,
    cycles: int,
    told: bool,
    all_pairs: bool,
    flags: Flag,
) -> None:
    one = put(core, context, Path.SEARCHING, Cause.DATA_LOST)
    one.cycles, one.told_by_peer, one.loses_all = cycles, told, all_pairs
    probing.send_probe(core, context, one, FIRST)
    assert sent(network) == [(FIRST, True, NOTHING | flags)]


@pytest.mark.parametrize("why", [Cause.NOTHING_HEARD, Cause.DATA_LOST])
@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize("told", [False, True])
def test_a_cycle_probes_all_pairs_and_the_aids_in_the_plain_form(
    network: Timetable, core: Core, context: Context, why: Cause, all_pairs: bool, told: bool
) -> None:
    one = put(core, context, Path.SEARCHING, why)
    one.cycle_ns = one.batch_ns = 0
    one.loses_all, one.told_by_peer, one.packet = all_pairs, told, packet(A1, B1, b"lost")
    probing.batch(core, context, one)
    in_form = Flag(0)
    if why is Cause.DATA_LOST and not told:
        in_form = ALL_LOST if all_pairs else DATA_LOST
    in_plain = ALL_LOST if all_pairs and not told else Flag(0)
    pairs = (FIRST, OTHER, FAR, NEAR)
    assert ProbeStarted(A1, B1, why, (FIRST, *pairs)) in core.outputs
    assert sent(network) == [
        *[(pair, True, NOTHING | in_form) for pair in pairs],
        (FIRST, False, NOTHING | in_plain),
    ]
    assert (one.tried, one.count, one.cycles, one.untried) == (4, 4, 1, [])
    assert one.batch_at_ns == core.now_ns + CYCLE_TIME
    assert one.cycle_ns == one.plain_sent_ns == one.batch_ns == core.now_ns
    plain = [nonce for nonce, probe in one.probes.items() if probe.is_plain]
    others = [nonce for nonce, probe in one.probes.items() if not probe.is_plain]
    assert (plain[0] > max(others)) is (why is Cause.DATA_LOST)


@pytest.mark.parametrize(("path", "rides"), [(Path.DOUBTING, False), (Path.SEARCHING, True)])
def test_a_packet_rides_only_on_the_probes_of_a_search(
    core: Core, context: Context, path: Path, rides: bool
) -> None:
    one = put(core, context, path)
    one.packet = packet(A1, B1, b"lost")
    probing.batch(core, context, one)
    octets = [output.packet for output in core.outputs if isinstance(output, SendControl)]
    carried = [b"lost" in one for one in octets]
    assert carried == ([True] * 4 + [False] if rides else [False] * 3), "not on the plain one"
    core.outputs.clear()


def test_pairs_that_may_not_be_used_any_more_are_not_probed(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.DOUBTING)
    one.untried = [OTHER, FAR, NEAR]
    context.own_local = (A1,)
    probing.batch(core, context, one)
    assert [pair for pair, *_ in sent(network)] == [FAR]


# --- when the next are probed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "tried", "cycles", "backoff", "wait_ns"),
    [
        (17, 15, 1, 0, PROBE_INTERVAL),
        (20, 16, 1, 0, SECOND - 3 * PROBE_INTERVAL),
        (30, 19, 1, 0, SECOND - 3 * PROBE_INTERVAL),
        (30, 20, 1, 0, SECOND // 16),
        (16, 16, 2, 0, CYCLE_TIME // 4),
        (16, 16, 2, 3, CYCLE_TIME * 2),
        (17, 16, 2, 0, CYCLE_TIME_LARGE // 5),
        (4, 4, 2, 5, PROBE_INTERVAL_MAX),
    ],
)
def test_the_interval_of_probes_depends_on_the_number_of_pairs(
    core: Core, context: Context, count: int, tried: int, cycles: int, backoff: int, wait_ns: int
) -> None:
    one = put(core, context, Path.SEARCHING)
    one.count, one.cycles, one.backoff = count, cycles, backoff
    one.untried = [OTHER] + [FAR] * (4 if cycles == 1 else 0)
    one.tried = tried - len(one.untried[:4])
    probing.batch(core, context, one)
    assert one.tried == tried
    assert one.batch_at_ns - core.now_ns == wait_ns
    core.outputs.clear()


@pytest.mark.parametrize(
    ("unwanted_ns", "before", "after"), [(WANTED_TIME, 3, 0), (WANTED_TIME + 1, 3, 4), (0, 3, 0)]
)
def test_cycles_become_rare_once_no_program_has_sent_for_five_seconds(
    core: Core, context: Context, unwanted_ns: int, before: int, after: int
) -> None:
    one = put(core, context, Path.SEARCHING)
    one.backoff, one.wanted_ns = before, core.now_ns - unwanted_ns
    probing.batch(core, context, one)
    assert one.backoff == after
    core.outputs.clear()


@pytest.mark.parametrize("loses_all", [False, True])
@pytest.mark.parametrize(
    ("unwanted_ns", "ends"), [(SUSPICION_TIME, False), (SUSPICION_TIME + 1, True)]
)
def test_they_end_once_none_has_for_a_minute(
    core: Core, context: Context, loses_all: bool, unwanted_ns: int, ends: bool
) -> None:
    one = put(core, context, Path.SEARCHING)
    one.loses_all, one.wanted_ns = loses_all, core.now_ns - unwanted_ns
    probing.batch(core, context, one)
    assert (one.batch_at_ns == NEVER) is ends
    if ends:
        assert one.cycle_ns == (1 if loses_all else 0), "after that an answer shows no more"
    else:
        assert not one.loses_all, "answers count again"
    core.outputs.clear()


def test_in_doubt_each_pair_is_probed_once(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.DOUBTING)
    probing.batch(core, context, one)
    assert [pair for pair, *_ in sent(network)] == [OTHER, FAR, NEAR]
    probing.batch(core, context, one)
    assert (sent(network), one.batch_at_ns) == ([], NEVER)
    context.own_local, context.peer_local = (A1,), (B1,)
    one.cycles = 0
    probing.batch(core, context, one)
    assert (sent(network), one.cycles) == ([], 0)


@pytest.mark.parametrize(("left_ns", "goes_on"), [(1, True), (0, False)])
def test_a_better_pair_is_looked_for_until_its_time_is_over(
    core: Core, context: Context, left_ns: int, goes_on: bool
) -> None:
    one = put(core, context, Path.LEAVING)
    one.until_ns = core.now_ns + left_ns
    probing.batch(core, context, one)
    assert (path_of(context) is Path.LEAVING) is goes_on
    core.outputs.clear()


def test_a_question_after_a_loss_says_both(
    network: Timetable, core: Core, context: Context
) -> None:
    one = put(core, context, Path.ASKING, Cause.DATA_LOST)
    one.is_routine = True
    probing.send_probe(core, context, one, FIRST)
    assert sent(network) == [(FIRST, True, DATA_LOST | Flag.DATA_ASKED)]


def test_where_a_better_pair_is_looked_for_that_in_use_is_not_told_of(
    core: Core, context: Context
) -> None:
    one = put(core, context, Path.LEAVING, Cause.BETTER_PAIR)
    context.left_pair = OTHER
    probing.batch(core, context, one)
    assert ProbeStarted(A1, B1, Cause.BETTER_PAIR, (OTHER,)) in core.outputs
    core.outputs.clear()


@pytest.mark.parametrize(
    ("usual", "heard_ns", "round_trip_ms", "wait_ms"),
    [
        (FIRST, 9, 20, None),
        (None, 9, 20, None),
        (OTHER, 5, 20, None),
        (OTHER, 6, 20, 60),
        (OTHER, 6, 200, 250),
    ],
)
def test_answers_are_waited_for_longer_if_the_peer_usually_sends_by_another_pair_that_works(
    context: Context, usual: Pair | None, heard_ns: int, round_trip_ms: int, wait_ms: int | None
) -> None:
    one = Search(Cause.NOTHING_HEARD, 5, b"", 0, told_by_peer=False)
    one.usual, one.asked_ns, context.peer_source = usual, 1_000, B2
    context.history = {
        FIRST: History(round_trip_ns=round_trip_ms * MILLISECOND),
        OTHER: History(message_ns=heard_ns),
    }
    expected_ns = 0 if wait_ms is None else 1_000 + wait_ms * MILLISECOND
    assert probing.answers_until_ns(context, one) == expected_ns


@pytest.mark.parametrize("known", [False, True])
def test_only_the_rejection_of_a_probe_counts(core: Core, context: Context, known: bool) -> None:
    probing.rejected(core, context, Nonce(1))
    one = put(core, context, Path.SEARCHING)
    one.probes = {Nonce(1): Probe(OTHER, 1)}
    probing.rejected(core, context, Nonce(1 if known else 2))
    assert one.rejected_ns == (core.now_ns if known else 0)
