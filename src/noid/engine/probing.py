# SPDX-License-Identifier: MIT
"""Probing pairs of locators, in rounds through all of them [D43, D45, D47].

A probe is an Update Request over one pair, in the form of data. While the pair in use is in doubt,
all pairs are probed once, the most promising first. While a context searches, they are probed in
cycles, at increasing intervals if no program needs a pair. If no pair passes the form of data and
the AIDs pass the plain form, the context is set aside for a time.
"""

from noid.constants import (
    CYCLE_TIME,
    CYCLE_TIME_LARGE,
    DATA_ASKED_TIME,
    NEVER,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    PLAIN_ANSWER_WAIT,
    PLAIN_CHECK_FIRST,
    PLAIN_CHECK_INTERVAL,
    PROBE_INTERVAL,
    PROBE_INTERVAL_LARGE,
    PROBE_INTERVAL_MAX,
    PROBES_AT_FIRST,
    PROBES_KEPT_MAX,
    PROBES_PER_ROUND_MAX,
    REJECTED_TIME,
    SEARCH_INTERVAL_MIN,
    SECOND,
    SILENCE_UNMEASURED,
    SUSPICION_TIME,
    UNPROVEN_REST,
    WANTED_TIME,
)
from noid.engine import retrying
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import PeerUnable, ProbeStarted, RememberLater
from noid.engine.history import Pair
from noid.engine.phases import Probe, Search
from noid.engine.selection import alternatives, better_pairs
from noid.engine.state import Cue, Path, Timer
from noid.engine.update import next_nonce, request
from noid.identifiers import NO_NONCE, Nonce
from noid.wire.control import NO_FLAGS, Flag


def send_probe(
    core: Core,
    context: Context,
    one: Search,
    pair: Pair,
    packet: bytes = b"",
    *,
    asks_back: bool = True,
) -> None:
    """Sends a UR over one pair, in the form of data; in doubt the answer must use the same pair."""
    is_doubted = context.path is Path.DOUBTING and not one.told_by_peer
    in_doubt = context.is_searching or is_doubted
    nonce = next_nonce(context)
    _note(one, nonce, Probe(pair, core.now_ns))
    flags = Flag.HEARS_NOTHING if in_doubt and asks_back else NO_FLAGS
    if one.why is Cause.DATA_LOST and one.cycles <= 1 and not one.told_by_peer:
        flags |= Flag.ALL_DATA_LOST if one.loses_all else Flag.DATA_LOST
    if pair == context.pair and _asks_about_data(core, context, one):
        flags |= Flag.DATA_ASKED
    message = request(core, context, nonce, flags=flags, packet=packet)
    core.send_on(context, message, pair, in_slot=True)


def _asks_about_data(core: Core, context: Context, one: Search) -> bool:
    """Whether a request asks if data has come shortly before; data from before a loss is not."""
    if one.is_routine:
        return context.path is Path.ASKING
    silent_ns = max(one.silent_ns, core.now_ns - context.history_of(context.pair).unheard_ns)
    return not one.asks and one.silent_ns > 0 and silent_ns > 4 * DATA_ASKED_TIME // 3


def measure(core: Core, context: Context) -> None:
    """Sends a UR over the pair in use, unless one is open; its answer measures the round trip."""
    if context.search is None and context.update is None and context.peer_verified:
        nonce = next_nonce(context)
        context.late = {nonce: Probe(context.pair, core.now_ns)}
        core.send_on(context, request(core, context, nonce), context.pair, in_slot=True)


def usual_pair(context: Context) -> Pair:
    """The pair over which the peer was last heard, apart from its measurements."""

    def heard(pair: Pair) -> tuple[int, bool]:
        at_ns, is_in_use = context.history_of(pair).message_ns, pair == context.pair
        # A peer that sends from elsewhere also asks pairs that it does not use.
        is_source = pair[1] == context.peer_source and not is_in_use
        return at_ns + is_source * context.round_trip_ns, is_in_use

    return max((context.pair, *context.history), key=heard)


def is_way_alive(context: Context, one: Search) -> bool:
    """Whether the way back of the peer was not why a first request was not answered in time.

    It was not if that is the pair in use; or if the peer is known to send from elsewhere, hears
    this host, and has been heard over that pair since the suspicion.
    """
    if one.usual is None or one.usual == context.pair:
        return one.usual is not None
    if context.peer_source is None or one.told_by_peer:
        return False  # what came over the other may have been answers to measurements
    return context.history_of(one.usual).message_ns > one.started_ns


