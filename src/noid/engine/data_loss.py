# SPDX-License-Identifier: MIT
"""Data that is lost although messages in its form are answered. Pure.

An answered request proves that a pair works only if the network treats data as it treats requests.
A router that sets flow labels to 0, or an attacker who passes only messages, does not. A peer
answers data with data or with keepalives [D42]. If neither arrives for long although requests are
answered, another pair is used. If that fails too, or there is none, data is plain if that passes
[D47]. The peer is told. Requests because of silence ask the peer whether data has come: if it has,
what the peer sends is lost, and only the peer has to leave its pair.

If both ends send unasked, what one of them sends may be lost unnoticed: it hears data of the other,
which hears its keepalives. But it hears nothing authentic, and so asks for a proof. These requests
ask whether data has come, too.

First, if the lost packet is long, its program is told to send shorter ones: a path may drop long
packets without an answer (RFC 2923 §2.1), such as that of the other provider.
"""

from noid.constants import (
    DATA_LOST_GAPS,
    DATA_LOST_PACKETS,
    DATA_LOST_REPORTS,
    DATA_LOST_REPORTS_AGAIN,
    DATA_LOST_TIME,
    DATA_UNSEEN,
    DATA_UNSEEN_AGAIN,
    LONG_LOST_TIME,
    LOST_PAIRS_KEPT_MAX,
    MTU_MIN,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    UNANSWERED_MANY,
)
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import DeliverToUlp
from noid.engine.phases import Finding, Search
from noid.engine.probing import arm, batch, check_plain
from noid.engine.records import LostData
from noid.engine.searching import give_up, take
from noid.engine.selection import other_pairs
from noid.engine.state import Cue, Path
from noid.engine.switching import repeatable
from noid.engine.update import next_nonce, request
from noid.engine.widening import narrowed
from noid.flows.events import UnansweredPacket
from noid.identifiers import NO_NONCE, Nonce
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.control import ControlMessage, Flag


def is_lost(core: Core, context: Context, event: UnansweredPacket) -> bool:
    """Counts a report of unanswered data; returns whether data is lost by these reports."""
    history = context.history_of(context.pair)
    if not history.unheard or event.received_ns >= history.unheard_ns:
        history = history._replace(unheard=0, unheard_packets=0, unheard_ns=core.now_ns)
        history = history._replace(loses_requests=False)
    packets = history.unheard_packets + min(event.packets, UNANSWERED_MANY)
    history = history._replace(unheard=history.unheard + 1, unheard_packets=packets)
    # Requests of the last search over the pair in use, too, may be lost; late answers count.
    for one in (context.late or {}).values():
        if one.pair == context.pair and one.sent_ns >= history.unheard_ns:
            history = history._replace(loses_requests=True)
    context.note(context.pair, history)
    answered_ns = max(one.heard_ns for one in context.history.values())
    if context.path is not Path.STEADY or answered_ns <= history.unheard_ns:
        return False  # no request has been answered since
    if _is_lost_elsewhere(core, context):
        return history.unheard >= DATA_LOST_REPORTS_AGAIN
    unheard_ns = core.now_ns - history.unheard_ns
    # Where packets or answers are far apart, so are reports, and each says more.
    are_many = packets >= DATA_LOST_PACKETS and not history.misses
    if are_many and event.received_ns < history.used_ns:
        return history.unheard >= DATA_LOST_REPORTS_AGAIN  # no data has come since it is used
    is_long = unheard_ns >= DATA_LOST_GAPS * event.gap_ns
    # Where requests are lost, keepalives are too.
    usual = DATA_LOST_REPORTS << history.loses_requests
    wanted = DATA_LOST_REPORTS_AGAIN if are_many and is_long else usual
    return history.unheard >= wanted and unheard_ns >= DATA_LOST_TIME


def is_shortened(core: Core, context: Context, packet: bytes) -> bool:
    """Tells the program of a lost packet to send shorter ones, if it is long and it was not told.

    Returns:
        Whether the program was told now.
    """
    history = context.history_of(context.pair)
    told_ns = history.shortened_ns
    is_told = told_ns and core.now_ns < told_ns + LONG_LOST_TIME
    if is_told or len(packet) <= MTU_MIN or not context.is_settled:
        return False
    unheard = min(history.unheard, 1)
    context.note(context.pair, history._replace(unheard=unheard, shortened_ns=core.now_ns))
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=MTU_MIN, quote=packet)
    header = ipv6.Header.decode_unchecked(packet)
    core.emit(DeliverToUlp(error.encode_packet(header.destination, header.source)))
    narrowed(core, context, len(packet), MTU_MIN)
    return True


def _is_lost_elsewhere(core: Core, context: Context) -> bool:
    """Whether data was lost over another pair lately."""
    histories = (context.history_of(pair) for pair in other_pairs(context))
    return any(one.loses_data(core.now_ns, PEER_UNABLE_TIME) for one in histories)


def heard(core: Core, context: Context, source: Locator, *, asked: bool) -> None:
    """A keepalive came: the peer receives data. If it was asked, it sends data, too."""
    history = context.history_of(context.pair)
    if asked:
        context.note(context.pair, history._replace(passes_ns=core.now_ns, unseen=0))
    elif history.unheard or history.used_ns:
        context.note(context.pair, history._replace(unheard=0, used_ns=0))
    one = context.search
    if one is None or context.path is not Path.ASIDE:
        return
    if one.loses_all and one.empties and one.retried:
        context.note(one.retried, context.history_of(one.retried)._replace(losses=0))
        take(core, context, one, Finding(one.retried, source))


