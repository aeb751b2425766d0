# SPDX-License-Identifier: MIT
"""The uplinks of the last set-up, which the next one keeps while they cannot be used.

An uplink that is down has no address or no route, and would otherwise lose its routes by source,
its place in the configuration and its records.
"""

from collections.abc import Mapping
from ipaddress import IPv6Network

import msgspec

from noid.setup.detection import Uplink


class Known(msgspec.Struct, kw_only=True):
    """What the last set-up found and did for an uplink.

    Attributes:
        gateway: the next hop; empty on a point-to-point link.
        prefixes: of its locators.
        locators: its addresses.
        routed: those of its prefixes that noid setup routes by source.
        file: the file that only it has, which restores its routes after a reboot; or empty.
    """

    gateway: str
    prefixes: list[str]
    locators: list[str]
    routed: list[str]
    file: str = ""

    def uplink(self, device: str) -> Uplink:
        """The uplink as it was found."""
        return Uplink(device, self.gateway, networks(self.prefixes), tuple(self.locators))


def known(uplink: Uplink, routed: tuple[IPv6Network, ...], file: str) -> Known:
    """What to keep of an uplink."""
    return Known(
        gateway=uplink.gateway,
        prefixes=list(map(str, uplink.prefixes)),
        locators=list(uplink.locators),
        routed=list(map(str, routed)),
        file=file,
    )


def networks(prefixes: list[str]) -> tuple[IPv6Network, ...]:
    """Prefixes from text."""
    return tuple(map(IPv6Network, prefixes))


def to_keep(before: Mapping[str, Known], found: tuple[Uplink, ...]) -> dict[str, Known]:
    """The uplinks of the last set-up that are not found now, and whose prefixes no other has."""
    devices = {one.device for one in found}
    now = [prefix for one in found for prefix in one.prefixes]
    return {
        device: one
        for device, one in before.items()
        if device not in devices
        and not any(a.overlaps(b) for a in networks(one.prefixes) for b in now)
    }


def together(
    found: tuple[Uplink, ...], kept: Mapping[str, Known], before: Mapping[str, Known]
) -> tuple[Uplink, ...]:
    """All uplinks: those of the last set-up in its order, then new ones."""
    every = {one.device: one for one in found}
    every |= {device: one.uplink(device) for device, one in kept.items()}
    order = [*(one for one in before if one in every), *(one for one in every if one not in before)]
    return tuple(every[device] for device in order)
