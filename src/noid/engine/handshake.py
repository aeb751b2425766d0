# SPDX-License-Identifier: MIT
"""Setting a context up as the initiator: INIT, CCR [draft §4.1, §7.2, §7.4, §7.6, §7.10].

The initiator sends INIT when the ULP sends to a peer that the resolver called M6 capable. The
responder (responder.py) answers with CC and keeps no state; CCR returns the state with the
responder's own keyed hash. CCR creates the context at the responder, CONF completes it at the
initiator. Both ends agree on a key, which authenticates CONF and all later messages [D40]. Until
then packets of the ULP are plain, between the AIDs: set-up adds no round trip, and a peer that does
not answer is reached as without noid [D15].
"""

from noid.constants import (
    CCR_TRIES_MAX,
    CONTEXT_IDLE_TIME,
    INIT_ROUNDS_MAX,
    PROVISIONAL_LIFETIME,
    RETRANSMIT_FIRST,
    RETRANSMIT_WAITING,
    SILENCE_MIN,
    SOURCES_MAX,
)
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine import at_aid, lifecycle, peers, update
from noid.engine.announcing import announce, deliver_held
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import NoteHeard, SourceNotCovered
from noid.engine.history import Pair
from noid.engine.phases import Exchange
from noid.engine.room import is_crowded, make_room_for_user
from noid.engine.searching import go_on
from noid.engine.secrets import Side, context_key, reset_hash, reset_token
from noid.engine.selection import first_contacts
from noid.engine.state import State, Timer, Trigger
from noid.engine.update import (
    is_authentic,
    own_entries,
    peer_entries,
    restore,
    tell_remote,
    tell_untold,
    ulp_packet,
    with_piggyback,
)
from noid.engine.verifying import begin
from noid.flows.events import ControlMessageReceived, UlpPacketSeen
from noid.identifiers import Nonce
from noid.locators import Locator, is_global_unicast
from noid.wire.control import Code, ControlMessage, Flag
from noid.wire.options import ContextOption, Tokens


def on_ulp_packet(core: Core, event: UlpPacketSeen) -> None:
    """The ULP sent to a peer; begins a context if that is M6 capable [draft §4.1 step 3]."""
    packet = event.packet
    local_aid = Locator(packet[8:24])
    peer_aid = Locator(packet[24:40])
    context = core.contexts.get(local_aid + peer_aid)
    if context is not None:
        if context.exchange is not None:
            context.exchange.waiting = packet
        return
    peer = core.peers.get(peer_aid) or peers.met(core, peer_aid)
    if core.is_unable(peer_aid):
        return
    if core.bypasses(peer_aid):
        return
    if local_aid not in core.locators:
        if peer is not None or core.uses[peer_aid]:
            _not_covered(core, local_aid, peer_aid)
        return
    if peer is None:
        return
    verification = Verification(peer_aid, peer.name, peer.locators)
    make_room_for_user(core, event.user)
    own_local = core.locators if core.options.is_verifiable else core.locators_with(local_aid)
    context = lifecycle.create(core, local_aid, peer_aid, verification, own_local, user=event.user)
    if context is not None:
        begin(core, context)
        start(core, context, packet, Trigger.ULP_PACKET, Cause.ULP_SENDS)


def _not_covered(core: Core, source: Locator, peer_aid: Locator) -> None:
    """Reports once an address that cannot have a context."""
    if not is_global_unicast(source) or source in core.uncovered:
        return
    if len(core.uncovered) < SOURCES_MAX:
        core.uncovered[source] = None
        core.emit(SourceNotCovered(source, peer_aid))


def start(
    core: Core,
    context: Context,
    waiting: bytes,
    trigger: Trigger,
    why: Cause,
    *,
    before: Exchange | None = None,
) -> None:
    """Begins the exchange, or begins it again within the same time limit.

    Args:
        core: the core of the host.
        context: the one it is about.
        waiting: the latest packet of the ULP that was sent plain.
        trigger: what has happened.
        why: what to report.
        before: the exchange that this one continues.
    """
    context.told_remote = ()
    # A peer that still has the context takes no sets from this exchange [D39].
    context.untold |= context.is_known_to_peer
    keys = core.keys.pair(core.now_ns) if before is None else before.keys
    context.exchange = Exchange(core.now_ns, core.now_ns, keys, waiting=waiting)
    if before is not None:
        context.exchange.started_ns, context.exchange.held = before.started_ns, before.held
        context.exchange.ccr_tries = before.ccr_tries
    core.enter(context, State.INIT_SENT, trigger, why)
    _send_init(core, context, context.exchange)


