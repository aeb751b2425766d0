# SPDX-License-Identifier: MIT
"""``Host.handle`` and whatever the network, the peer, the plane or the DNS may say to it.

Octets become a story: a host in some state, and then events. The messages among them are any
octets, or those of a real exchange, altered, with the checksum put right, and even the
authentication: the peer itself may be the attacker.
"""

from collections.abc import Callable

from noid.constants import (
    CONTROL_OCTETS_MAX,
    HELD_PACKETS_MAX,
    LOCATORS_MAX,
    MILLISECOND,
    MINUTE,
    MTU_MIN,
    NAMES_PER_LOCATOR_MAX,
    PROBES_KEPT_MAX,
    SECOND,
)
from noid.counters import Drop
from noid.dns.records import Answer, Kind, Question, Status
from noid.engine.context import Context
from noid.engine.events import (
    AnswerArrived,
    DataHasCome,
    Dropped,
    IdleChecked,
    Input,
    LocatorsChanged,
    Output,
    PeerResolved,
    SendControl,
    TimePassed,
)
from noid.engine.secrets import keyed_hash
from noid.flows.events import (
    ControlMessageReceived,
    IcmpErrorReceived,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
)
from noid.identifiers import Label
from noid.locators import UNSPECIFIED, Locator
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code
from noid.wire.peek import blank_authentication
from tests.engine.network import A1, A2, B1, B2, X1, Station, packet
from tests.fuzz.choices import Choices, altered
from tests.fuzz.situations import SITUATIONS, Arena, genuine_packets

EVENTS_MAX = 12
OUTPUTS_MAX = 64
"""Outputs of one event, whatever it is."""
PAIRS_MAX = LOCATORS_MAX * (LOCATORS_MAX + 1)
"""Pairs of two full sets, to one of which the AID was added."""
PACKET_OCTETS_MAX = 2000
LOCATORS = (A1, A2, B1, B2, X1, UNSPECIFIED, *(Locator(one + bytes(14)) for one in (
    b"\xff\x02", b"\xfe\x80", b"\xfc\x00"
)))  # fmt: skip
DURATIONS = (0, 0, 0, MILLISECOND, 15 * MILLISECOND, SECOND, MINUTE, 16 * MINUTE)
OF_NO_SLOT = 99
"""A protocol that travels behind an escape header."""
LABEL_AT = 56
"""Where the receiver's label stands in a message as we encode it."""
AUTHENTICATION_HEAD = bytes.fromhex("8006 0010")


def host(octets: bytes) -> None:
    """Plays the story that the octets tell, and holds every host to its limits."""
    choices = Choices(octets)
    arena, station = choices.pick(SITUATIONS)()
    arena.run(choices.pick(DURATIONS))
    for _ in range(EVENTS_MAX):
        event = choices.pick(EVENTS)(choices, arena, station)
        contexts = len(station.host.contexts)
        check_outputs(arena.give(station, event))
        assert len(station.host.contexts) <= contexts + 1
        arena.run(choices.pick(DURATIONS))
        for one in arena.stations:
            check_tables(one)
        if not choices.left:
            break


# --- what must hold -------------------------------------------------------------------------------


def check_outputs(outputs: list[Output]) -> None:
    """One event has so many consequences and no more, and what is sent can be read."""
    assert len(outputs) <= OUTPUTS_MAX
    for output in outputs:
        if isinstance(output, SendControl):
            header = ipv6.Header.decode(output.packet)
            assert header.payload_octets <= 1500 - ipv6.HEADER_OCTETS
            if output.packet[41] == Code.UC:
                assert len(output.packet) <= CONTROL_OCTETS_MAX
        elif isinstance(output, Dropped):
            assert len(output.text) < 80


def check_tables(station: Station) -> None:
    """Nothing a host keeps grows with what it is told."""
    inside, all_contexts = station.host.inspection, station.host.contexts
    assert set(station.host.drops) <= set(Drop)
    assert set(inside.contexts.values()) <= set(all_contexts)
    assert inside.provisional_count == sum(one.is_provisional for one in all_contexts)
    assert {one.peer_aid for one in inside.contexts.values()} == set(inside.uses)
    for context in all_contexts:
        check_context(context)
    asked = {
        one.asked(question)
        for one in all_contexts
        for inquiry in (one.verification, one.renewal)
        if inquiry is not None
        for question in inquiry.open
    }
    waiting = {question for question, contexts in inside.questions.items() if contexts}
    # Those in the table name the site on whose behalf they are asked [D46].
    assert {(one.kind, one.name) for one in waiting} == {(one.kind, one.name) for one in asked}


