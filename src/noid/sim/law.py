# SPDX-License-Identifier: MIT
"""Tests of every entry of the law: each trigger, for a context in each state.

The swarm reaches the common entries by itself. Here each entry has a small world of its own, in
which one host is brought into the state and isolated, and then gets the event; the law must allow
the state afterwards.
"""

import random

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.engine.context import Context
from noid.engine.events import (
    AnswerArrived,
    ContextRestored,
    DataHasCome,
    IdleChecked,
    LocatorsChanged,
)
from noid.engine.records import ContextRecord
from noid.engine.state import LAW, TIMERS_OF, State, Timer, Trigger
from noid.flows.events import (
    ControlMessageReceived,
    IcmpErrorReceived,
    OneWayDataSeen,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownPeerSeen,
)
from noid.identifiers import NO_LABEL, NO_NONCE, Label, Nonce, Token
from noid.locators import UNSPECIFIED
from noid.sim.names import TIMEOUT_NS
from noid.sim.node import Node
from noid.sim.parcel import CODEPOINTS
from noid.sim.stage import EVERYWHERE, add_hosts, reach, talk
from noid.sim.violation import Violation
from noid.sim.world import World
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, encode_packet
from noid.wire.options import ContextOption, Cookie, LocatorEntry, LocatorFlag, Tokens
from noid.wire.slots import next_header_of

NOBODY = Label(0xFFFFE)
"""A label that no context has."""
CLOSING_WITHIN_NS = 20 * MINUTE
"""The longest wait for the end of an idle context."""


def every_entry(world: World) -> None:
    """Tries every entry, each in its own world; continues after a failure."""
    failed: list[tuple[World, Violation]] = []
    for state, row in LAW.items():
        for trigger, rule in row.items():
            small = World(world.seed, world.make_host)
            small.faults = f"{state.value}, {trigger.value}"
            try:
                happened, after = _try(small, state, trigger)
                small.checks.require(
                    not happened or after in rule.next,
                    "the law holds",
                    f"{state.value} became {after.value} by {trigger.value}",
                )
            except Violation as violation:
                failed.append((small, violation))
            world.events += small.events
            world.coverage.seen += small.coverage.total()
    if failed:
        small, first = failed[0]
        world.trace, world.nodes, world.now_ns = small.trace, small.nodes, small.now_ns
        world.faults = "; ".join(f"{one.faults}: {why}" for one, why in failed)
        raise first


def _try(world: World, state: State, trigger: Trigger) -> tuple[bool, State]:
    """Tries one entry; returns whether the event happened, and the state afterwards."""
    timers = {timer.value: timer for timer in Timer}
    timer = timers.get(trigger.value)
    context = bring(world, state, timer)
    node = world.nodes["a"]
    happened = True
    if timer is not None:
        happened = _alarm(world, node, context, timer)
    else:
        _happen(world, node, None if state is State.IDLE else context, trigger)
    known = node.host.context(context.local_label) is context
    return happened, context.state if known else State.IDLE


def bring(world: World, state: State, timer: Timer | None) -> Context:
    """Brings host a into a state and isolates it; for IDLE, the context was deleted.

    If a timer is given, in a way that sets that timer.
    """
    add_hosts(world)
    if state is State.PROVISIONAL:
        return _bring_provisional(world)
    if timer is Timer.DNS_RETRY:
        world.names.timeouts = 1.0
    elif timer is not Timer.VERIFY_AGAIN:
        world.names.silent = True
    talk(world)
    if state is State.INIT_SENT:
        context = reach(world, "a", State.INIT_SENT, SECOND)
    elif state is State.CCR_SENT:
        context = reach(world, "a", State.CCR_SENT, SECOND)
    else:
        context = reach(world, "a", State.ESTABLISHED, SECOND)
    world.talking = False
    if state is State.IDLE:
        world.nodes["a"].reboot(remembers=True)
        return context
    if state not in (State.INIT_SENT, State.CCR_SENT):
        world.run(SECOND)
    world.network.down |= EVERYWHERE
    if state is State.UR_SENT:
        world.nodes["a"].have(world.nodes["a"].locators[:1])
    if timer is Timer.PROBE and state in (State.UR_SENT, State.ESTABLISHED):
        packet = world.say(0, by_server=False)
        world.nodes["a"].give(UnansweredPacket(context.local_label, packet, SECOND))
    if state is State.CLOSING:
        context = reach(world, "a", State.CLOSING, CLOSING_WITHIN_NS)
    return context


