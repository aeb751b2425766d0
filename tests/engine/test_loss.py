# SPDX-License-Identifier: MIT
"""State that one end has lost [draft §5, §7.12; D15, D18]."""

import dataclasses

import pytest

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.counters import Drop
from noid.engine.events import DeliverToUlp, SendControl
from noid.engine.state import Path, State
from noid.flows.events import IcmpErrorReceived, UnknownLabelSeen
from noid.identifiers import Label
from noid.shares.policy import ERRORS
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, ControlMessage, decode_message, encode_packet
from noid.wire.slots import SLOT_ICMPV6
from tests.engine.network import (
    A1,
    A2,
    B1,
    B2,
    CODEPOINTS,
    X1,
    Network,
    established,
    packet,
    receive,
    state_of,
)
from tests.engine.test_reachability import silence


def lose_context(network: Network, birthday: int | None = None) -> None:
    """Station b comes up again without its contexts."""
    options = network.b.host.core.options
    fresh = Network(seed=11)
    core = fresh.b.host.core
    core.options = dataclasses.replace(
        options, birthday=options.birthday + 1 if birthday is None else birthday
    )
    network.b.host = fresh.b.host
    network.b.host.core.now_ns = 0
    network.b.rewriter.by_aids.clear()
    network.b.rewriter.by_label.clear()


def sent_data(network: Network) -> bytes:
    """A data packet of a's, as it travels."""
    flow = network.a.rewriter.flow_of(packet(A1, B1))
    assert flow is not None
    return network.a.rewriter.outbound(packet(A1, B1), flow)


def unknown_context(network: Network, data: bytes) -> ControlMessage:
    """What b answers to it."""
    outputs = network.b.host.handle(UnknownLabelSeen(data), network.now_ns)
    (order,) = [output for output in outputs if isinstance(output, SendControl)]
    header = ipv6.Header.decode(order.packet)
    network.put(order.packet)
    return decode_message(order.packet[40:], header.source, header.destination, in_slot=False)


def test_a_peer_that_lost_the_context_gets_a_new_one() -> None:
    network = established()
    lose_context(network)
    message = unknown_context(network, sent_data(network))
    assert message.code is Code.UC
    network.run(SECOND)
    a, b = network.a.context, network.b.context
    assert a.state is b.state is State.ESTABLISHED
    assert (a.local_label, a.peer_label) == (b.peer_label, b.local_label)
    network.ulp_sends(network.a, packet(A1, B1, b"after"))
    network.run(SECOND)
    assert network.b.delivered[-1] == packet(A1, B1, b"after")


def test_meanwhile_packets_go_plainly() -> None:
    network = established()
    lose_context(network)
    unknown_context(network, sent_data(network))
    network.run(10 * MILLISECOND)
    assert network.a.context.state is State.INIT_SENT
    assert network.a.rewriter.flow_of(packet(A1, B1)) is None


def forged(network: Network, **changes: object) -> None:
    """A forged UC, with the right label and quote."""
    lost = Network(seed=13)
    data = sent_data(network)
    birthday = network.a.context.peer_birthday
    lost.b.host.core.options = dataclasses.replace(
        lost.b.host.core.options, birthday=birthday, reset_key=b"another key, of 32 octets length"
    )
    message = unknown_context(lost, data)
    message = dataclasses.replace(message, **changes)  # type: ignore[arg-type] # a case
    network.put(encode_packet(message, B1, A1, CODEPOINTS))
    network.run(10 * MILLISECOND)


@pytest.mark.parametrize("ahead", [-1, 0, 2, 900, 1 << 31])
def test_a_birthday_alone_proves_nothing(ahead: int) -> None:
    network = established()
    lose_context(network, (network.a.context.peer_birthday + ahead) % (1 << 32))
    unknown_context(network, sent_data(network))
    network.run(10 * MILLISECOND)
    assert network.a.context.state is State.ESTABLISHED
    assert network.a.context.trial is not None


def test_a_uc_without_the_packet_it_is_about_is_dropped() -> None:
    network = established()
    forged(network, piggyback=None)
    assert network.a.context.state is State.ESTABLISHED


def test_a_uc_about_a_packet_we_did_not_send_is_dropped() -> None:
    network = established()
    forged(network, context=ControlMessageContext._replace(receiver_label=Label(0x99999)))
    assert network.a.context.state is State.ESTABLISHED
    assert network.a.host.drops == {Drop.UC_ABOUT_NO_PACKET_OF_OURS: 1}


