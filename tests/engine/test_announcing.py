# SPDX-License-Identifier: MIT
"""A host receives by a label from before it announces the label [D48]."""

from collections.abc import Callable

import pytest

from noid.constants import HELD_PACKETS_MAX, MILLISECOND, MINUTE, REPEATS_MAX, SECOND
from noid.counters import Drop
from noid.engine.causes import Cause
from noid.engine.events import Dropped, InstallFlow, LocatorsChanged, SendControl
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived, PacketHeld
from noid.flows.flow import Flow
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code
from noid.wire.slots import slot_of
from tests.engine.network import A1, B1, B2, CODEPOINTS, X1, Network, Station, packet, state_of


class Lossy(Network):
    """A network that loses control messages.

    Attributes:
        lost: receivers and codes of messages that do not arrive.
    """

    def __init__(self, *lost: tuple[Locator, Code]) -> None:
        super().__init__()
        self.lost = set(lost)

    def arrive(self, packet: bytes) -> None:
        """Delivers a packet unless it is a message to lose."""
        in_slot = slot_of(packet[6], CODEPOINTS) is not None and packet[1:4] == bytes(3)
        is_control = packet[6] == ipv6.ICMPV6 or in_slot
        if (
            not is_control
            or packet[40] != CODEPOINTS.icmpv6_type
            or (Locator(packet[24:40]), Code(packet[41])) not in self.lost
        ):
            super().arrive(packet)


def without_conf(*, dns_works: bool = True) -> Lossy:
    """Station b has a context, a is in CCR-SENT: the CONF is lost."""
    network = Lossy((A1, Code.CONF))
    network.dns_works = dns_works
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(45 * MILLISECOND)
    assert (state_of(network.a), state_of(network.b)) == (State.CCR_SENT, State.ESTABLISHED)
    return network


def crossing() -> Lossy:
    """Both stations have sent INIT; the CONF to a is lost, so that a stays in INIT-SENT."""
    network = Lossy((A1, Code.CONF))
    for station, peer, aids in ((network.a, network.b, (A1, B1)), (network.b, network.a, (B1, A1))):
        network.resolve(station, peer)
        network.ulp_sends(station, packet(*aids))
    network.run(45 * MILLISECOND)
    assert (state_of(network.a), state_of(network.b)) == (State.INIT_SENT, State.ESTABLISHED)
    return network


def flow_of(station: Station) -> Flow:
    """The flow of the one context of a station."""
    return station.rewriter.by_label[station.context.local_label]


def held(station: Station, payload: bytes, source: Locator) -> PacketHeld:
    """A packet that came by the flow of the one context of a station."""
    return PacketHeld(station.context.local_label, packet(B1, A1, payload), source)


@pytest.mark.parametrize("protocol", [ipv6.UDP, ipv6.TCP])
@pytest.mark.parametrize("begun", [without_conf, crossing])
def test_data_is_delivered_although_the_conf_is_lost(
    begun: Callable[[], Lossy], protocol: int
) -> None:
    network = begun()
    sent = [packet(B1, A1, bytes((number,)), protocol=protocol) for number in range(40)]
    for one in sent:
        network.ulp_sends(network.b, one)
        network.run(5 * MILLISECOND)
    network.run(100 * MILLISECOND)
    delivered = [one for one in network.a.delivered if one in sent]
    repeats = len(delivered) - len(sent)
    assert list(dict.fromkeys(delivered)) == sent
    is_switched = network.b.context.pair != (B1, A1)
    assert repeats <= (1 + REPEATS_MAX if protocol == ipv6.TCP and is_switched else 0)
    assert network.a.unknown == 0
    network.lost.clear()
    network.run(10 * SECOND)
    assert state_of(network.a) is State.ESTABLISHED


@pytest.mark.parametrize(("begun", "code"), [(without_conf, Code.CCR), (crossing, Code.CONF)])
def test_the_flow_is_installed_before_the_message_is_sent(
    begun: Callable[[], Lossy], code: Code
) -> None:
    network = begun()
    kinds = [
        Code(one.packet[41]) if isinstance(one, SendControl) else type(one)
        for one in network.a.outputs
        if isinstance(one, InstallFlow | SendControl)
    ]
    assert kinds.index(InstallFlow) < kinds.index(code)


def test_the_flow_of_an_incomplete_context_only_receives() -> None:
    network = without_conf()
    flow = flow_of(network.a)
    assert (flow.transmits, flow.aside, flow.holds, flow.peer_label) == (False, True, True, 0)
    plain = packet(A1, B1, b"plain")
    network.ulp_sends(network.a, plain)
    network.run(20 * MILLISECOND)
    assert plain in network.b.delivered


