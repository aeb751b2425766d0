# SPDX-License-Identifier: MIT
"""What reaches a host: the tests of attacks show that their packets do."""

import socket

from noid.lab.lab import Lab
from noid.lab.passing import Listener
from noid.wire import icmpv6, ipv6

EVERY_PROTOCOL = 3
"""ETH_P_ALL."""
FORCED_RECEIVE_BUFFER = 33
"""SO_RCVBUFFORCE, which Python does not name."""
BUFFER_OCTETS = 32 << 20
PERIOD_S = 0.2
HOP_LIMIT_AT = 7


def as_sent(packet: bytes) -> bytes:
    """A packet with zero for its hop limit, which routers change."""
    return packet[:HOP_LIMIT_AT] + bytes(1) + packet[HOP_LIMIT_AT + 1 :]


def icmpv6_type(packet: bytes) -> int | None:
    """The ICMPv6 type of a plain packet; None if it is another one."""
    is_icmpv6 = len(packet) > ipv6.HEADER_OCTETS and packet[ipv6.NEXT_HEADER_AT] == ipv6.ICMPV6
    return packet[ipv6.HEADER_OCTETS] if is_icmpv6 else None


def is_error_of(packet: bytes, source: bytes, kind: int) -> bool:
    """Whether a packet is an ICMPv6 error of a type from a source."""
    return packet[8:24] == source and kind in icmpv6.ERROR_TYPES and icmpv6_type(packet) == kind


class Tap(Listener):
    """The packets of a node, as its interfaces receive them, before any filter, and send them.

    Args:
        lab: the lab.
        node: its name.

    Attributes:
        received: each packet once, with zero for its hop limit.
        sent: all that leave.
    """

    def __init__(self, lab: Lab, node: str) -> None:
        super().__init__(lab, node, _listening)
        self.received: set[bytes] = set()
        self.sent: list[bytes] = []

    def hear(self, one: socket.socket) -> None:
        """Keeps the packet."""
        packet, address = one.recvfrom(1 << 16)
        if address[2] == socket.PACKET_OUTGOING:
            self.sent.append(packet)
        else:
            self.received.add(as_sent(packet))


def _listening() -> socket.socket:
    one = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PROTOCOL))
    one.setsockopt(socket.SOL_SOCKET, FORCED_RECEIVE_BUFFER, BUFFER_OCTETS)
    one.settimeout(PERIOD_S)
    return one