def answers_until_ns(context: Context, one: Search) -> int:
    """Until when the last requests over the pair in use may be answered; 0 if RTT tells that.

    In doubt they are answered over that pair. Where the peer is known to send over another, which
    works, RTT is that of answers over the other.
    """
    is_measured = one.usual == context.pair or not is_way_alive(context, one)
    wait_ns = min(2 * context.expected.verdict_wait_ns, SILENCE_UNMEASURED)
    return 0 if is_measured else one.asked_ns + wait_ns


def probe_plainly(
    core: Core, context: Context, one: Search, nonce: Nonce, flags: Flag = NO_FLAGS
) -> None:
    """Sends a UR between the AIDs in the plain form, to detect that only data is dropped [D47].

    In a cycle it has the flags of the other probes, so that it is answered over its own pair like
    them; otherwise the answer would not show which form passes.
    """
    pair = context.local_aid, context.peer_aid
    one.plain_sent_ns = core.now_ns
    _note(one, nonce, Probe(pair, core.now_ns, is_plain=True))
    core.send(request(core, context, nonce, flags=flags), pair)


def _note(one: Search, nonce: Nonce, probe: Probe) -> None:
    one.probes[nonce] = probe
    if len(one.probes) > PROBES_KEPT_MAX:
        del one.probes[next(iter(one.probes))]


def keep(context: Context, one: Search, kept: set[Pair]) -> None:
    """The pair in use is broken: the first answer over another that is kept ends its use.

    Answers over pairs that are not kept, also those on their way, only measure from now on.
    """
    one.is_silent = True
    if one.found is not None and one.found.pair not in kept:
        one.found = None
    context.late = {nonce: it for nonce, it in one.probes.items() if it.pair not in kept}
    one.probes = {nonce: it for nonce, it in one.probes.items() if it.pair in kept}


def batch(core: Core, context: Context, one: Search) -> None:
    """Probes the next pairs of the cycle, or begins a new cycle."""
    if context.path is Path.LEAVING and core.now_ns >= one.until_ns:
        end(core, context, Cue.TIME)
        return
    begins = not one.untried
    if begins and not _begin_cycle(core, context, one):
        return
    pairs, one.untried = (
        one.untried[:PROBES_PER_ROUND_MAX],
        one.untried[PROBES_PER_ROUND_MAX:],
    )
    packet = one.packet if context.path is Path.SEARCHING else b""
    is_cycle = begins and context.path is Path.SEARCHING
    # A peer names the newest of ours that has come: the plain one only if none in the form of data
    # has; unless data is lost although these come.
    is_first = is_cycle and one.why is not Cause.DATA_LOST
    plain_nonce = next_nonce(context) if is_first else NO_NONCE
    for pair in pairs:
        if pair[0] in context.own_set and context.is_verified(pair[1]):
            send_probe(core, context, one, pair, packet)
    if is_cycle:
        is_news = one.loses_all and not one.told_by_peer
        lost = Flag.ALL_DATA_LOST if is_news else NO_FLAGS
        plain_nonce = plain_nonce or next_nonce(context)
        probe_plainly(core, context, one, plain_nonce, Flag.HEARS_NOTHING | lost)
    if not one.batch_ns:  # a report, which does not delay the requests
        first = () if context.path is Path.LEAVING else (context.pair,)
        aids = context.local_aid, context.peer_aid
        core.emit(ProbeStarted(*aids, one.why, (*first, *pairs)))
    one.tried += len(pairs)
    one.batch_ns = core.now_ns
    one.batch_at_ns = core.now_ns + _interval_ns(one)


