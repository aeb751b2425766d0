# SPDX-License-Identifier: MIT
"""Switching to another pair of locators, and repeating what the former may have lost [D20]."""

from noid.constants import REPEATS_MAX, SILENCE_MIN
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import SendAgain, Switched
from noid.engine.history import Pair
from noid.engine.selection import is_set_aside
from noid.engine.state import Timer
from noid.engine.widening import switched
from noid.wire import ipv6
from noid.wire.ipv6 import NEXT_HEADER_AT

REPEATABLE = frozenset(map(int.to_bytes, (ipv6.TCP, ipv6.SCTP, ipv6.ESP)))
"""Protocols whose receivers recognize a repeated packet."""


def switch(
    core: Core,
    context: Context,
    pair: Pair,
    why: Cause,
    packet: bytes = b"",
    *,
    silent_ns: int = 0,
) -> None:
    """Sends over another pair of locators from now on, an unanswered packet first."""
    old = context.pair
    if pair == old:
        return
    assert pair[1] in context.peer_verified
    if pair == context.left_pair:
        context.left_pair = None
    elif is_set_aside(context, old, why):
        context.left_pair = old
    context.local_locator, context.peer_locator = pair
    context.peer_source = None
    if context.update is not None:  # packets on the former pair may be lost
        core.bring_forward(context, Timer.RETRANSMIT, core.now_ns)
    core.install(context)
    switched(core, context)
    repeat(core, context, packet, silent_ns=silent_ns)
    core.emit(Switched(context.local_aid, context.peer_aid, old, pair, why))  # packets go first


def repeat(core: Core, context: Context, packet: bytes = b"", *, silent_ns: int = 0) -> None:
    """Sends a packet of the ULP, or one that the plane has stored, at once and a few more times.

    The peer may switch a little later; until then its answers are lost.

    Args:
        core: the core of the host.
        context: whose packet.
        packet: as the ULP sent it; empty for the one that the plane has stored.
        silent_ns: how long packets were lost.
    """
    if context.is_settled:
        context.repeating, context.repeats = packet, 0
        core.emit(SendAgain(context.local_label, packet, silent_ns))
        core.set_timer(context, Timer.REPEAT, _wait_ns(context))


def on_repeat_timer(core: Core, context: Context) -> None:
    """Sends the unanswered packet again, over the pair that was found."""
    core.emit(SendAgain(context.local_label, context.repeating))
    context.repeats += 1
    if context.repeats < REPEATS_MAX:
        core.set_timer(context, Timer.REPEAT, _wait_ns(context) << context.repeats)
    else:
        context.repeating, context.repeats = b"", 0


def stop(core: Core, context: Context) -> None:
    """A keepalive shows that packets arrive without an answer: stops repeating."""
    core.stop_timer(context, Timer.REPEAT)
    context.repeating, context.repeats = b"", 0


def _wait_ns(context: Context) -> int:
    """The time until a packet is sent a second time after a switch; doubles each time."""
    return max(2 * context.round_trip_ns, SILENCE_MIN)


def repeatable(packet: bytes) -> bytes:
    """The packet if it may be repeated; otherwise nothing.

    Perhaps only its answer was lost. So its protocol must recognize a repeated packet.
    """
    return packet if packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] in REPEATABLE else b""