def check_context(context: Context) -> None:
    assert len(context.own_local) <= LOCATORS_MAX
    assert len(context.peer_local) <= LOCATORS_MAX
    assert len(context.peer_remote) <= LOCATORS_MAX
    assert len(context.own_remote or ()) <= LOCATORS_MAX + 1
    assert len(context.history) <= PAIRS_MAX
    assert len(context.verification.open) <= LOCATORS_MAX + NAMES_PER_LOCATOR_MAX
    if context.search is not None:
        assert len(context.search.probes) <= PROBES_KEPT_MAX
    if context.probation is not None:
        assert len(context.probation.held) <= HELD_PACKETS_MAX


# --- what may happen ------------------------------------------------------------------------------


def any_locator(choices: Choices) -> Locator:
    """Mostly one that is in use."""
    if choices.number(8):
        return choices.pick(LOCATORS)
    return Locator(choices.octets(16).ljust(16, b"\x20"))


def any_label(choices: Choices, station: Station) -> Label:
    """Mostly one of a context there is."""
    labels = [one.local_label for one in station.host.contexts]
    if labels and choices.number(8):
        return choices.pick(labels)
    return Label(choices.number(1 << 20))


def any_packet(choices: Choices, station: Station) -> bytes:
    """Any octets, or what a ULP could have sent."""
    if not choices.number(4):
        return choices.blob(PACKET_OCTETS_MAX)
    ends = (A1, A2)[choices.flag()], (B1, B2)[choices.flag()]
    if A1 not in station.locators:
        ends = ends[::-1]
    return packet(*ends, choices.blob(PACKET_OCTETS_MAX))


