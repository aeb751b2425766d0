# SPDX-License-Identifier: MIT
"""Reads links, addresses, routes and rules of this host as one survey."""

import contextlib
import errno
import fnmatch
import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from noid.constants import MTU_MIN
from noid.host.library import Ethtool, EthtoolError, IPRoute, NetlinkError
from noid.host.links import (
    EVERYTHING,
    FAR_AWAY,
    FLAG_DEPRECATED,
    IFF_UP,
    LINK_CARRIES,
    SCOPE_GLOBAL,
    is_meant,
    is_vlan,
    may_be_locator,
)
from noid.host.lookup import Packet, Taken, refused, routes_taken, usual_user
from noid.host.routes import mtu_in
from noid.host.rules import read_rule
from noid.host.survey import Device, OwnAddress, OwnDevice, Survey
from noid.locators import (
    Locator,
    is_global_unicast,
    is_unique_local,
    parse_locator,
)

LOOPBACK = "lo"
IPV6_CONF = Path("/proc/sys/net/ipv6/conf")
ARPHRD_ETHER = 1
STACKED = frozenset({"vlan", "macvlan", "ipvlan", "macsec"})
"""Devices whose packets leave by the queue of another."""
REFUSALS = (errno.EINVAL, errno.EACCES, errno.EHOSTUNREACH)
"""What a route of the operator says: blackhole, prohibit, unreachable; none at all: ENETUNREACH."""


class Reader:
    """Reads the state of this host.

    Args:
        route: a socket to rtnetlink.
        ethtool: a socket for what devices can do.
    """

    def __init__(self, route: IPRoute, ethtool: Ethtool) -> None:
        self._route = route
        self._ethtool = ethtool
        self._uid = os.getuid()

    def survey(self, interfaces: Sequence[str], excluded: Sequence[str]) -> Survey:
        """The current state; see ``HostNetwork.survey``."""
        rules = tuple(map(read_rule, self._route.get_rules(family=socket.AF_INET6)))
        self._uid = usual_user(rules)
        links = {int(link["index"]): link for link in self._route.get_links()}
        ours = {index for index, link in links.items() if link.get("ifname") in excluded}
        addresses = [
            (int(one["index"]), own_end(one), one)
            for one in self._route.get_addr(family=socket.AF_INET6)
        ]
        uplinks = {
            index: link
            for index, link in links.items()
            if index not in ours
            and link.get("ifname") != LOOPBACK
            and any(is_meant(link, one) for one in interfaces)
        }
        up = [link for link in uplinks.values() if link["flags"] & IFF_UP]
        tagged = {one.get("link") for one in links.values() if is_vlan(one)}
        by_device: dict[int, set[Locator]] = {}
        for index, locator, _ in addresses:
            by_device.setdefault(index, set()).add(locator)
        candidates = [
            (index, locator, one)
            for index, locator, one in addresses
            if index in uplinks and may_be_locator(locator, one)
        ]
        # Twice for each: a host may have very many addresses.
        ways = iter(routes_taken([*_ways_out(candidates)], self._uid))
        devices = tuple(
            self._device(
                link,
                links,
                frozenset(by_device.get(int(link["index"]), ())),
                has_vlans=link["index"] in tagged,
            )
            for link in up
        )
        return Survey(
            devices=devices,
            locators=_of_uplinks(
                [
                    _own_address(locator, uplinks[index], one, (next(ways), next(ways)))
                    for index, locator, one in candidates
                ],
                [one for one in interfaces if one != EVERYTHING],
            ),
            addresses=frozenset(one for index, one, _ in addresses if index not in ours),
            rules=rules,
            mtu=min((device.mtu for device in devices), default=0),
            default_device=self.default_route(FAR_AWAY)[1],
            ours={
                str(links[index].get("ifname")): self._own_device(
                    links[index],
                    frozenset(
                        locator
                        for where, locator, one in addresses
                        if where == index and one["scope"] == SCOPE_GLOBAL
                    ),
                )
                for index in ours
            },
        )

    def _own_device(self, link: Any, addresses: frozenset[Locator]) -> OwnDevice:
        name = str(link.get("ifname"))
        return OwnDevice(
            index=int(link["index"]),
            is_up=bool(link["flags"] & IFF_UP),
            mtu=int(link.get("mtu")),
            mtu_ipv6=_mtu_ipv6(name),
            addresses=addresses,
            features=features_of(self._ethtool, name),
        )

    def _device(
        self,
        link: Any,
        links: Mapping[int, Any],
        addresses: frozenset[Locator],
        *,
        has_vlans: bool,
    ) -> Device:
        name = str(link.get("ifname"))
        has_ethernet = link["ifi_type"] == ARPHRD_ETHER
        index, metrics = int(link["index"]), b""
        if sources := sorted(filter(is_global_unicast, addresses)):
            route = self.taken(FAR_AWAY, source=sources[0], device=index)
            metrics = route.metrics if route.device == index else b""
        return Device(
            index=index,
            name=name,
            mtu=_least(int(link.get("mtu")), _mtu_ipv6(name), mtu_in(metrics)),
            has_ethernet=has_ethernet,
            carries=(link["flags"] & LINK_CARRIES) == LINK_CARRIES,
            link=bytes.fromhex(link.get("address").replace(":", "")) if has_ethernet else b"",
            addresses=addresses,
            features=features_of(self._ethtool, name),
            has_vlans=has_vlans,
            queues=queues_of(link, links),
            metrics=metrics,
        )

    def taken(
        self, destination: Locator, *, source: Locator | None = None, device: int = 0, mark: int = 0
    ) -> Taken:
        """The route that packets of most programs take; see ``routes_taken``."""
        question = Packet(destination, source, device, mark)
        return routes_taken([question], self._uid)[0]

    def refused(self, packets: Sequence[Packet]) -> set[Packet]:
        """Returns the packets that the host refuses; see ``lookup.refused``."""
        return refused(packets, self._uid)

    def default_route(
        self, destination: Locator, *, no_device: int = 0, mark: int = 0
    ) -> tuple[Locator | None, int]:
        """Source and device by which the kernel would send; None and 0 if it would not.

        Args:
            destination: where to.
            no_device: what stands for the device where a route says that nothing is to be sent.
            mark: firewall mark of the packet.
        """
        packet = Packet(destination, mark=mark)
        (found,) = routes_taken([packet], self._uid)
        if found.error in REFUSALS or (found.error and self.refused([packet])):
            return None, no_device
        return found.source, found.device


