# SPDX-License-Identifier: MIT
"""Whether the peer still has a context, when a UC says no or a CCR comes in its place [D39].

The host asks the peer by Update Requests over several pairs. An authenticated message keeps the
context. Silence replaces it: by the CCR that was kept, or by a set-up that begins. A peer without
any memory of its contexts is so reached again after a second, and a forged UC, or an exchange by
another in the name of the peer, costs a few messages.
"""

from noid.constants import (
    COOKIE_LIFETIME,
    MILLISECOND,
    TRIAL_INTERVAL,
    TRIAL_PAIRS_MAX,
    TRIAL_REST,
    TRIAL_ROUNDS,
    TRIAL_SILENCE,
)
from noid.counters import Drop
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.handshake import start
from noid.engine.history import Pair
from noid.engine.phases import Trial
from noid.engine.responder import replace
from noid.engine.selection import alternatives
from noid.engine.state import Timer
from noid.engine.update import next_nonce, request


def begin(core: Core, context: Context) -> None:
    """Begins to ask, unless the host does so already, or has done so lately."""
    if core.now_ns < context.next_trial_ns:
        core.drop(Drop.CONTEXT_TESTED_LATELY)
        return
    context.next_trial_ns = core.now_ns + TRIAL_REST
    context.doubted_nonce = context.update_nonce
    silence_ns = max(TRIAL_SILENCE, 250 * MILLISECOND + 2 * context.round_trip_ns)
    context.trial = Trial(core.now_ns + silence_ns)
    core.install(context)
    _ask(core, context, context.trial)


def on_timer(core: Core, context: Context) -> None:
    """Begins the test for which a CCR waits; asks again; or the silence has been long enough."""
    under_way = context.trial
    if under_way is None:
        begin(core, context)
    elif core.now_ns < under_way.until_ns:
        _ask(core, context, under_way)
    else:
        end(core, context, Cause.PEER_HAS_NO_CONTEXT)


def end(core: Core, context: Context, why: Cause) -> None:
    """The peer has lost the context: the CCR that was kept replaces it, or a set-up begins."""
    rival = context.rival
    context.doubted_nonce = context.update_nonce
    is_fresh = rival is not None and core.now_ns - rival.cookie.timestamp <= COOKIE_LIFETIME
    if rival is None or not is_fresh or not replace(core, context, rival):
        start(core, context, b"", why)
        core.install(context)


def _ask(core: Core, context: Context, under_way: Trial) -> None:
    """One round; forms alternate between data and plain, because a filter may pass only one."""
    left_ns = under_way.until_ns - core.now_ns
    if under_way.rounds == TRIAL_ROUNDS:
        core.set_timer(context, Timer.TRIAL, left_ns)
        return
    in_slot = under_way.rounds % 2 == 0
    under_way.rounds += 1
    for pair in _covering(context):
        message = request(core, context, next_nonce(context))
        core.send_on(context, message, pair, in_slot=in_slot)
    core.set_timer(context, Timer.TRIAL, min(TRIAL_INTERVAL, left_ns))


def _covering(context: Context) -> list[Pair]:
    """The pair in use, and others that add a verified locator, as long as there are such."""
    pairs = [context.pair]
    for pair in alternatives(context):
        if pair[1] not in {one[1] for one in pairs}:
            pairs.append(pair)
    return pairs[: 1 + TRIAL_PAIRS_MAX]
