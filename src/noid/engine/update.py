# SPDX-License-Identifier: MIT
"""Update Request and Update Acknowledgement [draft §3.3.5-3.3.6, §7.7-7.9; D10, D17, D22].

One message serves two ends. With new sets it tells the peer what changed, and is repeated until it
is acknowledged; with unchanged sets it is a probe of one pair of locators (reachability.py).
Either way it is authenticated with the key of the context, carries a nonce that only grows, and is
answered by the receiver from the locator that was probed to the locator that probed.
"""

import functools
from dataclasses import replace

from noid.constants import (
    CONTEXT_IDLE_TIME,
    UPDATE_RETRANSMIT_FIRST,
    UPDATE_RETRANSMIT_HEARD,
    UPDATE_RETRANSMIT_MAX,
)
from noid.counters import Drop
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import Former
from noid.engine.history import Pair
from noid.engine.phases import Update
from noid.engine.secrets import equal, keyed_hash
from noid.engine.selection import BROKEN, better_pairs, standing
from noid.engine.state import Path, State, Timer
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.wire.control import NO_FLAGS, Code, ControlMessage, Flag, Piggyback
from noid.wire.ipv6 import HEADER_OCTETS, NEXT_HEADER_AT, NO_NEXT_HEADER
from noid.wire.options import (
    HASH_OCTETS,
    ContextOption,
    Entries,
    LocatorEntry,
    LocatorFlag,
)
from noid.wire.peek import authentication_at, blank_authentication

NO_HASH = bytes(HASH_OCTETS)
"""In the place of the authentication until that is known."""
CARRIED_AT, NONCE_AT, NONCE_OCTETS = 4, 8, 8
"""Where a message says what rides on it, and its nonce."""
FRAMES_KEPT_MAX = 256
ENTRIES_KEPT_MAX = 64
"""Sets that are kept as messages say them: the same few are said again and again."""


def send_update(core: Core, context: Context, why: Cause = Cause.NEW_SETS) -> None:
    """Tells the peer our sets as they stand; supersedes an earlier telling [draft §7.7, D17]."""
    context.untold = False
    context.update = Update(next_nonce(context), core.now_ns, core.now_ns)
    core.enter(context, State.UR_SENT, why)
    _transmit(core, context, context.update)


def tell_untold(core: Core, context: Context) -> None:
    """Tells the peer our sets where they have changed since the set-up told them."""
    if context.untold and context.is_settled and not context.is_provisional:
        send_update(core, context)


def on_retransmit(core: Core, context: Context) -> None:
    """No acknowledgement yet: say it again; later once the peer is heard [draft §7.10, D45]."""
    update = context.update
    assert update is not None
    if core.now_ns - update.started_ns >= CONTEXT_IDLE_TIME:
        context.update, context.untold = None, True
        return_to_established(core, context, Cause.UPDATE_UNACKNOWLEDGED)
        return
    update.tries += 1
    _transmit(core, context, update)


def _transmit(core: Core, context: Context, update: Update) -> None:
    update.sent_ns = core.now_ns
    message = request(core, context, update.nonce)
    # An update that removes a locator is not sent from that locator. But the peer does not accept
    # messages from a locator that it does not know yet: pairs alternate, and then the forms do.
    pairs = [context.pair, *better_pairs(context)[:1]]
    if standing(context, context.pair) >= BROKEN:
        pairs.reverse()
    turn, place = divmod(update.tries - 1, len(pairs))
    history = context.history_of(context.pair)
    data_first = history.heard_ns >= history.plain_ns and context.path is not Path.SEARCHING
    core.send_on(context, message, pairs[place], in_slot=data_first == (turn % 2 == 0))
    core.set_timer(context, Timer.RETRANSMIT, core.jittered(_patience_ns(context, update)))


def _patience_ns(context: Context, update: Update) -> int:
    """How long a transmission may stay unacknowledged before the next one."""
    first_ns = max(UPDATE_RETRANSMIT_FIRST, 2 * context.round_trip_ns)
    return min(first_ns << (update.tries - 1), UPDATE_RETRANSMIT_MAX)


