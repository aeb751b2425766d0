# SPDX-License-Identifier: MIT
"""An attacker on the path of one provider sets a context up in the name of the peer [D39].

He runs the real engine with the peer's AID and a label of his own. He reads, and lets nothing
through, what goes to and comes from B2; and what he sends from there is not spoofed.
"""

from itertools import pairwise

import msgspec
import pytest

from noid.constants import MILLISECOND, SECOND, TRIAL_SILENCE
from noid.engine.events import ContextRestored, LocatorsChanged, Output, SendControl
from noid.engine.host import Host
from noid.flows.software import Effect, Transmit
from noid.state.contexts import decoded
from noid.wire import ipv6
from tests.engine.network import A1, A2, B1, B2, START_NS, Network, Station, packet

INTERVAL_NS = 20 * MILLISECOND
INTERRUPTION_MAX_NS = SECOND
RECOVERY_MAX_NS = 10 * SECOND


class Attracted(Network):
    """Stations a and b in a conversation, and an attacker at B2."""

    def __init__(self) -> None:
        super().__init__()
        key = b"of the attacker, 32 octets long "
        self.attacker = Station("b.example", (), 99, reset_key=key)
        self.attacks = False
        self.arrived_ns: list[int] = []
        self.resolve(self.a, self.b)
        self.talk(SECOND)

    def carry_out(self, station: Station, output: Output) -> None:
        if self.is_let_out(station, output.packet if isinstance(output, SendControl) else b""):
            super().carry_out(station, output)

    def follow(self, station: Station, effects: list[Effect]) -> None:
        passing = [
            one
            for one in effects
            if self.is_let_out(station, one.packet if isinstance(one, Transmit) else b"")
        ]
        super().follow(station, passing)

    def is_let_out(self, station: Station, octets: bytes) -> bool:
        """Whether a packet leaves its host's provider: not what b sends by the attacker's."""
        return not (self.attacks and station is self.b and octets[8:24] == B2)

    def arrive(self, octets: bytes) -> None:
        header = ipv6.Header.decode(octets)
        is_cut = (header.source, header.destination) in self.dead
        if self.attacks and header.destination == B2:
            if not is_cut:
                self.follow(self.attacker, self.attacker.datapath.from_network(octets, self.now_ns))
            return
        before = len(self.b.delivered)
        super().arrive(octets)
        if len(self.b.delivered) > before:
            self.arrived_ns.append(self.now_ns)

    def attack(self) -> None:
        """The attacker begins an exchange with a, as b."""
        self.attacks = True
        self.stations = [self.a, self.b, self.attacker]
        self.give(self.attacker, LocatorsChanged((B1, B2)))
        self.resolve(self.attacker, self.a)
        self.ulp_sends(self.attacker, packet(B1, A1, b"from the attacker"))

    def talk(self, duration_ns: int) -> None:
        """Programs on a and b send to each other."""
        for number in range(duration_ns // INTERVAL_NS):
            self.ulp_sends(self.a, packet(A1, B1, b"to b %d" % number))
            self.ulp_sends(self.b, packet(B1, A1, b"to a %d" % number))
            self.run(INTERVAL_NS)

    @property
    def interruption_ns(self) -> int:
        """The longest time in which nothing of a's arrived at b."""
        times = [*self.arrived_ns, self.now_ns]
        return max(after - before for before, after in pairwise(times))


def restart(network: Network, station: Station) -> None:
    """The daemon of a station ends, and the next one finds what it kept [D36]."""
    label = station.context.local_label
    memory = decoded(label, msgspec.msgpack.encode(station.host.memory_of(label)))
    assert memory is not None
    station.host = Host(station.host.options, station.random.randbytes)
    network.give(station, LocatorsChanged(station.locators))
    network.give(station, ContextRestored(memory))


def cut_provider_1(network: Network) -> None:
    """Nothing between the first locators, and between these and others, arrives any more."""
    network.kill_provider(1)


def test_a_live_context_is_not_replaced_from_the_path_of_another_provider() -> None:
    network = Attracted()
    label = network.a.context.peer_label
    network.attack()
    network.talk(20 * SECOND)
    assert network.attacker.host.contexts, "the exchange was begun, and is answered with CC"
    assert network.a.context.peer_label == label == network.b.context.local_label
    assert network.a.context.next_trial_ns, "the CCR has started a test"
    assert network.interruption_ns < INTERRUPTION_MAX_NS
    assert network.attacker.delivered == []


@pytest.mark.parametrize("restarts", [False, True])
def test_who_replaces_a_context_during_an_outage_loses_it_to_the_peer(restarts: bool) -> None:
    network = Attracted()
    network.attack()
    cut_provider_1(network)
    while network.a.context.peer_label == network.b.context.local_label:
        network.talk(TRIAL_SILENCE)
        assert network.now_ns < START_NS + 60 * SECOND, "the attacker never gets the context"
    if restarts:
        restart(network, network.a)
    network.dead.clear()
    healed_ns = network.now_ns
    while network.a.context.peer_label != network.b.context.local_label:
        network.talk(100 * MILLISECOND)
        assert network.now_ns - healed_ns < RECOVERY_MAX_NS
    network.attacker.delivered.clear()
    arrived = len(network.arrived_ns)
    network.talk(5 * SECOND)
    assert network.attacker.delivered == []
    assert len(network.arrived_ns) - arrived > 4 * SECOND // INTERVAL_NS
    assert network.a.context.pair in {(A1, B1), (A2, B1)}