def _begin_cycle(core: Core, context: Context, one: Search) -> bool:
    """Sorts all pairs in the order of probing; returns whether they are to be probed now."""
    if context.path is Path.LEAVING:
        others, one.backoff = better_pairs(context), one.cycles  # if data is lost, a search begins
    else:
        others = alternatives(context)
    if context.path is Path.DOUBTING and (one.cycles or not others):
        one.batch_at_ns = NEVER  # all were probed; the pair in use gets time to answer
        return False
    if context.is_searching:
        others = [context.pair, *others]
        is_aside = context.path is Path.ASIDE
        if max(one.plain_ns, one.rejected_ns) >= one.cycle_ns > 0 and not is_aside:
            _set_aside(core, context, one)
            return False
        unwanted_ns = core.now_ns - one.wanted_ns
        if unwanted_ns <= SUSPICION_TIME and is_aside and one.loses_all:
            _retry(core, context, one)
            return False
        if is_aside and not one.loses_all:
            core.turn(context, Path.SEARCHING, Cue.TIME)
            one.ask_at_ns = NEVER
        if unwanted_ns > SUSPICION_TIME:
            one.batch_at_ns = NEVER
            one.cycle_ns = one.cycle_ns if one.loses_all else 0
            return False
        one.backoff = one.backoff + 1 if unwanted_ns > WANTED_TIME else 0
        one.loses_all = one.loses_all and not one.cycle_ns  # no data passes: answers count again
    one.untried, one.tried, one.count = others, 0, len(others)
    one.cycles += 1
    one.cycle_ns = core.now_ns
    return True


def _retry(core: Core, context: Context, one: Search) -> None:
    """Tries whether data passes again; if it does not, it goes plainly for a longer time."""
    if retrying.go_on(core, context, one):
        history = context.history_of(context.pair)
        lost = history._replace(losses=history.losses + 1, lost_ns=core.now_ns)
        context.note(context.pair, lost)
        _set_aside(core, context, one)


def _set_aside(core: Core, context: Context, one: Search) -> None:
    """Uses plain packets for a time: the AIDs pass them, and no pair passes the form of data.

    A peer that rejects M6 is retried at increasing intervals [D45].
    """
    core.turn(context, Path.ASIDE, Cue.TIME)
    one.empties = 0
    one.loses_all, one.doubtful = one.loses_all or one.doubtful is not None, None
    is_rejected = one.rejected_ns >= one.cycle_ns
    aside_ns = REJECTED_TIME << min(one.asides, 16) if is_rejected else PEER_UNABLE_TIME
    if one.loses_all:
        losses = max((one.losses for one in context.history.values()), default=0)
        aside_ns <<= min(max(losses, 1) - 1, 16)
        core.emit(RememberLater(context.local_label))
    one.batch_at_ns = core.now_ns + min(aside_ns, PEER_UNABLE_MAX)
    one.asides += 1
    why = Cause.M6_UNKNOWN if is_rejected else Cause.M6_DROPPED
    core.emit(PeerUnable(context.peer_aid, why))


def rejected(core: Core, context: Context, nonce: Nonce) -> None:
    """A host has rejected the form of a probe: data to it will be plain."""
    one = context.search
    if one is not None and nonce in one.probes:
        one.rejected_ns = core.now_ns