def restore(core: Core, context: Context, why: Cause) -> None:
    """Goes on with a context that was being set up anew, and tells the peer so [D18, D39]."""
    send_update(core, context, why)
    core.set_timer(context, Timer.IDLE, CONTEXT_IDLE_TIME)
    core.install(context)


def next_nonce(context: Context) -> int:
    """The nonce of the next UR of ours: greater than any before [D17]."""
    context.update_nonce += 1
    return context.update_nonce


def request(
    core: Core, context: Context, nonce: int, *, flags: Flag = NO_FLAGS, packet: bytes = b""
) -> bytes:
    """An authenticated Update Request with the sets as they stand, in octets."""
    start, middle, end = _frame(
        core.options.codepoints.icmpv6_type,
        Code.UR,
        (context.local_aid, context.peer_aid),
        labels(core, context),
        flags,
        (own_entries(context), peer_entries(context)),
        context.peer_update_nonce,
    )
    if _rides(core, len(start) + NONCE_OCTETS + len(middle) + HASH_OCTETS + len(end), packet):
        start = start[:CARRIED_AT] + packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] + start[5:]
        end += packet[HEADER_OCTETS:]
    return _sealed(context.agreed_key, (start, middle, end), nonce)


def short_message(core: Core, context: Context, code: Code, nonce: int) -> bytes:
    """An authenticated UA, CLOSE or KEEPALIVE, in octets: it names its context, and no more."""
    aids = context.local_aid, context.peer_aid
    frame = _frame(core.options.codepoints.icmpv6_type, code, aids, labels(core, context))
    return _sealed(context.agreed_key, frame, nonce)


@functools.lru_cache(maxsize=FRAMES_KEPT_MAX)
def _frame(
    icmpv6_type: int,
    code: Code,
    aids: tuple[Locator, Locator],
    context: ContextOption,
    flags: Flag = NO_FLAGS,
    sets: tuple[Entries, Entries] = ((), ()),
    heard: int = 0,
) -> tuple[bytes, bytes, bytes]:
    """What stands before the nonce of a message, between that and its hash, and behind that.

    Probes and their answers are alike in all of this, and often go many at a time.
    """
    message = ControlMessage(
        code=code,
        nonce=0,
        sender_aid=aids[0],
        receiver_aid=aids[1],
        flags=flags,
        context=context,
        sender_locators=sets[0],
        receiver_locators=sets[1],
        authentication=NO_HASH,
        heard=heard,
    )
    octets = message.encode(icmpv6_type)
    at = authentication_at(octets)
    return octets[:NONCE_AT], octets[NONCE_AT + NONCE_OCTETS : at], octets[at + HASH_OCTETS :]


def _sealed(key: bytes, frame: tuple[bytes, bytes, bytes], nonce: int) -> bytes:
    """A message in octets, with its nonce and the keyed hash that proves its sender [D40]."""
    start, middle, end = frame
    before = start + nonce.to_bytes(NONCE_OCTETS, "big") + middle
    return before + keyed_hash(key, before + NO_HASH + end) + end


def _rides(core: Core, message_octets: int, packet: bytes) -> bool:
    """Whether there is a packet of the ULP that fits the MTU on a message [D7].

    A packet with no next header cannot be told from no packet.
    """
    is_one = len(packet) >= HEADER_OCTETS and packet[NEXT_HEADER_AT] != NO_NEXT_HEADER
    return is_one and message_octets + len(packet) <= core.options.mtu


def with_piggyback(core: Core, message: ControlMessage, packet: bytes) -> ControlMessage:
    """The message with a packet of the ULP on it, where there is one and it fits the MTU [D7]."""
    if not _rides(core, len(message.encode(core.options.codepoints.icmpv6_type)), packet):
        return message
    return replace(message, piggyback=Piggyback(packet[NEXT_HEADER_AT], packet[HEADER_OCTETS:]))


def tell_remote(core: Core, context: Context) -> None:
    """Tells the peer which of its locators the DNS knows, where it thinks otherwise.

    They are fewer than it has [draft §7.7, §7.13], or others than it was told [draft §4.5]. During
    set-up there is no peer to tell yet; it is told once that is over.
    """
    if not context.is_settled or not context.verification.settled:
        return
    said = frozenset(context.peer_local)
    told = said.intersection(context.told_remote) if context.told_remote else said
    if said.intersection(context.peer_remote) != told:
        context.told_remote = context.peer_remote
        send_update(core, context)