def received(
    choices: Choices, arena: Arena, station: Station, *, by_insider: bool = False
) -> ControlMessageReceived:
    """A message of the exchange so far, altered, with a right checksum."""
    genuine = [one for one in genuine_packets(arena) if one[40:41] == b"\xc8"]
    source, destination = any_locator(choices), any_locator(choices)
    in_slot = choices.flag()
    if not genuine:
        return ControlMessageReceived(source, destination, in_slot, choices.blob(300))
    original = choices.pick(genuine)
    if choices.number(4):
        source, destination = Locator(original[8:24]), Locator(original[24:40])
    octets = altered(choices, original[40:])
    if choices.flag() and len(octets) > 5:
        octets = octets[:5] + bytes((min(len(octets) // 8, 255),)) + octets[6:]
    if by_insider:
        octets = authenticated(station, octets)
    ends = (Locator(octets[16:32]), Locator(octets[32:48])) if in_slot else (source, destination)
    blank = octets[:2] + bytes(2) + octets[4:]
    total = ipv6.checksum(*ends, ipv6.ICMPV6, blank).to_bytes(2, "big")
    return ControlMessageReceived(source, destination, in_slot, octets[:2] + total + octets[4:])


def authenticated(station: Station, octets: bytes) -> bytes:
    """The message as if the peer of the context it names had made it."""
    at = octets.find(AUTHENTICATION_HEAD) + len(AUTHENTICATION_HEAD)
    label = int.from_bytes(octets[LABEL_AT : LABEL_AT + 4], "big")
    context = station.host.context(Label(label))
    if context is None or at < len(AUTHENTICATION_HEAD) or len(octets) < at + 16:
        return octets
    blanked = blank_authentication(octets)
    digest = keyed_hash(context.agreed_key, blanked)
    return octets[:at] + digest + octets[at + 16 :]


def octets_arrive(choices: Choices, arena: Arena, station: Station) -> Input:
    ends = any_locator(choices), any_locator(choices)
    return ControlMessageReceived(*ends, choices.flag(), choices.blob(PACKET_OCTETS_MAX))


def an_altered_message_arrives(choices: Choices, arena: Arena, station: Station) -> Input:
    return received(choices, arena, station)


def an_insider_speaks(choices: Choices, arena: Arena, station: Station) -> Input:
    return received(choices, arena, station, by_insider=True)


def an_error_arrives(choices: Choices, arena: Arena, station: Station) -> Input:
    source, destination = any_locator(choices), any_locator(choices)
    if not choices.number(4):
        return IcmpErrorReceived(source, destination, choices.blob(PACKET_OCTETS_MAX))
    quotes = [*genuine_packets(arena), *data_packets(station)] or [b""]
    error = icmpv6.ErrorMessage(
        type=choices.number(6),
        code=choices.number(6),
        value=choices.pick((0, 7, MTU_MIN, MTU_MIN + 100, 0xFFFF_FFFF)),
        quote=altered(choices, choices.pick(quotes)),
    )
    octets = error.encode_packet(source, destination)[ipv6.HEADER_OCTETS :]
    return IcmpErrorReceived(source, destination, octets)


def data_packets(station: Station) -> list[bytes]:
    """What the station's flows make of a packet of the ULP."""
    return [
        station.rewriter.outbound(packet(flow.local_aid, flow.peer_aid, protocol=protocol), flow)
        for flow in station.rewriter.by_label.values()
        for protocol in (ipv6.TCP, OF_NO_SLOT)
    ]


def data_with_an_unknown_label_arrives(choices: Choices, arena: Arena, station: Station) -> Input:
    data = [one for each in arena.stations for one in data_packets(each)]
    if not data or not choices.number(4):
        return UnknownLabelSeen(choices.blob(PACKET_OCTETS_MAX))
    return UnknownLabelSeen(altered(choices, choices.pick(data)))


def the_ulp_sends(choices: Choices, arena: Arena, station: Station) -> Input:
    return UlpPacketSeen(any_packet(choices, station))


def a_packet_is_unanswered(choices: Choices, arena: Arena, station: Station) -> Input:
    label = any_label(choices, station)
    return UnansweredPacket(Label(label), any_packet(choices, station), choices.pick(DURATIONS))


def a_packet_is_held(choices: Choices, arena: Arena, station: Station) -> Input:
    label, packet = any_label(choices, station), any_packet(choices, station)
    return PacketHeld(Label(label), packet, any_locator(choices))


def the_source_moves(choices: Choices, arena: Arena, station: Station) -> Input:
    return SourceMoved(any_label(choices, station), any_locator(choices), choices.flag())


def the_dns_answers(choices: Choices, arena: Arena, station: Station) -> Input:
    questions = list(station.host.inspection.questions)
    if questions and choices.number(8):
        question = choices.pick(questions)
        arena.inquiries = type(arena.inquiries)(
            one for one in arena.inquiries if one[1:] != (station, question)
        )
    else:
        question = Question(choices.pick(tuple(Kind)), choices.blob(20).decode("latin-1"))
    names = (arena.a.name, arena.b.name, choices.blob(20).decode("latin-1"))
    answer = Answer(
        status=choices.pick(tuple(Status)),
        locators=tuple(any_locator(choices) for _ in range(choices.number(20))),
        names=tuple(choices.pick(names) for _ in range(choices.number(6))),
        ttl_seconds=choices.number(1 << 31),
    )
    return AnswerArrived(question, answer)


def own_locators_change(choices: Choices, arena: Arena, station: Station) -> Input:
    own = [choices.pick(station.locators) for _ in range(choices.number(3))]
    own += [any_locator(choices) for _ in range(choices.number(20))]
    return LocatorsChanged(tuple(dict.fromkeys(own)), frozenset(own[: choices.number(3)]))


def a_name_is_resolved(choices: Choices, arena: Arena, station: Station) -> Input:
    locators = tuple(any_locator(choices) for _ in range(choices.number(20)))
    name = choices.pick((arena.a.name, arena.b.name, "x.example"))
    return PeerResolved(name, any_locator(choices), locators)


def idleness_is_checked(choices: Choices, arena: Arena, station: Station) -> Input:
    received_ns = choices.pick((0, arena.now_ns))
    return IdleChecked(any_label(choices, station), received_ns, choices.flag())


def data_has_come(choices: Choices, arena: Arena, station: Station) -> Input:
    return DataHasCome(any_label(choices, station), 0, choices.flag())


def time_passes(choices: Choices, arena: Arena, station: Station) -> Input:
    return TimePassed()


EVENTS: tuple[Callable[[Choices, Arena, Station], Input], ...] = (
    an_insider_speaks,
    an_insider_speaks,
    an_altered_message_arrives,
    an_altered_message_arrives,
    octets_arrive,
    an_error_arrives,
    data_with_an_unknown_label_arrives,
    the_ulp_sends,
    a_packet_is_unanswered,
    a_packet_is_held,
    the_source_moves,
    the_dns_answers,
    own_locators_change,
    a_name_is_resolved,
    idleness_is_checked,
    data_has_come,
    time_passes,
)