def _interval_ns(one: Search) -> int:
    """The time to the next round: 16 pairs in the first second, then 64/s, then by cycles."""
    if one.cycles == 1 and one.untried:
        if one.tried < PROBES_AT_FIRST:
            return PROBE_INTERVAL
        if one.tried < PROBES_AT_FIRST + PROBES_PER_ROUND_MAX:
            return SECOND - PROBE_INTERVAL * (PROBES_AT_FIRST // PROBES_PER_ROUND_MAX - 1)
        return PROBE_INTERVAL_LARGE
    cycle_ns = CYCLE_TIME if one.count <= PROBES_AT_FIRST else CYCLE_TIME_LARGE
    rounds = -(-one.count // PROBES_PER_ROUND_MAX) or 1
    return min(cycle_ns // rounds << min(one.backoff, 16), PROBE_INTERVAL_MAX)


def want(core: Core, context: Context, one: Search) -> None:
    """A program or the peer needs a pair: shortens the intervals of a search.

    Due probes are sent at once, because with very many contexts the timers of idle ones delay them.
    """
    if not context.is_searching:
        return
    one.wanted_ns = core.now_ns
    if context.path is Path.ASIDE:
        if one.batch_at_ns == NEVER:
            one.batch_at_ns = core.now_ns  # it was due while no program sent
            arm(core, context, one)
        return
    one.backoff = 0
    one.batch_at_ns = min(one.batch_at_ns, max(core.now_ns, one.batch_ns + _interval_ns(one)))
    if core.now_ns >= one.batch_at_ns and one.doubtful is None:
        batch(core, context, one)
    arm(core, context, one)


def answer_search(core: Core, context: Context, pair: Pair, *, in_slot: bool) -> None:
    """A UR of the peer arrives over a pair while we search too: our probes name it from now on.

    Earlier probes do not. So all pairs are probed once more, and first the pair in use if the UR
    arrived over it, which works again. If the UR arrived in the form of data, that form passes, and
    a context that was set aside searches again.
    """
    one = context.search
    if one is None:
        return
    if context.path is Path.ASIDE and in_slot and not one.loses_all:
        resume(core, context)
    want(core, context, one)
    is_probing = context.path in (Path.DOUBTING, Path.SEARCHING)
    if is_probing and not one.names_newest:
        one.names_newest = True
        if context.path is Path.DOUBTING and pair == context.pair:
            send_probe(core, context, one, pair)
        one.untried, one.cycles, one.cycle_ns = [], 0, 0  # this cycle says nothing any more
        one.batch_at_ns = max(core.now_ns, one.batch_ns + PROBE_INTERVAL)
        arm(core, context, one)


def check_plain(core: Core, context: Context, one: Search, *, is_told: bool = False) -> None:
    """Data is plain because that passes: checks whether it still does, at intervals or if told.

    Args:
        core: the core of the host.
        context: whose data.
        one: the search.
        is_told: the peer hears nothing; otherwise a program sends.
    """
    is_answered = one.plain_ns >= one.plain_sent_ns
    wait_ns = context.expected.verdict_wait_ns
    if is_answered and not is_told:
        is_new = core.now_ns < one.started_ns + PEER_UNABLE_TIME
        wait_ns = PLAIN_CHECK_FIRST if is_new else PLAIN_CHECK_INTERVAL
    is_due = core.now_ns - max(one.plain_ns, one.plain_sent_ns) >= wait_ns
    can_answer = one.rejected_ns < one.cycle_ns
    if context.path is Path.ASIDE and is_due and can_answer:
        one.plain_asked_ns = core.now_ns if is_answered else one.plain_asked_ns
        check_again(core, context, one)


def check_again(core: Core, context: Context, one: Search) -> None:
    """Asks whether plain packets pass until that is answered, or searches again."""
    repeat_ns = context.expected.verdict_wait_ns
    if one.plain_ns >= one.plain_asked_ns:
        one.ask_at_ns = NEVER
    elif core.now_ns - one.plain_asked_ns < max(PLAIN_ANSWER_WAIT, 2 * repeat_ns):
        probe_plainly(core, context, one, next_nonce(context))
        one.ask_at_ns = core.now_ns + repeat_ns
        arm(core, context, one)
    else:
        resume(core, context)


def resume(core: Core, context: Context) -> None:
    """Something has changed: a search without result begins a new cycle [D45]."""
    one = context.search
    if one is None or not context.is_searching:
        return
    if context.path is Path.ASIDE:
        core.turn(context, Path.SEARCHING, Cue.CHANGE)
    one.backoff, one.untried, one.cycle_ns, one.ask_at_ns = 0, [], 0, NEVER
    one.loses_all = one.names_newest = False
    one.empties = 0
    one.lost_before_ns += core.now_ns - one.started_ns
    one.started_ns = one.wanted_ns = core.now_ns
    one.batch_at_ns = max(core.now_ns, one.batch_ns + SEARCH_INTERVAL_MIN)
    arm(core, context, one)


def end(core: Core, context: Context, cue: Cue) -> None:
    """Ends a search; answers to its probes only measure from now on."""
    core.turn(context, Path.STEADY, cue)
    context.late = context.search.probes if context.search is not None else None
    context.search = None
    context.searched_ns = core.now_ns
    core.stop_timer(context, Timer.PROBE)


def stay(core: Core, context: Context, cue: Cue) -> None:
    """Keeps the pair in use since data arrives, although no pair answers.

    The daemon of the peer may have stopped while its kernel forwards [D36].
    """
    end(core, context, cue)
    context.unproven_again_ns = core.now_ns + UNPROVEN_REST


def arm(core: Core, context: Context, one: Search) -> None:
    """Sets the timer for the next request or probe."""
    at_ns = min(one.ask_at_ns, one.batch_at_ns)
    if at_ns < NEVER:
        core.set_timer(context, Timer.PROBE, max(0, at_ns - core.now_ns))
    else:
        core.stop_timer(context, Timer.PROBE)
