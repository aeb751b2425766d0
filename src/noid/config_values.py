# SPDX-License-Identifier: MIT
"""Values of the configuration that a type cannot say: addresses, ports and paths."""

from ipaddress import IPv6Address, ip_address
from typing import Final

SOCKET_OCTETS_MAX: Final = 107
"""Octets of the path of a socket; the kernel takes 108, with a NUL at the end."""
PORTS: Final = range(1, 65_536)


def is_address(text: str) -> bool:
    """Whether a program can listen at it or ask it: over IPv4 or IPv6, and no group.

    Only a link-local address has a zone, such as in ``fe80::1%eth0``.
    """
    try:
        address = ip_address(text)
    except ValueError:
        return False
    has_zone = isinstance(address, IPv6Address) and address.scope_id is not None
    return not address.is_multicast and (address.is_link_local or not has_zone)


def is_address_and_port(text: str) -> bool:
    """Whether a text is an address and a port, such as ``[::1]:9469``."""
    host, _, port = text.rpartition(":")
    return is_address(host.strip("[]")) and port.isdecimal() and int(port) in PORTS


def wrong_with_path(text: str, *, octets_max: int | None = None) -> str:
    """Why a path cannot be one; empty if it can."""
    if not text:
        return "is empty"
    if "\0" in text:
        return "has a NUL character"
    if octets_max is not None and len(text.encode()) > octets_max:
        return f"has more than {octets_max} octets"
    return ""
