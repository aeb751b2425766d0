# SPDX-License-Identifier: MIT
"""ICMPv6 errors are hints: a probe in the form of data decides, by its own result [D47]."""

import pytest

from noid.constants import MINUTE, PEER_UNABLE_MAX, PEER_UNABLE_TIME, REJECTED_TIME, SECOND
from noid.engine.causes import Cause
from noid.engine.events import LocatorsChanged, PeerUnable, SendControl
from noid.engine.state import Path, State
from noid.flows.events import IcmpErrorReceived
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from noid.wire.slots import slot_of
from tests.engine.network import A1, B1, B2, CODEPOINTS, Network, established, packet, state_of
from tests.engine.test_loss import lose_context, sent_data

TENTH = SECOND // 10


def rejection(quote: bytes, source: Locator = B1) -> IcmpErrorReceived:
    """The error of a host without M6 about a packet, or a forged one in its name."""
    error = icmpv6.ErrorMessage(
        type=icmpv6.PARAMETER_PROBLEM,
        code=icmpv6.UNRECOGNIZED_NEXT_HEADER,
        value=6,
        quote=quote,
    )
    octets = error.encode_packet(source, Locator(quote[8:24]))
    return IcmpErrorReceived(source, Locator(quote[8:24]), octets[ipv6.HEADER_OCTETS :])


class Shimless(Network):
    """A network whose b has stopped to speak M6, as long as ``stopped``."""

    stopped = False

    def arrive(self, packet: bytes) -> None:
        """Rejects what is for b and has an M6 next header, as Linux does."""
        destination = Locator(packet[24:40])
        is_m6 = slot_of(packet[6], CODEPOINTS) is not None
        if not self.stopped or destination not in self.b.locators:
            super().arrive(packet)
        elif (Locator(packet[8:24]), destination) in self.dead:
            pass
        elif is_m6:
            self.give(self.a, rejection(packet, destination))
        elif packet[6] != ipv6.ICMPV6:
            self.b.delivered.append(packet)


def stopped() -> Shimless:
    """A context whose peer stops to speak M6."""
    network = Shimless()
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(SECOND)
    assert state_of(network.a) is State.ESTABLISHED
    network.stopped = True
    network.a.in_use = network.b.in_use = True
    network.a.outputs.clear()
    return network


def talk(network: Network, duration_ns: int) -> float:
    """Lets a program of a's send ten packets a second; the share that arrives."""
    sent = []
    until_ns = network.now_ns + duration_ns
    while network.now_ns < until_ns:
        sent.append(packet(A1, B1, f"at {network.now_ns}".encode()))
        network.ulp_sends(network.a, sent[-1])
        network.run(TENTH)
    delivered = set(network.b.delivered)
    return sum(one in delivered for one in sent) / len(sent)


def controls(network: Network) -> int:
    """How many control messages a sent since its outputs were last cleared."""
    count = sum(isinstance(one, SendControl) for one in network.a.outputs)
    network.a.outputs.clear()
    return count


def path_of(network: Network) -> Path:
    """What a does about its pair now."""
    return network.a.context.path


def asides(network: Network) -> int:
    """How often a has set the context aside."""
    return sum(isinstance(one, PeerUnable) for one in network.a.outputs)


def test_a_spoofed_rejection_of_data_ends_nothing() -> None:
    network = established()
    network.give(network.a, rejection(sent_data(network)))
    assert path_of(network) is Path.ASKING
    network.run(SECOND)
    assert path_of(network) is Path.STEADY
    assert network.a.rewriter.flow_of(packet(A1, B1)) is not None
    assert not network.a.host.core.is_unable(B1)


def test_a_spoofed_rejection_of_a_probe_needs_its_nonce() -> None:
    network = stopped()
    network.dead |= {(A1, B1)}
    data = sent_data(network)
    network.give(network.a, rejection(data))
    (probe,) = [one.packet for one in network.a.outputs if isinstance(one, SendControl)]
    guessed = probe[: ipv6.HEADER_OCTETS + 8] + bytes(8) + probe[ipv6.HEADER_OCTETS + 16 :]
    search = network.a.context.search
    assert search is not None
    network.give(network.a, rejection(guessed))
    assert search.rejected_ns == 0
    network.give(network.a, rejection(probe, B2))
    assert search.rejected_ns == 0
    network.give(network.a, rejection(probe))
    assert search.rejected_ns == network.now_ns


def test_data_to_a_peer_that_stopped_m6_is_plain_within_a_second() -> None:
    network = stopped()
    talk(network, SECOND)
    assert talk(network, 5 * SECOND) == 1
    assert len(network.a.host.contexts) == 1


def test_a_rejecting_peer_is_retried_after_two_seconds_doubling() -> None:
    network = stopped()
    talk(network, SECOND)
    assert PeerUnable(B1, Cause.M6_UNKNOWN) in network.a.outputs
    controls(network)
    talk(network, REJECTED_TIME // 2)
    assert controls(network) == 0
    talk(network, 32 * REJECTED_TIME)
    assert 5 <= asides(network) <= 6
    assert controls(network) < 5 * 20


def test_a_rejecting_peer_is_retried_at_intervals_up_to_ten_minutes() -> None:
    network = stopped()
    talk(network, 40 * MINUTE)
    assert 10 <= asides(network) <= 13
    network.a.outputs.clear()
    talk(network, PEER_UNABLE_MAX)
    assert asides(network) <= 1


@pytest.mark.parametrize("remembers", [False, True])
def test_such_a_peer_is_used_again_once_it_speaks_m6_again(remembers: bool) -> None:
    network = stopped()
    talk(network, 10 * SECOND)
    network.stopped = False
    if not remembers:
        lose_context(network)
        network.give(network.b, LocatorsChanged((B1, B2)))
    talk(network, PEER_UNABLE_TIME)
    assert state_of(network.a) is State.ESTABLISHED
    assert network.a.rewriter.flow_of(packet(A1, B1)) is not None
    assert talk(network, 5 * SECOND) == 1


def test_such_a_peer_to_which_no_program_sends_is_not_probed() -> None:
    network = stopped()
    talk(network, 10 * SECOND)
    network.run(5 * MINUTE)
    controls(network)
    network.run(5 * MINUTE)
    assert controls(network) == 0
    network.stopped = False
    talk(network, 5 * SECOND)
    assert network.a.rewriter.flow_of(packet(A1, B1)) is not None
