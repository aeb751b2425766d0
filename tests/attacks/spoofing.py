# SPDX-License-Identifier: MIT
"""Packets with any source, as an attacker makes them."""

import socket

from noid.locators import Locator
from noid.wire import ipv6


def spoofed_datagram(
    source: Locator, destination: Locator, ports: tuple[int, int], payload: bytes
) -> bytes:
    """A whole UDP packet; the ports are those of its source and its destination."""
    octets = 8 + len(payload)
    datagram = b"".join(one.to_bytes(2) for one in (*ports, octets, 0)) + payload
    sum_ = ipv6.checksum(source, destination, socket.IPPROTO_UDP, datagram)
    header = ipv6.Header(
        source=source,
        destination=destination,
        next_header=socket.IPPROTO_UDP,
        payload_octets=octets,
    )
    return header.encode() + datagram[:6] + sum_.to_bytes(2) + datagram[8:]
