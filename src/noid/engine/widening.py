# SPDX-License-Identifier: MIT
"""Asks whether long packets, which were lost or refused, pass the path now (RFC 8899 §4.1). Pure.

The stack of a host keeps the size that an error says for ten minutes, although the reason may be
over at once: a pair was left whose path is narrow, packets were lost by chance, an error was
forged. So an Update Request asks that is as long as the packet. It carries padding, which its
receiver drops as a packet of no ULP. Once it is answered, the stack may send long packets again.
"""

from noid.constants import (
    LONG_LOST_TIME,
    LONGER_AFTER_SWITCH,
    LONGER_ASKED_MAX,
    LONGER_ASKED_TIME,
    LONGER_SPREAD,
    MTU_MIN,
)
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import WidenPath
from noid.engine.narrowed import Narrowed
from noid.engine.state import Path, Timer
from noid.engine.update import next_nonce, request
from noid.identifiers import NO_NONCE, Nonce
from noid.wire import ipv6

PADDING_HEAD = bytes((ipv6.NO_NEXT_HEADER, 0, 1, 4, 0, 0, 0, 0))
"""An extension header of hop-by-hop options that has only padding, before nothing."""


def narrowed(core: Core, context: Context, octets: int, told: int) -> None:
    """A packet of this length was lost or refused; the stack is told to send shorter ones."""
    octets = min(octets, core.options.mtu)
    if octets <= MTU_MIN or not context.is_settled:
        return
    before = context.narrowed
    if before is None or core.now_ns >= before.since_ns + LONGER_ASKED_TIME:
        before = Narrowed(core.now_ns)
    context.narrowed = before._replace(octets=octets, told=told, nonce=NO_NONCE)
    if not core.is_timer_set(context, Timer.LONGER):
        _ask_after(core, context, LONG_LOST_TIME << before.asked)


def refused(context: Context, nonce: Nonce, octets: int) -> None:
    """Notes that a router refused the request, and the length of packets that it permits.

    The next request has that length, if that is more than the stack sends.
    """
    now = context.narrowed
    if now is not None and now.nonce and nonce == now.nonce and now.told < octets < now.octets:
        context.narrowed = now._replace(octets=octets, nonce=NO_NONCE)


def on_timer(core: Core, context: Context) -> None:
    """Asks by one request, twice as long after the one before, until the stack forgets the size."""
    now = context.narrowed
    if now is None:
        return
    nonce = NO_NONCE
    if context.is_settled and context.path is Path.STEADY:
        nonce = next_nonce(context)
        core.send_on(
            context, _request(core, context, nonce, now.octets), context.pair, in_slot=True
        )
    context.narrowed = now._replace(asked=now.asked + 1, nonce=nonce)
    if now.asked + 1 < LONGER_ASKED_MAX:
        _ask_after(core, context, LONG_LOST_TIME << now.asked + 1)


def answered(core: Core, context: Context, nonce: Nonce) -> None:
    """The peer has answered a request.

    If long packets are lost again, they are not because of their length alone; so ``asked`` stays.
    """
    now = context.narrowed
    if now is not None and now.nonce and nonce == now.nonce:
        context.narrowed = now._replace(octets=0, nonce=NO_NONCE)
        core.stop_timer(context, Timer.LONGER)
        core.emit(WidenPath(context.peer_aid))


def switched(core: Core, context: Context) -> None:
    """Another pair is used, whose path may be wider."""
    if context.narrowed is not None:
        context.narrowed = context.narrowed._replace(asked=0, nonce=NO_NONCE)
        if context.narrowed.octets and context.is_settled:
            _ask_after(core, context, LONGER_AFTER_SWITCH)


def _ask_after(core: Core, context: Context, delay_ns: int) -> None:
    """Sets the timer; many contexts that are narrowed or switch at once do not ask at once."""
    spread_ns = core.jittered(LONGER_SPREAD * len(core.labels))
    core.set_timer(context, Timer.LONGER, delay_ns + spread_ns)


def _request(core: Core, context: Context, nonce: Nonce, octets: int) -> bytes:
    """A request in a packet of this length."""
    rest = octets - ipv6.HEADER_OCTETS - len(request(core, context, nonce))
    padding = PADDING_HEAD + bytes(max(rest - len(PADDING_HEAD), 0))
    header = ipv6.Header(
        source=context.local_aid,
        destination=context.peer_aid,
        next_header=ipv6.HOP_BY_HOP,
        payload_octets=len(padding),
    )
    return request(core, context, nonce, packet=header.encode() + padding)
