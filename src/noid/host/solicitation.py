# SPDX-License-Identifier: MIT
"""Neighbour solicitations to all hosts of a link that may have an address [RFC 4861 §4.3, §7.2.2].

The kernel sends one only when it has forgotten the link-layer address of a neighbour. Its own
processing of the answer takes a new one at once, as the answer overrides [RFC 4861 §7.2.5].
"""

import socket
import struct
from typing import Final

from noid.errors import PlatformError
from noid.locators import LOCATOR_OCTETS, Locator, format_locator

SOLICITATION: Final = 135
SOURCE_LINK_ADDRESS: Final = 1
HEADER: Final = struct.Struct(f"!BBHI{LOCATOR_OCTETS}s")
UNIT_OCTETS: Final = 8
"""In which the length of an option is given."""
HOP_LIMIT: Final = 255
"""Neighbours drop solicitations with any other [RFC 4861 §7.1.1]."""
SOLICITED_NODE: Final = bytes.fromhex("ff0200000000000000000001ff")
"""The first octets of the multicast address of those that may have an address [RFC 4291 §2.7.1]."""


def solicitation(target: Locator, link: bytes) -> bytes:
    """The ICMPv6 message, without its checksum, which the kernel sets.

    Args:
        target: the address that is asked for.
        link: our own link-layer address.
    """
    option = struct.pack("!BB", SOURCE_LINK_ADDRESS, (2 + len(link)) // UNIT_OCTETS) + link
    return HEADER.pack(SOLICITATION, 0, 0, 0, target) + option


def solicit(target: Locator, device: int, link: bytes) -> None:
    """Asks for the link-layer address of a neighbour; the kernel takes the answer.

    Args:
        target: the neighbour.
        device: index of the device.
        link: the link-layer address of that device.

    Raises:
        PlatformError: the kernel refuses.
    """
    group = SOLICITED_NODE + target[len(SOLICITED_NODE) :]
    to = socket.inet_ntop(socket.AF_INET6, group)
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
            sender.sendto(solicitation(target, link), (to, 0, 0, device))
    except OSError as error:
        operation = f"solicitation of {format_locator(target)}"
        raise PlatformError(operation, error.errno or 0, "is the uplink there?") from None
