# SPDX-License-Identifier: MIT
"""The close exchange [draft Appendix A, D19].

A context that has received nothing for X is closed: it sends no more data, repeats CLOSE to the
peer until that is acknowledged or X + MSL have passed, and is deleted. "The network doesn't
spontaneously generate packets": the peer, which hears nothing either, closes too. So **no data
arrives where there is no context**, also if messages are lost.

The data plane knows what was received, and the kernel knows whether a program has a connection
between the AIDs; the engine asks both when it is time.
"""

from noid.constants import CLOSE_TIME, CONTEXT_IDLE_TIME, RETRANSMIT_FIRST, UPDATE_RETRANSMIT_MAX
from noid.counters import Drop
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import CheckIdle, IdleChecked
from noid.engine.phases import Closing
from noid.engine.searching import search
from noid.engine.selection import alternatives
from noid.engine.state import State, Timer, Trigger
from noid.engine.unknown import tell_unknown
from noid.engine.update import NO_HASH, authenticated, is_authentic, short_message, tell_untold
from noid.flows.events import ControlMessageReceived
from noid.wire.control import Code, ControlMessage
from noid.wire.options import ContextOption


def on_idle_timer(core: Core, context: Context) -> None:
    """X has passed since something was received, as far as the engine knows: asks the plane.

    If the timer expires earlier, the pair in use is asked in the form of data: an answer measures
    the round trip; no answer says that the network passed the messages of the set-up, but may drop
    data [D47].
    """
    left_ns = context.established_ns + CONTEXT_IDLE_TIME - core.now_ns
    if left_ns > 0:
        search(core, context, Cause.DATA_UNPROVEN, is_question=True)
        core.set_timer(context, Timer.IDLE, left_ns)
    else:
        core.emit(CheckIdle(context.local_label))


def on_idle_checked(core: Core, event: IdleChecked) -> None:
    """Closes a context that is idle; checks one that is not again later [draft App. A 1]."""
    context = core.labels.get(event.local_label)
    if context is None or not context.is_settled:
        return
    idle_ns = core.now_ns - max(context.heard_ns(event.received_ns), context.established_ns)
    if event.in_use or idle_ns < CONTEXT_IDLE_TIME:
        remaining_ns = CONTEXT_IDLE_TIME if event.in_use else CONTEXT_IDLE_TIME - idle_ns
        core.set_timer(context, Timer.IDLE, remaining_ns)
        if idle_ns < CONTEXT_IDLE_TIME:
            tell_untold(core, context, Trigger.IDLE_CHECKED)
        return
    close(core, context, Trigger.IDLE_CHECKED, Cause.IDLE)


def close(core: Core, context: Context, trigger: Trigger, why: Cause) -> None:
    """Stops sending data on a context and sends CLOSE; deletes one that is not set up."""
    if not context.is_settled:
        lifecycle.discard(core, context, trigger, why)
        return
    context.closing = Closing(core.nonce(), core.now_ns)
    core.enter(context, State.CLOSING, trigger, why)
    lifecycle.set_aside(core, context)
    _send_close(core, context, context.closing)


def on_close_timer(core: Core, context: Context) -> None:
    """Repeats CLOSE until it is acknowledged or X + MSL have passed [draft App. A 4]."""
    closing = context.closing
    assert closing is not None
    if core.now_ns - closing.started_ns >= CLOSE_TIME:
        lifecycle.discard(core, context, Trigger.CLOSE, Cause.CLOSE_UNACKNOWLEDGED)
        return
    _send_close(core, context, closing)


def say_close(core: Core, context: Context) -> None:
    """Sends CLOSE once for a context that is deleted at once [D46]."""
    if context.peer_locator in context.peer_verified:
        octets = short_message(core, context, Code.CLOSE, core.nonce())
        core.send_on(context, octets, context.pair, in_slot=False)