def proven(context: Context, *, is_checked: bool) -> None:
    """The peer has answered a request for a proof; if its data has come, it says that a bit later.

    Args:
        context: whose peer.
        is_checked: the peer was asked, too, whether data has come, and looks. A request that has
            waited does not ask, because no data may have gone since. The next one does not wait.
    """
    one = context.search
    if one is None or not one.is_routine:
        return
    history = context.history_of(context.pair)
    if history.passes_ns >= one.started_ns:
        return
    # A peer that has said so before looks again, but the first request or its answer was lost.
    looks = is_checked or history.passes_ns > context.established_ns
    unseen = history.unseen + 1 if looks else max(history.unseen, 1)
    context.note(context.pair, history._replace(unseen=unseen))


def is_unseen(core: Core, context: Context) -> bool:
    """Whether the peer has not seen data for long, although it answers requests for a proof."""
    history = context.history_of(context.pair)
    usual = DATA_UNSEEN << (history.misses > 0)
    return history.unseen >= (DATA_UNSEEN_AGAIN if _is_lost_elsewhere(core, context) else usual)


def complain(core: Core, context: Context) -> None:
    """What the peer sends is lost: it says that data comes to it, and none comes from it."""
    history = context.history_of(context.pair)
    context.note(context.pair, history._replace(unheard=0))
    message = request(core, context, next_nonce(context), flags=Flag.DATA_LOST)
    core.send_on(context, message, context.pair, in_slot=True)


def on_flag(core: Core, context: Context, message: ControlMessage) -> None:
    """The peer says that data is lost: over the pair in use, or over all.

    Each of its probes says so, and any of them may arrive late, or be delayed by an attacker. A
    probe that names no UR that we sent after the last loss is about a pair that has been left.
    """
    lost_nonce = max((one.lost_nonce for one in context.history.values()), default=NO_NONCE)
    if message.heard >= lost_nonce:
        loses_all = bool(message.flags & Flag.ALL_DATA_LOST)
        lose(core, context, b"", told_by_peer=True, loses_all=loses_all)


def lose(
    core: Core,
    context: Context,
    packet: bytes,
    *,
    told_by_peer: bool = False,
    loses_all: bool = False,
) -> None:
    """Data over the pair in use is lost: leaves the pair, or all pairs if others lose data too.

    Args:
        core: the core of the host.
        context: whose pair.
        packet: a lost packet; may be empty.
        told_by_peer: the peer has detected it.
        loses_all: data is lost over all pairs.
    """
    before = context.search
    if not context.is_settled or not context.peer_verified:
        return
    if before is not None and before.loses_all:
        check_plain(core, context, before, is_told=told_by_peer)
        return
    if context.path is Path.FOLLOWING:
        return
    is_last = _is_lost_elsewhere(core, context) or not other_pairs(context)
    history = context.history_of(context.pair)
    history = history._replace(
        unheard=0,
        unseen=0,
        losses=history.losses + 1,
        lost_ns=core.now_ns,
        lost_nonce=Nonce(context.update_nonce + 1),
    )
    context.note(context.pair, history)
    one = Search(Cause.DATA_LOST, core.now_ns, repeatable(packet), 0, told_by_peer)
    one.loses_all = loses_all or is_last
    one.wanted_ns = one.batch_at_ns = core.now_ns
    one.is_silent = True
    give_up(core, context)
    context.late = before.probes if before else context.late
    context.search = one
    core.install(context)
    batch(core, context, one)
    arm(core, context, one)


# --- what the next daemon has to know [D36] -------------------------------------------------------


def remember(context: Context) -> tuple[LostData, ...]:
    """The pairs over which data was lost, the latest first."""
    lost = [
        LostData(pair, one.losses, one.lost_ns, one.lost_nonce)
        for pair, one in context.history.items()
        if one.losses
    ]
    return tuple(sorted(lost, key=lambda one: -one.lost_ns)[:LOST_PAIRS_KEPT_MAX])


def plain_until_ns(context: Context) -> int:
    """Until when data goes plainly since it is lost over all pairs; 0 if it does not."""
    one = context.search
    is_plain = one is not None and one.loses_all and context.path is Path.ASIDE
    return one.batch_at_ns if one is not None and is_plain else 0


def recall(core: Core, context: Context, lost: tuple[LostData, ...]) -> None:
    """Takes up what an earlier daemon has found of pairs."""
    for one in lost:
        history = context.history_of(one.pair)
        lost_ns = min(one.lost_ns, core.now_ns)
        context.note(
            one.pair,
            history._replace(losses=one.losses, lost_ns=lost_ns, lost_nonce=one.lost_nonce),
        )


def stay_plain(core: Core, context: Context, until_ns: int) -> None:
    """Data goes plainly until then, as it did before; the search that goes on waits."""
    one = context.search
    if one is None or until_ns <= core.now_ns:
        return
    core.turn(context, Path.ASIDE, Cue.TIME)
    one.why, one.loses_all = Cause.DATA_LOST, True
    one.cycles, one.cycle_ns = 1, core.now_ns
    one.batch_at_ns = min(until_ns, core.now_ns + PEER_UNABLE_MAX)
    arm(core, context, one)
