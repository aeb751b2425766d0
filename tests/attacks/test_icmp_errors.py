# SPDX-License-Identifier: MIT
"""ICMPv6 errors about packets that the host may have sent, with values that no router sends.

Attacker: who knows AIDs and the label of a context, or tries all labels. Guaranteed: the daemon
goes on, and no program hears of an MTU below the least that there is.
"""

import pytest

from noid.constants import MTU_MIN
from noid.counters import Drop
from noid.engine.events import DeliverToUlp
from noid.flows.events import IcmpErrorReceived
from noid.wire import icmpv6, ipv6
from noid.wire.slots import ESCAPE_OCTETS
from tests.engine.network import A1, B1, Network, established, packet

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