ControlMessageContext = decode_message(
    encode_packet(unknown_context(Network(seed=3), sent_data(established())), B1, A1, CODEPOINTS)[
        40:
    ],
    B1,
    A1,
    in_slot=False,
).context


def believed_and_cut_off() -> Network:
    """A network whose a has believed a UC, and then heard nothing for long."""
    network = established()
    lose_context(network)
    unknown_context(network, sent_data(network))
    network.run(10 * MILLISECOND)
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(300 * SECOND)
    return network


def test_a_believed_uc_that_leads_nowhere_leaves_the_context_as_it_was() -> None:
    label = established().a.context.peer_label
    network = believed_and_cut_off()
    assert network.a.context.is_settled
    assert network.a.context.peer_label == label
    assert network.a.context.path is Path.SEARCHING
    assert network.a.rewriter.flow_of(packet(A1, B1)) is None


def test_a_peer_gets_a_new_context_when_a_probe_shows_that_it_lost_the_old_one() -> None:
    network = believed_and_cut_off()
    network.dead.clear()
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(10 * SECOND)
    a, b = network.a.context, network.b.context
    assert a.state is b.state is State.ESTABLISHED
    assert (a.local_label, a.peer_label) == (b.peer_label, b.local_label)


def test_unknown_labels_are_answered_at_a_limited_rate() -> None:
    network = established()
    lose_context(network)
    data = sent_data(network)
    answers = 0
    for _ in range(3 * ERRORS.each_at_once):
        outputs = network.b.host.handle(UnknownLabelSeen(data), network.now_ns)
        answers += sum(isinstance(output, SendControl) for output in outputs)
    assert ERRORS.each_at_once // 2 < answers <= ERRORS.each_at_once


def test_a_uc_is_no_longer_than_its_cause_plus_its_header() -> None:
    network = established()
    lose_context(network)
    data = sent_data(network)
    outputs = network.b.host.handle(UnknownLabelSeen(data), network.now_ns)
    (order,) = [output for output in outputs if isinstance(output, SendControl)]
    assert len(order.packet) <= len(data) + 40 + 48 + 24 + 24


def rejected(network: Network, source: bytes, quote: bytes) -> None:
    error = icmpv6.ErrorMessage(
        type=icmpv6.PARAMETER_PROBLEM,
        code=icmpv6.UNRECOGNIZED_NEXT_HEADER,
        value=6,
        quote=quote,
    )
    octets = error.encode_packet(source, A1)[40:]  # type: ignore[arg-type] # a case
    network.give(network.a, IcmpErrorReceived(source, A1, octets))  # type: ignore[arg-type] # a case


@pytest.mark.parametrize("cut", [0, 39, 40])
def test_somebody_else_cannot_say_so(cut: int) -> None:
    network = established()
    data = sent_data(network)
    rejected(network, X1, data)
    rejected(network, B1, data[:cut] if cut < 40 else data[:3] + b"\x01" + data[4:])
    assert network.a.context.state is State.ESTABLISHED


def test_an_unreachable_pair_makes_the_context_look_for_another() -> None:
    network = established()
    error = icmpv6.ErrorMessage(
        type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=sent_data(network)
    )
    network.kill_provider(1)
    network.give(network.a, IcmpErrorReceived(X1, A1, error.encode_packet(X1, A1)[40:]))
    network.run(SECOND)
    assert network.a.context.pair[0] == A2


def test_a_lost_context_is_set_up_again_over_any_working_pair_within_a_second() -> None:
    network = established()
    network.ulp_sends(network.a, packet(A1, B1))
    lose_context(network)
    network.dead |= {(A1, B1), (A2, B1)}
    unknown_context(network, sent_data(network))
    network.run(SECOND)
    assert network.a.context.state is State.ESTABLISHED


@pytest.mark.parametrize("code", [0, 3, 5])
def test_the_ulp_hears_nothing_of_a_pair_that_was_left(code: int) -> None:
    network = established()
    data = sent_data(network)
    error = icmpv6.ErrorMessage(type=icmpv6.DESTINATION_UNREACHABLE, code=code, quote=data)
    octets = error.encode_packet(X1, A1)[ipv6.HEADER_OCTETS :]
    network.kill_provider(1)
    network.give(network.a, IcmpErrorReceived(X1, A1, octets))
    network.run(SECOND)
    assert network.a.context.pair[0] == A2
    outputs = network.give(network.a, IcmpErrorReceived(X1, A1, octets))
    assert not [output for output in outputs if isinstance(output, DeliverToUlp)]


