# SPDX-License-Identifier: MIT
"""Every case of what a message of the peer proves, and of what is concluded from lost data."""

import pytest

from noid.constants import (
    CONTEXT_IDLE_TIME,
    DATA_ASKED_TIME,
    DATA_ASKED_WAIT,
    PEER_UNABLE_MAX,
    QUESTION_LASTS,
    SECOND,
    UNPROVEN_TIME,
)
from noid.engine import data_loss, keepalives
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import CheckData, NoteHeard
from noid.engine.history import History, Pair
from noid.engine.records import LostData
from noid.engine.state import Path, State
from noid.engine.update import acknowledge, next_nonce
from noid.flows.events import ControlMessageReceived
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.control import NO_FLAGS, Code, Flag, decode_message, encode_packet
from noid.wire.ipv6 import HEADER_OCTETS
from noid.wire.options import LocatorEntry, LocatorFlag
from tests.engine.network import A1, B1, B2, CODEPOINTS, X1, packet
from tests.engine.test_asking_cases import path_of, search_of
from tests.engine.test_probing_cases import FAR, FIRST, OTHER, put, sent
from tests.engine.test_timetable import settled
from tests.engine.timetable import Timetable

EVENT = ControlMessageReceived(B1, A1, True, b"")


@pytest.fixture
def network() -> Timetable:
    return settled()


# --- signs of life --------------------------------------------------------------------------------


@pytest.mark.parametrize("in_slot", [False, True])
@pytest.mark.parametrize("measures", [False, True])
def test_a_message_is_noted_for_its_pair_by_its_form(
    core: Core, context: Context, in_slot: bool, measures: bool
) -> None:
    event = ControlMessageReceived(B2, A1, in_slot, b"")
    keepalives.heard(core, context, event, measures=measures)
    now_ns = core.now_ns
    form, plain = (now_ns, 0) if in_slot else (0, now_ns)
    history = context.history_of(FAR)
    assert (history.heard_ns, history.plain_ns) == (form, plain)
    assert history.message_ns == (now_ns if in_slot and not measures else 0)
    assert history.latest_ns == now_ns


@pytest.mark.parametrize("source", [B1, B2, X1])
@pytest.mark.parametrize("known", [None, B2])
@pytest.mark.parametrize("acknowledges", [False, True])
@pytest.mark.parametrize("measures", [False, True])
@pytest.mark.parametrize("unasked", [False, True])
def test_silence_ends_by_an_answer_or_a_message_from_where_the_peer_sends(
    core: Core,
    context: Context,
    source: Locator,
    known: Locator | None,
    acknowledges: bool,
    measures: bool,
    unasked: bool,
) -> None:
    context.peer_source, context.alive_ns, context.proven_ns = known, 1, 1
    event = ControlMessageReceived(source, A1, True, b"")
    keepalives.heard(
        core, context, event, acknowledges=acknowledges, measures=measures, unasked=unasked
    )
    ends = not measures and (acknowledges or source in (B1, known))
    assert core.outputs == [NoteHeard(context.local_label, unasked)] * ends
    assert (context.alive_ns, context.proven_ns) == ((core.now_ns,) * 2 if ends else (1, 1))
    core.outputs.clear()


@pytest.mark.parametrize("lasts_ns", [UNPROVEN_TIME, QUESTION_LASTS])
@pytest.mark.parametrize(("left_ns", "in_time"), [(1, True), (0, False)])
@pytest.mark.parametrize(
    ("unseen", "misses", "is_said"), [(0, 0, True), (1, 1, False), (1, 2, True)]
)
def test_a_request_ends_it_for_a_time_while_data_is_said_to_come_or_answers_are_lost(
    core: Core,
    context: Context,
    lasts_ns: int,
    left_ns: int,
    in_time: bool,
    unseen: int,
    misses: int,
    is_said: bool,
) -> None:
    context.note(FIRST, History(unseen=unseen, misses=misses))
    context.proven_ns = proven_ns = core.now_ns - lasts_ns + left_ns
    keepalives.heard(core, context, EVENT, lasts_ns=lasts_ns)
    assert core.outputs == [NoteHeard(context.local_label)] * (in_time and is_said)
    assert (context.alive_ns, context.proven_ns) == (core.now_ns, proven_ns)
    core.outputs.clear()


