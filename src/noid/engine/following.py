# SPDX-License-Identifier: MIT
"""Data from another locator of the peer changes Lp(peer), until that is refuted [D41].

A border router that uses another provider rewrites the source of the peer's packets. If the locator
in use is silent, the data plane sends to the new source at once, and reports it. **The report
proves nothing**: several Update Requests ask both pairs. If the former pair answers, or the new one
does not answer in time, the change is reverted, and data changes nothing for FOLLOW_REST. If only
the new pair answers, it is used.
"""

from noid.constants import (
    FOLLOW_AGAIN,
    FOLLOW_ASKS,
    FOLLOW_INTERVAL,
    FOLLOW_REST,
    SILENCE_UNMEASURED,
)
from noid.engine import searching
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.history import Pair
from noid.engine.phases import Finding, Search
from noid.engine.probing import arm, end, send_probe, want
from noid.engine.searching import ask_on, confirm, learn_source
from noid.engine.state import Cue, Path
from noid.engine.switching import switch
from noid.engine.verifying import put_first
from noid.flows.events import SourceMoved
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.options import LocatorFlag


def on_source_moved(core: Core, event: SourceMoved) -> None:
    """Data arrives from a locator from which the peer was not known to send [D21, D41]."""
    context = core.labels.get(event.local_label)
    if context is None:
        return
    core.used(context)
    pair = context.local_locator, event.source
    broken = context.marks_of(event.source) & LocatorFlag.BROKEN
    if event.source not in context.peer_verified:
        put_first(core, context, event.source)
    elif not broken and pair != context.pair and context.is_settled:
        _moved(core, context, pair, is_followed=event.followed)
    if event.followed and pair != context.pair:
        core.install(context)  # the plane returns to the pair in use


def _moved(core: Core, context: Context, pair: Pair, *, is_followed: bool) -> None:
    """Asks both pairs, and uses the new one if the data plane already does."""
    if context.path is not Path.FOLLOWING:
        if not is_followed and core.now_ns < context.follow_again_ns:
            return
        context.follow_again_ns = core.now_ns + FOLLOW_AGAIN
        one = context.search
        # If all pairs are probed because the peer hears nothing, data proves nothing. A pair that
        # may lose data is the better choice once it has answered.
        is_doubted = one is not None and (one.told_by_peer or one.doubtful is not None)
        if context.is_searching or (context.path is Path.DOUBTING and is_doubted):
            context.follow_ns = max(context.follow_ns, core.now_ns + FOLLOW_INTERVAL)
            _probe_first(core, context, pair)
            return
        _begin(core, context, pair)
    one = context.search
    may_move = is_followed and core.now_ns >= context.follow_ns
    if may_move and one is not None and one.followed == pair and not context.is_moved:
        switch(core, context, pair, one.why, one.packet)


def _probe_first(core: Core, context: Context, pair: Pair) -> None:
    """Probes the pair from which data arrives first, because no pair is known to work."""
    one = context.search
    assert one is not None
    packet = one.packet if context.is_searching else b""
    send_probe(core, context, one, pair, packet)
    want(core, context, one)


def _begin(core: Core, context: Context, pair: Pair) -> None:
    """Asks both pairs by new probes, because answers to older ones do not show the present."""
    before = context.search
    core.turn(context, Path.FOLLOWING, Cue.SOURCE)
    one = Search(Cause.SOURCE_MOVED, core.now_ns, b"", 0, False)
    if before is not None:
        one.packet, one.told_by_peer = before.packet, before.told_by_peer
    context.search = one
    one.left, one.followed = context.pair, pair
    for _ in range(FOLLOW_ASKS):
        send_probe(core, context, one, context.pair)
        send_probe(core, context, one, pair)
    one.asks = FOLLOW_ASKS
    waits = [context.expected, context.history_of(pair)]
    waits_ns = [history.verdict_wait_ns for history in waits if history.round_trip_ns]
    one.ask_at_ns = core.now_ns + max(waits_ns, default=SILENCE_UNMEASURED)
    arm(core, context, one)


def acknowledged(
    core: Core, context: Context, nonce: Nonce, source: Locator, *, by: Pair | None = None
) -> None:
    """The peer has heard a UR of ours; see ``searching.acknowledged``."""
    one = context.search
    asked = one.probes.get(nonce) if one is not None and context.path is Path.FOLLOWING else None
    if one is None or asked is None:
        searching.acknowledged(core, context, nonce, source, by=by)
        return
    if by is None:
        del one.probes[nonce]
        context.measure(asked.pair, asked.sent_ns, core.now_ns)
    if asked.pair == one.followed:
        one.found = Finding(asked.pair, source, by)
    elif asked.pair == one.left:
        _revert(core, context, one)
        end(core, context, Cue.THIS_ANSWERS)
        context.searched_ns = 0
        learn_source(core, context, source)
        core.install(context)


def on_probe_timer(core: Core, context: Context) -> None:
    """The time to answer is over; see ``searching.on_probe_timer`` for all else."""
    one = context.search
    if one is None or context.path is not Path.FOLLOWING:
        searching.on_probe_timer(core, context)
    elif one.found is not None:
        _keep(core, context, one, one.found)
    else:
        _revert(core, context, one)
        core.turn(context, Path.DOUBTING, Cue.TIME)
        one.batch_at_ns = core.now_ns
        ask_on(core, context, one)
        searching.on_probe_timer(core, context)


def _keep(core: Core, context: Context, one: Search, found: Finding) -> None:
    """The new pair answers, and the former does not: keeps the new one."""
    end(core, context, Cue.OTHER_ANSWERS)
    context.searched_ns = context.follow_again_ns = 0
    context.follow_ns = core.now_ns + FOLLOW_INTERVAL
    if found.pair[0] in context.own_set and context.is_verified(found.pair[1]):
        switch(core, context, found.pair, one.why, one.packet)
        learn_source(core, context, found.source)
    core.install(context)
    confirm(core, context, found)


def _revert(core: Core, context: Context, one: Search) -> None:
    """Returns to the former pair, if data has changed Lp(peer)."""
    if not context.is_moved or one.left is None:
        return
    context.follow_ns = core.now_ns + FOLLOW_REST
    if one.left[0] in context.own_set and context.is_verified(one.left[1]):
        switch(core, context, one.left, Cause.SOURCE_UNPROVEN, one.packet)
