# SPDX-License-Identifier: MIT
"""What rides on a message and is no packet of a ULP is not delivered [D6, D7, D38].

Attacker: the peer, or who alters a message of the set-up that is not authenticated. Delivered, such
a packet would come to the shim a second time, with the AID of the peer as its source. Guaranteed:
control messages are accepted only where D6 says they travel.
"""

from dataclasses import replace

import pytest

from noid.constants import SECOND
from noid.counters import Drop
from noid.wire import ipv6
from noid.wire.control import Code, Piggyback, decode_message, encode_packet
from tests.engine.network import A1, B1, CODEPOINTS, Network, established, packet, receive

CONTROL = bytes((CODEPOINTS.icmpv6_type, Code.CONF, 0, 0)) + bytes(60)
ECHO = bytes((128, 0, 0, 0)) + bytes(60)
SEGMENT = bytes(20)
RIDERS = {
    "control message": (ipv6.ICMPV6, CONTROL, False),
    "M6 data": (CODEPOINTS.rewritable_first, SEGMENT, False),
    "M6 control": (CODEPOINTS.fixed_first + 6, CONTROL, False),
    "hop-by-hop options": (ipv6.HOP_BY_HOP, bytes((224, 0, 1, 4, 0, 0, 0, 0)), False),
    "echo request": (ipv6.ICMPV6, ECHO, True),
    "nothing of ICMPv6": (ipv6.ICMPV6, b"", True),
    "TCP segment": (ipv6.TCP, SEGMENT, True),
}
"""Next header and octets of what rides, and whether it is delivered."""


class Riding(Network):
    """A network in which something rides on each message of one code."""

    def __init__(self, code: Code, rider: Piggyback) -> None:
        self.code, self.rider = code, rider
        super().__init__()

    def put(self, packet: bytes) -> None:
        """Lets it ride."""
        header = ipv6.Header.decode(packet)
        if header.next_header == ipv6.ICMPV6:
            ends = header.source, header.destination
            message = decode_message(packet[ipv6.HEADER_OCTETS :], *ends, in_slot=False)
            if message.code is self.code:
                packet = encode_packet(replace(message, piggyback=self.rider), *ends, CODEPOINTS)
        super().put(packet)


@pytest.mark.parametrize("name", RIDERS)
@pytest.mark.parametrize("code", [Code.CC, Code.CCR])
def test_on_a_message_of_the_set_up(code: Code, name: str) -> None:
    protocol, octets, is_delivered = RIDERS[name]
    network = Riding(code, Piggyback(protocol, octets))
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1, b"plain"))
    network.run(SECOND)
    station = network.a if code is Code.CC else network.b
    riders = [one for one in station.delivered if one[ipv6.HEADER_OCTETS :] == octets]
    assert bool(riders) is is_delivered
    assert (Drop.PACKET_OF_NO_ULP in station.host.drops) is not is_delivered


@pytest.mark.parametrize("name", RIDERS)
def test_on_an_update_request(name: str) -> None:
    protocol, octets, is_delivered = RIDERS[name]
    network = established()
    rider = packet(B1, A1, octets, protocol=protocol)
    message = network.b.request(network.b.context.update_nonce + 1, rider)
    receive(network, network.a, message, B1, A1)
    assert (rider in network.a.delivered) is is_delivered
    assert (Drop.PACKET_OF_NO_ULP in network.a.host.drops) is not is_delivered