@pytest.mark.parametrize("state", list(State))
def test_a_host_looks_whether_data_has_come_once_a_second(
    core: Core, context: Context, state: State
) -> None:
    looks = state in (State.ESTABLISHED, State.UR_SENT)
    context.state = state
    assert keepalives.on_data_asked(core, context) is looks
    since_ns = core.now_ns - DATA_ASKED_TIME
    look = CheckData(context.local_label, since_ns, DATA_ASKED_WAIT, by_peer=True)
    assert core.outputs == [look] * looks
    assert not keepalives.on_data_asked(core, context)
    core.outputs.clear()


# --- what the peer says of data -------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True])
def test_a_keepalive_that_was_asked_for_says_something_else(
    core: Core, context: Context, asked: bool
) -> None:
    one = History(unheard=2, used_ns=3, unseen=4, passes_ns=5)
    for before in (one, one._replace(unheard=0), one._replace(used_ns=0)):
        context.note(FIRST, before)
        data_loss.heard(core, context, B1, asked=asked)
        if asked:
            expected = before._replace(passes_ns=core.now_ns, unseen=0)
        else:
            expected = before._replace(unheard=0, used_ns=0)
        assert context.history_of(FIRST) == expected


@pytest.mark.parametrize("path", [Path.ASIDE, Path.SEARCHING])
@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize("empties", [0, 1])
@pytest.mark.parametrize("retried", [None, OTHER])
def test_a_keepalive_after_empty_packets_shows_that_data_passes(
    core: Core, context: Context, path: Path, all_pairs: bool, empties: int, retried: Pair | None
) -> None:
    one = put(core, context, path)
    one.loses_all, one.empties, one.retried = all_pairs, empties, retried
    context.note(OTHER, History(losses=3))
    data_loss.heard(core, context, B2, asked=False)
    passes = path is Path.ASIDE and all_pairs and empties > 0 and retried is not None
    assert (context.pair == OTHER) is passes
    assert (context.search is None) is passes
    assert context.history_of(OTHER).losses == (0 if passes else 3)
    core.outputs.clear()


@pytest.mark.parametrize("routine", [False, True])
@pytest.mark.parametrize("passes_ns", [0, 4, 5, 9, 10])
@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize("unseen", [0, 3])
def test_a_proof_is_counted_if_the_peer_has_not_said_that_data_comes(
    core: Core, context: Context, routine: bool, passes_ns: int, checked: bool, unseen: int
) -> None:
    """Twice only if it was asked, or has said so in this life of the context."""
    one = put(core, context, Path.ASKING)
    one.is_routine, one.started_ns, context.established_ns = routine, 10, 4
    context.note(FIRST, History(unseen=unseen, passes_ns=passes_ns))
    data_loss.proven(context, is_checked=checked)
    if not routine or passes_ns == 10:
        expected = unseen
    elif checked or passes_ns in (5, 9):
        expected = unseen + 1
    else:
        expected = max(unseen, 1)
    assert context.history_of(FIRST).unseen == expected


def test_a_host_whose_data_comes_says_that_what_the_peer_sends_is_lost(
    network: Timetable, core: Core, context: Context
) -> None:
    context.note(FIRST, History(unheard=3))
    data_loss.complain(core, context)
    assert context.history_of(FIRST).unheard == 0
    assert sent(network) == [(FIRST, True, Flag.DATA_LOST)]


