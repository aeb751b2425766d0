# SPDX-License-Identifier: MIT
"""Packets about a site and its border, generated from a seed, and the sites they are about."""

import random
from ipaddress import IPv6Network

from noid.constants import BORDER_PREFIX_BITS_MAX, BORDER_PREFIX_BITS_MIN, Codepoints
from noid.flows.border import NOWHERE, Choice, Site, SitePrefix
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.slots import m6_next_headers

CODEPOINTS = Codepoints()
M6 = m6_next_headers(CODEPOINTS)
REWRITABLE, FIXED = M6[:8], M6[8:]
PLAIN = (6, 17, 58, 43, 44, 60, 0, 59, 132, 240, 223)
INSIDE = (IPv6Network("fc00::/7"), IPv6Network("2001:db8:aaaa::/49"))
UPLINKS = (1, 1, 0, 77)
"""Indexes of devices: one that is there, none, one that is not."""
ODD = [
    bytes.fromhex(text)
    for text in (
        "fe800000000000000000000000000001",
        "febf0000000000000000000000000001",
        "fec00000000000000000000000000001",
        "ff020000000000000000000000000001",
        "fd000000000000000000000000000001",
        "00000000000000000000000000000000",
        "20010db8aaaa00000000000000000001",
        "20010db8aaaa80000000000000000001",
        "20010db8ffff00000000000000000001",
    )
]


def site(chance: random.Random) -> Site:
    """A site with some prefixes of some length, which differ in any bit."""
    bits = chance.randint(BORDER_PREFIX_BITS_MIN, BORDER_PREFIX_BITS_MAX)
    highs: set[int] = set()
    first = 0x20010DB8 << 32 | chance.getrandbits(32)
    wanted = chance.choice((1, 2, 3, 64))
    while len(highs) < wanted:
        other = chance.choice(
            (chance.getrandbits(64), first ^ 1 << chance.randrange(64 - bits, 64))
        )
        highs.add(other >> 64 - bits << 64 - bits)
    return Site(
        bits,
        tuple(
            SitePrefix(
                high.to_bytes(8, "big"),
                chance.choice(UPLINKS),
                "",
                gone_s=int(row > 0 and chance.random() < 0.2),
            )
            for row, high in enumerate(highs)
        ),
        INSIDE[: chance.randrange(3)],
    )


def choice(chance: random.Random, site: Site) -> Choice:
    """Any uplinks in use: no more than that a row leads to an uplink that is there."""
    usable = [row for row, one in enumerate(site.prefixes) if one.uplink and not one.gone_s]
    rows = tuple(
        chance.choice((NOWHERE, *usable, *[row] * (not prefix.gone_s)))
        for row, prefix in enumerate(site.prefixes)
    )
    works = 0 if chance.random() < 0.2 else chance.getrandbits(len(site.prefixes))
    former = sum(1 << row for row, prefix in enumerate(site.prefixes) if prefix.gone_s)
    return Choice(rows, works & ~former)


def packet(chance: random.Random, site: Site) -> bytes:
    """A packet, sound or not."""
    next_header, body = _body(chance)
    found = (
        (6 << 28 | chance.getrandbits(28)).to_bytes(4, "big")
        + len(body).to_bytes(2, "big")
        + bytes((next_header, chance.choice((0, 1, 64, 255))))
        + address(chance, site, spoiled=0.2)
        + address(chance, site, spoiled=0.9)
        + body
    )
    if chance.random() < 0.05:
        found = found[: chance.randrange(1, len(found) + 1)]
    if chance.random() < 0.02:
        found = bytes((chance.randrange(256),)) + found[1:]
    return found


def address(chance: random.Random, site: Site, *, spoiled: float) -> Locator:
    """One of the site, one that differs from those in some bit, or any other.

    Args:
        chance: the dice.
        site: the prefixes.
        spoiled: how likely it is one of the latter two.
    """
    is_spoiled = chance.random() < spoiled
    kind = chance.randrange(4)
    if is_spoiled and kind == 0:
        return Locator(chance.choice(ODD))
    if is_spoiled and kind == 1:
        return Locator(chance.randbytes(16))
    high = int.from_bytes(chance.choice(site.prefixes).high, "big")
    high |= chance.getrandbits(64) & (1 << 64 - site.bits) - 1
    if is_spoiled:
        high ^= 1 << chance.randrange(64)
    return Locator(high.to_bytes(8, "big") + chance.randbytes(8))


def _body(chance: random.Random) -> tuple[int, bytes]:
    payload = chance.randbytes(chance.choice((0, 1, 8, 20, 60)))
    inner = chance.choice((*REWRITABLE, *FIXED, *PLAIN))
    if chance.random() < 0.2:
        return ipv6.HOP_BY_HOP, bytes((inner, chance.choice((0, 0, 1)))) + bytes(6) + payload
    return inner, payload