def labels(core: Core, context: Context) -> ContextOption:
    """Which context a message of ours is about, and how often we have come up."""
    return ContextOption(
        sender_label=context.local_label,
        receiver_label=context.peer_label,
        sender_birthday=core.options.birthday,
        receiver_birthday=context.peer_birthday,
    )


def authenticated(core: Core, key: bytes, message: ControlMessage) -> bytes:
    """The octets of a message with the keyed hash that only the two ends with a key can make [D40].

    Args:
        core: of the host.
        key: K.
        message: with zeros in the place of its authentication.
    """
    octets = message.encode(core.options.codepoints.icmpv6_type)
    at = authentication_at(octets)
    return octets[:at] + keyed_hash(key, octets) + octets[at + HASH_OCTETS :]


def matching(core: Core, event: ControlMessageReceived, message: ControlMessage) -> Context | None:
    """The context of an authentic UR, UA or KEEPALIVE, or None, counted.

    "The host looks for a matching context based on the AID pair and the flow label pair"; both
    addresses must be in the Lsl sets [draft §7.8].
    """
    context = core.labels.get(message.context.receiver_label)
    if context is not None and context.former is not None:
        _reinstate(core, context, context.former, event, message)
    if context is None or not context.is_known_to_peer or not context.is_about(message):
        core.drop(Drop[f"{message.code.name}_FOR_NO_CONTEXT"])
        return None
    if not context.accepts(event.source) or event.destination not in context.own_local:
        core.drop(Drop[f"{message.code.name}_BETWEEN_UNKNOWN_LOCATORS"])
        return None
    if not is_authentic(context.agreed_key, event, message):
        core.drop(Drop[f"{message.code.name}_NOT_AUTHENTIC"])
        return None
    # What is forged uses nothing of these rates, or it would keep what is authentic out.
    if not _may_be_looked_at(core, context, event, message):
        core.drop(Drop[f"{message.code.name}_OVER_RATE"])
        return None
    if _is_new(context, message) and context.closing is None:
        _heard_again(core, context)
    elif not context.is_settled and context.closing is None:
        core.drop(Drop[f"{message.code.name}_WHILE_STARTING_OVER"])
        return None
    # The birthday in the set-up was not authenticated.
    context.peer_birthday = message.context.sender_birthday
    return context


def _may_be_looked_at(
    core: Core, context: Context, event: ControlMessageReceived, message: ControlMessage
) -> bool:
    """Whether the peer has not used up its share; what others repeat is counted apart [D46]."""
    match message.code:
        case Code.UR:
            is_first = context.is_unseen(message.nonce)
        case Code.UA:
            is_first = context.awaits(message.nonce)
        case _:
            is_first = message.nonce > context.peer_keepalive_nonce
    if is_first:
        return core.messages.take(context.local_label, core.now_ns)
    return core.repeats.take((context.local_label, event.source), core.now_ns)


def _is_new(context: Context, message: ControlMessage) -> bool:
    """Whether the peer has just sent a message, so that it is not a replay."""
    return message.nonce > _newest(context, context.doubted_nonce)[message.code]


def _newest(peer: Context | Former, doubted_nonce: int) -> dict[Code, int]:
    """The nonces that are known of a peer; what is new has a greater one."""
    return {
        Code.UR: peer.peer_update_nonce,
        Code.UA: doubted_nonce,
        Code.KEEPALIVE: peer.peer_keepalive_nonce,
    }


def _heard_again(core: Core, context: Context) -> None:
    """The peer has the context, and hears: what it has not been told is said again [D39, D45]."""
    if not context.is_settled:
        restore(core, context, Cause.PEER_HAS_CONTEXT)
    if context.trial is not None:
        context.trial = context.rival = None
        core.stop_timer(context, Timer.TRIAL)
        core.install(context)
    tell_untold(core, context)
    update = context.update
    if update is not None:
        core.bring_forward(context, Timer.RETRANSMIT, update.sent_ns + UPDATE_RETRANSMIT_HEARD)


