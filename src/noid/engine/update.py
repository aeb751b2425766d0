# SPDX-License-Identifier: MIT
"""Update Request and Update Acknowledgement [draft §3.3.5-3.3.6, §7.7-7.9; D10, D17, D22].

A UR has two uses. With new sets it tells the peer what changed, and is repeated until it is
acknowledged; with unchanged sets it probes one pair of locators (reachability.py). In both cases it
is authenticated with the key of the context, and has a nonce that only grows.
"""

import functools
from dataclasses import replace

from noid.constants import (
    CONTEXT_IDLE_TIME,
    UPDATE_RETRANSMIT_FIRST,
    UPDATE_RETRANSMIT_MAX,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.doubt import NO_DOUBT, Doubt
from noid.engine.events import RememberLater
from noid.engine.history import Pair
from noid.engine.phases import Update
from noid.engine.records import Former
from noid.engine.secrets import equal, keyed_hash
from noid.engine.selection import answer_pairs, better_pairs, is_broken, unlisted_pairs
from noid.engine.state import Path, State, Timer, Trigger
from noid.flows.events import ControlMessageReceived
from noid.identifiers import NO_NONCE, Nonce
from noid.locators import Locator
from noid.wire.control import NO_FLAGS, Code, ControlMessage, Flag, Piggyback
from noid.wire.ipv6 import HEADER_OCTETS, NEXT_HEADER_AT, NO_NEXT_HEADER, Header
from noid.wire.options import (
    HASH_OCTETS,
    ContextOption,
    Entries,
    LocatorEntry,
    LocatorFlag,
)
from noid.wire.peek import authentication_at, blank_authentication

NO_HASH = bytes(HASH_OCTETS)
"""Placeholder for the authentication."""
CARRIED_AT, NONCE_AT, NONCE_OCTETS = 4, 8, 8
"""Offsets of the next header of the piggyback, and of the nonce."""
LEAP_OCTETS = 4
"""Octets of an unpredictable increment of the nonce."""
UNLISTED_PAIRS_MAX = 4
"""Pairs with a source that the peer does not know yet, over which an update is sent."""
FRAMES_KEPT_MAX = 256
ENTRIES_KEPT_MAX = 64
"""Sets in the form of messages that are cached, because few sets occur in most messages."""


def send_update(
    core: Core, context: Context, trigger: Trigger, why: Cause = Cause.NEW_SETS
) -> None:
    """Sends the peer our present sets; supersedes an earlier update [draft §7.7, D17]."""
    context.untold = False
    context.update = Update(next_nonce(context), core.now_ns, core.now_ns)
    core.enter(context, State.UR_SENT, trigger, why)
    _transmit(core, context, context.update)


def tell_untold(core: Core, context: Context, trigger: Trigger) -> None:
    """Sends the peer our sets if they have changed since the last time."""
    if context.untold and context.is_settled:
        send_update(core, context, trigger)


def on_retransmit(core: Core, context: Context) -> None:
    """Repeats an unacknowledged UR, at last only when the peer is heard [draft §7.10, D45]."""
    update = context.update
    assert update is not None
    if core.now_ns - update.started_ns >= CONTEXT_IDLE_TIME:
        context.update, context.untold = None, True
        return_to_established(core, context, Trigger.RETRANSMIT, Cause.UPDATE_UNACKNOWLEDGED)
        return
    update.tries += 1
    _transmit(core, context, update)


def _transmit(core: Core, context: Context, update: Update) -> None:
    update.sent_ns = core.now_ns
    message = request(core, context, update.nonce)
    # An update that removes a locator is not sent from that locator. But the peer does not accept
    # messages from a locator that it does not know yet. So the pairs alternate, then the forms. A
    # peer that had the context before its set-up may know only our AID.
    pairs = [context.pair, *better_pairs(context)[:1]]
    if context.local_aid in context.own_usable:
        pairs = list(dict.fromkeys([*pairs, (context.local_aid, context.peer_locator)]))
    if is_broken(context):
        pairs = [*unlisted_pairs(context)[:UNLISTED_PAIRS_MAX], *reversed(pairs)]
    turn, place = divmod(update.tries - 1, len(pairs))
    history = context.history_of(context.pair)
    data_first = history.heard_ns >= history.plain_ns and not context.is_searching
    core.send_on(context, message, pairs[place], in_slot=data_first == (turn % 2 == 0))
    core.set_timer(context, Timer.RETRANSMIT, core.jittered(_patience_ns(context, update)))


def _patience_ns(context: Context, update: Update) -> int:
    """How long a transmission may stay unacknowledged before the next one."""
    first_ns = max(UPDATE_RETRANSMIT_FIRST, 2 * context.round_trip_ns)
    return min(first_ns << (update.tries - 1), UPDATE_RETRANSMIT_MAX)


def restore(core: Core, context: Context, trigger: Trigger, why: Cause) -> None:
    """Restores a context that was being set up again, and tells the peer [D18, D39]."""
    send_update(core, context, trigger, why)
    core.set_timer(context, Timer.IDLE, CONTEXT_IDLE_TIME)
    core.install(context)


def next_nonce(context: Context) -> Nonce:
    """The nonce of the next UR of ours: greater than any before [D17]."""
    context.update_nonce = Nonce(context.update_nonce + 1)
    return context.update_nonce


def leap(core: Core, context: Context, lasting_ns: int) -> None:
    """Makes our next nonces unpredictable, so that an answer to one shows who hears us [D39].

    Args:
        core: the core of the host.
        context: whose nonces.
        lasting_ns: for how long an answer to a later nonce counts.
    """
    context.doubt = NO_DOUBT
    skip(core, context)
    context.doubt = Doubt(core.now_ns + lasting_ns, context.update_nonce)


def skip(core: Core, context: Context) -> None:
    """Makes our next nonce unpredictable; answers to those that it skips show nothing."""
    doubt, before = context.doubt, context.update_nonce
    context.update_nonce = Nonce(before + 1 + int.from_bytes(core.entropy(LEAP_OCTETS), "big"))
    core.emit(RememberLater(context.local_label))
    if core.now_ns < doubt.until_ns:
        earlier = (*doubt.earlier, range(doubt.after + 1, before + 1))
        context.doubt = doubt._replace(after=context.update_nonce, earlier=earlier)


def request(
    core: Core,
    context: Context,
    nonce: Nonce,
    *,
    flags: Flag = NO_FLAGS,
    packet: bytes = b"",
    former: Former | None = None,
) -> bytes:
    """An authenticated Update Request with the present sets, in octets; also to a former peer."""
    peer = former or context
    start, middle, end = _frame(
        core.options.codepoints.icmpv6_type,
        Code.UR,
        (context.local_aid, context.peer_aid),
        labels(core, context, former),
        flags,
        (own_entries(context), peer_entries(context)),
        peer.peer_update_nonce,
    )
    if _rides(core, len(start) + NONCE_OCTETS + len(middle) + HASH_OCTETS + len(end), packet):
        start = start[:CARRIED_AT] + packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] + start[5:]
        end += packet[HEADER_OCTETS:]
    return _sealed(peer.agreed_key, (start, middle, end), nonce)


