# SPDX-License-Identifier: MIT
"""ESP and AH are above the shim: an association between AIDs holds by every locator [draft §12].

Both ends of the associations are in user space (scapy): not every kernel has ESP and AH for IPv6.
What an end receives is the whole packet as the stack gets it from the shim, with its IPv6 header,
because AH covers the addresses, the payload length and the next header too (RFC 4302 §3.3.3).
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.ipsec import AH, ESP, IPSecIntegrityError, SecurityAssociation

from noid.lab import namespaces
from noid.lab.lab import Lab
from noid.lab.topology import HOSTS, locators
from tests.lab.captures import M6_ESCAPE, M6_ESP, read_capture
from tests.lab.conversations import (
    PATIENCE_S,
    Pinging,
    carried_by_context,
    establish_context,
    restart_daemons,
)

A_1, A_2 = locators("a")
B_1, B_2 = locators("b")
AIDS = {"a": A_1, "b": B_1}
ETHERTYPE_IPV6 = 0x86DD
TIMEOUT_S = 60.0
WORDS = b"a packet that IPsec protects"
PROTOCOLS = {"ESP": (ESP, 50, M6_ESP, 0), "AH": (AH, 51, M6_ESCAPE, 8)}
"""The layer of scapy, the protocol number, the M6 next header, the octets of the escape header."""


@dataclass(slots=True)
class End:
    """One end of a pair of associations, on one host.

    Attributes:
        lab: the lab.
        host: on which host.
        name: "ESP" or "AH".
        raw: sends; that it exists keeps the stack from refusing the protocol.
        below: receives what comes to the stack.
        association: of the packets that this end sends; the other end verifies by it.
    """

    lab: Lab
    host: str
    name: str
    raw: socket.socket = field(init=False)
    below: socket.socket = field(init=False)
    association: SecurityAssociation = field(init=False)

    def __post_init__(self) -> None:
        layer, protocol, _, _ = PROTOCOLS[self.name]
        namespaces.inside(namespaces.namespace(self.lab.name, self.host), self._open)
        self.raw.bind((AIDS[self.host], 0))
        self.below.settimeout(TIMEOUT_S)
        keys = {"auth_algo": "SHA2-256-128", "auth_key": bytes(range(32))}
        if layer is ESP:
            keys |= {"crypt_algo": "AES-CBC", "crypt_key": bytes(range(16))}
        self.association = SecurityAssociation(layer, spi=0x1000 + protocol, **keys)

    def _open(self) -> None:
        self.raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, PROTOCOLS[self.name][1])
        self.below = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETHERTYPE_IPV6)
        )

    def close(self) -> None:
        self.raw.close()
        self.below.close()

    def send(self, other: "End") -> int:
        """Sends one protected datagram between the AIDs; the octets behind its IPv6 header."""
        plain = IPv6(src=AIDS[self.host], dst=AIDS[other.host]) / UDP(sport=500, dport=500) / WORDS
        octets = bytes(self.association.encrypt(plain).payload)
        assert self.raw.sendto(octets, (AIDS[other.host], 0)) == len(octets)
        return len(octets)

    def receive(self) -> IPv6:
        """The next packet of the protocol that comes to the stack of this host.

        Raises:
            TimeoutError: none comes.
        """
        while True:
            octets, address = self.below.recvfrom(2048)
            packet = IPv6(octets)
            if address[2] != socket.PACKET_OUTGOING and packet.nh == PROTOCOLS[self.name][1]:
                return packet


@pytest.fixture(params=sorted(PROTOCOLS))
def ends(lab: Lab, request: pytest.FixtureRequest) -> Iterator[tuple[End, End]]:
    """The ends of the associations on a and b, over a fresh context."""
    restart_daemons(lab)
    establish_context(lab)
    both = End(lab, "a", request.param), End(lab, "b", request.param)
    yield both
    for end in both:
        end.close()
    lab.heal_provider(1)


def protect(source: End, destination: End) -> int:
    """Sends a datagram and asserts that the other end verifies it; its octets on the way."""
    octets = source.send(destination)
    packet = destination.receive()
    assert (packet.src, packet.dst) == (AIDS[source.host], AIDS[destination.host])
    verified = source.association.decrypt(packet)
    assert UDP(bytes(verified.payload)).load == WORDS
    return octets


def test_an_association_between_the_aids_is_carried_by_the_context(
    lab: Lab, ends: tuple[End, End], tmp_path: Path
) -> None:
    path = tmp_path / "isp1.pcapng"
    with carried_by_context(lab, packets=1), lab.capture("isp1", "custa", path):
        lengths = [protect(*ends), protect(*reversed(ends))]
    _, _, m6, overhead = PROTOCOLS[ends[0].name]
    found = read_capture(path, f"ipv6.nxt == {m6}", "ipv6.plen", "ipv6.flow")
    assert [int(row["ipv6.plen"]) for row in found] == [overhead + octets for octets in lengths]
    assert all(int(row["ipv6.flow"], 16) for row in found)


def test_an_association_is_unaffected_by_a_switch_of_locators(
    lab: Lab, ends: tuple[End, End], tmp_path: Path
) -> None:
    protect(*ends)
    path = tmp_path / "isp2.pcapng"
    with Pinging(lab, "a") as ping:
        ping.goes_on()
        lab.cut_provider(1)
        ping.goes_on()
        lab.wait_for(
            "both use the second provider", lambda: _pairs(lab) == [(A_2, B_2)] * 2, PATIENCE_S
        )
        with lab.capture("isp2", "custa", path):
            protect(*ends)
            protect(*reversed(ends))
    m6 = PROTOCOLS[ends[0].name][2]
    found = read_capture(path, f"ipv6.nxt == {m6}", "ipv6.src", "ipv6.dst")
    assert [(row["ipv6.src"], row["ipv6.dst"]) for row in found] == [(A_2, B_2), (B_2, A_2)]


@pytest.mark.parametrize("ends", ["AH"], indirect=True)
def test_ah_covers_the_aids_and_not_the_locators(ends: tuple[End, End]) -> None:
    source, destination = ends
    source.send(destination)
    packet = destination.receive()
    packet.src, packet.dst = A_2, B_2
    with pytest.raises(IPSecIntegrityError):
        source.association.decrypt(packet)
    packet.src, packet.dst = A_1, B_1
    assert source.association.decrypt(packet)


def _pairs(lab: Lab) -> list[tuple[str, str]]:
    """The locators of a and of b that each host uses, the locator of a first."""
    pairs = [lab.contexts(host)[0] for host in HOSTS]
    used = [(pair["local_locator"], pair["peer_locator"]) for pair in pairs]
    return [used[0], (used[1][1], used[1][0])]
