# SPDX-License-Identifier: MIT
"""Every case of asking a pair of locators: how many requests, when, and what an answer teaches."""

import pytest

from noid.constants import (
    DATA_ASKED_TIME,
    FOLLOW_INTERVAL,
    MILLISECOND,
    SECOND,
    UNPROVEN_REST,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import DataHasCome, LocatorsChanged, TimePassed
from noid.engine.history import History, Pair
from noid.engine.phases import Search
from noid.engine.probing import is_way_alive, usual_pair
from noid.engine.searching import search
from noid.engine.state import Path, State
from noid.engine.tolerance import learn
from noid.locators import Locator
from noid.wire.control import Code, Flag
from tests.engine.network import A1, A2, B1, B2, packet
from tests.engine.test_timetable import EVERY, FIRST, OTHER, asks, cut_off, rows, settled
from tests.engine.timetable import Timetable

FAR, NEAR = (A1, B2), (A2, B1)


@pytest.fixture
def network() -> Timetable:
    return settled()


def search_of(context: Context) -> Search:
    assert context.search is not None
    return context.search


def path_of(context: Context) -> Path:
    """The belief in its pair, as it is now."""
    return context.path


def sent(network: Timetable) -> list[tuple[Pair, Flag]]:
    """What the calls of a test have made a ask: the pair and the flags of each request."""
    network.give(network.a, TimePassed())
    return [(pair, one.flags) for _, pair, _, one in network.sent(network.a, Code.UR)]


# --- the first requests ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "count", "wait_us"),
    [
        ({}, 1, 25_000),
        ({"told_by_peer": True}, 3, 25_000),
        ({"told_by_peer": True, "patient": True}, 1, 37_500),
        ({"told_by_peer": True, "is_question": True}, 1, 250_000),
        ({"is_question": True}, 1, 250_000),
        ({"is_question": True, "is_routine": True}, 1, 250_000),
    ],
)
def test_a_suspected_pair_is_asked_at_once(
    network: Timetable, core: Core, context: Context, how: dict[str, bool], count: int, wait_us: int
) -> None:
    search(core, context, Cause.NOTHING_HEARD, **how)  # type: ignore[arg-type] # a case
    one = search_of(context)
    assert (one.asks, one.ask_at_ns - core.now_ns) == (count, wait_us * 1_000)
    assert one.told_by_peer is how.get("told_by_peer", False)
    assert one.is_question is how.get("is_question", False)
    assert one.is_routine is how.get("is_routine", False)
    assert one.names_newest is one.told_by_peer
    assert one.knew_round_trip
    assert not one.is_silent
    flags = Flag.DATA_ASKED if one.is_routine else Flag(0)
    assert sent(network) == [(FIRST, flags)] * count


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("proven", [False, True])
def test_only_a_pair_of_a_context_that_is_set_up_and_proven_is_suspected(
    core: Core, context: Context, state: State, proven: bool
) -> None:
    context.state = state
    if not proven:
        context.aid_proven, context.verification.proven = False, ()
    search(core, context, Cause.NOTHING_HEARD)
    asks = proven and state in (State.ESTABLISHED, State.UR_SENT)
    assert path_of(context) is (Path.ASKING if asks else Path.STEADY)
    core.outputs.clear()


@pytest.mark.parametrize(("unseen", "count"), [(0, 0), (1, 1)])
def test_only_the_end_with_the_lower_aid_asks_for_a_proof_unless_data_is_not_seen(
    network: Timetable, unseen: int, count: int
) -> None:
    core, context = network.b.host.core, network.b.context
    context.note((B1, A1), History(unseen=unseen, round_trip_ns=20 * MILLISECOND))
    search(core, context, Cause.NOTHING_AUTHENTIC_HEARD, is_question=True, is_routine=True)
    assert search_of(context).asks == count


@pytest.mark.parametrize(("peers", "wait_us"), [(5, 37_500), (6, 25_000)])
def test_a_patient_host_waits_longer_if_one_round_of_probes_is_enough(
    peers: int, wait_us: int
) -> None:
    network = Timetable()
    network.a.locators = (A1,)
    network.b.locators = tuple(
        Locator(B1[:5] + bytes((number,)) + B1[6:]) for number in range(1, peers + 1)
    )
    for station in network.stations:
        network.names[station.name] = [*station.locators]
        network.reverse |= dict.fromkeys(station.locators, station.name)
        network.give(station, LocatorsChanged(station.locators))
    settled(network)
    core, context = network.a.host.core, network.a.context
    search(core, context, Cause.PEER_HEARS_NOTHING, told_by_peer=True, patient=True)
    assert search_of(context).ask_at_ns - core.now_ns == wait_us * 1_000


