# SPDX-License-Identifier: MIT
"""Assigns rows of the kernel's table of uplinks to uplinks. Pure.

Flows refer to the row of their locator's uplink, so that an event of an uplink is one update of
the table, for any number of flows. A row belongs to the name of its uplink: a device that is
removed and created again with the same name has the same row.
"""

from collections.abc import Collection, Iterable, Mapping

from noid.host.routes import with_hop_limit
from noid.host.survey import Device, Survey
from noid.locators import Locator, is_global_unicast
from noid.planes.uplink import (
    CUT_TCP,
    CUT_UDP,
    ETHERNET,
    LINK_OCTETS,
    NO_UPLINK,
    OWN_ROW,
    RECEIVES,
    SENDS,
    SUM,
    Uplink,
)
from noid.wire.ipv6 import DEFAULT_HOP_LIMIT

NO_ROW = 0
NONE_LEAVE_ELSEWHERE: Mapping[Locator, int] = {}
CUTS_TCP = "tx-tcp6-segmentation"
CUTS_UDP = "tx-udp-segmentation"
SUMMING = "tx-checksum-ip-generic"
SUMS = frozenset({SUMMING, "tx-checksum-ipv6"})
WHOLE = frozenset(
    {
        "noqueue",
        "noop",
        "mq",
        "pfifo",
        "bfifo",
        "pfifo_fast",
        "fq",
        "fq_codel",
        "codel",
        "fq_pie",
        "sfq",
    }
)
"""Queueing disciplines that pass super-packets whole. Others, such as tbf and cake, may have the
kernel cut them, or have classes with such disciplines."""


def cutting_queues(device: Device) -> frozenset[str]:
    """The queueing disciplines of a device that may have the kernel cut super-packets."""
    return device.queues - WHOLE


def lacks(device: Device) -> int:
    """What a device, or its queue, cannot do to packets with an M6 next header.

    It cuts super-packets and sums up by what the stack tells it, not by the next header, or it does
    not. Where it does not cut, the kernel would, and knows no M6 next header. Summing up the kernel
    does as well for any; but a device that does it for the protocols it knows (tx-checksum-ipv6,
    without the generic one) would leave out ours.
    """
    by_protocol = SUMMING not in device.features and bool(SUMS & device.features)
    features = frozenset[str]() if cutting_queues(device) else device.features
    return (
        CUT_TCP * (CUTS_TCP not in features)
        | CUT_UDP * (CUTS_UDP not in features)
        | SUM * by_protocol
    )


def uplink_of(device: Device) -> Uplink:
    """The row of a device that is up, for the programs, and what routes by it say of the path.

    A router of an uplink, or who forges its advertisements, sets the hop limit of packets there. As
    packets of a context leave by any uplink, routes to peers say the usual hop limit at least.
    """
    flags = RECEIVES | SENDS * device.carries | ETHERNET * device.has_ethernet
    link = device.link if device.has_ethernet else bytes(LINK_OCTETS)
    metrics = with_hop_limit(device.metrics, DEFAULT_HOP_LIMIT)
    return Uplink(device.index, device.mtu, link, flags | lacks(device), metrics)


def sums(survey: Survey) -> bool:
    """Whether every uplink computes checksums of packets with an M6 next header."""
    return not any(lacks(device) & SUM for device in survey.devices)


