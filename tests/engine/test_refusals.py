# SPDX-License-Identifier: MIT
"""What the network may say and gain nothing by: forged, late, repeated, broken [D8, D13, D37]."""

import dataclasses
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noid.constants import (
    CLOSE_TIME,
    CONTEXT_IDLE_TIME,
    LOOK_AGAIN_MIN,
    MILLISECOND,
    MINUTE,
    SECOND,
    VERIFY_AGAIN_MIN,
)
from noid.counters import Drop
from noid.dns.verification import Verification
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.core import Core
from noid.engine.events import (
    DataHasCome,
    DeliverToUlp,
    Dropped,
    IdleChecked,
    LocatorsChanged,
    Output,
    SendControl,
)
from noid.engine.handshake import start
from noid.engine.options import HostOptions
from noid.engine.state import State, Trigger
from noid.engine.switching import switch
from noid.flows.events import (
    ControlMessageReceived,
    IcmpErrorReceived,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
)
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, decode_message
from noid.wire.options import ContextOption
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    Station,
    begun,
    established,
    packet,
    receive,
    state_of,
)
from tests.wire.messages import EXAMPLES

EVERY_PAIR = {(one, other) for one in (A1, A2) for other in (B1, B2)}


def message_in(output: Output) -> tuple[ipv6.Header, ControlMessage]:
    """The control message that an order sends."""
    assert isinstance(output, SendControl)
    header = ipv6.Header.decode(output.packet)
    ends = header.source, header.destination
    in_slot = header.next_header != ipv6.ICMPV6
    return header, decode_message(output.packet[40:], *ends, in_slot=in_slot)


def sent(station: Station, code: Code) -> ControlMessage:
    """The last message of a code that a station sent."""
    packets = [one for one in station.outputs if isinstance(one, SendControl)]
    return next(message_in(one)[1] for one in reversed(packets) if one.packet[41] == code)


# --- later ----------------------------------------------------------------------------------------


def test_an_update_that_takes_the_pair_in_use_away_moves_data_at_once() -> None:
    network = established()
    switch(network.a.host.core, network.a.context, (A1, B2), Cause.NOTHING_HEARD)
    network.give(network.b, LocatorsChanged((B1,)))
    network.run(SECOND)
    assert network.a.context.pair == (A1, B1)


def test_a_source_that_has_gone_is_left_for_the_aid() -> None:
    network = established()
    network.kill_provider(1)
    network.give(network.a, unanswered(network.a))
    network.run(SECOND)
    assert network.a.context.pair == (A2, B2)
    network.give(network.a, LocatorsChanged((A1,)))
    assert network.a.context.pair == (A1, B2)


def unanswered(station: Station) -> UnansweredPacket:
    context = station.context
    one = packet(context.local_aid, context.peer_aid, b"unanswered")
    return UnansweredPacket(context.local_label, one, context.silence_ns)


def test_a_probe_of_a_pair_that_has_gone_since_changes_nothing() -> None:
    network = established()
    network.dead |= {(A1, B1), (B1, A1), (A1, B2), (B2, A1), (A2, B1), (B1, A2)}
    network.give(network.a, unanswered(network.a))
    network.run(50 * MILLISECOND)
    network.a.context.own_remote = (A1,)
    network.run(10 * MILLISECOND)
    assert network.a.context.pair == (A1, B1)
    assert network.a.context.search is None
    assert state_of(network.a) is State.ESTABLISHED


def test_a_probe_while_an_update_waits_ends_neither_before_its_time() -> None:
    network = established()
    network.give(network.a, unanswered(network.a))
    network.give(network.a, LocatorsChanged((A1,)))
    network.run(15 * MILLISECOND)
    assert network.a.context.state is State.UR_SENT
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED


def test_a_source_that_is_in_use_already_is_no_move() -> None:
    network = established()
    assert network.give(network.a, SourceMoved(network.a.context.local_label, B1, True)) == []


@pytest.mark.parametrize(("code", "is_told"), [(0, False), (3, False), (1, True), (4, True)])
def test_an_error_about_another_pair_than_the_one_in_use_starts_no_search(
    code: int, is_told: bool
) -> None:
    """Nor is the ULP told of it, if it says that there is no way: there is one now."""
    network = established()
    data = network.a.rewriter.outbound(
        packet(A1, B1), dataclasses.replace(network.a.rewriter.by_aids[A1 + B1], local_locator=A2)
    )
    error = icmpv6.ErrorMessage(type=icmpv6.DESTINATION_UNREACHABLE, code=code, quote=data)
    octets = error.encode_packet(X1, A1)[40:]
    told = network.give(network.a, IcmpErrorReceived(X1, A1, octets))
    assert [type(one) for one in told] == [DeliverToUlp] * is_told


def test_a_silence_while_the_context_is_being_set_up_starts_no_search() -> None:
    network = begun()
    assert network.give(network.a, unanswered(network.a)) == []


