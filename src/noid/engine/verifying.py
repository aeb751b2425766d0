# SPDX-License-Identifier: MIT
"""The contexts' questions to the DNS and what their answers change [draft §4.1 step 7, §7.13].

Questions are asked only for an existing context, never because of an INIT or of a data packet with
an unknown locator [D31]. A proven locator is usable at once. An Update Request tells the peer which
locators the DNS refutes, so that it stops using them as sources.
"""

from noid.constants import (
    DNS_RETRY_FIRST,
    DNS_RETRY_MAX,
    LOOK_AGAIN_MIN,
    RETRANSMIT_WAITING,
    SECOND,
    VERIFY_AGAIN_MIN,
    VERIFY_AGAIN_QUESTIONS_MAX,
    VERIFY_AGAIN_WAITING,
    VERIFY_USED_TIME,
)
from noid.dns.records import Question
from noid.dns.verification import Verification
from noid.engine import at_aid, lifecycle, peers
from noid.engine.causes import Cause
from noid.engine.close import close
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import AnswerArrived, CheckIdle, IdleChecked, LocatorsVerified
from noid.engine.phases import Probation
from noid.engine.renewing import renew
from noid.engine.state import State, Timer, Trigger
from noid.engine.update import tell_remote, tell_untold
from noid.locators import Locator
from noid.shares.policy import INQUIRIES

REGION_OCTETS = 4
"""A region is a /32."""


def begin(core: Core, context: Context) -> None:
    """Asks the first questions about the peer of a new context, if any are needed."""
    if context.is_all_proven:
        context.verification = Verification(context.peer_aid, None)
    elif context.verification.settled and context.verification.proven:
        _renew(core, context)  # proven for the context that this one replaces
    elif context.probation is None and not _has_turn(core, context):
        core.set_timer(context, Timer.VERIFY_AGAIN, core.jittered(VERIFY_AGAIN_WAITING))
    else:
        core.ask(context, context.verification.begin())


def _has_turn(core: Core, context: Context) -> bool:
    """Whether the peer of a context without data so far may be looked up [D46].

    While many questions are open, the questions because of one /32 are limited to its share. A
    context that waits is checked later, and asks soon if it is in use.
    """
    if context.began is None or len(core.questions) < INQUIRIES.limit // 2:
        return True
    region = context.began[:REGION_OCTETS]
    count = sum(one.behalf[:REGION_OCTETS] == region for one in core.questions)
    return count < INQUIRIES.share


def _renew(core: Core, context: Context) -> None:
    """Begins the next inquiry."""
    context.renewal = context.verification.again()
    core.ask(context, context.renewal.begin())


def on_answer(core: Core, event: AnswerArrived) -> None:
    """Gives an answer to each context that waits for it."""
    question = event.question
    if question.behalf:
        question = Question(question.kind, question.name)
    for context in core.questions.pop(event.question, {}):
        if context.state is State.CLOSING:
            continue  # needs no answers
        before, proofs = context.peer_verified, _proofs(context)
        was_settled = context.verification.settled
        for inquiry in _inquiries(context):
            if questions := inquiry.receive(question, event.answer, context.peer_local):
                core.ask(context, questions)
            if inquiry.failed and not core.is_timer_set(context, Timer.DNS_RETRY):
                _retry_later(core, context)
        renewal = context.renewal
        if renewal is not None and renewal.another:
            close(core, context, Trigger.DNS_ANSWER, Cause.AID_OF_ANOTHER_NAME)
            continue
        if renewal is not None and renewal.settled:
            was_settled = False
            _replace(core, context, renewal)
        verified = before if _proofs(context) == proofs else context.peer_verified
        if context.state is State.INIT_SENT:
            _hurry(core, context, verified - before)
        if context.lapsing or context.peer_locator not in before or verified != before:
            core.install(context)
        if context.probation is not None:
            _judge(core, context, context.probation)
        elif context.verification.settled and not was_settled:
            _settled(core, context)