# --- errors about packets of the ULP [D26] --------------------------------------------------------


def told_to_ulp(network: Network, data: bytes, kind: int, value: int = 0) -> list[bytes]:
    """What the ULP of a hears of an error about a packet that travels."""
    error = icmpv6.ErrorMessage(type=kind, code=0, value=value, quote=data)
    octets = error.encode_packet(X1, A1)[ipv6.HEADER_OCTETS :]
    outputs = network.give(network.a, IcmpErrorReceived(X1, A1, octets))
    return [output.packet for output in outputs if isinstance(output, DeliverToUlp)]


def test_the_ulp_hears_of_a_packet_that_was_too_big_as_it_sent_it() -> None:
    network = established()
    (told,) = told_to_ulp(network, sent_data(network), icmpv6.PACKET_TOO_BIG, 1400)
    header = ipv6.Header.decode(told)
    assert (header.source, header.destination) == (X1, A1)
    error = icmpv6.decode_error(told[ipv6.HEADER_OCTETS :], X1, A1)
    assert (error.type, error.value) == (icmpv6.PACKET_TOO_BIG, 1400)
    assert error.quote == packet(A1, B1)


def test_what_the_escape_header_takes_is_not_for_the_ulp() -> None:
    network = established()
    flow = network.a.rewriter.by_aids[A1 + B1]
    sent = packet(A1, B1)
    odd = sent[:6] + bytes((47,)) + sent[7:]
    (told,) = told_to_ulp(
        network, network.a.rewriter.outbound(odd, flow), icmpv6.PACKET_TOO_BIG, 1400
    )
    error = icmpv6.decode_error(told[ipv6.HEADER_OCTETS :], X1, A1)
    assert error.value == 1392
    assert error.quote[6] == 47
    assert error.quote[ipv6.HEADER_OCTETS :] == odd[ipv6.HEADER_OCTETS :]


def test_the_ulp_hears_nothing_of_an_escape_header_that_is_cut_off() -> None:
    network = established()
    flow = network.a.rewriter.by_aids[A1 + B1]
    sent = packet(A1, B1)
    odd = network.a.rewriter.outbound(sent[:6] + bytes((47,)) + sent[7:], flow)
    assert told_to_ulp(network, odd[: ipv6.HEADER_OCTETS + 4], icmpv6.TIME_EXCEEDED) == []


def test_an_escape_header_without_payload_is_reported_without_payload() -> None:
    network = established()
    flow = network.a.rewriter.by_aids[A1 + B1]
    sent = packet(A1, B1)
    odd = network.a.rewriter.outbound(sent[:6] + bytes((47,)) + sent[7:], flow)
    (told,) = told_to_ulp(network, odd[: ipv6.HEADER_OCTETS + 8], icmpv6.TIME_EXCEEDED)
    error = icmpv6.decode_error(told[ipv6.HEADER_OCTETS :], X1, A1)
    assert error.quote[6] == 47
    assert len(error.quote) == ipv6.HEADER_OCTETS


@pytest.mark.parametrize("payload_octets", [200, 300])
def test_the_ulp_hears_nothing_of_a_control_message_in_a_slot(payload_octets: int) -> None:
    network = established()
    network.give(network.a, silence(network.a))
    sent = [one.packet for one in network.a.outputs if isinstance(one, SendControl)]
    (in_slot,) = [one for one in sent if one[6] == CODEPOINTS.rewritable_first + SLOT_ICMPV6]
    quote = in_slot[:4] + payload_octets.to_bytes(2, "big") + in_slot[6:]
    assert told_to_ulp(network, quote, icmpv6.TIME_EXCEEDED) == []


def test_an_aid_that_was_proven_stays_so_where_the_next_set_up_uses_another_locator() -> None:
    network = established()
    assert network.a.context.aid_proven
    lose_context(network)
    message = unknown_context(network, sent_data(network))
    network.kill_provider(1)
    receive(network, network.a, message, B2, A2)
    assert state_of(network.a) is State.INIT_SENT
    network.run(MINUTE)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.context.aid_proven
