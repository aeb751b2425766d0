# SPDX-License-Identifier: MIT
"""Keepalives for one-way traffic: signs of life from a host that only receives [D42].

Data in one direction gets no answer, so its sender cannot distinguish a dead pair from a working
one. Therefore the receiver sends keepalives at intervals: authenticated, with a nonce that only
grows, in the form of data. A host that sends data itself sends one only if it is asked.
"""

from collections.abc import Iterable

from noid.constants import DATA_ASKED_TIME, DATA_ASKED_WAIT, NEVER
from noid.counters import Drop
from noid.engine import data_loss, switching
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import CheckData, DataHasCome, NoteHeard, RememberLater
from noid.engine.history import Pair
from noid.engine.matching import matching
from noid.engine.probing import stay
from noid.engine.searching import spare
from noid.engine.selection import answer_pairs
from noid.engine.state import Cue, Path
from noid.engine.tolerance import learn
from noid.engine.update import next_nonce, short_message
from noid.flows.events import ControlMessageReceived, OneWayDataSeen
from noid.wire.control import NO_FLAGS, Code, ControlMessage, Flag


def on_one_way_data(core: Core, event: OneWayDataSeen) -> None:
    """The data plane received data on a flow that sends none."""
    context = core.labels.get(event.local_label)
    if context is None or not context.is_complete:
        return
    core.used(context)
    _send(core, context, answer_pairs(context), NO_FLAGS)


def _send(core: Core, context: Context, pairs: Iterable[Pair], flags: Flag) -> None:
    for pair in pairs:
        if context.is_verified(pair[1]):
            nonce = next_nonce(context)
            octets = short_message(core, context, Code.KEEPALIVE, nonce, flags=flags)
            core.send_on(context, octets, pair, in_slot=True)


def on_data_asked(core: Core, context: Context) -> bool:
    """The peer asks whether its data comes, which the data plane knows [D47].

    Returns:
        Whether this host looks.
    """
    asked = context.local_label, Flag.DATA_ASKED  # errors, which may be forged, do not count here
    if not context.is_settled or not core.hints.take(asked, core.now_ns):
        return False
    since_ns = core.now_ns - DATA_ASKED_TIME
    core.emit(CheckData(context.local_label, since_ns, DATA_ASKED_WAIT, by_peer=True))
    return True


def on_data_has_come(core: Core, event: DataHasCome) -> None:
    """Tells a peer that has asked that its data comes, also if this host sends data.

    The pair in use may be silent. So the answer also goes back by the pair of the latest request.
    If this host has looked for itself, because no pair answers, the pair in use stays.
    """
    context = core.labels.get(event.local_label)
    if context is None or not context.is_settled:
        return
    one = context.search
    if event.by_peer:
        history = context.history
        latest = max(history, key=lambda one: history[one].message_ns, default=context.pair)
        _send(core, context, dict.fromkeys((*answer_pairs(context), latest)), Flag.DATA_ASKED)
    elif one is None or one.told_by_peer or one.doubtful or event.since_ns != one.asked_ns:
        return  # it is about an earlier search, or says nothing about this one
    elif context.path in (Path.DOUBTING, Path.SEARCHING):
        stay(core, context, Cue.THIS_ANSWERS)
        learn(core, context, alarms=1)
        core.install(context)


def on_keepalive(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """The peer is alive; a keepalive with an old nonce proves nothing."""
    context = matching(core, event, message)
    if context is None:
        return
    if message.nonce <= context.peer_keepalive_nonce:
        core.drop(Drop.KEEPALIVE_OLDER_THAN_ANOTHER)
        return
    context.peer_keepalive_nonce = message.nonce
    core.emit(RememberLater(context.local_label))
    asked = bool(message.flags & Flag.DATA_ASKED)
    # An answer comes over the pair of the request, too, where the peer may send nothing else.
    is_copy = asked and context.peer_source not in (None, event.source)
    heard(core, context, event, unasked=not asked, measures=is_copy)
    data_loss.heard(core, context, event.source, asked=asked)
    if (event.destination, event.source) == context.pair:
        switching.stop(core, context)


def heard(
    core: Core,
    context: Context,
    event: ControlMessageReceived,
    *,
    unasked: bool = False,
    acknowledges: bool = False,
    lasts_ns: int = NEVER,
    measures: bool = False,
) -> None:
    """Notes that an authentic message came from the peer, and over which pair.

    Only a message from the locator from which the peer sends its data, or an answer to a request of
    ours, ends the silence of the pair in use: other URs of the peer are about other pairs. A peer
    measures also while our data does not arrive. A UR ends the silence for ``lasts_ns`` after the
    last answer, and while the peer says on request that data comes, or lost answers explain that it
    does not: otherwise URs would put off the next request.
    """
    pair = event.destination, event.source
    context.hear(pair, core.now_ns, in_slot=event.in_slot, measures=measures)
    is_about_it = acknowledges or event.source in (context.peer_locator, context.peer_source)
    if measures or not is_about_it:
        return
    context.alive_ns = core.now_ns
    history = context.history_of(context.pair)
    if lasts_ns == NEVER:
        context.proven_ns = core.now_ns
    elif core.now_ns >= context.proven_ns + lasts_ns or 2 * history.unseen > history.misses:
        return
    core.emit(NoteHeard(context.local_label, unasked))
    spare(core, context)