class Rows:
    """The rows of one host.

    Args:
        uplinks_max: uplinks that can have a row.

    Attributes:
        without: the names of uplinks for which there is no row, and that the last update found.
        uplinks: what each row in use says.
        of: the row of the uplink by which packets from each address leave, also from those in use
            that no uplink has any more.
        away: the addresses whose packets leave by another device than the one that has them.
    """

    def __init__(self, uplinks_max: int = OWN_ROW - 1) -> None:
        self.uplinks_max = uplinks_max
        self.uplinks: dict[int, Uplink] = {}
        self.of: dict[Locator, int] = {}
        self.away: frozenset[Locator] = frozenset()
        self.without: set[str] = set()
        self._known_without: set[str] = set()
        self._present: frozenset[Locator] | None = None
        self._names: dict[str, int] = {}

    def update(
        self,
        devices: Iterable[Device],
        in_use: Collection[Locator],
        leaving: Mapping[Locator, int] = NONE_LEAVE_ELSEWHERE,
        addresses: Collection[Locator] | None = None,
    ) -> tuple[dict[int, Uplink], set[Locator]]:
        """Updates the rows.

        Args:
            devices: the uplinks that are up.
            in_use: addresses whose row is remembered though no uplink has them.
            leaving: indexes of the devices that packets from some addresses leave by, other than
                those that have the addresses: the host has no routes by source.
            addresses: every address of this host; None: not known.

        Returns:
            The rows that have changed, and the addresses whose row is another now.
        """
        present = {device.name: device for device in devices if any(map(_counts, device.addresses))}
        before = self.of
        self._present = None if addresses is None else frozenset(filter(_counts, addresses))
        of = {
            address: row
            for address, row in before.items()
            if address in in_use and (row != OWN_ROW or self._is_gone(address))
        }
        self._forget(set(present), set(of.values()))
        for device in present.values():
            row = self._row(device.name)
            of |= dict.fromkeys(filter(_counts, device.addresses), row)
        of |= {one: OWN_ROW for one in in_use if one not in of and self._is_gone(one)}
        by_index = {device.index: self._row(device.name) for device in present.values()}
        self.away = frozenset(leaving.keys() & of.keys())
        of |= {address: by_index.get(leaving[address], NO_ROW) for address in self.away}
        self.of = of
        left = set(present) - set(self._names)
        self.without, self._known_without = left - self._known_without, left
        rows = {
            row: uplink_of(present[name]) if name in present else NO_UPLINK
            for name, row in self._names.items()
        }
        gone = dict.fromkeys(set(self.uplinks) - set(rows), NO_UPLINK)
        changed = {row: one for row, one in rows.items() if self.uplinks.get(row) != one} | gone
        self.uplinks = rows
        return changed, {address for address in {*of, *before} if _moved(address, before, of)}

    def take(self, in_use: Iterable[Locator]) -> None:
        """Addresses of an earlier daemon are in use.

        The uplinks of those that no device has any more are not known: they belong to the device of
        ours that has them until then.
        """
        found = {one: OWN_ROW for one in in_use if one not in self.of and self._is_gone(one)}
        self.of = self.of | found

    def _is_gone(self, address: Locator) -> bool:
        return _counts(address) and self._present is not None and address not in self._present

    def home(self, address: Locator) -> int:
        """The row of the uplink on which packets for an address are to appear; NO_ROW if any."""
        return NO_ROW if address in self.away else self.of.get(address, NO_ROW)

    def lose(self, ifindex: int, flags: int) -> dict[int, Uplink]:
        """Marks the rows of a device that is down or has lost its carrier; returns changed rows.

        Args:
            ifindex: its index.
            flags: the remaining flags of SENDS and RECEIVES.
        """
        lost = SENDS | RECEIVES
        changed = {
            row: one._replace(flags=one.flags & (~lost | flags))
            for row, one in self.uplinks.items()
            if one.ifindex == ifindex and one.flags & lost & ~flags
        }
        self.uplinks |= changed
        return changed

    @property
    def names(self) -> list[str]:
        """The names of the uplinks that have rows."""
        return sorted(self._names)

    def name_of(self, row: int) -> str:
        """The name of the uplink of a row; empty if the row is free."""
        return next((name for name, one in self._names.items() if one == row), "")

    def _row(self, name: str) -> int:
        """The row of an uplink; NO_ROW where there are too many."""
        if name not in self._names:
            free = set(range(1, self.uplinks_max + 1)) - set(self._names.values())
            if not free:
                return NO_ROW
            self._names[name] = min(free)
        return self._names[name]

    def _forget(self, present: set[str], used: set[int]) -> None:
        for name, row in list(self._names.items()):
            if name not in present and row not in used:
                del self._names[name]


def _counts(address: Locator) -> bool:
    return is_global_unicast(address)


def _moved(address: Locator, before: dict[Locator, int], now: dict[Locator, int]) -> bool:
    return before.get(address, NO_ROW) != now.get(address, NO_ROW)
