# SPDX-License-Identifier: MIT
"""Locators and the sets they stand in.

A locator, and so an AID, which "is always one member of A's locator set" [draft §2.1], is its 16
octets in network order. Octets compare, hash and copy faster than any address object, and they are
what packets carry; text appears only where people read.
"""

import functools
import ipaddress
import struct
from collections.abc import Collection, Iterable
from itertools import chain, islice, zip_longest
from typing import Final, NewType

from noid.constants import LOCATORS_MAX
from noid.errors import UsageError

Locator = NewType("Locator", bytes)
"""16 octets, network order [draft §2: locator, AID]."""

LOCATOR_OCTETS = 16
SUBNET_OCTETS: Final = 8
"""Of the prefix of a link (RFC 7421), by which providers on one interface are told apart."""

FORMATTED_MAX = 4096
"""The texts of so many locators are remembered, which are asked for again and again."""

WORDS: Final = struct.Struct(">8H")
HEXTETS: Final = ":%x:%x:%x:%x:%x:%x:%x:%x:"
ZEROS: Final = tuple(":" + "0:" * count for count in range(8, 1, -1))
"""Runs of zeros that ``::`` stands for, the longest first (RFC 5952 §4.2)."""

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
    """The locator as RFC 5952 writes it; faster than ``ipaddress``, because there may be many."""
    text = HEXTETS % WORDS.unpack(locator)
    for zeros in ZEROS:
        before, found, after = text.partition(zeros)
        if found:
            return f"{before[1:]}::{after[:-1]}"
    return text[1:-1]


def with_aid(said: tuple[Locator, ...], aid: Locator) -> tuple[Locator, ...]:
    """The set that a host says, with its AID; in the place of the last if there is no room [D5].

    "The sender should ensure that the AID is always included" [draft §4.1 step 6].
    """
    return said if aid in said else (*said[: LOCATORS_MAX - 1], aid)


def chosen(interfaces: dict[Locator, str], known: Collection[Locator]) -> tuple[Locator, ...]:
    """As many of a host's addresses as there may be locators: the oldest of each uplink, alike.

    An uplink with very many addresses must not leave out the other uplinks, nor its first address.

    Args:
        interfaces: the interface of each address; of one interface the kernel lists the newest
            first.
        known: those that are locators already, which stay.
    """
    by_uplink: dict[tuple[str, bytes], list[Locator]] = {}
    for one in sorted(reversed(interfaces), key=lambda one: one not in known):
        by_uplink.setdefault((interfaces[one], one[:SUBNET_OCTETS]), []).append(one)
    in_turn = chain.from_iterable(zip_longest(*by_uplink.values()))
    some = frozenset(islice((one for one in in_turn if one is not None), LOCATORS_MAX))
    return tuple(one for one in interfaces if one in some)


def in_turn(locators: Iterable[Locator]) -> tuple[Locator, ...]:
    """The same locators, the first of each link before the second of any."""
    by_link: dict[bytes, list[Locator]] = {}
    for one in locators:
        by_link.setdefault(one[:SUBNET_OCTETS], []).append(one)
    mixed = chain.from_iterable(zip_longest(*by_link.values()))
    return tuple(one for one in mixed if one is not None)


def is_global_unicast(locator: Locator) -> bool:
    """Whether an address may be a locator at all: unicast, and routable beyond its link [D23].

    Unique local addresses (fc00::/7) count: a site may be multihomed within a private network.
    """
    if locator[0] == 0xFF:  # multicast
        return False
    if locator[0] == 0xFE and locator[1] & 0xC0 == 0x80:  # link-local
        return False
    return not locator.startswith((IPV4_COMPATIBLE, IPV4_MAPPED))


def is_same_address(one: str, other: str) -> bool:
    """Whether two texts are one IPv4 or IPv6 address; other texts are compared as they are."""
    try:
        return ipaddress.ip_address(one) == ipaddress.ip_address(other)
    except ValueError:
        return one == other


def is_unique_local(locator: Locator) -> bool:
    """Whether an address is of a private network (fc00::/7, RFC 4193)."""
    return locator[0] & 0xFE == 0xFC