@pytest.mark.parametrize(("source", "destination"), [(X1, B1), (A1, X1)])
def test_an_error_about_a_packet_between_other_hosts_is_ignored(
    source: Locator, destination: Locator
) -> None:
    network = established()
    data = network.a.rewriter.outbound(packet(A1, B1), network.a.rewriter.by_aids[A1 + B1])
    quote = data[:8] + source + destination + data[40:]
    error = icmpv6.ErrorMessage(type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=quote)
    octets = error.encode_packet(X1, A1)[40:]
    assert network.give(network.a, IcmpErrorReceived(X1, A1, octets)) == []


def test_an_update_is_not_answered_to_a_locator_that_is_not_proven() -> None:
    network = nothing_proven()
    network.give(network.b, LocatorsChanged((B1,)))
    update = sent(network.b, Code.UR)
    for source in (B2, B1):
        outputs = receive(network, network.a, update, source, A1)
        assert not any(isinstance(one, SendControl) for one in outputs)
    assert network.a.context.peer_acceptable == {B1}


def test_a_second_uc_while_starting_over_is_dropped() -> None:
    network = established()
    data = network.a.rewriter.outbound(packet(A1, B1), network.a.rewriter.by_aids[A1 + B1])
    core = network.b.host.core
    birthday = core.options.birthday + 1
    core.options = dataclasses.replace(core.options, birthday=birthday)
    (told,) = [
        one
        for one in network.b.host.handle(UnknownLabelSeen(data), network.now_ns)
        if isinstance(one, SendControl)
    ]
    assert message_in(told)[1].context.sender_birthday == birthday
    for _ in range(2):
        network.put(told.packet)
    network.run(10 * MILLISECOND)
    assert network.a.host.drops == {Drop.UC_WHILE_STARTING_OVER: 1}


@pytest.mark.parametrize("octets", [b"", b"\x60" + bytes(39), bytes(60)])
def test_what_is_no_message_is_dropped_and_counted(octets: bytes) -> None:
    network = established()
    for event in (
        ControlMessageReceived(B1, A1, False, octets),
        IcmpErrorReceived(B1, A1, octets),
    ):
        (output,) = network.give(network.a, event)
        assert isinstance(output, Dropped)
    (output,) = network.give(network.a, UnknownLabelSeen(octets[:30]))
    assert output == Dropped(Drop.TRUNCATED, "truncated IPv6 header")


def test_data_with_an_unknown_label_for_another_host_is_not_answered() -> None:
    network = established()
    data = network.a.rewriter.outbound(packet(A1, B1), network.a.rewriter.by_aids[A1 + B1])
    outputs = network.give(network.b, UnknownLabelSeen(data[:24] + X1 + data[40:]))
    assert outputs == [Dropped(Drop.UNKNOWN_FLOW_LABEL)]


# --- after a context has gone ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        UnansweredPacket(Label(1), packet(A1, B1), SECOND),
        SourceMoved(Label(1), B2, True),
        IdleChecked(Label(1), 0, False),
        DataHasCome(Label(1), 0, by_peer=True),
        PacketHeld(Label(1), packet(B1, A1), B1),
    ],
)
def test_what_the_plane_says_of_a_flow_that_has_gone_is_too_late(
    event: UnansweredPacket | SourceMoved | IdleChecked | DataHasCome | PacketHeld,
) -> None:
    network = established()
    assert network.give(network.a, event) == []


def test_a_packet_seen_before_its_flow_existed_starts_no_exchange() -> None:
    network = established()
    assert network.give(network.a, UlpPacketSeen(packet(A1, B1))) == []


def test_contexts_whose_peers_chose_alike_do_not_forget_each_other() -> None:
    options = HostOptions(codepoints=CODEPOINTS, birthday=0, reset_key=bytes(32))
    core = Core(options, Random(1).randbytes)
    contexts = [
        lifecycle.create(core, A1, peer, Verification(peer, None), (A1,)) for peer in (B1, B2)
    ]
    for context in contexts:
        assert context is not None
        lifecycle.know_peer_label(core, context, Label(5))
    assert contexts[0] is not None
    lifecycle.know_peer_label(core, contexts[0], NO_LABEL)
    assert core.by_peer_label == {5: (contexts[1],)}


# --- closing --------------------------------------------------------------------------------------


def closing() -> Network:
    """A network whose a is in CLOSING while b holds on to its context."""
    network = established()
    network.b.in_use = True
    network.dead |= EVERY_PAIR | {(other, one) for one, other in EVERY_PAIR}
    network.run(CONTEXT_IDLE_TIME + SECOND)
    assert network.a.context.state is State.CLOSING
    return network