def _send_init(core: Core, context: Context, exchange: Exchange) -> None:
    """Sends INIT over the next pair, and waits [draft §7.2, §4.4; D16]."""
    pairs = _untried(context, exchange)
    if not pairs:
        exchange.rounds += 1
        exchange.tried.clear()
        pairs = _untried(context, exchange)
    pair, *others = pairs
    exchange.tried.add(pair)
    message = _init_to(core, context, exchange, pair[1])
    if pair[1] != context.peer_aid and pair[0] == context.local_aid:
        # The packet was sent plain to an AID that does not answer; it may arrive with INIT [D7].
        message = with_piggyback(core, message, exchange.waiting)
    exchange.carried = exchange.waiting if message.piggyback is not None else b""
    exchange.sent_ns = core.now_ns
    exchange.tries += 1
    # Some networks drop unknown protocols, others rewrite sources: both forms alternate [D6].
    core.send_on(context, message, pair, in_slot=exchange.rounds % 2 == 1)
    delay_ns = RETRANSMIT_WAITING
    if not others:
        delay_ns = core.jittered(RETRANSMIT_FIRST << min(exchange.rounds, 16))
    core.set_timer(context, Timer.RETRANSMIT, delay_ns)


def _init_to(
    core: Core, context: Context, exchange: Exchange, destination: Locator
) -> ControlMessage:
    """The INIT to one locator of the peer."""
    return ControlMessage(
        code=Code.INIT,
        nonce=_nonce_to(core, exchange, destination),
        sender_aid=context.local_aid,
        receiver_aid=context.peer_aid,
        context=ContextOption(
            sender_label=context.local_label,
            sender_birthday=core.options.birthday,
            receiver_birthday=context.peer_birthday,
        ),
        tokens=Tokens(sender=context.local_token),
        key=exchange.keys.public,
        sender_locators=own_entries(context),
        receiver_locators=peer_entries(context),
    )


def repeat_init(
    core: Core, context: Context, exchange: Exchange, pair: Pair, *, in_slot: bool
) -> None:
    """Sends an additional INIT to a peer that has just been heard.

    The peer may have started noid after the last INIT, and the next repetition may be half a minute
    away. Until then the peer would take the silence for a failure.
    """
    if core.now_ns - exchange.sent_ns >= RETRANSMIT_WAITING:
        exchange.sent_ns = core.now_ns
        exchange.tries += 1
        core.send_on(context, _init_to(core, context, exchange, pair[1]), pair, in_slot=in_slot)


def _untried(context: Context, exchange: Exchange) -> list[Pair]:
    """The pairs over which INIT was not sent in this round yet; the DNS may prove more."""
    return [pair for pair in first_contacts(context) if pair not in exchange.tried]


def _nonce_to(core: Core, exchange: Exchange, destination: Locator) -> Nonce:
    """The nonce of the INITs to a destination; hosts at other destinations do not see it [D38]."""
    for nonce, other in exchange.nonces.items():
        if other == destination:
            return nonce
    nonce = core.nonce()
    exchange.nonces[nonce] = destination
    return nonce


