# SPDX-License-Identifier: MIT
"""Router advertisements [RFC 4861 §4.2], as a router of the lab sends them: once, on request.

A lifetime of hours is enough: no lab lives longer, and so no daemon has to repeat them.
"""

import contextlib
import socket
import struct
import time
from ipaddress import IPv6Network
from typing import Final

ROUTER_ADVERTISEMENT: Final = 134
HOP_LIMIT: Final = 255
"""Hosts drop advertisements with any other [RFC 4861 §6.1.2]."""
LIFETIME_S: Final = 0xFFFF
INFINITE_S: Final = 0xFFFFFFFF
PREFIX_INFORMATION: Final = 3
PREFIX_UNITS: Final = 4
"""The length of that option in units of 8 octets."""
ON_LINK_AND_AUTONOMOUS: Final = 0xC0
ALL_NODES: Final = "ff02::1"


def advertisement(prefix: str, *, lifetime_s: int) -> bytes:
    """The ICMPv6 message, without its checksum, which the kernel fills in.

    Args:
        prefix: which hosts make their addresses of; it is valid without end.
        lifetime_s: how long the router is a default router, 0: no longer [RFC 4861 §6.2.5].
    """
    network = IPv6Network(prefix)
    header = struct.pack("!BBHBBHII", ROUTER_ADVERTISEMENT, 0, 0, 64, 0, lifetime_s, 0, 0)
    option = struct.pack(
        "!BBBBIII",
        PREFIX_INFORMATION,
        PREFIX_UNITS,
        network.prefixlen,
        ON_LINK_AND_AUTONOMOUS,
        INFINITE_S,
        INFINITE_S,
        0,
    )
    return header + option + network.network_address.packed


def send(interface: str, message: bytes) -> int:
    """Sends a message to all nodes of a link of the namespace the calling thread is in.

    Returns:
        The monotonic time in ns just before.

    Raises:
        OSError: the kernel refuses.
    """
    with contextlib.closing(
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    ) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        index = socket.if_nametoindex(interface)
        began_ns = time.monotonic_ns()
        sender.sendto(message, (ALL_NODES, 0, 0, index))
    return began_ns
