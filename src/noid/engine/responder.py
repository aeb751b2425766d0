# SPDX-License-Identifier: MIT
"""Setting a context up as the responder: CC without state, CONF [draft §7.3, §7.5; D8, D13, D37].

An INIT creates no state: the responder puts it into CC, with its own keyed hash, and CCR returns
it. Only CCR creates a context. The initiator is in handshake.py.
"""

from noid.constants import MEASURED_MAX
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine import at_aid, lifecycle
from noid.engine.announcing import announce
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.handshake import (
    establish,
    key_with,
    know_peer,
    own_reset_hash,
    own_side,
    repeat_init,
    said_by_sender,
)
from noid.engine.locator_sets import NO_MARKS
from noid.engine.own import marks
from noid.engine.phases import OwnCcr, Probation
from noid.engine.quarantine import exchange_of
from noid.engine.room import is_crowded, make_room_for_peer
from noid.engine.secrets import CookieEnd, Side, context_key, cookie_state
from noid.engine.state import State, Timer, Trigger
from noid.engine.update import (
    NO_HASH,
    authenticated,
    own_entries,
    peer_entries,
    tell_untold,
    ulp_packet,
    with_piggyback,
)
from noid.engine.verifying import begin
from noid.flows.events import ControlMessageReceived
from noid.identifiers import NO_LABEL
from noid.locators import Locator, is_global_unicast
from noid.wire.control import NO_FLAGS, Code, ControlMessage, Flag
from noid.wire.options import (
    ContextOption,
    Entries,
    LocatorEntry,
    LocatorFlag,
    Tokens,
)


