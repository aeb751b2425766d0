# SPDX-License-Identifier: MIT
"""What there is on this host, as values: its uplinks, its addresses, our rules.

``HostNetwork.survey`` reads it at once, so that everything that is decided by it is decided by the
same state.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from noid.host.rules import Rule
from noid.locators import Locator, chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A network device whose packets the shim is to see.

    Attributes:
        index: its number.
        name: its name.
        mtu: octets of IPv6 that packets may have which leave by its default route.
        has_ethernet: whether its packets have a link-layer header, of 14 octets.
        carries: whether something is at the other end of its link.
        link: its link-layer address; empty where it has none.
        addresses: the IPv6 addresses on it.
        features: the names of what it does for the stack, as ``ethtool -k`` calls them.
        has_vlans: whether devices of VLANs stand on it.
        queues: the queueing disciplines that packets pass, on it and on the devices below it, as
            ``tc`` calls them.
        metrics: what its default route says of the path (``lookup.Taken``).
    """

    index: int
    name: str
    mtu: int
    has_ethernet: bool
    addresses: frozenset[Locator]
    features: frozenset[str]
    carries: bool = True
    link: bytes = b""
    has_vlans: bool = False
    queues: frozenset[str] = frozenset()
    metrics: bytes = b""


class OwnAddress(NamedTuple):
    """An address of this host that may be a locator.

    Attributes:
        locator: the address.
        interface: where it is.
        deprecated: nothing new should use it (RFC 4862 §5.5.4).
        broken: its link is down, or has lost its carrier [D20].
        leads_out: packets from it to the Internet can leave through that interface.
        leaves_by: index of the device by which they do leave, noid apart; 0 if by none.
        table: number of the routing table by which they do.
    """

    locator: Locator
    interface: str
    deprecated: bool
    broken: bool
    leads_out: bool
    leaves_by: int = 0
    table: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnDevice:
    """A device of ours.

    Attributes:
        index: its number.
        is_up: whether it is in use.
        mtu: octets of a packet it carries.
        mtu_ipv6: the same of IPv6 alone, as far as that is set.
        addresses: the addresses of global scope on it.
        features: as those of ``Device``.
    """

    index: int
    is_up: bool
    mtu: int
    mtu_ipv6: int
    addresses: frozenset[Locator]
    features: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The state of the host's network at one moment.

    Attributes:
        devices: the uplinks that are up.
        locators: the addresses that may be locators [D23], in the kernel's order.
        addresses: every address of this host on any device, except the devices of noid.
        rules: every policy routing rule for IPv6.
        default_device: index of the device of the default route; 0 if there is none.
        mtu: the least MTU of the uplinks that are up, in octets.
        ours: the devices of noid, by their names.
    """

    devices: tuple[Device, ...]
    locators: tuple[OwnAddress, ...]
    addresses: frozenset[Locator]
    rules: tuple[Rule, ...]
    mtu: int
    ours: dict[str, OwnDevice]
    default_device: int = 0

    @property
    def leaving(self) -> dict[Locator, int]:
        """The locators whose packets leave by another device, and its index."""
        index = {device.name: device.index for device in self.devices}
        return {
            one.locator: one.leaves_by
            for one in self.locators
            if one.leads_out and one.leaves_by not in {0, index.get(one.interface, one.leaves_by)}
        }

    def tables(self, known: Collection[Locator]) -> dict[Locator, int]:
        """The routing table of each locator whose packets leave by the device that has it.

        A host may have very many addresses: of as many as there may be locators.

        Args:
            known: those that are locators already.
        """
        index = {device.name: device.index for device in self.devices}
        found = {
            one.locator: one
            for one in self.locators
            if one.table and one.leaves_by == index.get(one.interface)
        }
        some = chosen({one: address.interface for one, address in found.items()}, known)
        return {one: found[one].table for one in some}

    @property
    def is_led_elsewhere(self) -> bool:
        """Whether the host's packets leave by a device that is no uplink, such as a VPN's."""
        uplinks = {device.index for device in self.devices}
        return self.default_device not in {0, *uplinks}
