# SPDX-License-Identifier: MIT
"""The peer has lost its state, or never had any [draft §5, §7.12; D15, D18, D20].

A host that gets an Unknown Context starts over, if the reset token in it proves that the peer has
restarted since the set-up. Otherwise it tests the context (trial.py). ICMPv6 errors are hints: they
start a search [D47].
"""

from noid.constants import FLOW_LABEL_MASK, MTU_MIN
from noid.counters import Drop
from noid.engine import at_aid, contest, lifecycle, trial
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.events import DeliverToUlp
from noid.engine.probing import rejected as rejected_probe
from noid.engine.searching import search
from noid.engine.secrets import equal, reset_hash
from noid.engine.state import State, Trigger
from noid.engine.widening import narrowed, refused
from noid.errors import WireError
from noid.flows.events import ControlMessageReceived, IcmpErrorReceived
from noid.identifiers import Label, Nonce
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.control import FIXED_OCTETS, ControlMessage
from noid.wire.ipv6 import NEXT_HEADER_AT
from noid.wire.options import HEAD_OCTETS
from noid.wire.slots import ESCAPE_OCTETS, PROTOCOL_OF_SLOT, SLOT_ESCAPE, slot_of

REJECTED = icmpv6.PARAMETER_PROBLEM, icmpv6.UNRECOGNIZED_NEXT_HEADER
NONCE_AT = 8
"""The offset of the nonce in a message of ours."""
LABEL_AT = FIXED_OCTETS + HEAD_OCTETS
"""The offset of the sender's label in a message of ours."""


def on_uc(core: Core, event: ControlMessageReceived, message: ControlMessage) -> None:
    """A UC says that the peer does not have our context [draft §7.12, D39]."""
    try:
        quote = ipv6.Header.decode_unchecked(
            message.piggyback.payload if message.piggyback else b""
        )
    except WireError:
        core.drop(Drop.UC_WITHOUT_ITS_PACKET)
        return
    packet = message.piggyback.payload if message.piggyback else b""
    context = _quoted(core, quote, packet[ipv6.HEADER_OCTETS :])
    if context is None or context.peer_label != message.context.receiver_label:
        core.drop(Drop.UC_ABOUT_NO_PACKET_OF_OURS)
        return
    if event.source not in context.peer_acceptable:
        core.drop(Drop.UC_FROM_UNKNOWN_LOCATOR)
        return
    believed = equal(context.peer_reset_hash, reset_hash(message.reset_token))
    nonce = Nonce(int.from_bytes(packet[ipv6.HEADER_OCTETS :][NONCE_AT : NONCE_AT + 8], "big"))
    if not believed and at_aid.is_disowned_by(core, context, event.source, nonce):
        at_aid.disown(core, context, Trigger.UC)
        return
    if context.state is State.CLOSING and believed:
        lifecycle.discard(core, context, Trigger.UC, Cause.NOTHING_TO_CLOSE)
    elif not context.is_settled:
        core.drop(Drop.UC_WHILE_STARTING_OVER)
    elif not believed:
        is_message = slot_of(quote.next_header, core.options.codepoints) is None
        is_message |= not quote.flow_label
        if not (is_message and contest.refuse(core, context, nonce)):
            trial.begin(core, context)
    else:
        trial.end(core, context, Trigger.UC, Cause.PEER_LOST_CONTEXT)


