# SPDX-License-Identifier: MIT
"""ICMPv6 errors about packets that the host may have sent, with values that no router sends.

Attacker: who knows AIDs and the label of a context, or tries all labels. Guaranteed: the daemon
goes on, and no program hears of an MTU below the least that there is.
"""

import pytest

from noid.constants import MILLISECOND, MTU_MIN, SECOND
from noid.counters import Drop
from noid.engine.events import DeliverToUlp, SendControl
from noid.flows.events import IcmpErrorReceived
from noid.wire import icmpv6, ipv6
from noid.wire.slots import ESCAPE_OCTETS
from tests.engine.network import A1, A2, B1, B2, X1, Network, established, packet
from tests.engine.test_loss import sent_data

OF_NO_SLOT = 99
"""A protocol that travels behind an escape header."""


def too_big(network: Network, protocol: int, mtu: int) -> list[int]:
    """The MTUs of which programs hear, when a router says one about a packet of a's."""
    inner = ipv6.Header(source=A1, destination=B1, next_header=protocol, payload_octets=20)
    flow = network.a.rewriter.by_label[network.a.context.local_label]
    quote = network.a.rewriter.outbound(inner.encode() + bytes(20), flow)
    error = icmpv6.ErrorMessage(type=icmpv6.PACKET_TOO_BIG, code=0, value=mtu, quote=quote)
    octets = error.encode_packet(B1, A1)[ipv6.HEADER_OCTETS :]
    outputs = network.give(network.a, IcmpErrorReceived(B1, A1, octets))
    told = [one.packet for one in outputs if isinstance(one, DeliverToUlp)]
    return [int.from_bytes(one[44:48], "big") for one in told]


@pytest.mark.parametrize("protocol", [ipv6.TCP, OF_NO_SLOT])
@pytest.mark.parametrize("mtu", [0, ESCAPE_OCTETS - 1, MTU_MIN - 1])
def test_an_mtu_below_the_least_is_nothing_to_programs(protocol: int, mtu: int) -> None:
    network = established()
    assert too_big(network, protocol, mtu) == []
    assert network.a.host.drops[Drop.MTU_TOO_SMALL] == 1
    before = len(network.b.delivered)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(network.delay_ns)
    assert len(network.b.delivered) == before + 1


def test_an_mtu_is_told_without_the_header_that_noid_adds() -> None:
    network = established()
    assert too_big(network, ipv6.TCP, MTU_MIN) == [MTU_MIN]
    assert too_big(network, OF_NO_SLOT, 1400) == [1400 - ESCAPE_OCTETS]


def failover_ns(seed: int, *, is_attacked: bool) -> int:
    """How long no datagram of a's arrives when provider 1 fails, with forged errors or without."""
    network = established(seed)
    error = icmpv6.ErrorMessage(
        type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=sent_data(network)
    )
    forged = IcmpErrorReceived(X1, A1, error.encode_packet(X1, A1)[ipv6.HEADER_OCTETS :])

    def go_on() -> None:
        network.ulp_sends(network.a, packet(A1, B1, bytes(20)))
        if is_attacked:
            network.give(network.a, forged)
        network.run(10 * MILLISECOND)

    for _ in range(1_000):
        go_on()
        network.ulp_sends(network.b, packet(B1, A1, bytes(20)))
    network.kill_provider(1)
    failed_ns = network.now_ns
    while network.a.context.pair != (A2, B2):
        go_on()
        assert network.now_ns < failed_ns + 10 * SECOND
    return network.now_ns - failed_ns


def test_forged_errors_do_not_delay_a_failover() -> None:
    """An error starts a question; that the pair answers it is no reason to doubt its silence."""
    seeds = range(1, 8)
    calm_ns = max(failover_ns(seed, is_attacked=False) for seed in seeds)
    attacked_ns = max(failover_ns(seed, is_attacked=True) for seed in seeds)
    assert attacked_ns <= 2 * calm_ns


def test_a_flood_of_errors_causes_one_question_a_second() -> None:
    network = established()
    network.a.outputs.clear()
    error = icmpv6.ErrorMessage(
        type=icmpv6.DESTINATION_UNREACHABLE, code=0, quote=sent_data(network)
    )
    event = IcmpErrorReceived(X1, A1, error.encode_packet(X1, A1)[ipv6.HEADER_OCTETS :])
    for _ in range(1_000):
        network.give(network.a, event)
        network.run(10 * MILLISECOND)
    requests = [one for one in network.a.outputs if isinstance(one, SendControl)]
    assert len(requests) <= 11
