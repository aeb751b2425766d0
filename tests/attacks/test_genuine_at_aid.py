# SPDX-License-Identifier: MIT
"""The question to the AID (test_first_come.py) ends no context of the genuine peer [D37, D39]."""

from noid.constants import MILLISECOND, RETRANSMIT_WAITING, SECOND
from noid.engine.events import LocatorsChanged
from noid.engine.state import State
from noid.flows.events import IcmpErrorReceived
from noid.wire import icmpv6, ipv6
from noid.wire.control import Code
from tests.attacks.test_first_come import (
    ASKING_NS,
    INTERVAL_NS,
    by_provider_2,
    is_question,
)
from tests.engine.network import A1, A2, B1, B2, Network, Station, both_begin, packet


class Lossy(Network):
    """Loses the first of some messages of b."""

    losing: Code | None = None

    def arrive(self, octets: bytes) -> None:
        if octets[8:24] in (B1, B2) and octets[ipv6.HEADER_OCTETS + 1] == self.losing:
            self.losing = None
            return
        super().arrive(octets)


def talk(network: Network, duration_ns: int) -> int:
    """A program on a sends; how many packets b gets."""
    network.b.delivered.clear()
    for number in range(duration_ns // INTERVAL_NS):
        network.ulp_sends(network.a, packet(A1, B1, b"twenty octets to b %d" % number))
        network.run(INTERVAL_NS)
    return len(network.b.delivered)


def start_again(station: Station, network: Network, *, with_key: bool) -> None:
    """A station loses its contexts, and its key unless that was kept."""
    station.birthday = station.host.options.birthday + 1
    station.reset_key = station.reset_key if with_key else b"another key, of 32 octets length"
    station.__post_init__()
    network.give(station, LocatorsChanged(station.locators))


def test_a_locator_that_the_peer_does_not_know_yet_ends_nothing() -> None:
    """An Update Request that told of it was lost, and the question to the AID leaves from it."""
    network = by_provider_2(Network())
    label = network.a.context.local_label
    network.b.context.peer_local = (A1,)
    network.dead = {(A1, B1), (A1, B2)}
    network.run(2 * ASKING_NS)
    assert any(one[8:24] == A2 and is_question(one) for one in network.trace)
    assert network.a.context.local_label == label
    assert network.a.context.is_settled


def test_a_peer_that_has_not_finished_the_set_up_ends_nothing() -> None:
    """The INITs crossed, one CONF was lost, and the AID is reached again."""
    network = Lossy()
    network.kill_provider(1)
    both_begin(network)
    network.losing = Code.CONF
    while not (network.b.host.contexts and network.b.context.is_settled):
        network.run(10 * MILLISECOND)
    assert network.a.context.state is State.INIT_SENT
    label = network.b.context.local_label
    network.dead.clear()
    network.run(RETRANSMIT_WAITING)
    assert network.b.context.local_label == label
    network.run(5 * SECOND)
    assert network.a.context.is_settled
    assert network.a.context.peer_label == network.b.context.local_label == label


def test_an_answer_proves_the_aid() -> None:
    network = by_provider_2(Network())
    network.dead.clear()
    network.run(2 * ASKING_NS)
    for station in network.a, network.b:
        assert station.context.aid_proven
        assert not station.host.inspection.disowning.asked


def test_the_nonces_of_questions_do_not_follow_from_others() -> None:
    network = by_provider_2(Network())
    context = network.a.context
    (*_, last) = network.a.host.inspection.disowning.asked[context.local_label]
    assert context.update_nonce - last > 1


def test_a_stranger_at_the_aid_of_a_former_prefix_ends_nothing() -> None:
    """The records still list it."""
    network = by_provider_2(Network())
    network.dead.clear()
    network.run(2 * ASKING_NS)
    label, other = network.a.context.local_label, Station("x.example", (B1,), 77)
    network.b.locators = (B2,)
    network.give(network.b, LocatorsChanged((B2,)))
    network.stations.append(other)
    network.give(other, LocatorsChanged((B1,)))
    for _ in range(1200):
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1))
        network.run(SECOND)
    assert network.a.context.local_label == label
    assert other.delivered == []


def lost_after_outages(*, with_key: bool) -> int:
    """How many packets a loses: b restarts, provider 1 works for a while, and is dead again."""
    network = by_provider_2(Network())
    start_again(network.b, network, with_key=with_key)
    network.dead.clear()
    network.run(6 * SECOND)
    network.kill_provider(1)
    return 30 * SECOND // INTERVAL_NS - talk(network, 30 * SECOND)


def test_a_peer_that_restarts_is_reached_by_the_other_provider() -> None:
    for with_key in (True, False):
        assert lost_after_outages(with_key=with_key) <= 5 * SECOND // INTERVAL_NS


def test_who_sees_no_question_guesses_no_nonce() -> None:
    """A parameter problem needs only F(local), of 20 bits, besides the nonce."""
    network = by_provider_2(Network())
    label = network.a.context.local_label
    for nonce in range(1, 1000):
        octets = network.a.request(nonce)
        header = ipv6.Header(
            source=A1, destination=B1, next_header=ipv6.ICMPV6, payload_octets=len(octets)
        )
        error = icmpv6.ErrorMessage(
            type=icmpv6.PARAMETER_PROBLEM,
            code=icmpv6.UNRECOGNIZED_NEXT_HEADER,
            value=6,
            quote=header.encode() + octets,
        )
        forged = error.encode_packet(B1, A1)[ipv6.HEADER_OCTETS :]
        network.give(network.a, IcmpErrorReceived(B1, A1, forged))
        assert network.a.context.local_label == label, nonce
        assert network.a.context.is_settled