def _proofs(context: Context) -> tuple[tuple[Locator, ...], ...]:
    """What Lsv(peer) depends on that the DNS changes."""
    verification = context.verification
    return verification.proven, verification.remote, tuple(context.lapsing)


def _hurry(core: Core, context: Context, proven: frozenset[Locator]) -> None:
    """Sends INIT to a newly proven destination, at once or 250 ms after the last INIT [D38]."""
    exchange = context.exchange
    if exchange is not None and proven - {context.peer_aid}:
        due_ns = exchange.sent_ns + RETRANSMIT_WAITING
        core.bring_forward(context, Timer.RETRANSMIT, due_ns)


def _replace(core: Core, context: Context, renewal: Verification) -> None:
    """Keeps locators that the DNS no longer lists for two more TTLs [D44]."""
    until_ns = core.now_ns + 2 * max(renewal.ttl_seconds * SECOND, LOOK_AGAIN_MIN)
    lapsing = {
        locator: context.lapsing.get(locator, until_ns)
        for locator in (*context.verification.proven, *context.lapsing)
        if locator not in renewal.proven
    }
    context.lapsing = {one: until for one, until in lapsing.items() if until > core.now_ns}
    context.verification, context.renewal = renewal, None


def _inquiries(context: Context) -> tuple[Verification, ...]:
    renewal = context.renewal
    return (context.verification,) if renewal is None else (context.verification, renewal)


def _retry_later(core: Core, context: Context) -> None:
    delay_ns = min(DNS_RETRY_FIRST << min(context.dns_tries, 16), DNS_RETRY_MAX)
    core.set_timer(context, Timer.DNS_RETRY, core.jittered(delay_ns))


def on_retry(core: Core, context: Context) -> None:
    """Asks questions again that met a transient error [D30], if the context is in use [D46].

    A set-up that local programs wait for is in use, and so is a provisional context that holds a
    packet. For other contexts the data plane knows when they were last used.
    """
    if context.is_settled:
        core.emit(CheckIdle(context.local_label))
    elif context.probation is None or context.probation.held:
        _ask_again(core, context)
    else:
        _retry_later(core, context)  # asked again once a packet is held


def on_use_checked(core: Core, event: IdleChecked) -> None:
    """Continues the inquiries of a context that is in use; those of others wait."""
    context = core.labels.get(event.local_label)
    if context is None or not context.is_settled:
        return
    is_used = event.in_use or core.now_ns - context.heard_ns(event.received_ns) < VERIFY_USED_TIME
    if _is_asking(context):
        if core.is_timer_set(context, Timer.DNS_RETRY):
            return
        if not any(inquiry.failed for inquiry in _inquiries(context)):
            return
        if is_used:
            _ask_again(core, context)
        else:
            context.dns_tries += 1
            _retry_later(core, context)
    elif not context.is_all_proven and not core.is_timer_set(context, Timer.VERIFY_AGAIN):
        if is_used and len(core.questions) < VERIFY_AGAIN_QUESTIONS_MAX:
            _renew(core, context)
        else:
            wait_ns = VERIFY_AGAIN_WAITING if is_used else VERIFY_AGAIN_MIN
            core.set_timer(context, Timer.VERIFY_AGAIN, core.jittered(wait_ns))


def _ask_again(core: Core, context: Context, first: Locator | None = None) -> None:
    context.dns_tries += 1
    for inquiry in _inquiries(context):
        core.ask(context, inquiry.retry(first))


def put_first(core: Core, context: Context, locator: Locator) -> None:
    """The peer sends from a locator of its own that is not proven: verifies that next.

    It is "put first in the list of asynchronous DNS verifications" [draft §4.2, §7.11 3b, D21]: a
    failed question is asked again at once; if the DNS did not list the locator, after its TTL.
    """
    if not context.is_complete or locator not in context.peer_acceptable:
        return
    if any(inquiry.failed for inquiry in _inquiries(context)):
        core.stop_timer(context, Timer.DNS_RETRY)
        _ask_again(core, context, locator)
    elif locator not in context.peer_remote:
        look_again(core, context)