def test_a_close_while_starting_over_is_dropped() -> None:
    network = closing()
    close = sent(network.a, Code.CLOSE)
    start(network.b.host.core, network.b.context, b"", Trigger.TRIAL, Cause.ULP_SENDS)
    assert network.b.context.state is State.INIT_SENT
    network.b.host.core.outputs.clear()
    assert receive(network, network.b, close, A1, B1)[0] == Dropped(Drop.CLOSE_WHILE_STARTING_OVER)
    assert network.b.context.state is State.INIT_SENT


def test_a_close_for_somebody_else_is_not_answered() -> None:
    network = closing()
    close = dataclasses.replace(
        sent(network.a, Code.CLOSE), context=ContextOption(receiver_label=Label(1))
    )
    assert receive(network, network.b, close, A1, X1) == [Dropped(Drop.CLOSE_FOR_ANOTHER_HOST)]


def test_a_forged_closeack_is_dropped() -> None:
    network = closing()
    close = sent(network.a, Code.CLOSE)
    forged = ControlMessage(
        code=Code.CLOSEACK,
        nonce=close.nonce,
        sender_aid=B1,
        receiver_aid=A1,
        context=ContextOption(
            sender_label=close.context.receiver_label, receiver_label=close.context.sender_label
        ),
        authentication=bytes(16),
    )
    assert receive(network, network.a, forged, B1, A1) == [Dropped(Drop.CLOSEACK_NOT_AUTHENTIC)]
    unsigned = dataclasses.replace(forged, authentication=b"")
    assert receive(network, network.a, unsigned, X1, A1) == [
        Dropped(Drop.CLOSEACK_FROM_UNKNOWN_LOCATOR)
    ]


def test_a_close_from_an_unproven_locator_is_executed_and_not_answered() -> None:
    network = Network()
    del network.reverse[A2]
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.b.in_use = True
    network.dead |= EVERY_PAIR
    network.run(CONTEXT_IDLE_TIME + SECOND)
    outputs = receive(network, network.b, sent(network.a, Code.CLOSE), A2, B1)
    assert not any(isinstance(one, SendControl) for one in outputs)
    assert network.b.host.contexts == []


def nothing_proven() -> Network:
    """A network whose a has a context with b, by B2, and the DNS lists b no longer."""
    network = Network()
    network.dead |= {(A1, B1), (A2, B1)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    network.names[network.b.name].clear()
    network.reverse = {one: name for one, name in network.reverse.items() if name == "a.example"}
    network.a.in_use = True
    network.run(2 * VERIFY_AGAIN_MIN + 2 * LOOK_AGAIN_MIN + MINUTE)
    network.a.in_use = False
    assert network.a.context.state is State.ESTABLISHED
    assert network.a.context.peer_verified == frozenset()
    return network


def test_where_no_locator_is_proven_a_context_closes_without_a_word() -> None:
    network = nothing_proven()
    network.b.in_use = True
    network.run(CONTEXT_IDLE_TIME + SECOND)
    assert network.a.context.state is State.CLOSING
    network.a.outputs.clear()
    network.run(CLOSE_TIME + MINUTE)
    assert network.a.host.contexts == []
    assert not any(isinstance(one, SendControl) for one in network.a.outputs)


# --- anything -------------------------------------------------------------------------------------


SITUATIONS = (Network, begun, established, closing)
labels = st.sampled_from([0, 1, 0xFFFFF])


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_message_makes_the_engine_raise(data: st.DataObject) -> None:
    network = data.draw(st.sampled_from(SITUATIONS))()
    network.run(data.draw(st.sampled_from([0, 15, 25, 35, 1000])) * MILLISECOND)
    genuine = [
        message_in(one)[1]
        for station in network.stations
        for one in station.outputs
        if isinstance(one, SendControl) and one.packet[6] == ipv6.ICMPV6
    ]
    numbers = [one.local_label for each in network.stations for one in each.host.contexts]
    for _ in range(data.draw(st.integers(1, 5))):
        message = data.draw(st.sampled_from([*genuine, *EXAMPLES.values()]))
        label = labels | st.sampled_from(numbers) if numbers else labels
        if data.draw(st.booleans()):
            context = message.context._replace(
                sender_label=Label(data.draw(label)), receiver_label=Label(data.draw(label))
            )
            message = dataclasses.replace(message, context=context)
        if data.draw(st.booleans()):
            piggyback = st.none() | st.builds(Piggyback, st.just(6), st.binary(max_size=60))
            message = dataclasses.replace(message, piggyback=data.draw(piggyback))
        station = data.draw(st.sampled_from(network.stations))
        source, to = (data.draw(st.sampled_from([A1, A2, B1, B2, X1])) for _ in range(2))
        for output in receive(network, station, message, source, to):
            if isinstance(output, DeliverToUlp):
                assert output.packet[24:40] in (A1, A2, B1, B2)
        network.run(data.draw(st.sampled_from([0, 10, 1000])) * MILLISECOND)