@pytest.mark.parametrize(
    ("beside", "pairs"), [(None, [FIRST]), (FIRST, [FIRST]), (OTHER, [FIRST, OTHER])]
)
def test_another_pair_may_be_asked_at_the_same_time(
    network: Timetable, core: Core, context: Context, beside: Pair | None, pairs: list[Pair]
) -> None:
    search(core, context, Cause.ONLY_PEER_SAYS, beside=beside)
    assert [pair for pair, _ in sent(network)] == pairs


@pytest.mark.parametrize(
    ("silent_ms", "unheard_ms", "asks_it"),
    [(0, 300, False), (200, 0, False), (201, 0, True), (1, 200, False), (1, 201, True)],
)
def test_a_request_because_of_silence_asks_whether_data_has_come(
    network: Timetable, core: Core, context: Context, silent_ms: int, unheard_ms: int, asks_it: bool
) -> None:
    """If the silence is longer than data that has come shortly before would be told of."""
    assert DATA_ASKED_TIME == 150 * MILLISECOND
    unheard_ns = core.now_ns - unheard_ms * MILLISECOND
    context.note(FIRST, History(unheard_ns=unheard_ns, round_trip_ns=20 * MILLISECOND))
    context.first_round_trip_ns = 0
    silent_ns = silent_ms * MILLISECOND
    search(core, context, Cause.NOTHING_HEARD, packet(A1, B1), silent_ns=silent_ns)
    assert sent(network) == [(FIRST, Flag.DATA_ASKED if asks_it else Flag(0))]


def test_a_question_for_a_proof_asks_that_too_and_only_while_nothing_speaks_against_the_pair(
    network: Timetable, core: Core, context: Context
) -> None:
    cut_off(network)
    search(core, context, Cause.NOTHING_AUTHENTIC_HEARD, is_question=True, is_routine=True)
    network.give(network.a, TimePassed())
    network.run(755 * MILLISECOND)
    flags = [one.flags for _, pair, _, one in network.sent(network.a, Code.UR) if pair == FIRST]
    assert flags == [Flag.DATA_ASKED] * 3 + [Flag.HEARS_NOTHING] * 3


# --- another reason during a search ---------------------------------------------------------------


def test_evidence_against_a_pair_hurries_a_question(
    network: Timetable, core: Core, context: Context
) -> None:
    search(core, context, Cause.LONG_SILENCE, is_question=True)
    one = search_of(context)
    search(core, context, Cause.LONG_SILENCE, is_question=True)
    assert (one.is_question, one.asks, one.ask_at_ns) == (True, 1, core.now_ns + SECOND // 4)
    search(core, context, Cause.NOTHING_HEARD, packet(A1, B1, b"lost"))
    assert search_of(context) is one
    assert (one.is_question, one.asks, one.ask_at_ns) == (False, 1, core.now_ns + 25 * MILLISECOND)
    assert one.packet == packet(A1, B1, b"lost")
    one.ask_at_ns = core.now_ns + MILLISECOND
    search(core, context, Cause.NOTHING_HEARD, told_by_peer=True)
    assert (one.told_by_peer, one.packet) == (True, packet(A1, B1, b"lost"))
    assert one.ask_at_ns == core.now_ns + MILLISECOND
    search(core, context, Cause.NOTHING_HEARD)
    assert one.told_by_peer


def test_evidence_asks_a_pair_whose_question_was_left_to_the_peer(network: Timetable) -> None:
    core, context = network.b.host.core, network.b.context
    search(core, context, Cause.NOTHING_AUTHENTIC_HEARD, is_question=True, is_routine=True)
    one = search_of(context)
    search(core, context, Cause.NOTHING_AUTHENTIC_HEARD, is_question=True, is_routine=True)
    assert (one.asks, one.is_routine) == (0, True)
    search(core, context, Cause.NOTHING_HEARD)
    assert (one.asks, one.is_routine, one.is_question) == (1, False, False)


# --- requests that stay unanswered ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("misses", "alarms", "expected"),
    [
        (0, 0, {0: 1, 25: 7}),
        (0, 1, {0: 1, 25: 11}),
        (1, 0, {0: 1, 25: 1, 50: 1, 75: 5}),
        (2, 0, {0: 1, 25: 1, 50: 1, 75: 3, 105: 2}),
        (2, 1, {0: 1, 25: 1, 50: 1, 75: 3, 105: 3, 135: 3}),
    ],
)
def test_a_pair_that_was_lossy_or_suspected_in_vain_is_asked_more_slowly_or_often(
    network: Timetable,
    core: Core,
    context: Context,
    misses: int,
    alarms: int,
    expected: dict[int, int],
) -> None:
    learn(core, context, alarms=alarms, misses=misses)
    cut_off(network)
    search(core, context, Cause.NOTHING_HEARD)
    network.give(network.a, TimePassed())
    network.run(200 * MILLISECOND)
    times = asks(network, FIRST)
    assert times == [at_ms for at_ms, count in expected.items() for _ in range(count)]