def look_again(core: Core, context: Context) -> None:
    """The peer has a locator that the DNS did not list: asks whether it has been added.

    The DNS is asked when "the remaining DNS TTL for the FQDN has reached zero" [draft §7.8]; before
    that its answer would be the same.
    """
    if context.is_complete and not _is_asking(context):
        ttl_ns = max(context.verification.ttl_seconds * SECOND, LOOK_AGAIN_MIN)
        due_ns = context.settled_ns + ttl_ns if context.settled_ns else 0
        core.set_timer(context, Timer.VERIFY_AGAIN, max(0, due_ns - core.now_ns))


def on_verify_again(core: Core, context: Context) -> None:
    """Repeats the inquiry if the context is in use; proven locators stay so until its end.

    [draft §4.5, D31, D46]
    """
    if _is_asking(context) or context.is_all_proven:
        return
    if context.lapsing or not context.is_settled:
        # Locators that the DNS no longer lists must expire in time; programs wait for a set-up.
        _renew(core, context)
    else:
        core.emit(CheckIdle(context.local_label))


def on_provisional_timer(core: Core, context: Context) -> None:
    """The DNS has not proven a context in time [D37]."""
    lifecycle.discard(core, context, Trigger.PROVISIONAL, Cause.NOT_PROVEN_IN_TIME)


def _is_asking(context: Context) -> bool:
    """Whether an inquiry is in progress; its end sets the timer for the next."""
    return not context.verification.settled or context.renewal is not None


def _judge(core: Core, context: Context, probation: Probation) -> None:
    """Proves or deletes a provisional context, if the answers suffice [D37]."""
    if probation.locator in context.verification.verified:
        if context.key in core.contexts:
            lifecycle.discard(core, context, Trigger.DNS_ANSWER, Cause.ANOTHER_PROVEN)
        else:
            lifecycle.prove(core, context)
            at_aid.begin(core, context)
            tell_untold(core, context, Trigger.DNS_ANSWER)
            if context.verification.settled:
                _settled(core, context)
    elif context.verification.settled:
        lifecycle.discard(core, context, Trigger.DNS_ANSWER, Cause.PEER_REFUTED)


def _settled(core: Core, context: Context) -> None:
    """The inquiry is over: reports it, and tells the peer if its sets are smaller."""
    context.dns_tries = 0
    context.settled_ns = core.now_ns
    context.share_sets()
    core.rank_again(context)
    verification = context.verification
    verified = context.peer_verified
    proven = tuple([locator for locator in context.peer_set if locator in verified])
    core.emit(LocatorsVerified(context.peer_aid, verification.name, proven))
    if context.peer_aid in verification.proven:
        at_aid.begin(core, context)
        valid_ns = max(verification.ttl_seconds * SECOND, LOOK_AGAIN_MIN)
        peers.confirm(core, context.peer_aid, verification.name, verification.remote, valid_ns)
    again_ns = _lasting_ns(core, context)
    lapse_ns = min(context.lapsing.values(), default=core.now_ns + again_ns) - core.now_ns
    core.set_timer(context, Timer.VERIFY_AGAIN, max(0, min(again_ns, lapse_ns)))
    tell_remote(core, context, Trigger.DNS_ANSWER)
    if core.own.pins:
        renew(core, context, Trigger.DNS_ANSWER)  # its name may be pinned to an uplink


def _lasting_ns(core: Core, context: Context) -> int:
    """How long what the DNS says of a peer holds.

    A peer that no pair reaches may have moved to a locator that its name does not list yet.
    """
    ttl_ns = context.verification.ttl_seconds * SECOND
    if context.is_searching and not set(context.peer_local) <= set(context.peer_remote):
        return max(ttl_ns, LOOK_AGAIN_MIN)
    lifetime_ns = max(ttl_ns, VERIFY_AGAIN_MIN)
    return lifetime_ns // 2 + core.jittered(lifetime_ns)
