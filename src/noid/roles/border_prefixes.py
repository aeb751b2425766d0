# SPDX-License-Identifier: MIT
"""The prefixes of a border's site: those of its configuration, and those that it had before. Pure.

Hosts may still use a prefix that a provider has replaced. Their packets are treated as those of a
provider whose uplink is dead. A prefix that comes back soon is as it was before.
"""

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Network
from typing import Final

from noid.border_config import BorderConfig, ProviderTable
from noid.constants import BORDER_PREFIXES_MAX
from noid.flows.border import HIGH_OCTETS, Site, SitePrefix
from noid.planes.bpf.border_tables import Left

FORMER_S: Final = 86_400
"""A former prefix is remembered for so long: the valid lifetime that radvd announces by default."""


class KnownPrefixes:
    """What a border knows of its prefixes.

    Args:
        config: what the operator wants.

    Attributes:
        since_s: for each prefix when it came to the site, in seconds since boot; 0: not known.
        former: those that the providers of the site had before.
    """

    def __init__(self, config: BorderConfig) -> None:
        self.config = config
        self.since_s: dict[bytes, int] = {}
        self.former: list[SitePrefix] = []

    def take_over(self, left: Left, indexes: Mapping[str, int], now_s: float) -> None:
        """Goes on with what an earlier daemon had.

        A prefix that it did not have is new to the site, unless it had it a short time before.

        Args:
            left: what the kernel has of that daemon.
            indexes: of the devices that are there, by name.
            now_s: the time, in seconds since boot.
        """
        came_s = max(1, int(now_s)) if left.prefixes else 0
        known = {one.high: one for one in left.prefixes}
        own = set(self._highs())
        for high in own:
            one = known.get(high)
            is_as_before = one is not None and not self._is_long_gone(one, now_s)
            self.since_s[high] = one.since_s if one is not None and is_as_before else came_s
        names = {
            indexes[one.uplink]: one.name
            for one in self.config.border.providers
            if one.uplink in indexes
        }
        self.former = [
            one._replace(provider=names[one.uplink], gone_s=one.gone_s or max(1, int(now_s)))
            for one in left.prefixes
            if one.high not in own and one.uplink in names and left.bits == self._bits
        ]

    def _is_long_gone(self, prefix: SitePrefix, now_s: float) -> bool:
        new_s = self.config.border.new_prefix_s
        return bool(prefix.gone_s) and now_s >= prefix.gone_s + new_s

    def site(self, indexes: Mapping[str, int], now_s: float) -> Site:
        """The prefixes of the site now, the former ones last.

        Args:
            indexes: of the devices that are there, by name.
            now_s: the time, in seconds since boot.
        """
        border = self.config.border
        own = tuple(
            self._prefix(text, one, indexes, now_s)
            for one in border.providers
            for text in one.prefixes
        )
        devices = {one.name: one.uplink for one in border.providers}
        former = [  # a device that was made anew has another index
            one._replace(uplink=indexes.get(devices[one.provider]) or one.uplink)
            for one in self.former
            if now_s < one.gone_s + FORMER_S
        ]
        former.sort(key=lambda one: -one.gone_s)
        room = BORDER_PREFIXES_MAX - len(own)
        return Site(self._bits, (*own, *former[:room]), self.config.inside())

    def _prefix(
        self, text: str, one: ProviderTable, indexes: Mapping[str, int], now_s: float
    ) -> SitePrefix:
        high = _high(text)
        since = self.since_s.get(high, 0)
        is_new = bool(since) and now_s < since + self.config.border.new_prefix_s
        return SitePrefix(high, indexes.get(one.uplink, 0), one.name, is_new, since)

    @property
    def _bits(self) -> int:
        return next(IPv6Network(text).prefixlen for text in self._texts())

    def _highs(self) -> Iterable[bytes]:
        return map(_high, self._texts())

    def _texts(self) -> Iterable[str]:
        return (text for one in self.config.border.providers for text in one.prefixes)


def _high(text: str) -> bytes:
    return IPv6Network(text).network_address.packed[:HIGH_OCTETS]
