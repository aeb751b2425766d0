"""Noticing that a pair of locators is dead, and finding one that works [draft §4.4, D20, D21].

A context that sends and hears nothing, or whose peer says so, or that is told of an error,
**probes, then switches**: an Update Request goes at once over the pair in use and over the best
others, each with a nonce of its own and with the unanswered packet of the ULP on it. The pair in
use answers, and all is well; or another answers first, and is used from then on. Probes promote,
they never demote.

The path there and the path back fail separately. Whoever hears nothing says so in its probes, and
the peer, who may be hearing everything, then looks for a pair of its own that gets through.
"""

from noid.constants import (
    BETTER_PAIR_INTERVAL,
    BETTER_PAIR_PATIENCE,
    FIREWALL_SIGNS,
    FIREWALL_WAIT,
    PEER_UNABLE_TIME,
    PLAIN_SILENCE_MAX,
    PROBE_INTERVAL_FIRST,
    PROBE_INTERVAL_MAX,
    PROBE_INTERVAL_WANTED,
    PROBES_PER_ROUND_MAX,
    REPEATED_PIGGYBACK_TIME,
    SEARCH_INTERVAL_MAX,
    SEGMENT_LIFETIME,
    SUSPICION_TIME,
    TOLERANCE_TIME,
)
from noid.datapath.events import (
    ControlMessageReceived,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
)
from noid.engine.context import Context, Pair, Search
from noid.engine.core import Core
from noid.engine.events import PeerUnable, ProbeStarted, SendAgain
from noid.engine.handshake import ulp_packet
from noid.engine.selection import alternatives, instead
from noid.engine.state import State, Timer
from noid.engine.unknown import tell_unknown
from noid.engine.update import (
    acknowledge,
    apply,
    calm,
    matching,
    next_nonce,
    request,
)
from noid.engine.verifying import look_again, put_first
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import NO_FLAGS, ControlMessage, Flag
from noid.wire.ipv6 import NEXT_HEADER_AT
from noid.wire.options import LocatorFlag

REPEATABLE = frozenset(map(int.to_bytes, (ipv6.TCP, ipv6.SCTP, ipv6.ESP)))
"""Protocols whose receivers know a packet that comes twice."""


def on_unanswered(core: Core, event: UnansweredPacket) -> None:
    """The data plane sent a packet into silence [D20, trigger 3].

    It may have arrived, and only its answer was lost. So it is sent once more only if its protocol
    knows a packet that comes twice.
    """
    context = core.labels.get(event.local_label)
    if context is not None:
        known = event.packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] in REPEATABLE
        packet = event.packet if known else b""
        search(core, context, "nothing heard", packet, silent_ns=event.silent_ns)


def search(
    core: Core,
    context: Context,
    why: str,
    packet: bytes = b"",
    *,
    told_by_peer: bool = False,
    leaving: bool = False,
    cautious: bool = False,
    silent_ns: int = 0,
    patience_ns: int = SUSPICION_TIME,
) -> None:
    """Begins to look for a working pair, or goes on looking for it, and the next round comes soon.

    Searches that found the pair in use alive make the next one wait longer, unless it is to be
    left whether it is alive or not.
    """
    until_ns = core.now_ns + patience_ns
    if context.search is not None:
        context.search.until_ns = max(context.search.until_ns, until_ns)
        context.search.packet = packet or context.search.packet
        context.search.told_by_peer |= told_by_peer
        context.search.leaving &= leaving  # in doubt the pair in use is asked as well
        _hasten(core, context, context.search, PROBE_INTERVAL_WANTED)
        return
    if not context.is_settled or context.is_provisional or not context.peer_verified:
        return
    if core.now_ns < context.next_search_ns and not leaving:
        return
    if core.now_ns - context.next_search_ns > TOLERANCE_TIME:
        context.searches_for_nothing = context.tolerated_ns = 0
    context.fruitless = None
    context.search = Search(
        why, told_by_peer, leaving, until_ns, packet, silent_ns, cautious=cautious
    )
    core.enter(context, State.UR_SENT, why)
    _probe(core, context, context.search)


def _hasten(core: Core, context: Context, under_way: Search, interval_ns: int) -> None:
    """The next round is no later than so long after the last one."""
    if not under_way.answered_plainly:
        core.bring_forward(context, Timer.PROBE, under_way.sent_ns + interval_ns)


def returned(core: Core, context: Context, why: str) -> None:
    """A locator of ours or of the peer's has come, or is back: what found nothing may find it.

    A search that is under way goes on as if it had just begun; one that was given up begins again,
    with its packet unless that has grown too old.
    """
    under_way, before = context.search, context.fruitless
    if under_way is not None:
        under_way.rounds = 1
        _hasten(core, context, under_way, PROBE_INTERVAL_FIRST)
    elif before is not None:
        unanswered_ns = before.until_ns - SUSPICION_TIME
        is_old = core.now_ns - unanswered_ns > SEGMENT_LIFETIME
        search(core, context, why, b"" if is_old else before.packet)


