# SPDX-License-Identifier: MIT
"""Packets of guests leave by the uplinks too, and are no business of noid."""

import pytest

from noid.counters import KERNEL_COUNTERS, PlaneCounter
from noid.locators import Locator, parse_locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.loading import Programs
from noid.wire import ipv6
from tests.planes.loading import own, programs
from tests.planes.test_bpf import ETHERNET_HEADER

__all__ = ["programs"]

HOST, GUEST = parse_locator("2001:db8:1::1"), parse_locator("2001:db8:1::77")
PEER, STRANGER = parse_locator("2001:db8:3::1"), parse_locator("2001:db8:4::1")
SENT_PLAINLY = KERNEL_COUNTERS.index(PlaneCounter.PACKETS_SENT_PLAINLY)


@pytest.fixture(autouse=True)
def _known(programs: Programs) -> None:
    """The programs know an address of this host, and a peer."""
    own(programs, HOST)
    watched = libbpf.Table(programs.maps["watched"], *TABLES["watched"])
    assert watched.put(PEER, layout.WATCHED.pack(0))


def send(programs: Programs, source: Locator, destination: Locator) -> None:
    """Lets a packet leave, which has no flow."""
    header = ipv6.Header(
        source=source, destination=destination, next_header=ipv6.TCP, payload_octets=20
    )
    programs.try_out("host_egress", ETHERNET_HEADER + header.encode() + bytes(20))


def sent_plainly(programs: Programs) -> int:
    table = libbpf.Table(programs.maps["counts"], 4, layout.COUNT.size * libbpf.processors())
    each = table.find(SENT_PLAINLY.to_bytes(4, "little")) or b""
    return sum(value for (value,) in layout.COUNT.iter_unpack(each))


def is_known(programs: Programs, stranger: Locator) -> bool:
    """Whether the daemon was told of a destination that is not known."""
    return libbpf.Table(programs.maps["strangers"], 16, 8).find(stranger) is not None


def test_packets_of_a_guest_to_a_peer_are_not_those_of_this_host(programs: Programs) -> None:
    send(programs, GUEST, PEER)
    assert sent_plainly(programs) == 0
    send(programs, HOST, PEER)
    assert sent_plainly(programs) == 1


def test_the_peers_of_a_guest_are_not_looked_up(programs: Programs) -> None:
    send(programs, GUEST, STRANGER)
    assert not is_known(programs, STRANGER)
    send(programs, HOST, STRANGER)
    assert is_known(programs, STRANGER)
