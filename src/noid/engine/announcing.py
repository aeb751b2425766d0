# SPDX-License-Identifier: MIT
"""Receiving before a context is complete: install before announcing [D48].

CCR, and CONF in INIT-SENT, permit the peer to send data with our label before we know its label.
Therefore the inbound flow is installed before such a message is sent. It passes arriving packets to
the engine, which delivers packets from the AID or a verified locator, and keeps others until the
set-up is complete.
"""

from noid.constants import HELD_PACKETS_MAX
from noid.counters import Drop
from noid.engine.context import Context
from noid.engine.core import Core
from noid.flows.events import PacketHeld
from noid.locators import Locator


def announce(core: Core, context: Context) -> None:
    """Installs the inbound flow of a context before a message gives its label to the peer."""
    context.announced = True
    core.install(context)


def on_packet_held(core: Core, event: PacketHeld) -> None:
    """A packet arrived for a flow that holds packets: delivers, keeps or drops it [D37, D48]."""
    context = core.labels.get(event.local_label)
    if context is None:
        return
    exchange, source = context.exchange, event.source
    if exchange is None or source == context.peer_aid or source in context.peer_verified:
        core.deliver(context, event.packet)
    elif len(exchange.held) < HELD_PACKETS_MAX:
        exchange.held.append((source, event.packet))
    else:
        core.drop(Drop.TOO_MANY_PACKETS_HELD)


def deliver_held(core: Core, context: Context, held: list[tuple[Locator, bytes]]) -> None:
    """The set-up is complete: delivers kept packets that came from members of Lsl(peer)."""
    for source, packet in held:
        if source in context.peer_acceptable:
            core.deliver(context, packet)
