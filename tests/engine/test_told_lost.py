# SPDX-License-Identifier: MIT
"""What the peer says of lost data is believed once, and as it says it [D47]."""

from typing import Final

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.engine.state import Path
from noid.engine.update import next_nonce, request
from noid.flows.events import ControlMessageReceived
from noid.wire import ipv6
from noid.wire.control import Code, Flag
from tests.engine.network import A1, A2, B1, B2, Network, established, receive, unproven
from tests.engine.test_conformance_setup import sent_by
from tests.engine.test_data_loss import talk

CODE_AT: Final = ipv6.HEADER_OCTETS + 1
FLAGS_AT: Final = ipv6.HEADER_OCTETS + 6


def says_lost(packet: bytes) -> bool:
    """Whether a packet is a UR that says that data is lost."""
    flags = int.from_bytes(packet[FLAGS_AT : FLAGS_AT + 2], "big")
    is_control = ipv6.Header.decode(packet).flow_label == 0 and len(packet) > FLAGS_AT + 2
    return is_control and packet[CODE_AT] == Code.UR and bool(flags & Flag.DATA_LOST)


def held_back(network: Network) -> list[bytes]:
    """An attacker at the first provider drops data, and keeps what a says of it there."""
    network.drops_data = {(A1, B1), (B1, A1)}
    kept: list[bytes] = []
    put = network.put

    def keep(packet: bytes) -> None:
        header = ipv6.Header.decode(packet)
        if (header.source, header.destination) == (A1, B1) and says_lost(packet):
            kept.append(packet)
        else:
            put(packet)

    network.put = keep  # type: ignore[method-assign] # an attacker on the path
    return kept


@pytest.mark.parametrize("in_slot", [True, False])
@pytest.mark.parametrize("late_ns", [0, SECOND, 20 * SECOND])
def test_what_an_attacker_keeps_back_and_sends_in_any_form_is_no_news(
    late_ns: int, in_slot: bool
) -> None:
    network = established()
    talk(network, SECOND)
    kept = held_back(network)
    while network.b.context.path is Path.STEADY and network.b.context.pair == (B1, A1):
        talk(network, 20 * MILLISECOND)
    talk(network, late_ns)
    assert kept
    for packet in kept:
        octets = packet[ipv6.HEADER_OCTETS :]
        network.give(network.b, ControlMessageReceived(A1, B1, in_slot, octets))
    talk(network, SECOND)
    for station, pair in ((network.a, (A2, B2)), (network.b, (B2, A2))):
        assert station.context.pair == pair
        assert station.context.path is Path.STEADY


@pytest.mark.parametrize("flag", [Flag.DATA_LOST, Flag.ALL_DATA_LOST])
def test_a_peer_that_is_not_proven_makes_nobody_send(flag: Flag) -> None:
    network = unproven()
    a, b = network.a.context, network.b.context
    octets = request(network.a.host.core, a, next_nonce(a), flags=flag)
    receive(network, network.b, octets, A2, B2)
    network.run(5 * SECOND)
    assert not network.b.host.core.drops
    assert b.is_provisional
    assert not sent_by(network.b, Code.UR)
    assert b.path is Path.STEADY
