# SPDX-License-Identifier: MIT
"""Whether data passes again, after it was lost over all pairs and went plainly for a while. Pure.

Data itself would be lost if it does not. So packets without content go in its form: they are
shorter than any header of the ULP, and reach no program. The peer owes a keepalive for two of them,
as for all data in one direction [D42].
"""

from noid.constants import (
    EMPTY_OCTETS,
    EMPTY_PACKETS,
    KEEPALIVE_INTERVAL,
    RETRANSMIT_WAITING,
)
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import SendControl
from noid.engine.history import Pair
from noid.engine.phases import Search
from noid.engine.selection import alternatives
from noid.engine.update import next_nonce, request
from noid.wire import ipv6
from noid.wire.control import Flag
from noid.wire.ipv6 import NEXT_HEADER_AT
from noid.wire.slots import SLOT_OF_PROTOCOL, next_header_of


def go_on(core: Core, context: Context, one: Search) -> bool:
    """Sends the next packet; returns whether all have gone, and the time for an answer is over.

    A peer that sends data itself owes no keepalive. So a request asks for one at the end.
    """
    if one.empties == EMPTY_PACKETS:
        return True
    if not one.empties:
        pairs = [context.pair, *alternatives(context)]  # another one each time
        one.retried = pairs[max(one.asides - 1, 0) % len(pairs)]
    one.empties += 1
    is_last = one.empties == EMPTY_PACKETS
    if one.retried is not None and context.is_verified(one.retried[1]):
        core.emit(SendControl(_empty(core, context, one, one.retried)))
        if is_last:
            message = request(core, context, next_nonce(context), flags=Flag.DATA_ASKED)
            core.send_on(context, message, one.retried, in_slot=True)
    wait_ns = max(RETRANSMIT_WAITING, 2 * context.round_trip_ns)
    one.batch_at_ns = core.now_ns + (wait_ns if is_last else KEEPALIVE_INTERVAL)
    return False


def _empty(core: Core, context: Context, one: Search, pair: Pair) -> bytes:
    """A packet of data without content."""
    protocol = one.packet[NEXT_HEADER_AT] if one.packet else ipv6.UDP
    slot = SLOT_OF_PROTOCOL.get(protocol, SLOT_OF_PROTOCOL[ipv6.UDP])
    is_rewritable = len(context.own_set) > 1
    header = ipv6.Header(
        source=pair[0],
        destination=pair[1],
        next_header=next_header_of(slot, core.options.codepoints, rewritable=is_rewritable),
        payload_octets=EMPTY_OCTETS,
        flow_label=context.peer_label,
    )
    return header.encode() + bytes(EMPTY_OCTETS)
