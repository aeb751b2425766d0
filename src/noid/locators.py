# SPDX-License-Identifier: MIT
"""Locators and the sets they stand in.

A locator, and so an AID, which "is always one member of A's locator set" [draft §2.1], is its 16
octets in network order. Octets compare, hash and copy faster than any address object, and they are
what packets carry; text appears only where people read.
"""

import functools
import ipaddress
from typing import NewType

from noid.errors import UsageError

Locator = NewType("Locator", bytes)
"""16 octets, network order [draft §2: locator, AID]."""

LOCATOR_OCTETS = 16

FORMATTED_MAX = 4096
"""The texts of so many locators are remembered, which are asked for again and again."""

IPV4_COMPATIBLE = bytes(12)
"""``::/96``: ``::``, ``::1`` and addresses that are not used any more (RFC 4291 §2.5.5.1)."""
IPV4_MAPPED = bytes(10) + b"\xff\xff"

UNSPECIFIED = Locator(bytes(LOCATOR_OCTETS))
"""``::``, in the place of the AIDs of an Unknown Context message [D5]."""


def parse_locator(text: str) -> Locator:
    """The locator that ``text`` writes, without a zone.

    Raises:
        UsageError: the text is not an IPv6 address.
    """
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise UsageError(f"{text!r} is not an IPv6 address") from None
    if address.scope_id is not None:
        raise UsageError(f"{text!r} has a zone; a locator is a global address without one")
    return Locator(address.packed)


@functools.lru_cache(maxsize=FORMATTED_MAX)
def format_locator(locator: Locator) -> str:
    """The locator as RFC 5952 writes it."""
    return str(ipaddress.IPv6Address(locator))


def is_global_unicast(locator: Locator) -> bool:
    """Whether an address may be a locator at all: unicast, and routable beyond its link [D23].

    Unique local addresses (fc00::/7) count: a site may be multihomed within a private network.
    """
    if locator[0] == 0xFF:  # multicast
        return False
    if locator[0] == 0xFE and locator[1] & 0xC0 == 0x80:  # link-local
        return False
    return not locator.startswith((IPV4_COMPATIBLE, IPV4_MAPPED))
