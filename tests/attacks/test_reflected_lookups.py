# SPDX-License-Identifier: MIT
"""What the stack answers to packets of strangers causes no question to the DNS [D31, D34].

Attacker: off the path; sends echo requests, packets to closed ports and first packets of handshakes
with any source, whose reverse zones it may own: each look-up is up to 13 queries there, or about
names of a third party. Guaranteed: only what a program may have begun makes its peer be looked up.
"""

from collections.abc import Iterator

import pytest

from noid.locators import Locator
from noid.planes.bpf import libbpf
from noid.planes.bpf.loading import Programs
from noid.wire import ipv6
from tests.attacks.test_kernel_shares import ETHERNET, OURS
from tests.planes.loading import own, programs

__all__ = ["programs"]

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10


def segment(flags: int) -> tuple[int, bytes]:
    return ipv6.TCP, bytes((*bytes(12), 0x50, flags, *bytes(6)))


def icmpv6(kind: int) -> tuple[int, bytes]:
    return ipv6.ICMPV6, bytes((kind, *bytes(47)))


ANSWERS = {
    "an echo reply": icmpv6(129),
    "port unreachable": icmpv6(1),
    "a parameter problem": icmpv6(4),
    "a control message": icmpv6(200),
    "a refused connection": segment(RST | ACK),
    "a reset": segment(RST),
    "the second packet of a handshake": segment(SYN | ACK),
    "TCP that ends too soon": (ipv6.TCP, bytes(4)),
    "ICMPv6 without octets": (ipv6.ICMPV6, b""),
}
BEGUN = {
    "a first packet of TCP": segment(SYN),
    "the same with ECN": segment(SYN | 0xC0),
    "data of a connection": segment(PSH | ACK),
    "a datagram": (ipv6.UDP, bytes(20)),
    "an echo request": icmpv6(128),
    "SCTP": (ipv6.SCTP, bytes(20)),
}


class Sending:
    """The programs on the way out, and the strangers that they report."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.reported: list[bytes] = []
        self.ring = libbpf.Reports(programs.maps["set_ups"], self.reported.append)
        self.count = 0

    def reports(self, next_header: int, payload: bytes) -> bool:
        """Whether the daemon hears of the peer of a packet, which no packet had before."""
        self.count += 1
        self.reported.clear()
        header = ipv6.Header(
            source=OURS,
            destination=Locator(b"\x2a\x00" + self.count.to_bytes(14, "big")),
            next_header=next_header,
            payload_octets=len(payload),
        )
        self.programs.try_out("host_egress", ETHERNET + header.encode() + payload)
        self.ring.consume()
        return bool(self.reported)


@pytest.fixture
def sending(programs: Programs) -> Iterator[Sending]:
    own(programs, OURS)
    found = Sending(programs)
    yield found
    found.ring.close()


def test_an_answer_of_the_stack_makes_no_stranger_known(sending: Sending) -> None:
    assert [name for name, packet in ANSWERS.items() if sending.reports(*packet)] == []


def test_what_a_program_may_have_begun_does(sending: Sending) -> None:
    assert [name for name, packet in BEGUN.items() if not sending.reports(*packet)] == []
