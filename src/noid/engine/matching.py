# SPDX-License-Identifier: MIT
"""The context of an authentic UR, UA or KEEPALIVE, and whether its sender hears us [D39, D40].

A peer is doubted while its context is tested (trial.py), when it was set aside, and when another
has replaced it. **Only an answer to a recent Update Request with an unpredictable nonce ends the
doubt**: the key alone may be that of an observer that has left the path. A message of a peer that
was set aside or replaced is therefore answered with such a request.
"""

from noid.constants import CHALLENGE_TIME, UPDATE_RETRANSMIT_HEARD
from noid.counters import Drop
from noid.engine import contest, lifecycle
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.records import Former
from noid.engine.state import Timer, Trigger
from noid.engine.unknown import tell_unknown
from noid.engine.update import is_authentic, leap, next_nonce, request, restore, tell_untold
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.wire.control import Code, ControlMessage, Flag
from noid.wire.options import LocatorFlag


def matching(core: Core, event: ControlMessageReceived, message: ControlMessage) -> Context | None:
    """The context of an authentic UR, UA or KEEPALIVE; None and a count if there is none.

    "The host looks for a matching context based on the AID pair and the flow label pair"; both
    addresses must be in the Lsl sets [draft §7.8]. A UR that is not authentic is answered with UC,
    the same for each fault, so that the answer reveals no label [D17, D41].
    """
    context = core.labels.get(message.context.receiver_label)
    former = None if context is None else context.former
    if context is not None and former is not None and _is_of(former, context, event, message):
        if not _is_believed(core, context, event, message, former):
            return None
        _reinstate(core, context, former, event)
    reason = "FOR_NO_CONTEXT"
    if context is not None and context.is_known_to_peer and context.is_about(message):
        reason = _fault(core, context, event, message)
    if context is None or reason:
        core.drop(Drop[f"{message.code.name}_{reason}"])
        if message.code is Code.UR and not _may_have(context, message, reason):
            tell_unknown(core, event, message.context.receiver_label)
        return None
    is_doubted = not context.is_complete and context.closing is None
    if is_doubted and not _is_believed(core, context, event, message):
        return None
    if context.closing is None and (is_doubted or _is_first(context, message)):
        _heard_again(core, context, message)
    # The birthday in the set-up was not authenticated; this one is.
    context.peer_birthday = message.context.sender_birthday
    return context


def _may_have(context: Context | None, message: ControlMessage, reason: str) -> bool:
    """Whether a UR is of a context that this host has, or is about to have.

    A UC would end it at a peer that asks our AID (at_aid.py). An authentic UR may come from a
    locator of which an earlier UR was lost; the peer may have finished a set-up before this host.
    """
    if context is None:
        return False
    ends = message.receiver_aid, message.sender_aid
    is_being_made = context.exchange is not None and not context.is_known_to_peer
    is_authentic_one = reason in ("BETWEEN_UNKNOWN_LOCATORS", "OVER_RATE")
    return is_authentic_one or (is_being_made and ends == (context.local_aid, context.peer_aid))


def _fault(
    core: Core, context: Context, event: ControlMessageReceived, message: ControlMessage
) -> str:
    """Why a message with the labels and AIDs of a context is not accepted; empty if it is."""
    if not is_authentic(context.agreed_key, event, message):
        return "NOT_AUTHENTIC"
    is_known = context.accepts(event.source) or _adds(context, message, event.source)
    if not is_known or event.destination not in context.own_local:
        return "BETWEEN_UNKNOWN_LOCATORS"
    # Forged messages do not use these rates; otherwise they would block authentic ones.
    return "" if _may_be_looked_at(core, context, event, message) else "OVER_RATE"


def _adds(context: Context, message: ControlMessage, source: Locator) -> bool:
    """Whether a UR that is newer than all others has its source in Lsl(peer).

    A host that moves to another network may have no locator left that its peer knows. Other
    messages may have locators, too, but their sets are not taken.
    """
    is_newest = message.code is Code.UR and message.nonce > context.peer_update_nonce
    return is_newest and any(
        one.locator == source and one.flags & LocatorFlag.LOCAL for one in message.sender_locators
    )


