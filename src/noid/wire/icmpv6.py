# SPDX-License-Identifier: MIT
"""The ICMPv6 errors (RFC 4443 §3) that noid reads and, towards its own host, writes.

An error carries the start of the packet that caused it. About an M6 packet, that quote holds
locators and an M6 next header [D26].
"""

from dataclasses import dataclass

from noid.constants import CONTROL_OCTETS_MAX
from noid.counters import Drop
from noid.errors import WireError
from noid.locators import Locator
from noid.wire import ipv6

DESTINATION_UNREACHABLE = 1
PACKET_TOO_BIG = 2
TIME_EXCEEDED = 3
PARAMETER_PROBLEM = 4
NO_ROUTE = 0
"""The code of a destination unreachable that TCP takes as a hint (RFC 6069)."""
UNRECOGNIZED_NEXT_HEADER = 1
"""The code of a parameter problem from a host that does not know a next header."""
PATH_ERRORS = frozenset({(DESTINATION_UNREACHABLE, code) for code in (NO_ROUTE, 3, 5)})
"""No route to destination, address unreachable, and source address failed ingress or egress policy,
which a border says while the uplink of the source does not work (RFC 4443 §3.1)."""
ERROR_TYPES = frozenset({DESTINATION_UNREACHABLE, PACKET_TOO_BIG, TIME_EXCEEDED, PARAMETER_PROBLEM})
NEIGHBOUR_DISCOVERY = frozenset(range(133, 138))
"""The messages of RFC 4861, which are about one link and never leave it."""
HEAD_OCTETS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorMessage:
    """An ICMPv6 error.

    ::

        |     Type (8)  |    Code (8)   |         Checksum (16)         |
        |    Value (32): the MTU of a Packet Too Big, a pointer, or 0   |
        |           As much of the offending packet as fits             |
    """

    type: int
    code: int
    value: int = 0
    quote: bytes

    def encode_packet(self, source: Locator, destination: Locator) -> bytes:
        """The IPv6 packet, cut so that it is no longer than the minimum MTU (RFC 4443 §2.4)."""
        room = CONTROL_OCTETS_MAX - ipv6.HEADER_OCTETS - HEAD_OCTETS
        octets = bytearray(
            bytes((self.type, self.code, 0, 0)) + self.value.to_bytes(4, "big") + self.quote[:room]
        )
        total = ipv6.checksum(source, destination, ipv6.ICMPV6, bytes(octets))
        octets[2:4] = total.to_bytes(2, "big")
        header = ipv6.Header(
            source=source,
            destination=destination,
            next_header=ipv6.ICMPV6,
            payload_octets=len(octets),
        )
        return header.encode() + octets


def decode_error(octets: bytes, source: Locator, destination: Locator) -> ErrorMessage:
    """The error that ``octets`` hold, from the ICMPv6 type on.

    Raises:
        WireError: too short, a wrong checksum, or not an error message.
    """
    if len(octets) < HEAD_OCTETS:
        raise WireError(len(octets), Drop.TRUNCATED, "truncated ICMPv6 error")
    if ipv6.checksum(source, destination, ipv6.ICMPV6, octets) != 0:
        raise WireError(2, Drop.WRONG_CHECKSUM)
    if octets[0] not in ERROR_TYPES:
        raise WireError(0, Drop.NOT_AN_ICMPV6_ERROR)
    return ErrorMessage(
        type=octets[0],
        code=octets[1],
        value=int.from_bytes(octets[4:8], "big"),
        quote=octets[HEAD_OCTETS:],
    )


def is_too_big(packet: bytes) -> bool:
    """Whether a complete packet is an error that says that another was too big."""
    start = packet[: ipv6.HEADER_OCTETS + 1]
    return start[ipv6.NEXT_HEADER_AT] == ipv6.ICMPV6 and start[-1] == PACKET_TOO_BIG


def path_in(error: bytes) -> tuple[Locator, int]:
    """The destination of the packet that a complete error of that kind quotes, and the MTU."""
    head = ipv6.HEADER_OCTETS
    quoted = error[head + HEAD_OCTETS + 24 : head + HEAD_OCTETS + ipv6.HEADER_OCTETS]
    return Locator(quoted), int.from_bytes(error[head + 4 : head + HEAD_OCTETS], "big")
