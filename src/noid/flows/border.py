# SPDX-License-Identifier: MIT
"""The reference for packets at the border of a site; its programs in the kernel do the same. Pure.

A border is a router with an uplink to each provider of its site. The hosts have one address for
each prefix, with the same interface identifier, so that another prefix in the source of a packet
is a locator of the same host. Only packets that say "rewrite ok" get one [draft §6]: "Ingress
filtering should be replaced by locator rewriting when the 'rewrite ok' bit is set" [draft §11].

There is no state per host or flow.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from ipaddress import IPv6Network
from typing import Final, NamedTuple

from noid.constants import (
    BORDER_INSIDE_MAX,
    BORDER_PREFIX_BITS_MAX,
    BORDER_PREFIX_BITS_MIN,
    BORDER_PREFIXES_MAX,
)
from noid.locators import LOCATOR_OCTETS, Locator, format_locator
from noid.wire import ipv6
from noid.wire.chain import place_of

SOURCE_AT: Final = ipv6.ADDRESSES_AT
DESTINATION_AT: Final = SOURCE_AT + LOCATOR_OCTETS
HIGH_OCTETS: Final = 8
"""Of an address: as many as any prefix of a site has."""
NOWHERE: Final = 0xFF
"""In the place of a row: no uplink works."""


class SitePrefix(NamedTuple):
    """A prefix that a provider has delegated to the site.

    Attributes:
        high: its first 8 octets, network order.
        uplink: index of the device to the provider; 0 if another router has it.
        provider: the provider's name.
        is_new: whether peers may not know it yet: it is not put into packets.
        since_s: when it came to the site, in seconds since boot; 0: not known.
        gone_s: when the provider replaced it, in seconds since boot; 0: it is of the site. Hosts
            may still use it: it is a prefix that no uplink carries, and is put into no packet.
    """

    high: bytes
    uplink: int
    provider: str
    is_new: bool = False
    since_s: int = 0
    gone_s: int = 0


@dataclass(frozen=True, slots=True)
class Site:
    """The prefixes of a site.

    Attributes:
        bits: the length of every prefix.
        prefixes: each at its row; former ones last.
        inside: other prefixes that need no uplink, such as fc00::/7.
    """

    bits: int
    prefixes: tuple[SitePrefix, ...]
    inside: tuple[IPv6Network, ...] = ()
    rows: dict[bytes, int] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        assert BORDER_PREFIX_BITS_MIN <= self.bits <= BORDER_PREFIX_BITS_MAX
        assert len(self.prefixes) <= BORDER_PREFIXES_MAX
        assert len(self.inside) <= BORDER_INSIDE_MAX
        rows = {prefix.high: row for row, prefix in enumerate(self.prefixes)}
        assert len(rows) == len(self.prefixes), "no prefix is there twice"
        assert all(self.under_mask(high) == high for high in rows)
        object.__setattr__(self, "rows", rows)

    @property
    def mask(self) -> bytes:
        """The prefix mask for the first 8 octets of an address."""
        return ((1 << self.bits) - 1 << 64 - self.bits).to_bytes(HIGH_OCTETS, "big")

    def under_mask(self, address: bytes) -> bytes:
        """The first 8 octets of an address without the bits of subnet and host."""
        high = int.from_bytes(address[:HIGH_OCTETS], "big")
        return (high >> 64 - self.bits << 64 - self.bits).to_bytes(HIGH_OCTETS, "big")

    @property
    def own(self) -> tuple[SitePrefix, ...]:
        """The prefixes without former ones."""
        return tuple(one for one in self.prefixes if not one.gone_s)

    def without_former(self, choice: "Choice") -> "Choice":
        """A choice without the rows of former prefixes: it is the same when their time ends."""
        return choice._replace(rows=choice.rows[: len(self.own)])

    def row_of(self, address: bytes) -> int | None:
        """The row of the prefix that an address is in; None: it is not of the site."""
        row = self.row_of_source(address)
        return None if row is None or self.prefixes[row].gone_s else row

    def row_of_source(self, address: bytes) -> int | None:
        """The row of the prefix, or former prefix, that an address is in; None: not of the site."""
        return self.rows.get(self.under_mask(address))

    def has_inside(self, destination: bytes) -> bool:
        """Whether packets to a destination need no uplink."""
        if destination[0] == 0xFF or (destination[0] == 0xFE and destination[1] & 0xC0 == 0x80):
            return True
        if self.row_of(destination) is not None:
            return True
        number = int.from_bytes(destination, "big")
        return any(number & int(one.netmask) == int(one.network_address) for one in self.inside)


def prefix_text(site: Site, prefix: SitePrefix) -> str:
    """A prefix of a site, as people write it."""
    return f"{format_locator(Locator(prefix.high + bytes(HIGH_OCTETS)))}/{site.bits}"


class Choice(NamedTuple):
    """The uplink in use for each prefix: the only state that changes when an uplink fails.

    Attributes:
        rows: for each row of the site, the row of the prefix that rewritable packets get;
            NOWHERE if no uplink works.
        works: bit n is set if the uplink of row n works.
    """

    rows: tuple[int, ...]
    works: int


class Outcome(Enum):
    """The result for a packet.

    Attributes:
        PASSED: it is forwarded unchanged.
        REWRITTEN: it is forwarded with the prefix of another provider in its source.
        REFUSED: its sender gets destination unreachable, code 5 (RFC 4443 §3.1).
        DROPPED: its source is not permitted.
    """

    PASSED = "passed"
    REWRITTEN = "rewritten"
    REFUSED = "refused"
    DROPPED = "dropped"


class Judgement(NamedTuple):
    """The outcome, and the packet afterwards."""

    outcome: Outcome
    packet: bytes


def leaving(site: Site, choice: Choice, rewritable: Collection[int], packet: bytes) -> Judgement:
    """The result for a packet from a LAN, before it is routed.

    The routes of the border send it through the uplink of its source.

    Args:
        site: the prefixes.
        choice: the uplinks in use; see ``choose`` for packets that another border has handed over.
        rewritable: the next headers P1 to P1+7.
        packet: from the IPv6 header on, of any length.
    """
    if not _is_ipv6(packet):
        return Judgement(Outcome.PASSED, packet)
    row, destination = site.row_of_source(packet[SOURCE_AT:]), packet[DESTINATION_AT:]
    if row is None or site.has_inside(destination[:LOCATOR_OCTETS]):
        return Judgement(Outcome.PASSED, packet)
    if site.prefixes[row].gone_s and site.row_of_source(destination) is not None:
        return Judgement(Outcome.PASSED, packet)  # such as an answer to our neighbour discovery
    if place_of(packet, rewritable) is None:
        works = choice.works >> row & 1
        return Judgement(Outcome.PASSED if works else Outcome.REFUSED, packet)
    to = choice.rows[row]
    if to == row:
        return Judgement(Outcome.PASSED, packet)
    if to == NOWHERE:
        return Judgement(Outcome.REFUSED, packet)
    return Judgement(Outcome.REWRITTEN, _rewritten(site, packet, site.prefixes[to].high))


def departing(site: Site, uplink: int, packet: bytes) -> Judgement:
    """The result for a forwarded packet on an uplink: only sources of the site may leave.

    Args:
        site: the prefixes.
        uplink: index of the device.
        packet: from the IPv6 header on.
    """
    if not _is_ipv6(packet):
        return Judgement(Outcome.PASSED, packet)
    row = site.row_of(packet[SOURCE_AT:])
    if row is None or site.prefixes[row].uplink != uplink:
        return Judgement(Outcome.DROPPED, packet)
    return Judgement(Outcome.PASSED, packet)


def arriving(site: Site, packet: bytes) -> Judgement:
    """The result for a packet from an uplink: sources of the site may not arrive from outside."""
    if _is_ipv6(packet) and site.row_of(packet[SOURCE_AT:]) is not None:
        return Judgement(Outcome.DROPPED, packet)
    return Judgement(Outcome.PASSED, packet)


class Provider(NamedTuple):
    """The properties of a provider that determine the choice.

    Attributes:
        works: whether its uplink does.
        priority: a smaller value is preferred.
        weight: its share among those of the same priority.
        is_beyond: whether another border, in a LAN, has its uplink.
    """

    works: bool
    priority: int
    weight: int
    is_beyond: bool = False


def choose(
    site: Site, providers: Mapping[str, Provider], manual: str = "", *, handed_over: bool = False
) -> Choice:
    """The uplink for each prefix.

    Rewritable packets leave through the provider that the operator has chosen, if that works; else
    through one of the best priority that works: that of their own source, or else, by weight, one
    that is always the same for a prefix. A prefix that is new is put into no packet. For a former
    one, the present one of its provider is the first choice.

    Args:
        site: the prefixes.
        providers: by name.
        manual: the operator's choice; empty: none.
        handed_over: for packets that another border has handed over: uplinks of other borders do
            not count, so that no packet comes back to a border.
    """
    if handed_over:
        providers = {
            name: one._replace(works=one.works and not one.is_beyond)
            for name, one in providers.items()
        }
    first_rows: dict[str, int] = {}
    working: dict[str, Provider] = {}
    works = 0
    for row, prefix in enumerate(site.prefixes):
        if prefix.gone_s:
            continue
        if not prefix.is_new:
            first_rows.setdefault(prefix.provider, row)
        if prefix.uplink and providers[prefix.provider].works:
            working[prefix.provider] = providers[prefix.provider]
            works |= 1 << row
    staying = _preferred(working, manual)
    targets = _preferred({name: working[name] for name in working.keys() & first_rows}, manual)
    rows = []
    for row, prefix in enumerate(site.prefixes):
        name = prefix.provider
        if not prefix.gone_s and (name in staying or name in targets):
            rows.append(row)
        elif targets:
            rows.append(first_rows[name if name in targets else _drawn(targets, prefix.high)])
        else:
            rows.append(row if name in working and not prefix.gone_s else NOWHERE)
    return Choice(tuple(rows), works)


def _preferred(working: Mapping[str, Provider], manual: str) -> dict[str, int]:
    """The weights of the operator's provider, or of all of the best priority."""
    if manual in working:
        return {manual: working[manual].weight}
    best = min((one.priority for one in working.values()), default=0)
    return {name: one.weight for name, one in working.items() if one.priority == best}


def _drawn(shares: Mapping[str, int], high: bytes) -> str:
    """One of some names, by weight and the same each time (rendezvous hashing)."""

    def score(name: str) -> float:
        digest = blake2b(name.encode(), key=high, digest_size=8).digest()
        drawn = (int.from_bytes(digest, "big") + 1) / 2**64
        return math.pow(drawn, 1 / shares[name])

    return max(sorted(shares), key=score)


def _is_ipv6(packet: bytes) -> bool:
    return len(packet) >= ipv6.HEADER_OCTETS and packet[0] >> 4 == ipv6.VERSION


def _rewritten(site: Site, packet: bytes, high: bytes) -> bytes:
    """A packet with another prefix in its source; subnet and interface identifier stay."""
    mask = int.from_bytes(site.mask, "big")
    before = int.from_bytes(packet[SOURCE_AT : SOURCE_AT + HIGH_OCTETS], "big")
    after = before & ~mask | int.from_bytes(high, "big")
    end = SOURCE_AT + HIGH_OCTETS
    return packet[:SOURCE_AT] + after.to_bytes(HIGH_OCTETS, "big") + packet[end:]
