# SPDX-License-Identifier: MIT
"""An attacker on the path of one provider sets a context up before the genuine peer does [D37].

He receives at B2, a locator that the DNS proves to be b's, and a has no context with b. Programs
send to B1, the AID, whose path he is not on: without noid, he gets none of their packets.
"""

from dataclasses import replace

import pytest

from noid.constants import (
    AID_ASKED_MAX,
    AID_ASKS_MAX,
    DISOWNED_MAX,
    DISOWNED_TIME,
    MILLISECOND,
    RETRANSMIT_WAITING,
    SECOND,
)
from noid.engine.events import LocatorsChanged, Output, SendControl, StateChanged
from noid.engine.host import Host
from noid.engine.state import State
from noid.flows.events import IcmpErrorReceived
from noid.identifiers import Label, Nonce
from noid.locators import UNSPECIFIED
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code, ControlMessage, Flag, Piggyback, decode_message
from noid.wire.options import ContextOption
from tests.attacks.test_attract import restart
from tests.engine.network import A1, A2, B1, B2, Network, Station, packet, receive

INTERVAL_NS = 20 * MILLISECOND
ROUND_TRIP_NS = 20 * MILLISECOND
ASKING_NS = RETRANSMIT_WAITING << AID_ASKS_MAX


class FirstCome(Network):
    """Stations a and b without a context, and an attacker who receives and sends at B2."""

    def __init__(self) -> None:
        super().__init__()
        self.attacker = Station("b.example", (), 99, reset_key=b"of the attacker, 32 octets long ")
        self.asked: list[bytes] = []

    def carry_out(self, station: Station, output: Output) -> None:
        if isinstance(output, SendControl):
            if station is self.b and output.packet[8:24] == B2:
                return  # the attacker stops it
            if station is self.a and output.packet[24:40] == B1:
                self.asked += [output.packet] if is_question(output.packet) else []
        super().carry_out(station, output)

    def arrive(self, octets: bytes) -> None:
        header = ipv6.Header.decode(octets)
        if header.destination == B2 and (header.source, B2) not in self.dead:
            self.follow(self.attacker, self.attacker.datapath.from_network(octets, self.now_ns))
        elif header.destination != B2:
            super().arrive(octets)

    def attack(self) -> None:
        """The attacker begins an exchange with a, as b, with a new engine."""
        one = self.attacker
        one.host = Host(replace(one.host.options), one.random.randbytes)
        self.stations = [self.a, self.b, one]
        self.give(one, LocatorsChanged((B1, B2)))
        self.resolve(one, self.a)
        self.ulp_sends(one, packet(B1, A1, b"from the attacker"))

    def talk(self, duration_ns: int, senders: str = "ab") -> None:
        """Programs on these stations send."""
        for number in range(duration_ns // INTERVAL_NS):
            if "a" in senders:
                self.ulp_sends(self.a, packet(A1, B1, b"to b %d" % number))
            if "b" in senders:
                self.ulp_sends(self.b, packet(B1, A1, b"to a %d" % number))
            self.run(INTERVAL_NS)

    @property
    def attacker_was_peer(self) -> bool:
        """Whether a context of the attacker was established, perhaps for a moment."""
        return any(
            isinstance(output, StateChanged) and output.new is State.ESTABLISHED
            for output in self.attacker.outputs
        )

    def forget(self) -> None:
        """Nothing has been delivered yet."""
        for station in (self.a, self.b, self.attacker):
            station.delivered.clear()


def by_provider_2(network: Network) -> Network:
    """Provider 1 is dead while b sets a context up."""
    network.kill_provider(1)
    network.resolve(network.a, network.b)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    network.run(3 * SECOND)
    assert network.a.context.is_settled
    assert not network.a.context.aid_proven
    return network


def is_question(octets: bytes) -> bool:
    """Whether a packet is a UR that is to be answered where it arrives, and nothing else."""
    ends = ipv6.Header.decode(octets)
    try:
        message = decode_message(
            octets[40:], ends.source, ends.destination, in_slot=ends.next_header != ipv6.ICMPV6
        )
    except ValueError:
        return False
    return message.code is Code.UR and message.flags == Flag.ANSWER_HERE


@pytest.mark.parametrize("senders", ["a", "b", "ab"])
def test_who_comes_first_by_another_locator_gets_no_data(senders: str) -> None:
    network = FirstCome()
    network.attack()
    network.run(5 * SECOND)
    assert network.attacker_was_peer
    network.forget()
    network.resolve(network.a, network.b)
    network.resolve(network.b, network.a)
    network.talk(10 * SECOND, senders)
    count = 10 * SECOND // INTERVAL_NS
    assert network.attacker.delivered == []
    assert len(network.b.delivered) >= (count - 1) * ("a" in senders)
    assert len(network.a.delivered) >= (count - 1) * ("b" in senders)


def test_who_comes_again_and_again_gets_data_of_a_round_trip_in_ten_seconds() -> None:
    """The worst case: a program's first packet is sent in that round trip."""
    network = FirstCome()
    network.resolve(network.a, network.b)
    network.forget()
    for _ in range(2 * DISOWNED_TIME // SECOND):
        network.attack()
        network.talk(SECOND, "a")
    sent = 2 * DISOWNED_TIME // INTERVAL_NS
    lost = 2 * (1 + ROUND_TRIP_NS // INTERVAL_NS)
    assert len(network.attacker.delivered) <= lost
    assert len(network.b.delivered) >= sent - lost


def test_the_peer_takes_a_context_over_that_was_made_while_it_was_away() -> None:
    network = FirstCome()
    away = {(A1, B1), (A2, B1), (B1, A1), (B1, A2)}
    network.dead |= away
    network.attack()
    network.run(2 * ASKING_NS)
    assert network.a.context.is_settled
    assert len(network.asked) >= AID_ASKS_MAX
    network.dead -= away
    network.resolve(network.b, network.a)
    network.talk(2 * SECOND, "b")
    network.forget()
    network.talk(5 * SECOND)
    assert network.attacker.delivered == []
    assert len(network.b.delivered) >= 5 * SECOND // INTERVAL_NS - 1
    assert network.a.context.aid_proven


def test_one_lost_init_gives_the_attacker_a_round_trip_of_data() -> None:
    network = FirstCome()
    network.attacker.locators = ()
    network.stations = [network.a, network.b, network.attacker]
    network.give(network.attacker, LocatorsChanged((B1, B2)))
    network.dead |= {(A1, B1)}
    network.resolve(network.a, network.b)
    network.talk(260 * MILLISECOND, "a")
    network.dead.clear()
    network.forget()
    network.talk(5 * SECOND, "a")
    assert network.attacker_was_peer
    assert len(network.attacker.delivered) <= 3
    assert len(network.b.delivered) >= 5 * SECOND // INTERVAL_NS - 3


def test_a_peer_that_began_by_another_locator_keeps_its_context() -> None:
    """Its AID is dead at first, and then answers that it has the context."""
    network = by_provider_2(Network())
    label = network.a.context.local_label
    network.dead.clear()
    network.run(2 * ASKING_NS)
    assert network.a.context.local_label == label
    assert network.a.context.is_settled


def test_a_kernel_without_noid_at_the_aid_says_so_too() -> None:
    network = FirstCome()
    network.b.locators = ()  # what arrives there is lost
    network.attack()
    network.run(SECOND)
    question = next(one for one in network.asked if one[6] != ipv6.ICMPV6)
    error = icmpv6.ErrorMessage(
        type=icmpv6.PARAMETER_PROBLEM, code=icmpv6.UNRECOGNIZED_NEXT_HEADER, value=6, quote=question
    )
    octets = error.encode_packet(B1, A1)[40:]
    network.give(network.a, IcmpErrorReceived(B1, A1, octets))
    assert network.a.host.contexts == []


def test_what_others_say_of_the_context_only_tests_it() -> None:
    """They know the labels, and not what was sent to the AID."""
    network = by_provider_2(Network())
    context = network.a.context
    nonces = network.a.host.inspection.disowning.asked[context.local_label]
    unknown = next(one for one in range(1, 99) if one not in nonces)
    octets = network.a.request(unknown)
    header = ipv6.Header(
        source=A1, destination=B1, next_header=ipv6.ICMPV6, payload_octets=len(octets)
    )
    message = ControlMessage(
        code=Code.UC,
        nonce=Nonce(1),
        sender_aid=UNSPECIFIED,
        receiver_aid=UNSPECIFIED,
        context=ContextOption(receiver_label=context.peer_label),
        reset_token=bytes(16),
        piggyback=Piggyback(ipv6.IPV6, header.encode() + octets),
    )
    receive(network, network.a, message, B1, A1)
    assert context.trial is not None
    assert network.a.context is context
    assert context.state is not State.IDLE


def test_as_many_are_asked_and_remembered_as_the_tables_hold() -> None:
    network = FirstCome()
    tables = network.a.host.inspection.disowning
    tables.asked.update((label, []) for label in map(Label, range(1, AID_ASKED_MAX + 1)))
    tables.until_ns.update((label.to_bytes(32), 0) for label in range(DISOWNED_MAX))
    network.attack()
    network.run(SECOND)
    assert network.a.host.contexts == []
    assert len(tables.asked) == AID_ASKED_MAX
    assert len(tables.until_ns) == DISOWNED_MAX
    assert A1 + B1 in tables.until_ns


def test_the_daemon_that_takes_over_asks_again() -> None:
    """The peer is away when the attacker comes, and is back when a's daemon is restarted."""
    network = FirstCome()
    away = {(A1, B1), (A2, B1), (B1, A1), (B1, A2)}
    network.dead |= away
    network.attack()
    network.run(2 * ASKING_NS)
    restart(network, network.a)
    assert network.a.context.is_settled
    network.dead -= away
    network.a.in_use = True
    network.run(5 * SECOND)
    assert network.a.host.contexts == []