def _ways_out(candidates: Iterable[tuple[int, Locator, Any]]) -> Iterator[Packet]:
    """Packets from some addresses to the Internet: by the device of each, and by any."""
    for index, locator, _ in candidates:
        yield Packet(FAR_AWAY, locator, index)
        yield Packet(FAR_AWAY, locator)


def _own_address(
    locator: Locator, link: Any, address: Any, ways: tuple[Taken, Taken]
) -> OwnAddress:
    """An address that may be a locator.

    Args:
        locator: the address.
        link: its device.
        address: its attributes.
        ways: the routes of packets from it: bound to its device, and free.
    """
    by_its_device, free = ways
    return OwnAddress(
        locator,
        str(link.get("ifname")),
        deprecated=bool((address.get("flags") or 0) & FLAG_DEPRECATED),
        broken=(link["flags"] & LINK_CARRIES) != LINK_CARRIES,
        leads_out=by_its_device.device == link["index"],
        leaves_by=free.device,
        table=free.table,
    )


def own_end(address: Any) -> Locator:
    """The host's own address; of one with a peer, IFA_ADDRESS is the other end of the link."""
    return parse_locator(str(address.get("local") or address.get("address")))


def queues_of(link: Any, links: Mapping[int, Any]) -> frozenset[str]:
    """The queueing disciplines of a device, of its ports, and of that which it stands on."""
    below = [one for one in links.values() if one.get("master") == link["index"]]
    if link.get(("linkinfo", "kind")) in STACKED and link.get("link") in links:
        below.append(links[link.get("link")])
    own = frozenset({str(link.get("qdisc"))} if link.get("qdisc") else ())
    return own.union(*(queues_of(one, links) for one in below))


def _of_uplinks(found: Sequence[OwnAddress], named: Sequence[str]) -> tuple[OwnAddress, ...]:
    """The addresses without those of networks inside this host, such as that of its containers.

    These are unique local and do not lead out, while others do. An interface that the operator has
    named, by one of some globs, is an uplink in any case.
    """
    leads_out = any(one.leads_out for one in found)
    return tuple(
        one
        for one in found
        if one.leads_out
        or not leads_out
        or not is_unique_local(one.locator)
        or any(fnmatch.fnmatchcase(one.interface, glob) for glob in named)
    )


def _mtu_ipv6(name: str) -> int:
    """The MTU that a device has for IPv6, such as of a router advertisement; 0: not known."""
    with contextlib.suppress(OSError, ValueError):
        return int((IPV6_CONF / name / "mtu").read_text())
    return 0


def _least(link: int, *others: int) -> int:
    """The least MTU, of those that are known; but for the link's own, no less than IPv6 allows."""
    return min((link, *(max(one, MTU_MIN) for one in others if one)))


def features_of(ethtool: Ethtool, name: str) -> frozenset[str]:
    """The offloads of a device; none if it does not report them, or was removed."""
    try:
        answer = ethtool.get_features(name)
    except (EthtoolError, NetlinkError, OSError):
        return frozenset()
    return frozenset(name for name, feature in answer.features.items() if feature.enable)
