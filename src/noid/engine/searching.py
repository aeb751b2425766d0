# SPDX-License-Identifier: MIT
"""Asking whether the pair in use works, and finding one that does [draft §4.4, D20, D43, D47].

The states are those of ``Path``. A suspected pair is **asked** by one Update Request. If that is
not answered in time, the pair is in **doubt**: it is asked several more times, and the other pairs
are probed, the most promising first. If all these requests stay unanswered, the pair is silent, and
the first other pair that answers is used. While none has answered, the context **searches**: data
is plain between the AIDs, and all pairs are probed in turn.

Every message here has the form of data, so that an answer shows that data passes too. Each has its
own nonce, so that its answer measures the round trip of its pair.
"""

from noid.constants import (
    ASKS,
    ASKS_AFTER_ALARM,
    ASKS_APART,
    CYCLE_TIME,
    FOLLOW_INTERVAL,
    LOOK_TIME,
    NEVER,
    PROBE_INTERVAL,
    PROBES_PER_ROUND_MAX,
    QUESTION_WAIT,
    ROUTINE_ASKS,
    SEARCH_INTERVAL_MAX,
    SEARCH_INTERVAL_MIN,
    SILENCE_UNMEASURED,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import CheckData
from noid.engine.history import History, Pair
from noid.engine.phases import Finding, Probe, Search
from noid.engine.probing import (
    answers_until_ns,
    arm,
    batch,
    check_again,
    check_plain,
    end,
    is_way_alive,
    measure,
    probe_plainly,
    send_probe,
    stay,
    usual_pair,
    want,
)
from noid.engine.selection import is_broken, other_pairs
from noid.engine.state import Cue, Path
from noid.engine.switching import repeat, switch
from noid.engine.tolerance import learn
from noid.engine.update import next_nonce, request
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.control import Flag

HINTS = frozenset({Cause.DESTINATION_UNREACHABLE, Cause.FORM_REJECTED})
"""Causes that any host can forge: they do not count as false alarms [D47]."""
STEPS_TO_SEARCHING = {
    Path.STEADY: (Path.ASKING, Cue.SUSPICION),
    Path.LEAVING: (Path.ASKING, Cue.SUSPICION),
    Path.ASKING: (Path.DOUBTING, Cue.TIME),
    Path.FOLLOWING: (Path.DOUBTING, Cue.TIME),
    Path.DOUBTING: (Path.SEARCHING, Cue.TIME),
    Path.ASIDE: (Path.SEARCHING, Cue.CHANGE),
}


def search(
    core: Core,
    context: Context,
    why: Cause,
    packet: bytes = b"",
    *,
    told_by_peer: bool = False,
    silent_ns: int = 0,
    beside: Pair | None = None,
    patient: bool = False,
    is_question: bool = False,
    is_routine: bool = False,
) -> None:
    """Suspects the pair in use: asks it, or continues the search in progress.

    Args:
        core: the core of the host.
        context: whose pair.
        why: what to report.
        packet: the unanswered packet of the ULP; may be empty.
        told_by_peer: the peer hears nothing from us, so what we hear does not prove the pair.
        silent_ns: the silence that is the reason; 0 if there is another reason.
        beside: a pair that is probed at the same time.
        patient: the peer searches for a pair and will name it; see ``follow``.
        is_question: there is no evidence against the pair; an answer is no false alarm.
        is_routine: the pair is kept even if no pair answers.
    """
    under_way = context.search
    if under_way is not None and context.path is not Path.LEAVING:
        under_way.packet = packet or under_way.packet
        under_way.told_by_peer |= told_by_peer
        if context.path is Path.ASKING and under_way.is_question and not is_question:
            if not under_way.asks:
                _ask(core, context, under_way, 1)
            soon_ns = core.now_ns + context.awaited(core.now_ns).ask_wait_ns
            under_way.ask_at_ns = min(under_way.ask_at_ns, soon_ns)
            arm(core, context, under_way)
        under_way.is_question &= is_question
        under_way.is_routine &= is_routine
        if told_by_peer:
            check_plain(core, context, under_way, is_told=True)
        want(core, context, under_way)
        return
    if not context.is_settled or not context.peer_verified:
        return
    history = context.expected
    alarms = 0 if told_by_peer else history.alarms
    wait_ns = min(SEARCH_INTERVAL_MIN * (alarms + 1), SEARCH_INTERVAL_MAX)
    is_longer = silent_ns >= 2 * context.silence_ns and not history.misses  # than the last
    if context.searched_ns and core.now_ns < context.searched_ns + wait_ns and not is_longer:
        return
    core.turn(context, Path.ASKING, Cue.SUSPICION)
    one = Search(why, core.now_ns, packet, silent_ns, told_by_peer)
    if under_way is not None:
        one.probes = under_way.probes  # to better pairs: their answers count
    one.is_silent = is_broken(context)
    context.search = one
    one.names_newest, one.is_question, one.is_routine = told_by_peer, is_question, is_routine
    one.knew_round_trip, one.usual = context.round_trip_ns > 0, usual_pair(context)
    if told_by_peer and not patient and not is_question:
        _ask(core, context, one, ROUTINE_ASKS)
    elif not is_routine or context.local_aid < context.peer_aid or history.unseen:
        # A question proves its sender to the peer too, so only one end asks first.
        _ask(core, context, one, 1)
    one.ask_at_ns = core.now_ns + _ask_wait_ns(core, context, one)
    if patient and len(other_pairs(context)) <= PROBES_PER_ROUND_MAX:
        one.ask_at_ns += history.ask_wait_ns // 2  # one round is enough, if any is needed
    if beside is not None and beside != context.pair:
        send_probe(core, context, one, beside)
    arm(core, context, one)


def go_on(core: Core, context: Context, wait_ns: int) -> None:
    """Starts a search because no pair is known to pass data; until one does, data is plain [D47].

    Args:
        core: the core of the host.
        context: restored, or taken over from an earlier daemon that searched [D36].
        wait_ns: until all pairs are probed again.
    """
    give_up(core, context)
    context.search = Search(Cause.NO_PAIR_PASSED_DATA, core.now_ns, b"", 0, False)
    context.search.wanted_ns, context.search.batch_at_ns = core.now_ns, core.now_ns + wait_ns
    arm(core, context, context.search)


def give_up(core: Core, context: Context) -> None:
    """Enters SEARCHING: no pair is known to pass data."""
    while context.path is not Path.SEARCHING:
        core.turn(context, *STEPS_TO_SEARCHING[context.path])


def on_probe_timer(core: Core, context: Context) -> None:
    """Sends the next requests or probes, or judges the pair in use."""
    under_way = context.search
    assert under_way is not None
    if core.now_ns >= under_way.ask_at_ns:
        ask = check_again if context.path is Path.ASIDE else ask_on
        ask(core, context, under_way)
    if context.search is under_way and core.now_ns >= under_way.batch_at_ns:
        _go_round(core, context, under_way)
    if context.search is under_way:
        arm(core, context, under_way)


def _go_round(core: Core, context: Context, one: Search) -> None:
    """Probes the next pairs; or uses one that may lose data, since no better one has answered."""
    judge_ns = _judge_ns(context, one)
    if core.now_ns >= judge_ns and one.plain_ns < one.cycle_ns and one.doubtful is not None:
        take(core, context, one, one.doubtful)
    elif judge_ns <= core.now_ns < one.cycle_ns + CYCLE_TIME:
        one.batch_at_ns = one.cycle_ns + CYCLE_TIME  # plain packets pass: there is time
    else:
        batch(core, context, one)
        one.batch_at_ns = min(one.batch_at_ns, _judge_ns(context, one))


def _judge_ns(context: Context, one: Search) -> int:
    """When a pair that may lose data is used, if plain packets do not pass; NEVER if none is."""
    is_over = context.path is Path.SEARCHING and one.cycle_ns and not one.untried
    if one.doubtful is None or not is_over:
        return NEVER
    plain = context.history_of((context.local_aid, context.peer_aid))
    return one.cycle_ns + min(max(CYCLE_TIME // 2, plain.verdict_wait_ns), CYCLE_TIME)


# --- asking the pair in use -----------------------------------------------------------------------


def _ask(core: Core, context: Context, one: Search, count: int) -> None:
    for _ in range(count):
        send_probe(core, context, one, context.pair)
    one.asks += count


def _ask_wait_ns(core: Core, context: Context, one: Search) -> int:
    """The time after a request until the next one, or until the pair is in doubt."""
    history = context.awaited(core.now_ns)
    if one.is_question:  # without evidence against the pair, a late answer is no reason for doubt
        return max(history.ask_wait_ns, QUESTION_WAIT)
    # Where single messages are lost often, a burst for each would be too much [D43].
    is_last = not history.misses or one.asks >= ROUTINE_ASKS
    return history.ask_wait_ns if is_last else min(history.ask_wait_ns, ASKS_APART)


def ask_on(core: Core, context: Context, one: Search) -> None:
    """The pair in use has not answered: asks again, or judges it silent after the last time."""
    history = context.awaited(core.now_ns)
    asks = ASKS_AFTER_ALARM if history.alarms or one.is_routine else ASKS
    is_patient = one.is_routine and history.misses > 0
    if (one.is_question or history.misses) and one.asks < ROUTINE_ASKS << is_patient:
        # One message may be lost. The peer learns of a suspicion only if all are lost.
        _ask(core, context, one, 1)
        one.ask_at_ns = core.now_ns + _ask_wait_ns(core, context, one)
        return
    if context.path is Path.ASKING:
        core.turn(context, Path.DOUBTING, Cue.TIME)
        one.batch_at_ns = core.now_ns
    if one.asks < asks:
        # Without evidence against the pair there is time to see whether a few are answered; where
        # single messages are lost often, many at once would be too much [D43].
        few = one.is_routine or (history.misses > 1 and one.found is None)
        _ask(core, context, one, min(asks - one.asks, ROUTINE_ASKS if few else asks))
        one.asked_ns, one.ask_at_ns = core.now_ns, core.now_ns + history.verdict_wait_ns
    elif core.now_ns < (until_ns := answers_until_ns(context, one)):
        one.ask_at_ns = until_ns
    elif one.found is not None:
        _use(core, context, one, one.found)
    elif one.is_routine:
        stay(core, context, Cue.TIME)
        context.searched_ns = 0
    elif not one.is_checked:
        # No pair answers. The round trip may be longer than measured, or the peer's daemon stopped.
        one.is_silent = one.is_checked = True
        one.ask_at_ns = max(one.started_ns + SILENCE_UNMEASURED, core.now_ns + 2 * LOOK_TIME)
        wait_ns = one.ask_at_ns - core.now_ns - LOOK_TIME
        core.emit(CheckData(context.local_label, one.asked_ns, wait_ns))
    elif one.doubtful is not None and one.plain_ns < one.plain_sent_ns:
        take(core, context, one, one.doubtful)
    else:
        core.turn(context, Path.SEARCHING, Cue.TIME)
        one.ask_at_ns, one.wanted_ns = NEVER, core.now_ns
        if not one.untried:
            one.batch_at_ns = min(one.batch_at_ns, core.now_ns + PROBE_INTERVAL)
        one.cycle_ns = 0  # probes that began in doubt do not show what a firewall drops
        core.install(context)


# --- what comes of it -----------------------------------------------------------------------------


def acknowledged(
    core: Core, context: Context, nonce: Nonce, source: Locator, *, by: Pair | None = None
) -> None:
    """The peer has heard a UR of ours: its pair works from here to the peer.

    Args:
        core: the core of the host.
        context: the context.
        nonce: of our UR.
        source: the source of the message that says so.
        by: the pair of the peer's UR that names ours, which may be an old one; None for a UA, which
            is sent at once and measures the round trip.
    """
    one = context.search
    probes = one.probes if one is not None and nonce in one.probes else context.late
    probe = probes.get(nonce) if probes else None
    if probes is None or probe is None:
        return
    pair, found = probe.pair, Finding(probe.pair, source, by)
    if by is None:
        del probes[nonce]
        context.measure(pair, probe.sent_ns, core.now_ns)
    if one is None or probes is not one.probes:
        if by is None and pair == context.pair:
            learn_source(core, context, source)
        core.install(context)
        return
    if probe.is_plain:
        one.plain_ns = max(one.plain_ns, core.now_ns if by is None else probe.sent_ns)
    elif _is_distrusted(core, context, one, pair):
        # The pair over which data was never lost comes first, or was lost longest ago.
        found_so_far = (one.doubtful, found) if one.doubtful is not None else (found,)
        one.doubtful = min(found_so_far, key=lambda it: context.history_of(it.pair).lost_ns)
        one.batch_at_ns = min(one.batch_at_ns, _judge_ns(context, one))
        if context.path is Path.DOUBTING and one.plain_ns == one.plain_sent_ns:
            probe_plainly(core, context, one, next_nonce(context), Flag.HEARS_NOTHING)
        arm(core, context, one)
        core.install(context)
    elif context.path is Path.LEAVING:
        if pair != context.pair:
            _use(core, context, one, found)
    elif pair == context.pair:
        is_late = core.now_ns - probe.sent_ns > 2 * context.expected.ask_wait_ns
        if by is None or not is_late or context.is_searching:
            _works(core, context, one, found)
        else:
            send_probe(core, context, one, pair, asks_back=False)
    elif context.is_searching or one.is_silent:
        _use(core, context, one, found)
    else:
        if by is None and one.asked_ns:
            # If others answer more slowly than the pair in use did, it gets as much time.
            wait_ns = History(round_trip_ns=core.now_ns - probe.sent_ns).verdict_wait_ns
            one.ask_at_ns = max(one.ask_at_ns, one.asked_ns + wait_ns)
        if one.found is None or (by is None and pair == one.found.pair):
            one.found = found


def _is_distrusted(core: Core, context: Context, one: Search, pair: Pair) -> bool:
    """Whether data is lost over a pair, and may pass plainly.

    What is known of the pair in use does not end its use.
    """
    is_in_use = pair == context.pair and not context.is_searching
    if is_in_use or one.plain_asked_ns > one.plain_ns:
        return False
    return one.loses_all or context.history_of(pair).loses_data(core.now_ns)


def take(core: Core, context: Context, one: Search, found: Finding) -> None:
    """A pair is used from now on, which may be the one in use before the search."""
    if found.pair == context.pair:
        _works(core, context, one, found)
    else:
        _use(core, context, one, found)


def _works(core: Core, context: Context, one: Search, found: Finding) -> None:
    """The pair in use answers: it was a false alarm, or the pair works again."""
    was_dead, was_alive = context.is_searching, context.path is Path.ASKING
    end(core, context, Cue.THIS_ANSWERS)
    learn_source(core, context, found.source)
    if not one.is_question:
        _rest(core, context)
    core.install(context)
    if was_dead:
        _data_begins(core, context)
        repeat(core, context, one.packet, silent_ns=one.lost_ns(core.now_ns))
        confirm(core, context, found)
        return
    if was_alive and (one.is_question or one.why in HINTS):
        context.searched_ns = 0  # it may be suspected at once
        if one.is_question and one.knew_round_trip and one.asks > 1:
            learn(core, context, misses=1)
        return
    if found.by is not None and found.by != found.pair:
        # The peer's way back was silent, which says nothing about this pair.
        context.note(context.pair, context.history_of(context.pair)._replace(unheard=0))
        if not context.round_trip_ns:
            measure(core, context)
        return
    is_late = core.now_ns > one.started_ns + context.expected.ask_wait_ns
    # Otherwise the answer may have been late because the peer sends by a pair that was silent.
    is_missed = is_way_alive(context, one) and (is_late or (one.knew_round_trip and not was_alive))
    learn(core, context, alarms=1, misses=int(is_missed))
    if was_alive and one.silent_ns and one.knew_round_trip:
        # The first request was answered in time, so the silence was harmless. If that answer was
        # missing, something failed. If the round trip was unknown, this answer measures it.
        context.tolerated_ns = max(context.tolerated_ns, one.silent_ns)
        core.install(context)


def _use(core: Core, context: Context, one: Search, found: Finding) -> None:
    """Another pair answers, and is used from now on."""
    pair = found.pair
    # If both directions are known to work, the peer need not ask any more.
    is_told = context.path is Path.LEAVING or one.told_by_peer
    says_so = not is_told and context.history_of(pair).heard_ns >= one.started_ns
    end(core, context, Cue.OTHER_ANSWERS)
    context.searched_ns = 0  # the new pair may be asked at once
    if pair[0] in context.own_set and context.is_verified(pair[1]):
        if says_so:
            # This goes first: answers to repeated data are lost until the peer has switched.
            nonce = next_nonce(context)
            context.late = (context.late or {}) | {nonce: Probe(pair, core.now_ns)}
            message = request(core, context, nonce, flags=Flag.HEARS_HERE)
            core.send_on(context, message, pair, in_slot=True)
        switch(core, context, pair, one.why, one.packet, silent_ns=one.lost_ns(core.now_ns))
        _rest(core, context)
        _data_begins(core, context)
        learn_source(core, context, found.source)
        if not says_so:
            confirm(core, context, found)
        if not context.round_trip_ns:
            measure(core, context)  # without a measurement, silence is detected late
    core.install(context)


def _rest(core: Core, context: Context) -> None:
    """A pair has just answered. The peer may switch a bit later, and its data proves nothing yet.

    The peer needs a request of ours, one of its own and a burst of these before it sends data.
    """
    wait_ns = FOLLOW_INTERVAL + 4 * context.round_trip_ns
    context.follow_ns = max(context.follow_ns, core.now_ns + wait_ns)


def _data_begins(core: Core, context: Context) -> None:
    """Data goes over a pair that answers: nothing is known yet of what becomes of data there."""
    history = context.history_of(context.pair)
    context.note(context.pair, history._replace(used_ns=core.now_ns, unheard=0))


def learn_source(core: Core, context: Context, source: Locator) -> None:
    """Stores the source of a message that proves the pair in use: the peer sends from there [D41].

    Data from that source does not change Lp(peer), because the pair in use works.
    """
    if source != context.peer_locator:
        context.peer_source = source
        core.install(context)


def confirm(core: Core, context: Context, found: Finding) -> None:
    """Asks the pair in use if only a UR of the peer says that it works.

    The UR may name a probe that is older than the last failure; and the answer measures the pair.
    """
    if found.by is not None:
        context.searched_ns = 0
        search(core, context, Cause.ONLY_PEER_SAYS, beside=found.by)


def spare(core: Core, context: Context) -> None:
    """The peer has proven itself: cancels a question for a proof that was not sent yet."""
    if context.path is Path.ASKING and context.search is not None and not context.search.asks:
        end(core, context, Cue.THIS_ANSWERS)
        context.searched_ns = 0


def follow(core: Core, context: Context, pair: Pair) -> None:
    """Uses the pair of a UR over which the peer, which heard nothing, hears this host again.

    Both directions of it are proven, and the pair in use is silent, so no more requests are needed.
    """
    if context.search is not None and context.search.told_by_peer and pair != context.pair:
        _use(core, context, context.search, Finding(pair, pair[1]))
