# SPDX-License-Identifier: MIT
"""Whether the peer still has a context, when a UC says no or a CCR comes in its place [D39].

The host sends the peer Update Requests with unpredictable nonces over several pairs. An answer to
one of them keeps the context (matching.py). After silence the stored CCR replaces the context, or a
set-up begins. So a peer that has lost all contexts is reached again after a second, and a forged
UC, or an exchange of another host in the name of the peer, costs only a few messages.
"""

from noid.constants import (
    CHALLENGE_TIME,
    COOKIE_LIFETIME,
    MILLISECOND,
    TRIAL_INTERVAL,
    TRIAL_PAIRS_MAX,
    TRIAL_REST,
    TRIAL_ROUNDS,
    TRIAL_SILENCE,
)
from noid.counters import Drop
from noid.engine import contest
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.handshake import start
from noid.engine.history import Pair
from noid.engine.phases import Trial
from noid.engine.responder import replace
from noid.engine.selection import alternatives
from noid.engine.state import Timer, Trigger
from noid.engine.update import leap, next_nonce, request


def begin(core: Core, context: Context) -> None:
    """Begins a test, unless there was one lately."""
    if core.now_ns < context.next_trial_ns:
        core.drop(Drop.CONTEXT_TESTED_LATELY)
        return
    context.next_trial_ns = core.now_ns + TRIAL_REST
    silence_ns = max(TRIAL_SILENCE, 250 * MILLISECOND + 2 * context.round_trip_ns)
    leap(core, context, max(silence_ns, CHALLENGE_TIME))
    context.trial = Trial(core.now_ns + silence_ns)
    core.install(context)
    _ask(core, context, context.trial)


def on_timer(core: Core, context: Context) -> None:
    """Begins the test for which a CCR waits, asks again, or ends the test or its consequence."""
    under_way = context.trial
    if under_way is None and context.rival is None:
        contest.end(core, context)
    elif under_way is None:
        begin(core, context)
    elif core.now_ns < under_way.until_ns:
        _ask(core, context, under_way)
    else:
        end(core, context, Trigger.TRIAL, Cause.PEER_HAS_NO_CONTEXT)


def end(core: Core, context: Context, trigger: Trigger, why: Cause) -> None:
    """The peer has lost the context: the stored CCR replaces it, or a set-up begins."""
    rival = context.rival
    is_fresh = rival is not None and core.now_ns - rival.made_ns <= COOKIE_LIFETIME
    if rival is None or not is_fresh or not replace(core, context, rival):
        start(core, context, b"", trigger, why)
        core.install(context)


def _ask(core: Core, context: Context, under_way: Trial) -> None:
    """Asks over all pairs; rounds alternate between the forms, because a filter may drop one."""
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
    """The pair in use, and other pairs that each add a verified locator."""
    pairs = [context.pair]
    for pair in alternatives(context):
        if pair[1] not in {one[1] for one in pairs}:
            pairs.append(pair)
    return pairs[: 1 + TRIAL_PAIRS_MAX]
