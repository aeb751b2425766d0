# SPDX-License-Identifier: MIT
"""Asking whether the pair in use works, and finding one that does [draft §4.4, D20, D43, D47].

The states are those of ``Path``. A pair that is suspected is **asked** by one Update Request. If
that is not answered in time the pair is in **doubt**: it is asked several times more, while the
others are probed, the most promising first. Only if all of that stays unanswered is the pair
silent: then the first other that has answered is used. While none has, the context **searches**:
data travels plain between the AIDs, and probes go through all pairs in turn.

Every message here travels in the form of data, so that what is answered is what data needs. It has
a nonce of its own: its answer measures the round trip of its pair.
"""

from noid.constants import (
    ASKS,
    ASKS_AFTER_ALARM,
    NEVER,
    PROBE_INTERVAL,
    PROBES_PER_ROUND_MAX,
    QUESTION_WAIT,
    ROUTINE_ASKS,
    SEARCH_INTERVAL_MAX,
    SEARCH_INTERVAL_MIN,
    SECOND,
    SILENCE_UNMEASURED,
    SUSPICION_TIME,
    TOLERANCE_TIME,
    UNPROVEN_REST,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.history import Pair
from noid.engine.phases import Finding, Search
from noid.engine.probing import arm, batch, end, measure, send_probe, want
from noid.engine.selection import BROKEN, alternatives, better_pairs, is_questioned, standing
from noid.engine.state import Cue, Path, Timer
from noid.engine.switching import repeat, switch
from noid.engine.update import next_nonce, request
from noid.locators import Locator
from noid.wire.control import Flag


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
    """Suspects the pair in use: asks it, or goes on with what is under way.

    Args:
        core: of the host.
        context: whose pair.
        why: what to report.
        packet: the unanswered packet of the ULP; may be empty.
        told_by_peer: the peer hears nothing from us, so what we hear proves nothing.
        silent_ns: the silence that is the reason, where one is.
        beside: a pair that is probed at the same time.
        patient: the peer is finding a pair, which it will say; see ``follow``.
        is_question: nothing speaks against the pair; an answer is no false alarm.
        is_routine: and the pair stays if none answers.
    """
    under_way = context.search
    if under_way is not None and context.path is not Path.LEAVING:
        under_way.packet = packet or under_way.packet
        under_way.told_by_peer |= told_by_peer
        if context.path is Path.ASKING and under_way.is_question and not is_question:
            if not under_way.asks:
                _ask(core, context, under_way, 1)
            under_way.ask_at_ns = min(
                under_way.ask_at_ns, core.now_ns + context.expected.ask_wait_ns
            )
            arm(core, context, under_way)
        under_way.is_question &= is_question
        under_way.is_routine &= is_routine
        want(core, context, under_way)
        return
    if not context.is_settled or context.is_provisional or not context.peer_verified:
        return
    alarms = 0 if told_by_peer else context.history_of(context.pair).alarms
    wait_ns = min(SEARCH_INTERVAL_MIN * (alarms + 1), SEARCH_INTERVAL_MAX)
    if context.searched_ns and core.now_ns < context.searched_ns + wait_ns:
        return
    core.turn(context, Path.ASKING, Cue.SUSPICION)
    one = Search(why, core.now_ns, packet, silent_ns, told_by_peer)
    if under_way is not None:
        one.probes = under_way.probes  # to better pairs: their answers count
    one.is_silent = standing(context, context.pair) >= BROKEN
    context.search = one
    one.names_newest, one.is_question, one.is_routine = told_by_peer, is_question, is_routine
    history = context.expected
    one.knew_round_trip = context.round_trip_ns > 0
    if history.misses and not is_question:
        # One is lost often, and a burst for each lost answer is too much [D43].
        _ask(core, context, one, ROUTINE_ASKS)
    elif not is_routine or context.local_aid < context.peer_aid:
        # A question proves its sender to the peer too: so the other end waits for it a little.
        _ask(core, context, one, 1)
    # Where nothing speaks against the pair there is no haste: a late answer is no reason to doubt.
    one.ask_at_ns = core.now_ns + max(history.ask_wait_ns, QUESTION_WAIT * is_question)
    if patient and len(alternatives(context)) <= PROBES_PER_ROUND_MAX:
        one.ask_at_ns += history.ask_wait_ns // 2  # one round will do, if it is needed at all
    if beside is not None and beside != context.pair:
        send_probe(core, context, one, beside)
    arm(core, context, one)


def go_on(core: Core, context: Context, wait_ns: int) -> None:
    """Searches where no pair is known to pass data, which travels plain until one does [D36, D47].

    Args:
        core: of the host.
        context: just taken up from an earlier daemon that searched, or restored.
        wait_ns: until all pairs are probed anew.
    """
    core.turn(context, Path.ASKING, Cue.SUSPICION)
    core.turn(context, Path.DOUBTING, Cue.TIME)
    core.turn(context, Path.SEARCHING, Cue.TIME)
    context.search = Search(Cause.NO_PAIR_PASSED_DATA, core.now_ns, b"", 0, False)
    context.search.wanted_ns, context.search.batch_at_ns = core.now_ns, core.now_ns + wait_ns
    arm(core, context, context.search)


def leave(core: Core, context: Context, why: Cause, *, patience_ns: int = SUSPICION_TIME) -> None:
    """Looks for another pair, if one is said to be better than the one in use [D20, D22, D25].

    "It is recommended that the host stop using the deprecated locator(s)" [draft §4.5]. The pair in
    use carries data until one of the better ones answers.
    """
    if not better_pairs(context) or not context.is_settled or context.is_provisional:
        return
    one = context.search
    if one is not None and is_questioned(context):
        context.late, one = one.probes, None  # nothing has spoken against the pair so far
    elif context.path not in (Path.STEADY, Path.LEAVING):
        return
    one = one or Search(why, core.now_ns, b"", 0, False)
    core.turn(context, Path.LEAVING, Cue.MARKS)
    one.untried, one.until_ns = [], core.now_ns + patience_ns
    # Not before what was sent can have been answered.
    wait_ns = max(SEARCH_INTERVAL_MIN, context.history_of(context.pair).ask_wait_ns)
    one.batch_at_ns = max(core.now_ns, one.batch_ns + wait_ns)
    context.search = one
    on_probe_timer(core, context)


def on_probe_timer(core: Core, context: Context) -> None:
    """The next burst of asks, the verdict, or the next round of probes."""
    under_way = context.search
    assert under_way is not None
    if core.now_ns >= under_way.ask_at_ns:
        ask_on(core, context, under_way)
    if context.search is under_way and core.now_ns >= under_way.batch_at_ns:
        batch(core, context, under_way)
    if context.search is under_way:
        arm(core, context, under_way)


# --- asking the pair in use -----------------------------------------------------------------------


def _ask(core: Core, context: Context, one: Search, count: int) -> None:
    for _ in range(count):
        send_probe(core, context, one, context.pair)
    one.asks += count


def ask_on(core: Core, context: Context, one: Search) -> None:
    """The pair in use has not answered yet: it is asked more; in the end it is silent."""
    history = context.expected
    asks = ASKS_AFTER_ALARM if history.alarms or one.is_routine else ASKS
    if one.is_question and one.asks < ROUTINE_ASKS:
        # One may be lost. The peer hears of a suspicion only if all of them are.
        _ask(core, context, one, 1)
        one.ask_at_ns = core.now_ns + max(history.ask_wait_ns, QUESTION_WAIT)
        return
    if context.path is Path.ASKING:
        core.turn(context, Path.DOUBTING, Cue.TIME)
        one.batch_at_ns = core.now_ns
    if one.asks < asks:
        _ask(core, context, one, asks - one.asks)
        one.asked_ns, one.ask_at_ns = core.now_ns, core.now_ns + history.verdict_wait_ns
    elif one.found is not None:
        _use(core, context, one, one.found)
    elif core.now_ns < one.started_ns + SILENCE_UNMEASURED:
        # A round trip may have become longer than measured: no other pair is better so far.
        one.is_silent = True
        one.ask_at_ns = one.started_ns + SILENCE_UNMEASURED
    elif one.is_routine:
        # Data does come. The daemon of the peer may have stopped, whose kernel goes on [D36].
        end(core, context, Cue.TIME)
        context.searched_ns, context.unproven_again_ns = 0, core.now_ns + UNPROVEN_REST
    else:
        core.turn(context, Path.SEARCHING, Cue.TIME)
        one.ask_at_ns = NEVER
        one.wanted_ns = core.now_ns
        if not one.untried:
            one.batch_at_ns = min(one.batch_at_ns, core.now_ns + PROBE_INTERVAL)
        one.cycle_ns = 0  # what began in doubt says nothing of firewalls
        core.install(context)


# --- what comes of it -----------------------------------------------------------------------------


def acknowledged(
    core: Core, context: Context, nonce: int, source: Locator, *, by: Pair | None = None
) -> None:
    """The peer has heard a UR of ours: its pair works, from here to there.

    Args:
        core: of the host.
        context: whose.
        nonce: of our UR.
        source: of what says so.
        by: the pair by which a UR of the peer's came that names ours, which may be an old one; None
            for a UA, which comes at once and measures the round trip.
    """
    one = context.search
    probes = one.probes if one is not None and nonce in one.probes else context.late
    probe = probes.get(nonce) if probes else None
    if probes is None or probe is None:
        return
    pair, found = probe.pair, Finding(probe.pair, source, by)
    if by is None:
        del probes[nonce]
        context.measure(pair, core.now_ns - probe.sent_ns)
    if one is None or probes is not one.probes:
        core.install(context)
        return
    if nonce == one.plain_nonce:
        one.plain_ns = core.now_ns
    elif context.path is Path.LEAVING:
        if pair != context.pair:
            _use(core, context, one, found)
    elif pair == context.pair:
        is_late = core.now_ns - probe.sent_ns > 2 * context.expected.ask_wait_ns
        if by is None or not is_late or context.path is Path.SEARCHING:
            _works(core, context, one, found)
        else:
            send_probe(core, context, one, pair, asks_back=False)
    elif context.path is Path.SEARCHING or one.is_silent:
        _use(core, context, one, found)
    else:
        if by is None and one.asked_ns:
            # The others answer now: if more slowly than the pair in use did, that is waited for.
            waited_ns = (core.now_ns - probe.sent_ns) * 3 // 2
            one.ask_at_ns = max(one.ask_at_ns, one.asked_ns + waited_ns)
        if one.found is None or (by is None and pair == one.found.pair):
            one.found = found


def _works(core: Core, context: Context, one: Search, found: Finding) -> None:
    """The pair in use answers: a false alarm, or it works again."""
    was_dead, was_alive = context.path is Path.SEARCHING, context.path is Path.ASKING
    end(core, context, Cue.THIS_ANSWERS)
    learn_source(core, context, found.source)
    if was_dead:
        core.install(context)
        repeat(core, context, one.packet)
        confirm(core, context, found)
        return
    if was_alive and one.is_question:
        context.searched_ns = 0  # it may be suspected at once
        core.install(context)
        return
    before = context.history_of(context.pair)
    misses = before.misses + (not was_alive)
    context.note(context.pair, before._replace(alarms=before.alarms + 1, misses=misses))
    if was_alive and one.silent_ns and one.knew_round_trip:
        # One answer, in time: the silence meant nothing. If the first answer was missing, something
        # did fail; and without a measured round trip the silence says how long that is.
        context.tolerated_ns = max(context.tolerated_ns, one.silent_ns)
        core.install(context)
    if not core.is_timer_set(context, Timer.TOLERANCE):
        core.set_timer(context, Timer.TOLERANCE, TOLERANCE_TIME)


def _use(core: Core, context: Context, one: Search, found: Finding) -> None:
    """Another pair answers, and is used from now on."""
    pair = found.pair
    # Where both ways are known to work the peer need not ask any further.
    is_told = context.path is Path.LEAVING or one.told_by_peer
    says_so = not is_told and context.history_of(pair).heard_ns >= one.started_ns
    end(core, context, Cue.OTHER_ANSWERS)
    context.searched_ns = 0  # the new pair may be asked at once
    if pair[0] in context.own_set and context.is_verified(pair[1]):
        if says_so:
            # First of all: its answer to what is repeated is lost until the peer has switched.
            message = request(core, context, next_nonce(context), flags=Flag.HEARS_HERE)
            core.send_on(context, message, pair, in_slot=True)
        switch(core, context, pair, one.why, one.packet)
        learn_source(core, context, found.source)
        if not says_so:
            confirm(core, context, found)
        if not context.round_trip_ns:
            measure(core, context)  # until then its silence is noticed late
    core.install(context)


def learn_source(core: Core, context: Context, source: Locator) -> None:
    """A message that proves the pair in use also has the source that the peer sends from [D41].

    Data from that source then does not change Lp(peer), whose pair works.
    """
    if source != context.peer_locator:
        context.peer_source = source
        core.install(context)


def confirm(core: Core, context: Context, found: Finding) -> None:
    """Asks the pair in use where a UR of the peer's alone says that it works.

    The UR may name a probe that is older than the last failure; and the answer measures.
    """
    if found.by is not None:
        context.searched_ns = 0
        search(core, context, Cause.ONLY_PEER_SAYS, beside=found.by)


def spare(core: Core, context: Context) -> None:
    """The peer has proven itself: a question for a proof that has not gone is not needed."""
    one = context.search
    if context.path is Path.ASKING and one is not None and not one.asks:
        end(core, context, Cue.THIS_ANSWERS)
        context.searched_ns = 0


def follow(core: Core, context: Context, pair: Pair) -> None:
    """The peer, which heard nothing, hears again: by the other pair from which its UR comes.

    Both ways of that are proven, and that in use is silent: it need not be asked any further.
    """
    one = context.search
    if one is not None and one.told_by_peer and pair != context.pair:
        _use(core, context, one, Finding(pair, pair[1]))


def on_tolerance_timer(core: Core, context: Context) -> None:
    """What false alarms taught is forgotten by halves."""
    context.late = None
    context.tolerated_ns = context.tolerated_ns // 2 if context.tolerated_ns > SECOND // 100 else 0
    for pair, one in context.history.items():
        if one.alarms:
            context.note(pair, one._replace(alarms=one.alarms // 2, misses=one.misses // 2))
    core.install(context)
    if context.tolerated_ns or any(one.alarms for one in context.history.values()):
        core.set_timer(context, Timer.TOLERANCE, TOLERANCE_TIME)
