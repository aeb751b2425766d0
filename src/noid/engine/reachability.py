# SPDX-License-Identifier: MIT
"""What makes a context suspect its pair of locators, and Update Requests that probe one.

The two directions of a path fail separately. A host that hears nothing says so in its probes, and
the peer, which may hear everything, then asks its own pair [D20]. A UR names the newest UR that its
sender has heard. So two hosts can find two pairs that each work in one direction only [D43].
"""

from noid.constants import (
    BETTER_PAIR_FIRST,
    BETTER_PAIR_INTERVAL,
    BETTER_PAIR_INTERVAL_MAX,
    BETTER_PAIR_PATIENCE,
    LOSSY_GAPS,
    LOSSY_TCP_MAX,
    PLAIN_SILENCE_MAX,
    QUESTION_LASTS,
    REPEATED_PIGGYBACK_TIME,
    SECOND,
    UNPROVEN_TIME,
)
from noid.counters import Drop
from noid.engine import at_aid, data_loss, widening
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import RememberLater
from noid.engine.following import acknowledged
from noid.engine.handshake import on_early_ur
from noid.engine.keepalives import heard, on_data_asked
from noid.engine.leaving import leave
from noid.engine.matching import matching
from noid.engine.measuring import answered, notice_doubt
from noid.engine.probing import answer_search, check_plain, resume, want
from noid.engine.searching import follow, search
from noid.engine.selection import better_pairs, is_worse
from noid.engine.state import Cue, Path, Timer, Trigger
from noid.engine.switching import repeat, repeatable
from noid.engine.update import (
    acknowledge,
    apply,
    return_to_established,
    ulp_packet,
)
from noid.engine.verifying import look_again, put_first
from noid.flows.events import (
    ControlMessageReceived,
    LongPacketLost,
    LongUnproven,
    UlpPacketSeen,
    UnansweredPacket,
)
from noid.identifiers import Nonce
from noid.wire import ipv6
from noid.wire.control import ControlMessage, Flag
from noid.wire.ipv6 import NEXT_HEADER_AT


def on_unanswered(core: Core, event: UnansweredPacket) -> None:
    """The data plane sent a packet while earlier ones are unanswered [D20, trigger 3]."""
    context = core.labels.get(event.local_label)
    if context is not None:
        core.used(context)
        if _is_usual(context, event):
            return
        if _was_sent_before(context, event, core.now_ns):
            is_first = core.hints.take((context.local_label, Cue.SUSPICION), core.now_ns)
            silent_ns = event.silent_ns if is_first else 0
            repeat(core, context, repeatable(event.packet), silent_ns=silent_ns)
            return
        if data_loss.is_lost(core, context, event):
            history = context.history_of(context.pair)
            if history.passes_ns >= history.unheard_ns:  # what the peer sends is lost
                data_loss.complain(core, context)
            elif not data_loss.is_shortened(core, context, event.packet):
                data_loss.lose(core, context, event.packet)
            return
        packet = repeatable(event.packet)
        search(core, context, Cause.NOTHING_HEARD, packet, silent_ns=event.silent_ns)


def _is_usual(context: Context, event: UnansweredPacket) -> bool:
    """Whether some signs of life of the peer are probably lost, as requests are over this pair.

    TCP repeats what is not acknowledged, and its programs may be silent for long before.
    """
    if not context.history_of(context.pair).misses:
        return False
    is_tcp = event.packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] == bytes((ipv6.TCP,))
    usual_ns = LOSSY_GAPS * event.gap_ns
    return event.silent_ns < (min(usual_ns, LOSSY_TCP_MAX) if is_tcp else usual_ns)


