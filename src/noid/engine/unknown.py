# SPDX-License-Identifier: MIT
"""UC, which says that a context is unknown here [draft §3.3.7, §7.11 1a; D9, D17, D39]."""

from noid.constants import CONTROL_OCTETS_MAX
from noid.counters import Drop
from noid.engine.core import Core
from noid.engine.secrets import reset_token
from noid.errors import WireError
from noid.flows.events import ControlMessageReceived, UnknownLabelSeen
from noid.identifiers import Label
from noid.locators import UNSPECIFIED
from noid.wire import ipv6
from noid.wire.control import FIXED_OCTETS, Code, ControlMessage, Piggyback
from noid.wire.options import ContextOption
from noid.wire.slots import SLOT_ICMPV6, next_header_of

OPTIONS_OCTETS = 48
"""The two options of a UC, padded."""
QUOTE_OCTETS_MAX = CONTROL_OCTETS_MAX - ipv6.HEADER_OCTETS - FIXED_OCTETS - OPTIONS_OCTETS


def on_unknown_label(core: Core, event: UnknownLabelSeen) -> None:
    """Answers a data packet with an unknown label, or with locators not in its context [D41]."""
    try:
        header = ipv6.Header.decode(event.packet)
    except WireError as error:
        core.drop(error.drop, error.reason)
        return
    core.drop(Drop.UNKNOWN_FLOW_LABEL)
    _send(core, header, event.packet, header.flow_label)


def tell_unknown(core: Core, event: ControlMessageReceived, label: Label) -> None:
    """Answers an Update Request for an unknown context, or one that fails a check [D17, D41]."""
    slot = next_header_of(SLOT_ICMPV6, core.options.codepoints, rewritable=True)
    header = ipv6.Header(
        source=event.source,
        destination=event.destination,
        next_header=slot if event.in_slot else ipv6.ICMPV6,
        payload_octets=len(event.octets),
    )
    _send(core, header, header.encode() + event.octets, label)


def _send(core: Core, header: ipv6.Header, packet: bytes, label: Label) -> None:
    if header.destination not in core.locators or not core.is_another_host(header.source):
        return
    if not core.may_answer(header.source, core.errors):
        return
    message = ControlMessage(
        code=Code.UC,
        nonce=core.nonce(),
        sender_aid=UNSPECIFIED,
        receiver_aid=UNSPECIFIED,
        context=ContextOption(receiver_label=label, sender_birthday=core.options.birthday),
        # The token of the preceding birthday, for any label: this host has restarted since.
        reset_token=reset_token(core.options.reset_key, core.options.birthday - 1, label),
        piggyback=Piggyback(ipv6.IPV6, packet[:QUOTE_OCTETS_MAX]),
    )
    core.send(message, (header.destination, header.source))
