# SPDX-License-Identifier: MIT
"""Packets that are lost because they are long: programs are told to send shorter ones."""

from noid.constants import LONG_LOST_TIME, MILLISECOND, MTU_MIN, SECOND
from noid.engine.state import Path
from noid.flows.events import LongPacketLost
from noid.wire import icmpv6, ipv6
from tests.engine.network import A1, B1, Network, established, packet
from tests.engine.test_data_loss import ACKNOWLEDGEMENT, talk

LONG = packet(A1, B1, bytes(1400))


def told(network: Network) -> list[icmpv6.ErrorMessage]:
    """The errors about long packets that a program of a got, which are forgotten."""
    found = [one for one in network.a.delivered if icmpv6.is_too_big(one)]
    network.a.delivered.clear()
    return [icmpv6.decode_error(one[ipv6.HEADER_OCTETS :], B1, A1) for one in found]


def lose(network: Network, lost: bytes) -> list[icmpv6.ErrorMessage]:
    """The data plane of a says that long packets are lost; what the program is told."""
    network.give(network.a, LongPacketLost(network.a.context.local_label, lost))
    return told(network)


def test_a_program_is_told_once_in_a_time_how_long_its_packets_may_be() -> None:
    network = established()
    (error,) = lose(network, LONG)
    assert (error.type, error.value) == (icmpv6.PACKET_TOO_BIG, MTU_MIN)
    assert LONG.startswith(error.quote)
    assert lose(network, LONG) == []
    network.run(LONG_LOST_TIME + SECOND)
    assert lose(network, packet(A1, B1, bytes(MTU_MIN - ipv6.HEADER_OCTETS))) == []
    assert len(lose(network, LONG)) == 1
    assert network.a.context.path is Path.STEADY


def test_long_data_that_is_lost_is_shortened_before_its_pair_is_left() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    while not (errors := told(network)):
        network.ulp_sends(network.a, LONG)
        network.run(20 * MILLISECOND)
    assert [error.value for error in errors] == [MTU_MIN]
    assert network.a.context.pair == (A1, B1)
    network.drops_data = set()
    for _ in range(200):  # it was the length
        network.ulp_sends(network.a, packet(A1, B1))
        network.ulp_sends(network.b, packet(B1, A1, ACKNOWLEDGEMENT))
        network.run(20 * MILLISECOND)
    assert network.a.context.pair == (A1, B1)
    assert told(network) == []


def test_data_that_is_lost_at_any_length_goes_by_another_pair() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_data = {(A1, B1), (B1, A1)}
    errors = 0
    while network.a.context.pair == (A1, B1):
        network.ulp_sends(network.a, LONG)
        network.run(20 * MILLISECOND)
        errors += len(told(network))
    assert errors == 1