def on_icmp_error(core: Core, event: IcmpErrorReceived) -> None:
    """An error about a packet of a context of ours [D15, D20, D26]."""
    try:
        error = icmpv6.decode_error(event.octets, event.source, event.destination)
        quote = ipv6.Header.decode_unchecked(error.quote)
    except WireError as wire_error:
        core.drop(wire_error.drop, wire_error.reason)
        return
    if error.type == icmpv6.PACKET_TOO_BIG and error.value < MTU_MIN:
        core.drop(Drop.MTU_TOO_SMALL)  # as RFC 8201 §4 has it
        return
    body = error.quote[ipv6.HEADER_OCTETS :]
    context = _quoted(core, quote, body)
    if context is None or not context.is_settled:
        return  # about plain packets, which the kernel handles
    nonce = Nonce(int.from_bytes(body[NONCE_AT : NONCE_AT + 8], "big"))  # if it is about a message
    has_left = (quote.source, quote.destination) != context.pair
    # It would end a new connection, although the present pair works.
    is_of_path = (error.type, error.code) in icmpv6.PATH_ERRORS
    if (error.type, error.code) != REJECTED and not (is_of_path and has_left):
        _deliver(core, context, error, event.source)
    if error.type == icmpv6.PACKET_TOO_BIG and quote.flow_label:
        narrowed(core, context, ipv6.HEADER_OCTETS + quote.payload_octets, error.value)
    elif error.type == icmpv6.PACKET_TOO_BIG:
        refused(context, nonce, error.value)
    if error.type == icmpv6.DESTINATION_UNREACHABLE:
        # During a search the errors are about probes, which is expected.
        if (quote.source, quote.destination) == context.pair and context.search is None:
            _suspect(core, context, Cause.DESTINATION_UNREACHABLE)
        return
    if (error.type, error.code) == REJECTED:
        # Errors about data can be forged; only a rejected probe counts, by its nonce [D47].
        if at_aid.is_disowned_by(core, context, event.source, nonce):
            at_aid.disown(core, context, Trigger.ICMP_ERROR)
            return
        if event.source == quote.destination:
            rejected_probe(core, context, nonce)
        _suspect(core, context, Cause.FORM_REJECTED)


def _suspect(core: Core, context: Context, why: Cause) -> None:
    """Asks the pair in use because of an error, which may be forged: once a second [D47]."""
    if core.hints.take(context.local_label, core.now_ns):
        search(core, context, why)


def _deliver(core: Core, context: Context, error: icmpv6.ErrorMessage, source: Locator) -> None:
    """Delivers an error to the ULP, with the quoted packet between AIDs [D26].

    So path MTU discovery and port-unreachable work. Errors about control messages, and about
    packets with options before the M6 next header, are not delivered.
    """
    quote = error.quote
    slot = slot_of(quote[NEXT_HEADER_AT], core.options.codepoints)
    label = Label(int.from_bytes(quote[:4], "big") & FLOW_LABEL_MASK)
    body = quote[ipv6.HEADER_OCTETS :]
    if slot is None or not label:
        return
    protocol, value = PROTOCOL_OF_SLOT.get(slot.number, ipv6.NO_NEXT_HEADER), error.value
    if slot.number == SLOT_ESCAPE:
        if len(body) < ESCAPE_OCTETS:
            return
        protocol, body = body[0], body[ESCAPE_OCTETS:]
        if error.type == icmpv6.PACKET_TOO_BIG:
            value -= ESCAPE_OCTETS
    first = int.from_bytes(quote[:4], "big") & ~FLOW_LABEL_MASK
    packet = (
        first.to_bytes(4, "big")
        + quote[4:NEXT_HEADER_AT]
        + bytes((protocol, quote[NEXT_HEADER_AT + 1]))
        + context.local_aid
        + context.peer_aid
        + body
    )
    told = icmpv6.ErrorMessage(type=error.type, code=error.code, value=value, quote=packet)
    core.emit(DeliverToUlp(told.encode_packet(source, context.local_aid)))


def _quoted(core: Core, quote: ipv6.Header, payload: bytes) -> Context | None:
    """The context that could have sent a quoted packet: by labels and locators [D26]."""
    slot = slot_of(quote.next_header, core.options.codepoints)
    candidates: tuple[Context, ...] = ()
    if quote.next_header == ipv6.ICMPV6 or (slot is not None and not quote.flow_label):
        # A control message of ours: the labels are at a fixed place, in its first option.
        label = Label(int.from_bytes(payload[LABEL_AT : LABEL_AT + 4], "big"))
        context = core.labels.get(label)
        named = b"" if context is None else context.local_aid + context.peer_aid
        if context is not None and payload[16:48] == named:
            candidates = (context,)
    elif slot is not None:
        candidates = core.by_peer_label.get(quote.flow_label, ())
    for one in candidates:
        # A control message uses the pair in use also while nothing is proven.
        destinations = one.peer_verified or {one.peer_locator}
        if quote.source in one.own_local and quote.destination in destinations:
            return one
    return None