def test_nothing_is_taken_from_the_sets_of_an_init() -> None:
    network = Network()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.names[network.a.name].append(X1)
    network.b.locators = (B1, X1)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.b, packet(B1, A1))
    init = next(one for one in network.b.outputs if isinstance(one, SendControl))
    network.give(network.a, ControlMessageReceived(B1, A1, False, init.packet[40:]))
    context = network.a.context
    assert context.state is State.INIT_SENT
    assert (context.peer_local, context.own_remote) == ((), None)
    assert flow_of(network.a).peer_locators == {B1, B2}


def test_a_packet_from_an_unproven_source_waits_for_the_conf() -> None:
    network = without_conf(dns_works=False)
    network.give(network.a, held(network.a, b"early", B2))
    network.give(network.a, held(network.a, b"at once", B1))
    assert network.a.delivered == [packet(B1, A1, b"at once")]
    network.lost.clear()
    network.run(10 * SECOND)
    assert network.a.delivered == [packet(B1, A1, b"at once"), packet(B1, A1, b"early")]


def test_a_packet_that_is_held_survives_a_new_exchange() -> None:
    network = without_conf(dns_works=False)
    network.give(network.a, held(network.a, b"early", B2))
    network.run(MINUTE)
    assert any(Cause.CCR_UNANSWERED in str(one) for one in network.a.outputs)
    network.lost.clear()
    network.run(2 * MINUTE)
    assert network.a.delivered == [packet(B1, A1, b"early")]


def test_a_packet_from_outside_the_peers_set_is_not_delivered() -> None:
    network = crossing()
    network.b.host.core.own = LocatorsChanged((B1,))
    network.b.context.own_local = (B1,)
    network.a.context.verification.proven = ()
    network.give(network.a, held(network.a, b"early", B2))
    network.lost.clear()
    network.run(10 * SECOND)
    assert network.a.context.peer_local == (B1,)
    assert network.a.delivered == [packet(B1, A1)]


def test_at_most_four_packets_wait() -> None:
    network = without_conf(dns_works=False)
    for number in range(HELD_PACKETS_MAX):
        assert network.give(network.a, held(network.a, bytes((number,)), B2)) == []
    outputs = network.give(network.a, held(network.a, b"one more", B2))
    assert outputs == [Dropped(Drop.TOO_MANY_PACKETS_HELD)]


def test_an_announced_label_is_quarantined() -> None:
    network = without_conf()
    label = network.a.context.local_label
    network.kill_provider(1)
    network.kill_provider(2)
    network.run(20 * MINUTE)
    assert network.a.host.contexts == []
    assert label in network.a.host.core.quarantine
    assert label not in network.a.rewriter.by_label


def test_every_packet_arrives_when_the_peer_starts_later() -> None:
    network = Lossy(*((locator, code) for locator in (B1, B2) for code in Code))
    network.resolve(network.a, network.b)
    there, back = [], []
    for number in range(400):
        if number == 100:
            network.lost.clear()
        there.append(packet(A1, B1, b"there" + number.to_bytes(2, "big")))
        back.append(packet(B1, A1, b"back" + number.to_bytes(2, "big")))
        network.ulp_sends(network.a, there[-1])
        network.ulp_sends(network.b, back[-1])
        network.run(50 * MILLISECOND)
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert sorted(network.b.delivered) == sorted(there)
    assert sorted(network.a.delivered) == sorted(back)


# --- a UR that comes before the CONF --------------------------------------------------------------


def ur_of_b(network: Network) -> bytes:
    """The first UR that b sends now, as it travels."""
    network.b.outputs.clear()
    network.give(network.b, LocatorsChanged((B1,)))
    sent = [one.packet for one in network.b.outputs if isinstance(one, SendControl)]
    return next(one for one in sent if one[41] == Code.UR)


def test_an_update_that_comes_before_the_conf_completes_the_context() -> None:
    network = without_conf()
    ur_of_b(network)
    network.run(30 * MILLISECOND)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.context.peer_label == network.b.context.local_label
    assert network.a.context.peer_acceptable == {B1}
    assert network.b.context.update is None, "it is acknowledged"


@pytest.mark.parametrize("changed", ["sender", "label", "hash", "source"])
def test_an_update_that_is_not_authentic_completes_nothing(changed: str) -> None:
    network = without_conf()
    octets = bytearray(ur_of_b(network)[40:])
    if changed == "hash":
        octets[-1] ^= 1
    elif changed == "sender":
        octets[31] ^= 1
    elif changed == "label":
        octets[52:56] = bytes(4)
    source = X1 if changed == "source" else B1
    octets[2:4] = bytes(2)
    total = ipv6.checksum(source, A1, ipv6.ICMPV6, bytes(octets))
    octets[2:4] = total.to_bytes(2, "big")
    network.give(network.a, ControlMessageReceived(source, A1, False, bytes(octets)))
    assert state_of(network.a) is State.CCR_SENT