def _reinstate(
    core: Core,
    context: Context,
    former: Former,
    event: ControlMessageReceived,
    message: ControlMessage,
) -> None:
    """The peer that was silent, and so was replaced, has sent an authentic message [D39]."""
    ends = message.receiver_aid, message.sender_aid, message.context.sender_label
    if ends != (context.local_aid, context.peer_aid, former.peer_label):
        return
    acceptable = event.source in former.peer_local and event.destination in context.own_local
    is_new = message.nonce > _newest(former, context.doubted_nonce)[message.code]
    if not (acceptable and is_new and is_authentic(former.agreed_key, event, message)):
        return
    core.know_peer_label(context, former.peer_label)
    for name, value in former._asdict().items():
        setattr(context, name, value)
    context.former, context.untold, context.unseen_nonces = None, True, 0
    if event.source in context.peer_verified:
        context.local_locator, context.peer_locator = event.destination, event.source
    core.install(context)


def is_authentic(key: bytes, event: ControlMessageReceived, message: ControlMessage) -> bool:
    """Whether a message has the keyed hash of one who has the key [D40].

    It covers the AIDs, so that a host's own message turned round is none of its peer.
    """
    expected = keyed_hash(key, blank_authentication(event.octets))
    return equal(expected, message.authentication)


def apply(core: Core, context: Context, message: ControlMessage) -> bool:
    """Takes the sets of a UR that is newer than any before it [draft §7.8].

    Returns:
        Whether they are others than before.
    """
    before = (context.peer_local, context.peer_marks, context.own_remote)
    context.learn_peer_locators(message.sender_locators)
    context.learn_own_locators(message.receiver_locators)
    is_other = (context.peer_local, context.peer_marks, context.own_remote) != before
    if is_other:
        core.install(context)
        tell_remote(core, context)
    return is_other


def acknowledge(
    core: Core,
    context: Context,
    event: ControlMessageReceived,
    message: ControlMessage,
    *,
    changed: bool,
) -> None:
    """Answers a UR [D20, D43].

    A UR asks whether its sender hears what comes by our pair in use: so that carries the answer. A
    probe of a sender that hears nothing asks about its own pair, and is answered back over that
    alone; over both where another pair is better, or the sets change. **Nothing is sent to a
    locator that is not proven.**
    """
    octets = short_message(core, context, Code.UA, message.nonce)
    back: Pair = (event.destination, event.source)
    hears_nothing = bool(message.flags & Flag.HEARS_NOTHING)
    pairs = [back] if hears_nothing or changed or better_pairs(context) else []
    if not hears_nothing or not context.is_verified(event.source):
        pairs.append(context.pair)
    for pair in dict.fromkeys(pairs):
        if context.is_verified(pair[1]):
            # In the form of the question, so that the answer says that this form comes through.
            core.send_on(context, octets, pair, in_slot=event.in_slot)


def return_to_established(core: Core, context: Context, why: Cause) -> None:
    """Back to ESTABLISHED once no update is under way [draft §7.9]."""
    if context.state is State.UR_SENT and context.update is None:
        core.enter(context, State.ESTABLISHED, why)


def own_entries(context: Context) -> Entries:
    """Lsl of ours, as a message says it."""
    entries = _entries(context.own_local, LocatorFlag.LOCAL)
    if not context.own_marks:
        return entries
    return tuple(
        LocatorEntry(locator, flags | context.own_marks_of(locator)) for locator, flags in entries
    )


def peer_entries(context: Context) -> Entries:
    """Lsr of the peer, as a message says it; no locator is missing before the DNS has answered.

    Otherwise the peer would leave locators that are proven a moment later.
    """
    is_known = context.verification.settled or not context.is_known_to_peer
    remote = context.peer_remote if is_known else context.peer_local
    return _entries(remote, LocatorFlag.REMOTE)


@functools.lru_cache(maxsize=ENTRIES_KEPT_MAX)
def _entries(locators: tuple[Locator, ...], flags: int) -> Entries:
    return tuple(LocatorEntry(locator, flags) for locator in locators)