# --- data is lost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("path", [Path.STEADY, Path.ASKING, Path.DOUBTING, Path.LEAVING])
def test_a_pair_that_loses_data_is_left(
    core: Core, context: Context, told: bool, all_pairs: bool, elsewhere: bool, path: Path
) -> None:
    before = put(core, context, path) if path is not Path.STEADY else None
    context.path, context.late = path, {Nonce(3): None}  # type: ignore[dict-item] # some probe
    history = History(losses=1, unheard=3, unseen=2)
    context.note(FIRST, history)
    if elsewhere:
        context.note(OTHER, History(losses=1, lost_ns=core.now_ns))
    nonce = Nonce(context.update_nonce + 1)
    data_loss.lose(core, context, packet(A1, B1), told_by_peer=told, loses_all=all_pairs)
    one = search_of(context)
    assert path_of(context) is Path.SEARCHING
    assert (one.why, one.packet, one.told_by_peer) == (Cause.DATA_LOST, packet(A1, B1), told)
    assert one.loses_all is (all_pairs or elsewhere)
    assert one.is_silent
    assert one.cycles == 1
    assert context.late == (before.probes if before is not None else {Nonce(3): None})
    expected = history._replace(
        unheard=0, unseen=0, losses=2, lost_ns=core.now_ns, lost_nonce=nonce
    )
    assert context.history_of(FIRST) == expected
    assert not context.flow().transmits
    core.outputs.clear()


def test_where_there_is_no_other_pair_data_is_lost_over_all(core: Core, context: Context) -> None:
    context.own_local, context.peer_local = (A1,), (B1,)
    data_loss.lose(core, context, b"")
    assert search_of(context).loses_all
    core.outputs.clear()


def test_a_pair_that_is_being_moved_or_a_context_that_is_set_up_loses_none(
    core: Core, context: Context
) -> None:
    one = put(core, context, Path.FOLLOWING)
    data_loss.lose(core, context, b"")
    assert (context.search, context.history_of(FIRST).losses) == (one, 0)
    context.path, context.search, context.state = Path.STEADY, None, State.INIT_SENT
    data_loss.lose(core, context, b"")
    assert path_of(context) is Path.STEADY
    context.state, context.peer_local = State.ESTABLISHED, (X1,)
    context.aid_proven, context.verification.proven = False, ()
    data_loss.lose(core, context, b"")
    assert path_of(context) is Path.STEADY


@pytest.mark.parametrize("told", [False, True])
def test_where_it_is_lost_over_all_already_plain_packets_are_checked(
    network: Timetable, core: Core, context: Context, told: bool
) -> None:
    one = put(core, context, Path.ASIDE)
    one.loses_all, one.cycle_ns = True, 5
    one.plain_ns = one.plain_sent_ns = core.now_ns - SECOND // 4
    data_loss.lose(core, context, b"", told_by_peer=told)
    assert (context.search, context.history_of(FIRST).losses) == (one, 0)
    assert sent(network) == [(FIRST, False, NO_FLAGS)] * told


@pytest.mark.parametrize(
    ("flag", "all_pairs"), [(Flag.DATA_LOST, False), (Flag.ALL_DATA_LOST, True)]
)
@pytest.mark.parametrize(("beyond", "counts"), [(-1, False), (0, True), (1, True)])
def test_the_peer_says_that_data_is_lost_if_it_has_heard_us_since(
    network: Timetable,
    core: Core,
    context: Context,
    flag: Flag,
    all_pairs: bool,
    beyond: int,
    counts: bool,
) -> None:
    context.note(OTHER, History(lost_nonce=Nonce(50)))
    context.note(FIRST, History(lost_nonce=Nonce(40)))
    octets = network.b.request(context.peer_update_nonce + 1)
    message = decode_message(
        encode_packet(octets, B1, A1, CODEPOINTS)[HEADER_OCTETS:], B1, A1, in_slot=False
    )
    message.flags, message.heard = flag, Nonce(50 + beyond)
    data_loss.on_flag(core, context, message)
    assert (path_of(context) is Path.SEARCHING) is counts
    if counts:
        one = search_of(context)
        assert (one.told_by_peer, one.loses_all, one.packet) == (True, all_pairs, b"")
    core.outputs.clear()


# --- what the next daemon is told -----------------------------------------------------------------


@pytest.mark.parametrize("ahead_ns", [-5, 0, 5])
def test_what_is_recalled_is_never_later_than_now(
    core: Core, context: Context, ahead_ns: int
) -> None:
    lost = LostData(OTHER, 3, core.now_ns + ahead_ns, Nonce(9))
    data_loss.recall(core, context, (lost,))
    history = context.history_of(OTHER)
    assert (history.losses, history.lost_nonce) == (3, 9)
    assert history.lost_ns == core.now_ns + min(ahead_ns, 0)