def test_a_slow_pair_that_was_lossy_is_asked_each_30_ms(
    network: Timetable, core: Core, context: Context
) -> None:
    context.note(FIRST, History(round_trip_ns=100 * MILLISECOND, misses=1))
    context.first_round_trip_ns = 0
    cut_off(network)
    search(core, context, Cause.NOTHING_HEARD)
    network.give(network.a, TimePassed())
    network.run(300 * MILLISECOND)
    assert asks(network, FIRST) == [0, 30, 60, *[185] * 5]


@pytest.mark.parametrize(
    ("misses", "times_ms"),
    [
        (0, [0, 250, 500, *[750] * 3, *[780] * 3, *[810] * 3]),
        (1, [0, 250, 500, 750, 1_000, 1_250, *[1_500] * 3, *[1_530] * 3]),
    ],
)
def test_a_pair_that_is_only_asked_for_a_proof_stays(
    network: Timetable, core: Core, context: Context, misses: int, times_ms: list[int]
) -> None:
    learn(core, context, misses=misses)
    cut_off(network)
    search(core, context, Cause.NOTHING_AUTHENTIC_HEARD, is_question=True, is_routine=True)
    network.give(network.a, TimePassed())
    network.run((times_ms[-1] + 29) * MILLISECOND)
    assert asks(network, FIRST) == times_ms
    assert path_of(context) is Path.DOUBTING
    network.run(MILLISECOND)
    assert path_of(context) is Path.STEADY
    assert context.searched_ns == 0
    assert context.unproven_again_ns == network.now_ns + UNPROVEN_REST


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "silent_ns", "misses", "alarms", "tolerated_ns"),
    [
        ({}, SECOND // 5, 0, 1, SECOND // 5),
        ({}, 0, 0, 1, 0),
        ({"is_question": True}, 0, 0, 0, 0),
    ],
)
def test_an_answer_in_time_shows_that_the_silence_was_harmless(
    network: Timetable,
    core: Core,
    context: Context,
    how: dict[str, bool],
    silent_ns: int,
    misses: int,
    alarms: int,
    tolerated_ns: int,
) -> None:
    search(core, context, Cause.NOTHING_HEARD, silent_ns=silent_ns, **how)  # type: ignore[arg-type]
    network.give(network.a, TimePassed())
    network.run(20 * MILLISECOND)
    history = context.history_of(FIRST)
    assert path_of(context) is Path.STEADY
    assert (history.alarms, history.misses, context.tolerated_ns) == (alarms, misses, tolerated_ns)
    expected_ns = 0 if how else network.now_ns
    assert context.searched_ns == expected_ns
    rest_ns = FOLLOW_INTERVAL + 80 * MILLISECOND
    assert context.follow_ns == (0 if how else network.now_ns + rest_ns)


@pytest.mark.parametrize("cause", [Cause.DESTINATION_UNREACHABLE, Cause.FORM_REJECTED])
def test_an_answer_after_a_hint_that_may_be_forged_is_no_false_alarm(
    network: Timetable, core: Core, context: Context, cause: Cause
) -> None:
    search(core, context, cause)
    network.give(network.a, TimePassed())
    network.run(20 * MILLISECOND)
    assert path_of(context) is Path.STEADY
    assert context.history_of(FIRST).alarms == 0
    assert context.searched_ns == 0


@pytest.mark.parametrize(("dead_ms", "misses"), [(0, 0), (240, 1), (490, 1)])
def test_a_question_that_was_repeated_has_missed_an_answer(
    network: Timetable, core: Core, context: Context, dead_ms: int, misses: int
) -> None:
    network.dead = set(EVERY) if dead_ms else set()
    search(core, context, Cause.LONG_SILENCE, is_question=True)
    network.give(network.a, TimePassed())
    network.run(dead_ms * MILLISECOND)
    network.dead.clear()
    network.run(270 * MILLISECOND)
    history = context.history_of(FIRST)
    assert path_of(context) is Path.STEADY
    assert (history.alarms, history.misses) == (0, misses)