def _bring_provisional(world: World) -> Context:
    """Brings host a into PROVISIONAL: b comes from a locator that the DNS does not prove [D37]."""
    world.network.down.add(1)
    world.names.mute.add(reverse_name(world.nodes["b"].locators[1]))
    talk(world, "b", "a")
    context = reach(world, "a", State.PROVISIONAL, 10 * SECOND)
    world.talking = False
    world.network.down |= EVERYWHERE
    return context


def _alarm(world: World, node: Node, context: Context, timer: Timer) -> bool:
    """Lets a timer expire if it is set; otherwise lets its alarm ring without effect.

    Returns:
        Whether that happened in the state before.
    """
    key = (context, timer)
    state = context.state
    inside = node.host.inspection
    # The timer is tested here, not the end of an idle context.
    node.in_use = True
    if timer is Timer.DNS_RETRY and timer in TIMERS_OF[state]:
        world.run(TIMEOUT_NS + MILLISECOND)  # a question must fail first
    if (
        timer in (Timer.BETTER, Timer.TOLERANCE, Timer.LONGER, Timer.VERIFY_AGAIN)
        and node.host.context(context.local_label) is context
    ):
        # Other scenarios test what sets these timers; here they only expire.
        if timer in TIMERS_OF[state]:
            inside.expire(context, timer)
        node.ring(context, timer)
        return True
    for _ in range(CLOSING_WITHIN_NS // SECOND):
        if not inside.is_timer_set(context, timer):
            break
        if context.state is not state:
            return False
        upcoming = inside.next_timer()
        assert upcoming is not None
        world.run(max(MILLISECOND, upcoming[0] - node.now_ns))
        if upcoming[1] == key:
            return True
    node.ring(context, timer)
    return timer not in TIMERS_OF[state]


def _happen(world: World, node: Node, context: Context | None, trigger: Trigger) -> None:
    """Gives the node the event, for the context or for no context."""
    label = NOBODY if context is None else context.local_label
    peer = world.nodes["b"]
    conversation = world.ledger.conversations[0]
    serves = conversation.server == node.name
    outgoing = world.ledger.packet(conversation, 0, by_server=serves, now_ns=world.now_ns)
    incoming = world.ledger.packet(conversation, 0, by_server=not serves, now_ns=world.now_ns)
    match trigger:
        case Trigger.ULP_PACKET:
            node.give(UlpPacketSeen(outgoing))
        case Trigger.UNANSWERED:
            node.give(UnansweredPacket(label, outgoing, SECOND))
        case Trigger.SOURCE_MOVED:
            node.give(SourceMoved(label, peer.locators[1], followed=False))
        case Trigger.ONE_WAY_DATA:
            node.give(OneWayDataSeen(label))
        case Trigger.PACKET_HELD:
            node.give(PacketHeld(label, incoming, peer.locators[0]))
        case Trigger.IDLE_CHECKED:
            node.give(IdleChecked(label, node.now_ns, in_use=False))
        case Trigger.DATA_HAS_COME:
            node.give(DataHasCome(label, 0, by_peer=True))
        case Trigger.LOCATORS_CHANGED:
            node.give(LocatorsChanged(node.locators[:1]))
        case Trigger.CONTEXT_FOUND:
            node.give(ContextRestored(_memory(node, peer, label)))
        case Trigger.DNS_ANSWER:
            node.give(AnswerArrived(_question(node, context), Answer(status=Status.UNREACHABLE)))
        case Trigger.ICMP_ERROR:
            node.give(_icmp_error(node, peer, context))
        case Trigger.NO_ROOM:
            _make_way(world, node, context)
        case _:
            node.give(_control(world, node, peer, context, Code[trigger.value]))


def _make_way(world: World, node: Node, context: Context | None) -> None:
    """Evicts the context as if another needed its room, without filling the table."""
    world.coverage.rang(State.IDLE if context is None else context.state, Trigger.NO_ROOM)
    if context is not None:
        node.host.inspection.evict(context)
    node.give(UnknownPeerSeen(node.locators[0]))  # changes nothing, and returns the outputs


def _memory(node: Node, peer: Node, label: Label) -> ContextRecord:
    """A record of an earlier daemon for a context with that label."""
    own, theirs = node.locators, peer.locators
    return ContextRecord(
        local_aid=own[0],
        peer_aid=theirs[0],
        local_label=label,
        peer_label=NOBODY,
        agreed_key=bytes(32),
        peer_birthday=peer.birthday,
        peer_reset_hash=b"",
        local_locator=own[0],
        peer_locator=theirs[0],
        own_local=own,
        own_remote=None,
        told_remote=(),
        peer_local=theirs,
        peer_marks=(),
        aid_proven=True,
        name="",
        remote=(),
        proven=(),
        update_nonce=NO_NONCE,
        peer_update_nonce=NO_NONCE,
        peer_keepalive_nonce=NO_NONCE,
        round_trip_ns=0,
    )


def _question(node: Node, context: Context | None) -> Question:
    for question, waiting in node.host.inspection.questions.items():
        if context in waiting:
            return question
    return Question(Kind.NAMES, "nobody.example")


def _icmp_error(node: Node, peer: Node, context: Context | None) -> IcmpErrorReceived:
    header = ipv6.Header(
        source=node.locators[0],
        destination=peer.locators[0],
        next_header=next_header_of(0, CODEPOINTS, rewritable=True),
        payload_octets=8,
        flow_label=context.peer_label if context is not None else NOBODY,
    )
    error = icmpv6.ErrorMessage(
        type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=header.encode() + bytes(8)
    )
    packet = error.encode_packet(peer.locators[0], node.locators[0])
    return IcmpErrorReceived(peer.locators[0], node.locators[0], packet[ipv6.HEADER_OCTETS :])


def _control(
    world: World, node: Node, peer: Node, context: Context | None, code: Code
) -> ControlMessageReceived:
    """A well-formed message about the context, without a valid authentication."""
    chance = random.Random(f"{world.seed}/law")
    entries = tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in peer.locators)
    labels = ContextOption(
        sender_label=(context.peer_label if context is not None else NO_LABEL) or Label(1),
        receiver_label=context.local_label if context is not None else NOBODY,
    )
    about = code is not Code.UC
    if code is Code.UC:
        labels = ContextOption(receiver_label=context.peer_label if context is not None else NOBODY)
    message = ControlMessage(
        code=code,
        nonce=Nonce(chance.getrandbits(63)),
        sender_aid=peer.locators[0] if about else UNSPECIFIED,
        receiver_aid=node.locators[0] if about else UNSPECIFIED,
        context=labels,
        tokens=Tokens(Token(1), Token(2)) if about else None,
        sender_locators=entries if about else (),
        receiver_locators=entries if about else (),
        cookie=Cookie(timestamp=node.now_ns, locator=peer.locators[0], keyed_hash=bytes(16)),
        authentication=chance.randbytes(16),
        key=chance.randbytes(32),
        piggyback=None if about else Piggyback(ipv6.IPV6, bytes(48)),
    )
    packet = encode_packet(message, peer.locators[0], node.locators[0], CODEPOINTS)
    octets = packet[ipv6.HEADER_OCTETS :]
    return ControlMessageReceived(peer.locators[0], node.locators[0], False, octets)