@pytest.mark.parametrize("path", [Path.SEARCHING, Path.ASIDE])
@pytest.mark.parametrize("all_pairs", [False, True])
def test_until_when_data_goes_plainly_is_told_if_it_is_lost_over_all(
    core: Core, context: Context, path: Path, all_pairs: bool
) -> None:
    assert data_loss.plain_until_ns(context) == 0
    one = put(core, context, path)
    one.loses_all, one.batch_at_ns = all_pairs, 77
    assert data_loss.plain_until_ns(context) == (77 if path is Path.ASIDE and all_pairs else 0)


@pytest.mark.parametrize(
    ("left_ns", "stays_ns"),
    [(0, None), (1, 1), (PEER_UNABLE_MAX, PEER_UNABLE_MAX), (CONTEXT_IDLE_TIME, PEER_UNABLE_MAX)],
)
def test_data_goes_on_plainly_until_then(
    core: Core, context: Context, left_ns: int, stays_ns: int | None
) -> None:
    data_loss.stay_plain(core, context, core.now_ns + left_ns)
    assert path_of(context) is Path.STEADY
    one = put(core, context, Path.SEARCHING)
    data_loss.stay_plain(core, context, core.now_ns + left_ns)
    assert (path_of(context) is Path.ASIDE) is (stays_ns is not None)
    if stays_ns is not None:
        assert (one.why, one.loses_all, one.cycles) == (Cause.DATA_LOST, True, 1)
        assert (one.cycle_ns, one.batch_at_ns) == (core.now_ns, core.now_ns + stays_ns)


# --- how a request is answered --------------------------------------------------------------------


@pytest.mark.parametrize("flag", [NO_FLAGS, Flag.HEARS_NOTHING, Flag.ANSWER_HERE])
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("better", [False, True])
@pytest.mark.parametrize("aside", [False, True])
@pytest.mark.parametrize("back", [FIRST, OTHER, (A1, X1)])
def test_an_acknowledgement_goes_where_the_request_asks(
    network: Timetable,
    core: Core,
    context: Context,
    flag: Flag,
    changed: bool,
    better: bool,
    aside: bool,
    back: Pair,
) -> None:
    context.local_locator, context.peer_locator = FAR
    if better:
        context.peer_marks = (LocatorEntry(B2, LocatorFlag.DEPRECATED),)
    if aside:
        put(core, context, Path.ASIDE)
    octets = network.b.request(context.peer_update_nonce + 1)
    whole = encode_packet(octets, B1, A1, CODEPOINTS)[HEADER_OCTETS:]
    message = decode_message(whole, B1, A1, in_slot=False)
    message.flags = flag
    event = ControlMessageReceived(back[1], back[0], True, whole)
    acknowledge(core, context, event, message, changed=changed, looks=better)
    here = bool(flag) or changed or better
    in_use = not flag or (aside and flag is not Flag.ANSWER_HERE) or back[1] == X1
    expected = [back] if here and back[1] != X1 else []
    expected += [FAR] if in_use else []
    expected += [FIRST] if in_use and aside else []
    outputs, core.outputs = core.outputs, []
    for output in outputs:
        network.carry_out(network.a, output)
    found = network.sent(network.a, Code.UA)
    assert [one[1] for one in found] == list(dict.fromkeys(expected))
    assert {one[3].flags for one in found} <= {Flag.DATA_ASKED if better else NO_FLAGS}
    assert all(one[2] for one in found), "in the form of the request"


def test_a_repeated_request_is_answered_and_nobody_looks_for_data(
    network: Timetable, core: Core, context: Context
) -> None:
    octets = network.b.request(context.peer_update_nonce + 1)
    whole = encode_packet(octets, B1, A1, CODEPOINTS)[HEADER_OCTETS:]
    for _ in range(2):
        network.give(network.a, ControlMessageReceived(B1, A1, False, whole))
    found = [one[3].flags for one in network.sent(network.a, Code.UA)]
    assert found == [NO_FLAGS] * 2


def test_nonces_only_grow(context: Context) -> None:
    before = context.update_nonce
    assert [next_nonce(context) for _ in range(3)] == [before + 1, before + 2, before + 3]