def on_plain_packet(core: Core, event: UlpPacketSeen) -> None:
    """A packet went plainly because the context is on its AIDs: is the peer still there [D28]?

    No plane sees what answers it, so the engine asks, as long as programs send and no more often
    than PLAIN_SILENCE_MAX; first over the pair in use alone.
    """
    context = core.contexts.get(event.packet[8:40])
    if context is None or not core.options.on_switch or not context.is_on_aids:
        return
    heard = context.heard.get(context.pair)
    heard_ns = max(context.established_ns, heard.at_ns if heard is not None else 0)
    if context.search is not None or core.now_ns - heard_ns >= PLAIN_SILENCE_MAX:
        search(core, context, "long since anything was heard", cautious=True)


def leave(core: Core, context: Context, why: str) -> None:
    """Looks for another pair, if one is said to be better than the one in use [D20, D22, D25].

    "It is recommended that the host stop using the deprecated locator(s)" [draft §4.5].
    """
    if instead(context):
        search(core, context, why, leaving=True)


def on_better_timer(core: Core, context: Context) -> None:
    """A pair that is said to be better than the one in use may work by now: a try, no more."""
    core.set_timer(context, Timer.BETTER, core.jittered(BETTER_PAIR_INTERVAL))
    if instead(context) and context.search is None:
        why = "a better pair may work"
        search(core, context, why, leaving=True, patience_ns=BETTER_PAIR_PATIENCE)


def on_probe_timer(core: Core, context: Context) -> None:
    """No probe was answered: another round, ever more slowly, until it is time to give up."""
    under_way = context.search
    assert under_way is not None
    if under_way.answered_plainly:
        _firewalled(core, context, under_way)
        return
    if core.now_ns >= under_way.until_ns:
        context.search = None
        context.fruitless = None if under_way.leaving else under_way
        calm(core, context, "no pair answers")
        return
    _probe(core, context, under_way)


def _probe(core: Core, context: Context, under_way: Search) -> None:
    """One round: the pair in use and the best others, each with a nonce of its own.

    A pair keeps its nonce from round to round: the peer answers a repeated one over every pair. But
    to what came before the latest sets it would not listen any more.
    """
    said = context.update.nonce if context.update is not None else 0
    others = alternatives(context)
    better = instead(context) if under_way.leaving else []
    asking = under_way.cautious and not under_way.rounds
    pairs = tuple(better or (context.pair, *others))[: 1 if asking else 1 + PROBES_PER_ROUND_MAX]
    possible = {context.pair, *others}
    under_way.nonces = {
        nonce: pair for nonce, pair in under_way.nonces.items() if pair in possible and nonce > said
    }
    nonce_of = {
        pair: nonce for nonce, pair in under_way.nonces.items() if nonce != under_way.slot_nonce
    }
    doubtful = not (under_way.told_by_peer or better or asking)
    flags = Flag.HEARS_NOTHING if doubtful else NO_FLAGS
    if under_way.rounds == 0:
        core.emit(ProbeStarted(context.local_aid, context.peer_aid, under_way.why, pairs))
    for pair in pairs:
        nonce = nonce_of.get(pair) or next_nonce(context)
        under_way.nonces[nonce] = pair
        message = request(core, context, nonce, flags=flags, packet=under_way.packet)
        core.send(message, pair)
    if doubtful:
        # The same as data goes: what is lost may be lost for its next header alone [D15].
        if under_way.slot_nonce not in under_way.nonces:
            under_way.slot_nonce = next_nonce(context)
        under_way.nonces[under_way.slot_nonce] = pairs[0]
        message = request(core, context, under_way.slot_nonce, flags=flags)
        core.send(message, pairs[0], rewritable=len(context.own_set) > 1, in_slot=True)
    under_way.sent_ns = core.now_ns
    delay_ns = min(PROBE_INTERVAL_FIRST << min(under_way.rounds, 16), PROBE_INTERVAL_MAX)
    under_way.rounds += 1
    core.set_timer(context, Timer.PROBE, core.jittered(delay_ns))