def _may_be_looked_at(
    core: Core, context: Context, event: ControlMessageReceived, message: ControlMessage
) -> bool:
    """Whether the rate of the peer permits a message; repetitions have another rate [D46]."""
    if _is_first(context, message):
        return core.messages.take(context.local_label, core.now_ns)
    return core.repeats.take((context.local_label, event.source), core.now_ns)


def _is_first(context: Context, message: ControlMessage) -> bool:
    """Whether a message is not a repetition or a replay."""
    match message.code:
        case Code.UR:
            return context.is_unseen(message.nonce)
        case Code.UA:
            return context.awaits(message.nonce)
        case _:
            return message.nonce > context.peer_keepalive_nonce


def _is_answer(core: Core, context: Context, message: ControlMessage) -> bool:
    """Whether a message answers a recent request of ours whose nonce was unpredictable."""
    nonce = message.nonce if message.code is Code.UA else message.heard
    is_recent = core.now_ns < context.doubt.until_ns
    return is_recent and context.doubt.covers(nonce, context.update_nonce)


def _is_of(
    former: Former, context: Context, event: ControlMessageReceived, message: ControlMessage
) -> bool:
    """Whether a former peer of a context sent a message."""
    ends = message.receiver_aid, message.sender_aid, message.context.sender_label
    return (
        ends == (context.local_aid, context.peer_aid, former.peer_label)
        and event.source in former.peer_local
        and event.destination in context.own_local
        and is_authentic(former.agreed_key, event, message)
    )


def _is_believed(
    core: Core,
    context: Context,
    event: ControlMessageReceived,
    message: ControlMessage,
    former: Former | None = None,
) -> bool:
    """Whether a peer that was set aside, or a former one, hears us; asks it otherwise [D39]."""
    peer = former or context
    user = context.local_label, peer.peer_label, message.code
    if not core.repeats.take(user, core.now_ns):
        core.drop(Drop[f"{message.code.name}_OVER_RATE"])
        return False
    if _is_answer(core, context, message):
        return True
    core.drop(Drop[f"{message.code.name}_WHILE_DOUBTED"])
    # A request that asks this itself is not answered with another: that would not end.
    if message.code is not Code.UA and not message.flags & Flag.ANSWER_HERE:
        _challenge(core, context, event, message, former)
    return False


def _challenge(
    core: Core,
    context: Context,
    event: ControlMessageReceived,
    message: ControlMessage,
    former: Former | None,
) -> None:
    """Asks the sender of a UR or KEEPALIVE that is not a replay whether it hears us."""
    peer = former or context
    is_ur = message.code is Code.UR
    if message.nonce <= (peer.peer_update_nonce if is_ur else peer.peer_keepalive_nonce):
        return
    if core.now_ns >= context.doubt.until_ns:
        leap(core, context, CHALLENGE_TIME)
    nonce = next_nonce(context)
    octets = request(core, context, nonce, flags=Flag.ANSWER_HERE, former=former)
    core.send_on(context, octets, (event.destination, event.source), in_slot=event.in_slot)


def _heard_again(core: Core, context: Context, message: ControlMessage) -> None:
    """The peer has the context: sends it what it does not know yet, ends a test [D39, D45]."""
    trigger = Trigger(message.code.name)
    if not context.is_complete:
        restore(core, context, trigger, Cause.PEER_HAS_CONTEXT)
    if context.trial is not None and _is_answer(core, context, message):
        is_refused = context.trial.is_refused
        context.trial = context.rival = None
        core.stop_timer(context, Timer.TRIAL)
        if is_refused:
            contest.begin(core, context)
        contest.go_on(core, context)
        core.install(context)
    tell_untold(core, context, trigger)
    update = context.update
    if update is not None:
        core.bring_forward(context, Timer.RETRANSMIT, update.sent_ns + UPDATE_RETRANSMIT_HEARD)


def _reinstate(core: Core, context: Context, former: Former, event: ControlMessageReceived) -> None:
    """Restores a peer that was silent and was replaced [D39]."""
    lifecycle.know_peer_label(core, context, former.peer_label)
    for name, value in former._asdict().items():
        setattr(context, name, value)
    context.former, context.untold, context.unseen_nonces = None, True, 0
    if event.source in context.peer_verified:
        context.local_locator, context.peer_locator = event.destination, event.source
    core.install(context)