def on_init(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """Answers INIT: CC without state, or CONF for an existing context [draft §7.3, D13]."""
    local_aid, peer_aid = message.receiver_aid, message.sender_aid
    context = core.contexts.get(local_aid + peer_aid)
    # It must arrive at "a locator which is part of Lsl(host)", of the context if there is one.
    own = core.locators if context is None else context.own_local
    if local_aid not in own or event.destination not in own:
        core.drop(Drop.INIT_FOR_AID_NOT_OURS)
        return
    if not message.context.sender_label or not is_global_unicast(peer_aid):
        core.drop(Drop.INIT_WITHOUT_LABEL_OR_AID)
        return
    if context is None:
        if core.bypasses(peer_aid):
            core.drop(Drop.BYPASSED_BY_POLICY)
            return
        _answer_statelessly(core, event, message)
        return
    if context.is_settled:
        _answer_statelessly(core, event, message)  # the CCR shows whose exchange it is [D39]
        return
    if event.source not in context.peer_acceptable | set(context.peer_set):
        core.drop(Drop.INIT_FROM_UNKNOWN_LOCATOR)
        return
    match context.state:
        case State.CCR_SENT | State.IDLE:
            # "Since A has sent the CCR it knows that B will soon complete" [draft §4.3.2 step 5]
            core.drop(Drop.INIT_WHILE_CCR_SENT)
        case State.INIT_SENT:
            _answer_crossing(core, context, event, message)


def _answer_crossing(
    core: Core, context: Context, event: ControlMessageReceived, message: ControlMessage
) -> None:
    """Sends CONF for an INIT that crosses ours [draft §4.3.1].

    Nothing is taken from the INIT: the CONF with our nonce completes our side [D13, D48]. Above the
    rate of key computations CC is sent; otherwise spoofed INITs would block the INIT of the peer.
    """
    exchange = context.exchange
    assert exchange is not None
    if not core.may_answer(event.source, core.checks):
        core.drop(Drop.INIT_OVER_RATE)  # its source may be forged, and CONF is longer [D9]
        return
    key = key_with(core, context, exchange, said_by_sender(message), message.code)
    if not key:
        core.drop(Drop.INIT_KEY_REFUSED)
        _send_cc(core, event, message)
        return
    announce(core, context)
    _send_conf(core, context, message, event, (exchange.keys.public, key), with_sets=True)
    pair = event.destination, event.source
    if pair not in exchange.again:  # a forged INIT may have come by a pair that is dead
        exchange.again.add(pair)
        exchange.tried.discard(pair)  # if this CONF or that of the peer is lost, this pair is next
    repeat_init(core, context, exchange, pair, in_slot=event.in_slot)


def _answer_statelessly(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """Sends CC, as often as the share of the source allows [D9]."""
    if core.may_answer(event.source, core.checks):
        _send_cc(core, event, message)
    else:
        core.drop(Drop.INIT_OVER_RATE)


def _send_cc(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """CC, which "effectively contains the state it would have allocated" [draft §3.3.2, D8]."""
    assert message.tokens is not None
    # "This packet can potentially be passed to the ULP" [§7.3]: never here, because nothing is
    # proven, and the packet would bypass the firewall of the host.
    is_discarded = message.piggyback is not None
    flags = Flag.ULP_PACKET_DISCARDED if is_discarded else NO_FLAGS
    initiator_said = {entry.locator for entry in message.receiver_locators}
    own = _own_entries_for(core, message.receiver_aid, initiator_said)
    tokens = Tokens(sender=core.token(), receiver=message.tokens.sender)
    labels = message.context
    state = cookie_state(
        CookieEnd(
            message.sender_aid,
            labels.sender_label,
            labels.sender_birthday,
            tokens.receiver,
            message.sender_locators,
        ),
        CookieEnd(message.receiver_aid, NO_LABEL, core.options.birthday, tokens.sender, own),
        message.key,
    )
    cookie = core.keys.seal(state, event.source, core.now_ns)
    reply = ControlMessage(
        code=Code.CC,
        nonce=message.nonce,
        sender_aid=message.receiver_aid,
        receiver_aid=message.sender_aid,
        flags=flags,
        context=ContextOption(
            receiver_label=labels.sender_label,
            sender_birthday=core.options.birthday,
            receiver_birthday=labels.sender_birthday,
        ),
        tokens=tokens,
        sender_locators=own,
        receiver_locators=message.sender_locators,
        key=core.keys.pair(core.now_ns).public,
        cookie=cookie,
    )
    # With the maximum of locators it is shorter than three of the shortest INIT [D9].
    core.send(reply, (event.destination, event.source), in_slot=event.in_slot)


def _own_entries_for(core: Core, aid: Locator, remote: set[Locator]) -> Entries:
    """Our Lsl, with marks on the members that the initiator found in the DNS.

    Locators that are only in Lsr are in no intersection and are left out.
    """
    locators = core.locators_with(aid)
    flags = {entry.locator: entry.flags for entry in marks(core.own, locators, aid)}
    entries = [
        LocatorEntry(
            locator,
            LocatorFlag.LOCAL
            | (LocatorFlag.REMOTE if locator in remote else NO_MARKS)
            | flags.get(locator, NO_MARKS),
        )
        for locator in locators
    ]
    return tuple(entries)


def on_ccr(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """Creates or completes a context from the state in a CCR, if that is ours [draft §7.5, D8]."""
    cookie = message.cookie
    assert cookie is not None
    opened = core.keys.opens(cookie, _state_in(message), core.now_ns)
    if opened is None:
        core.drop(Drop.CCR_WITH_BAD_COOKIE)
        return
    ccr = OwnCcr(event, message, said_by_sender(message), cookie, *opened)
    local_aid, peer_aid = message.receiver_aid, message.sender_aid
    context = core.contexts.get(local_aid + peer_aid) or _on_probation(core, message)
    own = core.locators if context is None else context.own_local
    if context is None and core.bypasses(peer_aid):
        core.drop(Drop.BYPASSED_BY_POLICY)
    elif local_aid not in own or event.destination not in own:
        core.drop(Drop.CCR_FOR_AID_NOT_OURS)
    elif is_crowded(core, message.context.sender_label, context):
        core.drop(Drop.LABEL_OF_TOO_MANY_PEERS)
    elif at_aid.is_refused(core, local_aid, peer_aid, cookie.locator):
        core.drop(Drop.SET_UP_DISOWNED_AT_AID)
    elif ccr.made_ns <= core.quarantine.deleted_ns(ccr.peer):
        core.drop(Drop.CCR_OF_DELETED_CONTEXT)  # any observer can send it again
    elif context is None:
        _make(core, ccr)
    elif not context.is_complete:
        _complete(core, context, ccr)
    elif not _is_of(context, message):
        if context.is_settled and not context.aid_proven and cookie.locator == peer_aid:
            # Programs send to the AID: who receives there is the peer, as without M6.
            lifecycle.discard(core, context, Trigger.CCR, Cause.PROVEN_AT_AID)
            _make(core, ccr)
        else:
            _keep(core, context, ccr)
    elif not core.may_answer(cookie.locator, core.checks):
        core.drop(Drop.CCR_OVER_RATE)
    else:
        _confirm(core, context, ccr, is_known=True)  # the CONF was lost [D12]


def _confirm(
    core: Core, context: Context, ccr: OwnCcr, *, waiting: bytes = b"", is_known: bool = False
) -> None:
    """Answers a CCR, and delivers its piggyback; a context that existed takes no sets."""
    event, message = ccr.event, ccr.message
    keys = context.local_key, context.agreed_key
    _send_conf(core, context, message, event, keys, with_sets=is_known, waiting=waiting)
    tell_untold(core, context, Trigger.CCR)
    if message.piggyback is not None:
        core.deliver(context, ulp_packet(message))


def _keep(core: Core, context: Context, ccr: OwnCcr) -> None:
    """Stores the CCR of another exchange, which replaces the context if the peer is silent [D39].

    If no locator is proven, there is no traffic that could be captured; then the exchange itself
    proves the AID, as in a first set-up [D8].
    """
    proven = context.peer_verified or {context.peer_aid}
    if context.is_provisional or ccr.cookie.locator not in proven:
        core.drop(Drop.CCR_WOULD_REPLACE_UNPROVEN)
        return
    context.rival = ccr
    if context.trial is None:
        core.set_timer(context, Timer.TRIAL, max(0, context.next_trial_ns - core.now_ns))


def replace(core: Core, context: Context, ccr: OwnCcr) -> bool:
    """The peer of a context was silent: the sender of the stored CCR replaces it [D39].

    Returns:
        Whether its public key and label permit that.
    """
    secret = ccr.keys.agree(ccr.message.key)
    if not secret or is_crowded(core, ccr.message.context.sender_label, context):
        core.drop(Drop.CCR_WITH_BAD_KEY_OR_LABEL)
        return False
    core.enter(context, State.IDLE, Trigger.CCR, Cause.REPLACED_BY_PEER)
    context.aid_proven |= ccr.cookie.locator == context.peer_aid
    _establish_with(core, context, ccr, secret)
    begin(core, context)
    _confirm(core, context, ccr)
    return True


def _state_in(message: ControlMessage) -> bytes:
    """The state in a CCR, in the form that the cookie covers."""
    assert message.tokens is not None
    labels, tokens = message.context, message.tokens
    initiator = CookieEnd(
        message.sender_aid,
        labels.sender_label,
        labels.sender_birthday,
        tokens.sender,
        message.sender_locators,
    )
    responder = CookieEnd(
        message.receiver_aid,
        labels.receiver_label,
        labels.receiver_birthday,
        tokens.receiver,
        message.receiver_locators,
    )
    return cookie_state(initiator, responder, message.key)


def _is_of(context: Context, message: ControlMessage) -> bool:
    """Whether a CCR is that of this context, by label, token and key [D39]."""
    return exchange_of(context) == said_by_sender(message)


def _on_probation(core: Core, message: ControlMessage) -> Context | None:
    """The provisional context that this CCR created earlier, if there is one [D12, D37]."""
    for context in core.by_peer_label.get(message.context.sender_label, ()):
        same = context.local_aid == message.receiver_aid and _is_of(context, message)
        if same and context.is_provisional:
            return context
    return None


def _complete(core: Core, context: Context, ccr: OwnCcr) -> None:
    """The second form of concurrent establishment: our INIT crossed their CCR [draft §4.3.2].

    The CC must have been sent to a proven locator of the peer. Otherwise any host could complete
    our context in the name of the peer [D37].
    """
    exchange, proven = context.exchange, ccr.cookie.locator
    if context.state is not State.INIT_SENT or ccr.event.source not in context.peer_set:
        core.drop(Drop.CCR_IN_ANOTHER_STATE)
        return
    if proven not in context.peer_verified | {context.peer_aid}:
        core.drop(Drop.CCR_WOULD_COMPLETE_UNPROVEN)
        return
    assert exchange is not None
    key = key_with(core, context, exchange, ccr.peer, Code.CCR)
    if not key:
        core.drop(Drop.CCR_KEY_REFUSED)
        return
    context.aid_proven |= proven == context.peer_aid
    _establish_by(core, context, ccr, own_side(context, exchange.keys.public), key)
    _confirm(core, context, ccr, waiting=exchange.waiting)


def _make(core: Core, ccr: OwnCcr) -> None:
    """Creates the context of a responder; the destination of the CC is proven [D8]."""
    message, proven = ccr.message, ccr.cookie.locator
    secret = ccr.keys.agree(message.key)
    if not secret:
        core.drop(Drop.CCR_WITH_BAD_KEY)
        return
    local_aid, peer_aid = message.receiver_aid, message.sender_aid
    # Any host can send such a CCR with the AID of another host [D37].
    probation = Probation(proven) if proven != peer_aid else None
    own_local = core.locators_with(local_aid)
    make_room_for_peer(core, proven, provisional=probation is not None)
    inquiry = Verification(peer_aid, None)
    context = lifecycle.create(
        core, local_aid, peer_aid, inquiry, own_local, probation, began=proven
    )
    if context is None:
        return
    context.aid_proven = probation is None
    _establish_with(core, context, ccr, secret)
    begin(core, context)
    _confirm(core, context, ccr)


def _establish_with(core: Core, context: Context, ccr: OwnCcr, secret: bytes) -> None:
    """Establishes a context with our token and key of the CC, which the CCR returns.

    A context that has sent INIT uses its own token and key instead, because a CONF may have sent
    them already.
    """
    tokens = ccr.message.tokens
    assert tokens is not None
    own = Side(context.local_aid, context.local_label, tokens.receiver, ccr.keys.public)
    key = context_key(secret, own, ccr.peer)
    _establish_by(core, context, ccr, own, key)


def _establish_by(core: Core, context: Context, ccr: OwnCcr, own: Side, key: bytes) -> None:
    """Stores what a CCR says about the peer; the context carries data from now on.

    Args:
        core: the core of the host.
        context: the one it is about.
        ccr: the CCR.
        own: our description in the CONF.
        key: K.
    """
    message, cookie = ccr.message, ccr.cookie
    pair = ccr.event.destination, cookie.locator
    if core.now_ns - ccr.made_ns < MEASURED_MAX:
        context.measure(pair, ccr.made_ns, core.now_ns)
    context.learn_peer_locators(message.sender_locators)
    context.learn_own_locators(message.receiver_locators)
    # The initiator has our sets from the CC.
    said = {(one.locator, one.flags & ~LocatorFlag.REMOTE) for one in message.receiver_locators}
    context.untold = said != set(own_entries(context))
    know_peer(core, context, ccr.peer, own, key)
    context.peer_birthday = message.context.sender_birthday
    context.peer_reset_hash = message.reset_token
    establish(core, context, Trigger.CCR, Cause.CCR_RECEIVED, pair)


def _send_conf(
    core: Core,
    context: Context,
    message: ControlMessage,
    event: ControlMessageReceived,
    keys: tuple[bytes, bytes],
    *,
    with_sets: bool,
    waiting: bytes = b"",
) -> None:
    """Sends CONF in answer to a CCR, or with our sets in answer to an INIT [draft §3.3.4].

    Args:
        core: the core of the host.
        context: the one it is about.
        message: the message that it answers.
        event: the event of that message.
        keys: our public key, and K.
        with_sets: whether the peer does not have our sets from a CC.
        waiting: a packet of the ULP that was sent plain to an AID that does not answer [D7].
    """
    assert message.tokens is not None
    reply = ControlMessage(
        code=Code.CONF,
        nonce=message.nonce,
        sender_aid=context.local_aid,
        receiver_aid=context.peer_aid,
        context=ContextOption(
            sender_label=context.local_label,
            receiver_label=message.context.sender_label,
            sender_birthday=core.options.birthday,
            receiver_birthday=message.context.sender_birthday,
        ),
        tokens=Tokens(sender=context.local_token, receiver=message.tokens.sender),
        sender_locators=own_entries(context) if with_sets else (),
        receiver_locators=peer_entries(context) if context.verification.settled else (),
        authentication=NO_HASH,
        reset_token=own_reset_hash(core, context),
        key=keys[0],
    )
    # The source field of a CCR proves nothing; the destination of its CC is proven [D8]. A cookie
    # in an INIT is not checked.
    cookie = message.cookie if message.code is Code.CCR else None
    destination = event.source if cookie is None else cookie.locator
    if cookie is not None and reply.receiver_locators:
        context.told_remote = context.peer_remote
    if cookie is not None and destination != context.peer_aid:
        # Not in answer to an INIT: the source of an INIT is not proven [D9].
        reply = with_piggyback(core, reply, waiting)
    octets = authenticated(core, keys[1], reply)
    core.send(octets, (event.destination, destination), in_slot=event.in_slot)