@pytest.mark.parametrize(("after_ms", "misses"), [(26, 1), (30, 1)])
def test_an_answer_that_is_late_is_missed_and_is_a_false_alarm(
    network: Timetable, core: Core, context: Context, after_ms: int, misses: int
) -> None:
    network.delay_ns = after_ms * MILLISECOND // 2
    search(core, context, Cause.NOTHING_HEARD, silent_ns=SECOND // 5)
    network.give(network.a, TimePassed())
    network.run(after_ms * MILLISECOND)
    history = context.history_of(FIRST)
    assert path_of(context) is Path.STEADY
    assert (history.alarms, history.misses, context.tolerated_ns) == (1, misses, 0)


def test_another_pair_that_answers_first_is_used_once_the_first_is_silent(
    network: Timetable, core: Core, context: Context
) -> None:
    network.dead = {FIRST, (B1, A1)}
    search(core, context, Cause.NOTHING_HEARD, packet(A1, B1, b"lost"))
    network.give(network.a, TimePassed())
    network.run(54 * MILLISECOND)
    assert (path_of(context), context.pair) == (Path.DOUBTING, FIRST)
    network.run(MILLISECOND)
    assert (path_of(context), context.pair) == (Path.STEADY, OTHER)
    assert context.history_of(OTHER).used_ns == network.now_ns
    assert context.follow_ns == network.now_ns + FOLLOW_INTERVAL + 4 * 20 * MILLISECOND
    assert [at for at, pair, _ in rows(network, network.a, Code.UR) if pair == OTHER] == [25, 55]
    last = network.sent(network.a, Code.UR)[-1][3]
    assert last.flags == Flag.HEARS_HERE, "the peer need not ask any more"


def test_data_that_has_come_keeps_a_pair_although_none_answers(
    network: Timetable, core: Core, context: Context
) -> None:
    cut_off(network)
    search(core, context, Cause.NOTHING_HEARD)
    network.give(network.a, TimePassed())
    network.run(60 * MILLISECOND)
    one = search_of(context)
    label = context.local_label
    for wrong_ns in (one.asked_ns - 1, one.asked_ns + 1):
        assert network.give(network.a, DataHasCome(label, wrong_ns)) == []
    assert path_of(context) is Path.DOUBTING
    network.give(network.a, DataHasCome(label, one.asked_ns))
    assert path_of(context) is Path.STEADY
    assert context.unproven_again_ns == network.now_ns + UNPROVEN_REST
    assert context.history_of(FIRST).alarms == 1


# --- where the peer sends from --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("heard", "source", "usual"),
    [
        ({}, None, FIRST),
        ({FIRST: 9, OTHER: 9}, None, FIRST),
        ({FIRST: 8, OTHER: 9}, None, OTHER),
        ({FIRST: 9 + 20 * MILLISECOND, OTHER: 10}, B2, OTHER),
        ({FIRST: 9 + 20 * MILLISECOND, OTHER: 9}, B2, FIRST),
        ({FIRST: 9 + 20 * MILLISECOND, OTHER: 10}, B1, FIRST),
        ({FIRST: 9, NEAR: 8}, B1, NEAR),
    ],
)
def test_the_usual_pair_is_the_one_over_which_the_peer_was_last_heard(
    context: Context, heard: dict[Pair, int], source: Locator | None, usual: Pair
) -> None:
    """It is heard later over the pair in use, if it also measures that."""
    context.history = {
        pair: History(message_ns=at_ns, round_trip_ns=20 * MILLISECOND)
        for pair, at_ns in heard.items()
    }
    context.peer_source = source
    assert usual_pair(context) == usual


@pytest.mark.parametrize(
    ("usual", "source", "told", "heard_ns", "alive"),
    [
        (None, B2, False, 9, False),
        (FIRST, None, True, 0, True),
        (OTHER, None, False, 9, False),
        (OTHER, B2, True, 9, False),
        (OTHER, B2, False, 5, False),
        (OTHER, B2, False, 6, True),
    ],
)
def test_the_way_back_is_alive_if_the_peer_is_heard_where_it_sends(
    context: Context,
    usual: Pair | None,
    source: Locator | None,
    told: bool,
    heard_ns: int,
    alive: bool,
) -> None:
    one = Search(Cause.NOTHING_HEARD, 5, b"", 0, told_by_peer=told)
    one.usual, context.peer_source = usual, source
    context.history = {OTHER: History(message_ns=heard_ns)}
    assert is_way_alive(context, one) is alive