def on_ur(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """A change of the peer's, a probe, or both [draft §7.8, D17]."""
    context = matching(core, event, message)
    if context is None:
        if message.context.receiver_label not in core.labels:
            tell_unknown(core, event, message.context.receiver_label)
        return
    repeated, is_other = context.is_repeated(message.nonce), False
    if message.nonce > context.peer_update_nonce:
        context.peer_update_nonce = message.nonce
        before = _usable(context)
        is_other = apply(core, context, message)
        if _usable(context) - before:
            returned(core, context, "a locator of the peer's is back")
        if frozenset(context.peer_local) - frozenset(context.peer_remote):
            look_again(core, context)
    context.hear((event.destination, event.source), core.now_ns)
    if context.fruitless is not None:
        returned(core, context, "the peer is heard again")
    acknowledge(core, context, event, message, repeated=repeated)
    if message.piggyback is not None:
        _deliver_once(core, context, ulp_packet(message))
    if message.flags & Flag.HEARS_NOTHING:
        search(core, context, "the peer hears nothing", told_by_peer=True)
    if is_other:
        leave(core, context, "of the peer's locators others are better")


def _usable(context: Context) -> frozenset[Locator]:
    """The locators that the peer says it has and can be reached at."""
    gone = {one.locator for one in context.peer_marks if one.flags & LocatorFlag.BROKEN}
    return frozenset(context.peer_local) - gone


def _deliver_once(core: Core, context: Context, packet: bytes) -> None:
    """Gives the ULP the packet of a probe, which comes by every pair that works, one time."""
    previous, at_ns = context.piggybacked
    if packet != previous or core.now_ns - at_ns > REPEATED_PIGGYBACK_TIME:
        context.piggybacked = packet, core.now_ns
        core.deliver(context, packet)


def on_ua(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """An answer: to a change of ours, or to a probe [draft §7.9]."""
    context = matching(core, event, message)
    if context is None:
        return
    context.hear((event.destination, event.source), core.now_ns)
    if message.nonce > context.update_nonce:
        core.drop("UA without UR")
        return
    update, under_way = context.update, context.search
    if update is not None and update.nonce <= message.nonce:
        # A probe that was sent later said the same.
        if update.nonce == message.nonce and update.tries == 1:
            context.measure(core.now_ns - update.sent_ns)
        context.update = None
        core.stop_timer(context, Timer.RETRANSMIT)
        calm(core, context, "update acknowledged")
    if under_way is not None and message.nonce in under_way.nonces:
        _found(core, context, under_way, message.nonce)
    # else one of several probes, whose search another has ended: it was heard, no more


def _found(core: Core, context: Context, under_way: Search, nonce: int) -> None:
    """A probe came through: its pair works, and is used unless the one in use works too."""
    pair = under_way.nonces[nonce]
    if under_way.rounds == 1:
        context.measure(core.now_ns - under_way.sent_ns)
        context.hear(pair, core.now_ns, core.now_ns - under_way.sent_ns)
    if under_way.slot_nonce and nonce != under_way.slot_nonce and pair == context.pair:
        under_way.answered_plainly = True
        core.set_timer(context, Timer.PROBE, max(2 * context.round_trip_ns, FIREWALL_WAIT))
        return
    if under_way.answered_plainly and pair != context.pair:
        return  # the pair in use works too
    if nonce == under_way.slot_nonce:
        context.firewall_signs = 0
    _finish(core, context, under_way, pair)


def _firewalled(core: Core, context: Context, under_way: Search) -> None:
    """The pair in use answers what is plain, and not what goes as data does [D15].

    Once may be loss. Several times it is a firewall that drops what it does not know: then packets
    go plainly, and it is tried again after a while.
    """
    context.firewall_signs += 1
    if context.firewall_signs >= FIREWALL_SIGNS:
        context.firewall_signs = 0
        context.plainly = True
        core.set_timer(context, Timer.PLAINLY, PEER_UNABLE_TIME)
        core.emit(PeerUnable(context.peer_aid, "M6 packets are dropped on the way"))
    _finish(core, context, under_way, context.pair)


def on_plainly_timer(core: Core, context: Context) -> None:
    """The firewall may have learned: data goes by the context again."""
    context.plainly = False
    core.install(context)


def _finish(core: Core, context: Context, under_way: Search, pair: Pair) -> None:
    """The search is over: the pair in use works, or another does and is used from now on."""
    context.search = None
    core.stop_timer(context, Timer.PROBE)
    if pair == context.pair:
        wait_ns = PROBE_INTERVAL_FIRST << min(context.searches_for_nothing, 16)
        context.next_search_ns = core.now_ns + min(wait_ns, SEARCH_INTERVAL_MAX)
        context.searches_for_nothing += 1
        context.tolerated_ns = max(context.tolerated_ns, under_way.silent_ns)
        core.install(context)
        if under_way.rounds > 1:
            core.repeat(context, under_way.packet)  # it was dead, and is not any more
        calm(core, context, "the pair in use answers")
        return
    context.searches_for_nothing = context.tolerated_ns = 0
    if pair[0] in context.own_set and pair[1] in context.peer_verified:
        core.switch(context, pair, under_way.why, under_way.packet)
    calm(core, context, "another pair answers")


def on_repeat_timer(core: Core, context: Context) -> None:
    """The packet whose silence led to a search goes once more, by the pair that was found."""
    core.emit(SendAgain(context.local_label, context.repeating))
    context.repeating = b""


def on_source_moved(core: Core, event: SourceMoved) -> None:
    """Data comes from another locator of the peer's: send there, if it is proven [D21]."""
    context = core.labels.get(event.local_label)
    if context is None:
        return
    broken = context.marks_of(event.source) & LocatorFlag.BROKEN
    if event.source not in context.peer_verified:
        put_first(core, context, event.source)
    elif not broken:
        core.switch(context, (context.local_locator, event.source), "the peer's source moved")