def short_message(
    core: Core, context: Context, code: Code, nonce: Nonce, *, flags: Flag = NO_FLAGS
) -> bytes:
    """An authenticated UA, CLOSE or KEEPALIVE, in octets; it contains only its context."""
    aids = context.local_aid, context.peer_aid
    frame = _frame(core.options.codepoints.icmpv6_type, code, aids, labels(core, context), flags)
    return _sealed(context.agreed_key, frame, nonce)


@functools.lru_cache(maxsize=FRAMES_KEPT_MAX)
def _frame(
    icmpv6_type: int,
    code: Code,
    aids: tuple[Locator, Locator],
    context: ContextOption,
    flags: Flag = NO_FLAGS,
    sets: tuple[Entries, Entries] = ((), ()),
    heard: Nonce = NO_NONCE,
) -> tuple[bytes, bytes, bytes]:
    """The octets of a message before the nonce, between nonce and hash, and after the hash.

    They are cached, because many probes and answers differ only in nonce and hash.
    """
    message = ControlMessage(
        code=code,
        nonce=NO_NONCE,
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


def _sealed(key: bytes, frame: tuple[bytes, bytes, bytes], nonce: Nonce) -> bytes:
    """A message in octets, with its nonce and the keyed hash that proves its sender [D40]."""
    start, middle, end = frame
    before = start + nonce.to_bytes(NONCE_OCTETS, "big") + middle
    return before + keyed_hash(key, before + NO_HASH + end) + end


def _rides(core: Core, message_octets: int, packet: bytes) -> bool:
    """Whether there is a packet of the ULP that fits the MTU on a message [D7].

    A packet with "no next header" (59) cannot be piggybacked, because 59 means that there is none.
    """
    is_one = len(packet) >= HEADER_OCTETS and packet[NEXT_HEADER_AT] != NO_NEXT_HEADER
    return is_one and message_octets + len(packet) <= core.options.mtu


def with_piggyback(core: Core, message: ControlMessage, packet: bytes) -> ControlMessage:
    """The message with a packet of the ULP on it, if there is one and it fits the MTU [D7]."""
    if not _rides(core, len(message.encode(core.options.codepoints.icmpv6_type)), packet):
        return message
    return replace(message, piggyback=Piggyback(packet[NEXT_HEADER_AT], packet[HEADER_OCTETS:]))


def ulp_packet(message: ControlMessage) -> bytes:
    """The piggybacked packet as the ULP sent it: between the AIDs."""
    assert message.piggyback is not None
    payload = message.piggyback.payload
    header = Header(
        source=message.sender_aid,
        destination=message.receiver_aid,
        next_header=message.piggyback.next_header,
        payload_octets=len(payload),
    )
    return header.encode() + payload


def tell_remote(core: Core, context: Context, trigger: Trigger) -> None:
    """Tells the peer which of its locators the DNS lists, if it does not know.

    They are fewer than it has [draft §7.7, §7.13], or others than it was told [draft §4.5]. During
    a set-up the peer cannot be told; it is told after that.
    """
    if not context.is_settled or not context.verification.settled:
        return
    if not context.told_remote and context.peer_local is context.verification.remote:
        return  # the usual case
    said = frozenset(context.peer_local)
    told = said.intersection(context.told_remote) if context.told_remote else said
    if said.intersection(context.peer_remote) != told:
        context.told_remote = context.peer_remote
        send_update(core, context, trigger)


def labels(core: Core, context: Context, former: Former | None = None) -> ContextOption:
    """The labels and birthdays in a message of ours to the peer, or to a former peer."""
    peer = former or context
    return ContextOption(
        sender_label=context.local_label,
        receiver_label=peer.peer_label,
        sender_birthday=core.options.birthday,
        receiver_birthday=peer.peer_birthday,
    )


def authenticated(core: Core, key: bytes, message: ControlMessage) -> bytes:
    """The octets of a message with its keyed hash, which only the two ends can make [D40].

    Args:
        core: the core of the host.
        key: K.
        message: with zeros as its authentication.
    """
    octets = message.encode(core.options.codepoints.icmpv6_type)
    at = authentication_at(octets)
    return octets[:at] + keyed_hash(key, octets) + octets[at + HASH_OCTETS :]


def is_authentic(key: bytes, event: ControlMessageReceived, message: ControlMessage) -> bool:
    """Whether the keyed hash of a message was made with this key [D40].

    The hash covers the AIDs, so that a message that is reflected to its sender is not accepted.
    """
    expected = keyed_hash(key, blank_authentication(event.octets))
    return equal(expected, message.authentication)


def apply(core: Core, context: Context, message: ControlMessage) -> bool:
    """Takes the sets of a UR that is newer than all others [draft §7.8].

    Returns:
        Whether they have changed.
    """
    before = (context.peer_local, context.peer_marks, context.own_remote)
    context.learn_peer_locators(message.sender_locators)
    context.learn_own_locators(message.receiver_locators)
    is_other = (context.peer_local, context.peer_marks, context.own_remote) != before
    if is_other:
        core.install(context)
        tell_remote(core, context, Trigger.UR)
    return is_other


def acknowledge(
    core: Core,
    context: Context,
    event: ControlMessageReceived,
    message: ControlMessage,
    *,
    changed: bool,
    looks: bool = False,
) -> None:
    """Answers a UR [D20, D43].

    A UR asks whether its sender hears what we send over our pair in use, so the answer uses that
    pair. A probe of a sender that hears nothing, and some measurements, ask about their own pair,
    so the answer uses that pair. Both pairs are used if another pair is better or the sets change.
    **Nothing is sent to a locator that is not proven.**

    Args:
        core: the core of the host.
        context: the context.
        event: the UR.
        message: the same, decoded.
        changed: whether it has changed sets.
        looks: this host looks whether data has come, so that the peer knows what silence means.
    """
    flags = Flag.DATA_ASKED if looks else NO_FLAGS
    octets = short_message(core, context, Code.UA, message.nonce, flags=flags)
    back: Pair = (event.destination, event.source)
    asks_here = bool(message.flags & (Flag.HEARS_NOTHING | Flag.ANSWER_HERE))
    pairs = [back] if asks_here or changed or better_pairs(context) else []
    # A host that is set aside probes no pairs, and so names no UR of its peer.
    names_none = context.path is Path.ASIDE and not message.flags & Flag.ANSWER_HERE
    if not asks_here or names_none or not context.is_verified(event.source):
        pairs += answer_pairs(context)
    for pair in dict.fromkeys(pairs):
        if context.is_verified(pair[1]):
            # In the form of the question, so that the answer shows that this form passes.
            core.send_on(context, octets, pair, in_slot=event.in_slot)


def return_to_established(core: Core, context: Context, trigger: Trigger, why: Cause) -> None:
    """Back to ESTABLISHED once no update is under way [draft §7.9]."""
    if context.state is State.UR_SENT and context.update is None:
        core.enter(context, State.ESTABLISHED, trigger, why)


def own_entries(context: Context) -> Entries:
    """Our Lsl in the form of messages."""
    entries = _entries(context.own_local, LocatorFlag.LOCAL)
    if not context.own_marks:
        return entries
    return tuple(
        LocatorEntry(locator, flags | context.own_marks_of(locator)) for locator, flags in entries
    )


def peer_entries(context: Context) -> Entries:
    """Lsr of the peer in the form of messages; Lsl of the peer until the DNS has answered.

    Otherwise the peer would leave locators that the DNS proves soon after.
    """
    is_known = context.verification.settled or not context.is_known_to_peer
    remote = context.peer_remote if is_known else context.peer_local
    return _entries(remote, LocatorFlag.REMOTE)


@functools.lru_cache(maxsize=ENTRIES_KEPT_MAX)
def _entries(locators: tuple[Locator, ...], flags: int) -> Entries:
    return tuple(LocatorEntry(locator, flags) for locator in locators)