def _send_close(core: Core, context: Context, closing: Closing) -> None:
    """Sends CLOSE over each pair in turn, because the pair in use may have failed."""
    message = short_message(core, context, Code.CLOSE, closing.nonce)
    pairs = [context.pair, *alternatives(context)]
    turn = closing.tries % len(pairs)
    if pairs[turn][1] in context.peer_verified:
        in_slot = closing.tries // len(pairs) % 2 == 1
        core.send_on(context, message, pairs[turn], in_slot=in_slot)
    closing.tries += 1
    delay_ns = min(RETRANSMIT_FIRST << min(closing.tries - 1, 16), UPDATE_RETRANSMIT_MAX)
    left_ns = closing.started_ns + CLOSE_TIME - core.now_ns
    core.set_timer(context, Timer.CLOSE, min(core.jittered(delay_ns), left_ns))


def on_close(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """The peer closes: acknowledges and deletes the context [draft App. A 2, 3]."""
    context = core.labels.get(message.context.receiver_label)
    reason = None if context is None else _fault_of(context, event, message)
    if reason is not None:
        core.drop(reason)
    if context is None or reason is not None:
        # The answer is the same for every fault, so that it reveals no label [D41].
        _answer_without_context(core, event, message)
        return
    if event.source in context.peer_verified:
        _acknowledge(core, event, message, context.agreed_key)
    lifecycle.discard(core, context, Trigger.CLOSE_MESSAGE, Cause.CLOSED_BY_PEER)


def _fault_of(
    context: Context, event: ControlMessageReceived, message: ControlMessage
) -> Drop | None:
    """Why a CLOSE does not close the context that has its label; None if it does."""
    if not context.is_about(message):
        return Drop.CLOSE_FOR_NO_CONTEXT
    if context.state in (State.INIT_SENT, State.CCR_SENT):
        return Drop.CLOSE_WHILE_STARTING_OVER
    if event.source not in context.peer_acceptable or event.destination not in context.own_local:
        return Drop.CLOSE_BETWEEN_UNKNOWN_LOCATORS
    return None if is_authentic(context.agreed_key, event, message) else Drop.CLOSE_NOT_AUTHENTIC


def _answer_without_context(
    core: Core, event: ControlMessageReceived, message: ControlMessage
) -> None:
    """Sends CLOSEACK again if the peer of the deleted context sent this CLOSE, else UC [D40, D41].

    The key of a deleted context is kept as long as its label is in quarantine.
    """
    label = message.context.receiver_label
    key = core.quarantine.key_of(label)
    if event.destination not in core.locators:
        core.drop(Drop.CLOSE_FOR_ANOTHER_HOST)
    elif not key or not is_authentic(key, event, message):
        tell_unknown(core, event, label)
    elif core.may_answer(event.source, core.errors):
        _acknowledge(core, event, message, key)
    else:
        core.drop(Drop.CLOSE_OVER_RATE)


def _acknowledge(
    core: Core, event: ControlMessageReceived, message: ControlMessage, key: bytes
) -> None:
    """Sends CLOSEACK back over the pair of the CLOSE."""
    answer = ControlMessage(
        code=Code.CLOSEACK,
        nonce=message.nonce,
        sender_aid=message.receiver_aid,
        receiver_aid=message.sender_aid,
        context=ContextOption(
            sender_label=message.context.receiver_label,
            receiver_label=message.context.sender_label,
            sender_birthday=core.options.birthday,
            receiver_birthday=message.context.sender_birthday,
        ),
        authentication=NO_HASH,
    )
    octets = authenticated(core, key, answer)
    core.send(octets, (event.destination, event.source), in_slot=event.in_slot)


def on_closeack(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """The peer has closed too [draft App. A 5]; only an authentic CLOSEACK proves that [D40]."""
    context = core.labels.get(message.context.receiver_label)
    if (
        context is None
        or context.closing is None
        or not context.is_about(message)
        or context.closing.nonce != message.nonce
    ):
        core.drop(Drop.CLOSEACK_WITHOUT_CLOSE)
    elif event.source not in context.peer_acceptable:
        core.drop(Drop.CLOSEACK_FROM_UNKNOWN_LOCATOR)
    elif not is_authentic(context.agreed_key, event, message):
        core.drop(Drop.CLOSEACK_NOT_AUTHENTIC)
    else:
        lifecycle.discard(core, context, Trigger.CLOSEACK, Cause.CLOSE_ACKNOWLEDGED)