def _was_sent_before(context: Context, event: UnansweredPacket, now_ns: int) -> bool:
    """Whether most of the silence was before the pair in use was, and says nothing of it.

    So it is if the peer has named another pair before a restored context knew of the silence.
    """
    used_ns = context.history_of(context.pair).used_ns
    return used_ns > 0 and now_ns - used_ns < min(event.silent_ns // 2, SECOND)


def on_long_lost(core: Core, event: LongPacketLost) -> None:
    """Other packets arrive, and long ones do not."""
    context = core.labels.get(event.local_label)
    if context is not None:
        data_loss.is_shortened(core, context, event.packet)


def on_long_unproven(core: Core, event: LongUnproven) -> None:
    """Data may be forged: sends UR over the pair in use, and over others if it is silent [D41]."""
    context = core.labels.get(event.local_label)
    if context is None:
        return
    core.used(context)
    if context.search is not None or core.now_ns < context.unproven_again_ns:
        return
    if data_loss.is_unseen(core, context):
        data_loss.lose(core, context, b"")
    else:
        search(core, context, Cause.NOTHING_AUTHENTIC_HEARD, is_question=True, is_routine=True)


def on_plain_packet(core: Core, event: UlpPacketSeen) -> None:
    """A packet was sent plain although there is a context.

    If the context searches, programs need a pair. If packets are plain because the pair in use is
    the AIDs, no plane sees their answers: the engine asks the peer while programs send, at most
    once per PLAIN_SILENCE_MAX [D28].
    """
    context = core.contexts.get(event.packet[8:40])
    if context is None:
        return
    if context.search is not None and context.is_searching:
        context.search.packet = repeatable(event.packet) or context.search.packet
        check_plain(core, context, context.search)
        want(core, context, context.search)
    elif (core.options.on_switch or context.contested_until_ns) and context.is_on_aids:
        heard_ns = max(context.established_ns, context.alive_ns)
        if core.now_ns - heard_ns >= PLAIN_SILENCE_MAX:
            search(core, context, Cause.LONG_SILENCE, is_question=True)


def on_better_timer(core: Core, context: Context) -> None:
    """A pair that is said to be better than the one in use may work now: tries it once."""
    longer_ns = 0 if is_worse(context) else 2 * context.better_wait_ns
    context.better_wait_ns = min(max(longer_ns, BETTER_PAIR_INTERVAL), BETTER_PAIR_INTERVAL_MAX)
    core.set_timer(context, Timer.BETTER, core.jittered(context.better_wait_ns))
    if context.search is None:
        leave(core, context, Cause.BETTER_PAIR, patience_ns=BETTER_PAIR_PATIENCE)


def on_ur(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """A change of the peer's, a probe, or both [draft §7.8, D17]; it may complete a set-up."""
    on_early_ur(core, event, message)
    context = matching(core, event, message)
    if context is None:
        return
    is_other = is_soon = False
    is_news, is_newest = context.is_unseen(message.nonce), message.nonce > context.peer_update_nonce
    context.see(message.nonce)
    if is_newest:
        core.emit(RememberLater(context.local_label))
        is_other = apply(core, context, message)
        # A peer that changes its sets again and again does not cause as many probes.
        is_soon = is_other and not core.hints.take((context.local_label, Cue.MARKS), core.now_ns)
        if is_other and (not is_soon or context.path is Path.ASIDE):
            resume(core, context)
        if frozenset(context.peer_local) - frozenset(context.peer_remote):
            look_again(core, context)
    pair = event.destination, event.source
    if not is_news:
        # A repetition proves nothing: an attacker may replay it. The acknowledgement may be lost.
        acknowledge(core, context, event, message, changed=False)
        return
    measures = bool(message.flags & Flag.ANSWER_HERE)
    lasts_ns = QUESTION_LASTS if message.flags & Flag.DATA_ASKED else UNPROVEN_TIME
    heard(core, context, event, lasts_ns=lasts_ns, measures=measures)
    notice_doubt(core, context, pair, message.flags)
    if not context.is_verified(event.source) and core.hints.take(context.local_label, core.now_ns):
        put_first(core, context, event.source)
    if message.heard:
        _update_heard(core, context, message.heard, Trigger.UR)
        acknowledged(core, context, message.heard, event.source, by=pair)
    answer_search(core, context, pair, in_slot=event.in_slot)
    if event.in_slot and message.flags & Flag.HEARS_HERE:
        follow(core, context, pair)
    looks = bool(message.flags & Flag.DATA_ASKED) and on_data_asked(core, context)
    acknowledge(core, context, event, message, changed=is_other, looks=looks)
    if message.piggyback is not None:
        _deliver_once(core, context, ulp_packet(message))
    if message.flags & (Flag.DATA_LOST | Flag.ALL_DATA_LOST):
        data_loss.on_flag(core, context, message)
    elif message.flags & Flag.HEARS_NOTHING:
        patient = pair != context.pair
        search(core, context, Cause.PEER_HEARS_NOTHING, told_by_peer=True, patient=patient)
    if is_soon:
        core.bring_forward(context, Timer.BETTER, core.now_ns + BETTER_PAIR_FIRST)
    elif is_other:
        leave(core, context, Cause.PEER_LOCATORS_BETTER)
    elif context.search is None and pair in better_pairs(context):
        leave(core, context, Cause.PEER_USES_BETTER_PAIR, patience_ns=BETTER_PAIR_PATIENCE)


def _deliver_once(core: Core, context: Context, packet: bytes) -> None:
    """Delivers the packet of a probe once, although each pair that works delivers a copy."""
    previous, at_ns = context.piggybacked
    if packet != previous or core.now_ns - at_ns > REPEATED_PIGGYBACK_TIME:
        context.piggybacked = packet, core.now_ns
        core.deliver(context, packet)


def on_ua(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """An answer: to a change of ours, or to a probe [draft §7.9]."""
    before = core.labels.get(message.context.receiver_label)
    is_awaited = before is not None and before.awaits(message.nonce)
    context = matching(core, event, message)
    if context is None:
        return
    if is_awaited:
        data_loss.proven(context, is_checked=bool(message.flags & Flag.DATA_ASKED))
        heard(core, context, event, acknowledges=True)
    if message.nonce > context.update_nonce:
        core.drop(Drop.UA_WITHOUT_UR)
        return
    answered(core, context, message.nonce, event.destination)
    widening.answered(core, context, message.nonce)
    at_aid.answered(core, context, event.source, message.nonce)
    update = context.update
    if update is not None and update.nonce == message.nonce and update.tries == 1:
        context.measure(context.pair, update.sent_ns, core.now_ns)
    _update_heard(core, context, message.nonce, Trigger.UA)
    acknowledged(core, context, message.nonce, event.source)


def _update_heard(core: Core, context: Context, nonce: Nonce, trigger: Trigger) -> None:
    """The peer has heard a UR of ours, so it has the sets of all earlier ones too."""
    if context.update is not None and context.update.nonce <= nonce:
        context.update = None
        core.stop_timer(context, Timer.RETRANSMIT)
        return_to_established(core, context, trigger, Cause.UPDATE_ACKNOWLEDGED)
