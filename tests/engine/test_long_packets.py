# SPDX-License-Identifier: MIT
"""Packets that are lost because they are long: programs are told to send shorter ones."""

from noid.constants import (
    LONG_LOST_TIME,
    LONGER_ASKED_MAX,
    MILLISECOND,
    MINUTE,
    MTU_MIN,
    SECOND,
)
from noid.engine.events import WidenPath
from noid.engine.state import Path
from noid.flows.events import IcmpErrorReceived, LongPacketLost
from noid.locators import Locator
from noid.wire import icmpv6, ipv6
from tests.engine.network import A1, A2, B1, B2, Network, established, packet
from tests.engine.test_data_loss import ACKNOWLEDGEMENT, talk

LONG = packet(A1, B1, bytes(1400))


def told(network: Network) -> list[icmpv6.ErrorMessage]:
    """The errors about long packets that a program of a got, which are forgotten."""
    found = [one for one in network.a.delivered if icmpv6.is_too_big(one)]
    network.a.delivered.clear()
    sources = [ipv6.Header.decode(one).source for one in found]
    errors = (one[ipv6.HEADER_OCTETS :] for one in found)
    return [icmpv6.decode_error(one, by, A1) for one, by in zip(errors, sources, strict=True)]


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


def asked(network: Network) -> list[int]:
    """The lengths of long messages that arrived anywhere, which are forgotten."""
    found = [len(one) for one in network.trace if len(one) > MTU_MIN]
    network.trace.clear()
    return found


def widened(network: Network) -> list[Locator]:
    """The peers to whom the stack of a may send long packets again; these orders are forgotten."""
    found = [one.aid for one in network.a.outputs if isinstance(one, WidenPath)]
    network.a.outputs.clear()
    return found


def test_long_packets_go_again_once_a_message_of_their_length_has_passed() -> None:
    network = established()
    lose(network, LONG)
    network.run(LONG_LOST_TIME - MILLISECOND)
    assert (asked(network), widened(network)) == ([], [])
    network.run(100 * MILLISECOND)
    assert (asked(network), widened(network)) == ([len(LONG)], [B1])
    assert not told(network)
    network.run(MINUTE)
    assert (asked(network), widened(network)) == ([], [])


def test_padding_is_no_packet_for_the_peer() -> None:
    network = established()
    before = list(network.b.delivered)
    lose(network, LONG)
    network.run(2 * LONG_LOST_TIME)
    assert asked(network)
    assert network.b.delivered == before


def test_a_path_that_stays_narrow_is_asked_ever_less_until_the_stack_forgets() -> None:
    network = established()
    network.drops_long = True
    lose(network, LONG)
    network.run(11 * MINUTE)
    assert asked(network) == [len(LONG)] * LONGER_ASKED_MAX
    assert not widened(network)
    assert LONG_LOST_TIME * (2**LONGER_ASKED_MAX - 1) >= 10 * MINUTE


def test_long_packets_that_are_lost_again_and_again_wait_longer_each_time() -> None:
    """A device drops long data and passes long messages."""
    network = established()
    waited = []
    for _ in range(3):
        lose(network, LONG)
        begin_ns = network.now_ns
        while not widened(network):
            network.run(SECOND)
        waited.append((network.now_ns - begin_ns) // (10 * SECOND))
    assert waited == [1, 2, 4]


def test_another_pair_is_asked_soon() -> None:
    network = established()
    talk(network, SECOND)
    network.drops_long = True
    lose(network, LONG)
    network.run(4 * MINUTE)
    assert not widened(network)
    network.drops_long = False
    network.kill_provider(1)
    talk(network, SECOND)
    assert network.a.context.pair == (A2, B2)
    assert not widened(network)
    talk(network, 2 * SECOND)
    assert widened(network) == [B1]


def test_the_size_that_a_router_says_is_asked_about_too() -> None:
    """The error may be forged, or the pair may be left."""
    network = established()
    network.ulp_sends(network.a, LONG)
    sent = network.wire[-1][1]
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=1300, quote=sent)
    packet_of_error = error.encode_packet(B2, A1)
    network.give(network.a, IcmpErrorReceived(B2, A1, packet_of_error[ipv6.HEADER_OCTETS :]))
    assert [one.value for one in told(network)] == [1300]
    network.run(2 * LONG_LOST_TIME)
    assert widened(network) == [B1]


def test_a_refused_packet_that_no_uplink_carries_is_asked_about_at_their_mtu() -> None:
    network = established()
    lose(network, packet(A1, B1, bytes(9000)))
    network.run(2 * LONG_LOST_TIME)
    assert asked(network) == [network.a.host.core.options.mtu]
