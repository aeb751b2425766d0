# SPDX-License-Identifier: MIT
"""The host at the AID decides whose context it is [D37, D39].

A set-up proves that the peer receives at one of the locators of its name. An attacker on the path
of one provider of the peer receives there too, and may be first. Programs send to the AID, so the
host that receives at the AID is the peer, as without M6. If the peer has proven only another
locator, the host asks the AID by Update Requests. The genuine peer has the context, or answers UC.
That UC quotes a nonce which only hosts on the path to the AID have seen, and ends the context. An
acknowledgement from the AID names such a nonce, too, and proves the AID.
"""

from noid.constants import (
    AID_ASKED_MAX,
    AID_ASKS_MAX,
    DISOWNED_MAX,
    DISOWNED_TIME,
    RETRANSMIT_WAITING,
)
from noid.counters import Drop
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.phases import Exchange
from noid.engine.state import Timer, Trigger
from noid.engine.update import next_nonce, request, skip
from noid.identifiers import Nonce
from noid.locators import Locator
from noid.wire.control import ControlMessage, Flag


def begin(core: Core, context: Context) -> None:
    """Asks the AID, if the peer has not proven it and it is not being asked."""
    if not context.is_settled:
        return
    if context.aid_proven:
        core.disowning.until_ns.pop(context.key, None)  # D39 protects it now
        return
    if core.is_timer_set(context, Timer.AID):
        return
    asked = core.disowning.asked
    asked[context.local_label] = []
    asked.move_to_end(context.local_label)
    if len(asked) > AID_ASKED_MAX:
        asked.popitem(last=False)
    on_timer(core, context)


def on_timer(core: Core, context: Context) -> None:
    """Asks once more: alternately in both forms, from each locator of ours."""
    nonces = core.disowning.asked.get(context.local_label)
    if nonces is None or context.aid_proven or len(nonces) == AID_ASKS_MAX:
        return
    turn = len(nonces)
    sources = sorted(context.own_set, key=lambda one: one != context.local_aid)
    pair = sources[turn // 2 % len(sources)], context.peer_aid
    skip(core, context)
    nonces.append(next_nonce(context))
    message = request(core, context, nonces[-1], flags=Flag.ANSWER_HERE)
    skip(core, context)  # requests to other locators do not tell this nonce
    core.send_on(context, message, pair, in_slot=turn % 2 == 0)
    core.set_timer(context, Timer.AID, RETRANSMIT_WAITING << turn)


def answered(core: Core, context: Context, source: Locator, nonce: Nonce) -> None:
    """The peer received a question at its AID: that is proven, and is asked no more."""
    asked = core.disowning.asked
    if source == context.peer_aid and nonce in asked.get(context.local_label, ()):
        context.aid_proven = True
        del asked[context.local_label]
        core.stop_timer(context, Timer.AID)
        core.install(context)


def is_disowned_by(core: Core, context: Context, source: Locator, nonce: Nonce) -> bool:
    """Whether a UC or an error is the answer of the host at the AID to one of these questions.

    Args:
        core: the core of the host.
        context: the one that the quoted packet is about.
        source: of the UC or the error.
        nonce: in the quoted packet.
    """
    is_open = context.is_settled and not context.aid_proven and source == context.peer_aid
    return is_open and nonce in core.disowning.asked.get(context.local_label, ())


def disown(core: Core, context: Context, trigger: Trigger) -> None:
    """Deletes a context that the host at the AID does not have.

    For a time, only a set-up that proves the AID makes another one: else the attacker would set the
    next one up at once.
    """
    until_ns = core.disowning.until_ns
    until_ns[context.key] = core.now_ns + DISOWNED_TIME
    until_ns.move_to_end(context.key)
    if len(until_ns) > DISOWNED_MAX:
        until_ns.popitem(last=False)
    lifecycle.discard(core, context, trigger, Cause.DISOWNED_AT_AID)


def answered_destination(
    core: Core, context: Context, exchange: Exchange, message: ControlMessage, otherwise: Drop
) -> Locator | None:
    """The locator to which the INIT was sent that a CC or CONF answers.

    None if the message is dropped: it answers no INIT of the exchange, or the host at the AID has
    disowned a set-up with the host that sent it.

    Args:
        core: the core of the host.
        context: the context that is being set up.
        exchange: its exchange.
        message: the CC or CONF.
        otherwise: the reason of the drop if it answers no INIT.
    """
    assert message.tokens is not None
    proven = exchange.nonces.get(message.nonce)
    if proven is None or message.tokens.receiver != context.local_token:
        core.drop(otherwise)
        return None
    if not exchange.rounds and is_refused(core, context.local_aid, context.peer_aid, proven):
        core.drop(Drop.SET_UP_DISOWNED_AT_AID)
        return None
    return proven


def is_refused(core: Core, local_aid: Locator, peer_aid: Locator, proven: Locator) -> bool:
    """Whether a set-up that has proven this locator is refused, because of such an answer.

    The initiator refuses it for one round of INIT: an AID that is silent then may be unreachable.
    """
    until_ns = core.disowning.until_ns.get(local_aid + peer_aid, 0)
    return proven != peer_aid and core.now_ns < until_ns
