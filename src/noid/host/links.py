# SPDX-License-Identifier: MIT
"""Which links and addresses are used, from their attributes in the kernel. Pure."""

import fnmatch
from typing import Any, Final

from noid.locators import Locator, is_global_unicast, parse_locator

EVERYTHING = "*"
TUNNELS = frozenset({"wireguard", "tun", "ip6tnl", "sit", "ipip", "gre", "ip6gre", "vti6", "xfrm"})
"""Kinds of devices whose packets travel inside those of other devices."""
IFF_UP = 0x1
LINK_CARRIES = IFF_UP | 0x10000
"""With IFF_LOWER_UP: the link is wanted, and there is something at its other end."""
FAR_AWAY: Final = parse_locator("2000::")
"""An address that no host has, to which the default route leads."""
PASSING_ADDRESS: Final = parse_locator("fe80::6d36")
"""It comes and goes on a device of ours (``HostNetwork.forget_cached_routes``)."""
SCOPE_GLOBAL = 0
FLAG_TEMPORARY = 0x01
FLAG_NO_DAD = 0x02
FLAG_DAD_FAILED = 0x08
FLAG_DEPRECATED = 0x20
FLAG_TENTATIVE = 0x40
FLAG_NO_PREFIX_ROUTE = 0x200
UNUSABLE = FLAG_TEMPORARY | FLAG_DAD_FAILED | FLAG_TENTATIVE


def is_meant(link: Any, pattern: str) -> bool:
    """Whether a glob names a device; the glob for all names no tunnels, which lead elsewhere."""
    is_tunnel = pattern == EVERYTHING and link.get(("linkinfo", "kind")) in TUNNELS
    return fnmatch.fnmatchcase(str(link.get("ifname")), pattern) and not is_tunnel


def is_vlan(link: Any) -> bool:
    """Whether a device carries what has a VLAN tag on another device."""
    return bool(link.get(("linkinfo", "kind")) == "vlan")


def may_be_locator(locator: Locator, address: Any) -> bool:
    """Whether an address is global unicast, permanent or public, and known to be unique."""
    flags = address.get("flags") or 0
    return address["scope"] == SCOPE_GLOBAL and not flags & UNUSABLE and is_global_unicast(locator)