def on_cc(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """The responder sent its state, which CCR returns [draft §7.4]."""
    context = core.contexts.get(message.receiver_aid + message.sender_aid)
    exchange = context.exchange if context is not None else None
    if context is None or exchange is None or context.state is not State.INIT_SENT:
        core.drop(Drop.CC_WITHOUT_INIT)
        return
    assert message.tokens is not None
    proven = at_aid.answered_destination(core, context, exchange, message, Drop.CC_WITH_OTHER_NONCE)
    if proven is None:
        return
    if message.context.receiver_label != context.local_label:
        core.drop(Drop.CC_WITH_OTHER_LABEL)
        return
    exchange.secret = exchange.keys.agree(message.key)
    if not exchange.secret:
        core.drop(Drop.CC_WITH_BAD_KEY)
        return
    context.learn_peer_locators(message.sender_locators)
    # The responder has our locators from an INIT, unless an attacker has altered them.
    context.untold = message.receiver_locators != own_entries(context)
    context.peer_birthday = message.context.sender_birthday
    exchange.peer_token, exchange.peer_key = message.tokens.sender, message.key
    if message.piggyback is not None and event.source in context.peer_set:
        core.deliver(context, ulp_packet(message))
    context.aid_proven |= proven == context.peer_aid
    if exchange.tries == 1:
        context.measure((event.destination, event.source), exchange.sent_ns, core.now_ns)
    core.enter(context, State.CCR_SENT, Trigger.CC, Cause.CC_RECEIVED)
    reply = ControlMessage(
        code=Code.CCR,
        nonce=message.nonce,
        sender_aid=context.local_aid,
        receiver_aid=context.peer_aid,
        context=ContextOption(
            sender_label=context.local_label,
            sender_birthday=message.context.receiver_birthday,
            receiver_birthday=message.context.sender_birthday,
        ),
        tokens=Tokens(sender=context.local_token, receiver=exchange.peer_token),
        sender_locators=message.receiver_locators,
        receiver_locators=message.sender_locators,
        key=exchange.keys.public,
        cookie=message.cookie,
        reset_token=own_reset_hash(core, context),
    )
    delivered = exchange.carried and not message.flags & Flag.ULP_PACKET_DISCARDED
    # CCR is an answer, but a packet of the ULP is sent only to a proven locator [D38].
    is_elsewhere = (event.destination, event.source) != (context.local_aid, context.peer_aid)
    is_elsewhere = is_elsewhere and context.is_verified(event.source)
    if is_elsewhere and not (delivered and exchange.carried == exchange.waiting):
        reply = with_piggyback(core, reply, exchange.waiting)
    exchange.reply = reply, (event.destination, event.source), event.in_slot
    announce(core, context)
    _send_ccr(core, context, exchange)


def _send_ccr(core: Core, context: Context, exchange: Exchange) -> None:
    assert exchange.reply is not None
    reply, pair, in_slot = exchange.reply
    exchange.sent_ns = core.now_ns
    turn = exchange.ccr_tries % CCR_TRIES_MAX
    core.answer_on(context, reply, pair, in_slot=in_slot ^ (turn % 2 == 1))
    soon_ns = max(RETRANSMIT_WAITING, 2 * context.round_trip_ns)
    delay_ns = core.jittered(RETRANSMIT_FIRST << turn)
    delay_ns = min(soon_ns << min(exchange.ccr_tries, 16), delay_ns)
    exchange.ccr_tries += 1
    core.set_timer(context, Timer.RETRANSMIT, delay_ns)


def own_reset_hash(core: Core, context: Context) -> bytes:
    """The hash by which the peer recognizes our reset token in a UC [D39]."""
    options = core.options
    return reset_hash(reset_token(options.reset_key, options.birthday, context.local_label))


def said_by_sender(message: ControlMessage) -> Side:
    """The description of the sender in a message of a set-up."""
    assert message.tokens is not None
    label = message.context.sender_label
    return Side(message.sender_aid, label, message.tokens.sender, message.key)


def own_side(context: Context, key: bytes) -> Side:
    """Our own description in a set-up, with this public key."""
    return Side(context.local_aid, context.local_label, context.local_token, key)


def key_with(core: Core, context: Context, exchange: Exchange, peer: Side, code: Code) -> bytes:
    """K of a set-up with this description of the other end; empty if there is none [D40].

    The secret for the public key of the CC is known. Another public key may come from any host, so
    the rate of computations is limited, separately for each message code, because fewer hosts can
    send an acceptable CONF or CCR than an acceptable INIT.
    """
    if peer.key == exchange.peer_key:
        secret = exchange.secret
    elif peer.key == exchange.crossed[0]:
        secret = exchange.crossed[1]
    elif core.agreements.take((context.local_label, code), core.now_ns):
        secret = exchange.keys.agree(peer.key)
        exchange.crossed = peer.key, secret
    else:
        return b""
    return context_key(secret, own_side(context, exchange.keys.public), peer) if secret else b""


def know_peer(core: Core, context: Context, peer: Side, own: Side, key: bytes) -> None:
    """Stores in a context the key and what it is made of; keeps those of the former peer."""
    context.keep_former(key, core.now_ns)
    lifecycle.know_peer_label(core, context, peer.label)
    context.peer_token, context.peer_key = peer.token, peer.key
    context.local_token, context.local_key = own.token, own.key
    context.agreed_key = key


def on_conf(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """The responder has the context; this completes ours [draft §7.6]."""
    context = core.contexts.get(message.receiver_aid + message.sender_aid)
    exchange = context.exchange if context is not None else None
    if context is None or exchange is None:
        core.drop(Drop.CONF_WITHOUT_INIT)
        return
    assert message.tokens is not None
    proven = at_aid.answered_destination(
        core, context, exchange, message, Drop.CONF_WITH_OTHER_NONCE
    )
    if proven is None:
        return
    if message.context.receiver_label != context.local_label or not message.context.sender_label:
        core.drop(Drop.CONF_WITH_OTHER_LABEL)
        return
    if is_crowded(core, message.context.sender_label, context):
        core.drop(Drop.LABEL_OF_TOO_MANY_PEERS)
        return
    peer = said_by_sender(message)
    key = key_with(core, context, exchange, peer, message.code)
    if not key or not is_authentic(key, event, message):
        core.drop(Drop.CONF_NOT_AUTHENTIC)
        return
    context.aid_proven |= proven == context.peer_aid
    # A peer that already had the context sends its sets, and has not taken ours [D12, D39].
    context.untold |= bool(message.sender_locators) and exchange.ccr_tries > 0
    if message.sender_locators:
        context.learn_peer_locators(message.sender_locators)
    context.learn_own_locators(message.receiver_locators)
    know_peer(core, context, peer, own_side(context, exchange.keys.public), key)
    context.peer_birthday = message.context.sender_birthday
    context.peer_reset_hash = message.reset_token
    if (exchange.ccr_tries or exchange.tries) == 1:
        context.measure((event.destination, event.source), exchange.sent_ns, core.now_ns)
    pair = event.destination, event.source
    establish(core, context, Trigger.CONF, Cause.CONF_RECEIVED, pair)
    tell_remote(core, context, Trigger.CONF)
    tell_untold(core, context, Trigger.CONF)
    if message.piggyback is not None and event.source in context.peer_set:
        core.deliver(context, ulp_packet(message))


def on_early_ur(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """A UR that arrives before the CONF, or after that was lost, completes the context [D48].

    It is authenticated with K, and so proves what the CONF would prove. Its sender's token and
    public key are those of the CC. Only the hash of the reset token is missing.
    """
    context = core.labels.get(message.context.receiver_label)
    exchange = context.exchange if context is not None else None
    if context is None or exchange is None or context.state is not State.CCR_SENT:
        return
    label = message.context.sender_label
    ends = message.receiver_aid, message.sender_aid
    if ends != (context.local_aid, context.peer_aid) or label in (0, context.peer_label):
        return
    if is_crowded(core, label, context):
        return
    peer = Side(context.peer_aid, label, exchange.peer_token, exchange.peer_key)
    key = key_with(core, context, exchange, peer, message.code)
    acceptable = event.source in context.peer_acceptable and event.destination in context.own_local
    if not acceptable or not is_authentic(key, event, message):
        return
    know_peer(core, context, peer, own_side(context, exchange.keys.public), key)
    context.peer_reset_hash = b""
    pair = event.destination, event.source
    establish(core, context, Trigger.UR, Cause.UR_RECEIVED, pair)
    tell_remote(core, context, Trigger.UR)
    tell_untold(core, context, Trigger.UR)


def on_retransmit(core: Core, context: Context) -> None:
    """A message was not answered in time [draft §7.10, D16]."""
    if context.state is State.UR_SENT:
        update.on_retransmit(core, context)
        return
    exchange, trigger = context.exchange, Trigger.RETRANSMIT
    assert exchange is not None
    is_over = exchange.rounds + 1 >= INIT_ROUNDS_MAX and not _untried(context, exchange)
    in_time = core.now_ns - exchange.started_ns < CONTEXT_IDLE_TIME
    if context.state is State.CCR_SENT and exchange.ccr_tries % CCR_TRIES_MAX:
        _send_ccr(core, context, exchange)
    elif context.state is State.CCR_SENT and in_time:
        waiting = exchange.waiting
        start(core, context, waiting, trigger, Cause.CCR_UNANSWERED, before=exchange)
    elif context.state is State.INIT_SENT and not is_over and in_time:
        _send_init(core, context, exchange)
    elif context.is_known_to_peer:
        # The peer, which was said to have lost the context, has sent nothing: the context is used
        # again [D18]. No pair has answered, so data is plain until a probe is answered [D15].
        restore(core, context, trigger, Cause.INIT_UNANSWERED_RESTORED)
        go_on(core, context, 0)
        core.install(context)
    else:
        lifecycle.discard(core, context, trigger, Cause.INIT_UNANSWERED)
        peers.hold_unable(core, context.peer_aid, Cause.NO_ANSWER_TO_INIT)


# --- both -----------------------------------------------------------------------------------------


def establish(core: Core, context: Context, trigger: Trigger, why: Cause, pair: Pair) -> None:
    """The context carries data from now on, over the pair that just worked.

    If the DNS has not proven the peer's locator yet, it carries data after that is proven.
    """
    if pair[0] in context.own_set and pair[1] in context.peer_acceptable:
        context.local_locator, context.peer_locator = pair
    held = context.exchange.held if context.exchange is not None else []
    state = State.PROVISIONAL if context.is_provisional else State.ESTABLISHED
    core.enter(context, state, trigger, why)
    context.established_ns = core.now_ns
    peers.answered(core, context.peer_aid)
    if context.is_provisional:
        core.set_timer(context, Timer.PROVISIONAL, PROVISIONAL_LIFETIME)
    else:
        core.set_timer(context, Timer.IDLE, _idle_wait_ns(core, context))
        at_aid.begin(core, context)
    core.install(context)
    core.emit(NoteHeard(context.local_label))
    deliver_held(core, context, held)


def _idle_wait_ns(core: Core, context: Context) -> int:
    """The time to the first check of a context: short if only the set-up has measured its T."""
    after_ns = core.options.measure_after_ns
    if context.silence_ns <= SILENCE_MIN or after_ns >= CONTEXT_IDLE_TIME:
        return CONTEXT_IDLE_TIME
    return core.jittered(after_ns)
