# SPDX-License-Identifier: MIT
"""Spoofed INITs while two hosts set a context up at the same time [D13, D40].

Attacker: off the path; knows both AIDs, and sends each host INITs in the name of the other, each
with another public key, before and while their own INITs cross. Guaranteed: the context comes about
within the time of a few retransmissions, and it is the hosts' own.
"""

import itertools
from collections.abc import Iterator

import pytest

from noid.constants import MILLISECOND, SECOND
from noid.engine.secrets import KEY_OCTETS, KeyPair
from noid.engine.state import State
from noid.flows.events import ControlMessageReceived
from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator
from noid.wire.control import Code, ControlMessage, encode_packet
from noid.wire.ipv6 import HEADER_OCTETS
from noid.wire.options import ContextOption, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import A1, B1, CODEPOINTS, Network, Station, packet

PERIOD_NS = 7 * MILLISECOND
"""Below the rate at which CCs go to one site."""
FLOOD_NS = 10 * SECOND
KEYS = [KeyPair(number.to_bytes(KEY_OCTETS, "big")).public for number in range(1, 65)]


def spoofed_inits(source: Locator, destination: Locator) -> Iterator[bytes]:
    """INITs in the name of a host, no two after one another with the same key."""
    for number, key in enumerate(itertools.cycle(KEYS)):
        init = ControlMessage(
            code=Code.INIT,
            nonce=Nonce(number + 1),
            sender_aid=source,
            receiver_aid=destination,
            context=ContextOption(sender_label=Label(number % 0xFFFF + 1)),
            tokens=Tokens(sender=Token(number + 1)),
            key=key,
            sender_locators=(LocatorEntry(source, LocatorFlag.LOCAL),),
            receiver_locators=(LocatorEntry(destination, LocatorFlag.REMOTE),),
        )
        yield encode_packet(init, source, destination, CODEPOINTS)


def is_established(station: Station) -> bool:
    return [one.state for one in station.host.contexts] == [State.ESTABLISHED]


@pytest.mark.parametrize("victims", ["a", "b", "ab"])
def test_spoofed_inits_keep_no_set_up_from_its_end(victims: str) -> None:
    network = Network()
    floods = [spoofed_inits(B1, A1)] * ("a" in victims) + [spoofed_inits(A1, B1)] * ("b" in victims)
    network.resolve(network.a, network.b)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.a, packet(A1, B1))
    network.ulp_sends(network.b, packet(B1, A1))
    for flood, _ in itertools.product(floods, range(8)):
        network.wire.appendleft((network.now_ns, next(flood)))
    for _ in range(FLOOD_NS // PERIOD_NS):
        network.run(PERIOD_NS)
        if all(map(is_established, network.stations)):
            break
        for flood in floods:
            network.put(next(flood))
    assert all(map(is_established, network.stations))
    a, b = network.a.context, network.b.context
    assert (a.local_label, a.peer_label) == (b.peer_label, b.local_label)
    assert a.agreed_key == b.agreed_key != b""


@pytest.mark.parametrize("period_ms", [50, 100, 200])
def test_spoofed_inits_do_not_keep_ours_on_a_pair_that_is_dead(period_ms: int) -> None:
    network = Network()
    network.dead |= {(A1, B1), (B1, A1)}
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    flood = spoofed_inits(B1, A1)
    for _ in range(5 * SECOND // (period_ms * MILLISECOND)):
        octets = next(flood)[HEADER_OCTETS:]
        network.give(network.a, ControlMessageReceived(B1, A1, False, octets))
        network.run(period_ms * MILLISECOND)
    assert all(map(is_established, network.stations))
