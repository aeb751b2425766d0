# SPDX-License-Identifier: MIT
"""Where a border has put its rules, routes and pins, so that nothing stays at a former place.

A file beside the control socket says it, since the configuration may have changed while no daemon
ran. A daemon first puts everything at the new place, then removes what is at the former one, so
that no packet is lost.
"""

import contextlib
import logging
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Final, Self

import msgspec

from noid.border_config import BorderSection
from noid.constants import BORDER_PROVIDERS_MAX
from noid.host import source_routes
from noid.host.messages import UNREACHABLE
from noid.host.netlink import HostNetwork
from noid.host.replacement import replace_file
from noid.host.source_routes import SourceRoute
from noid.planes.bpf.border import leave_filters
from noid.planes.bpf.border import take_down as leave_pins

RULES: Final = 3
"""Priorities that the rules take, from ``rule_priority`` on."""
COPIES_MAX: Final = 64
"""So many copies of a rule are removed, as others may have added some."""

logger = logging.getLogger("noid")


class Place(msgspec.Struct, frozen=True):
    """The keys of the configuration that say where things are in the kernel.

    Attributes:
        rule_priority: the first of three priorities of rules.
        table: number of the routing table.
        pins: the directory of the pins.
        socket: the control socket.
        devices: LANs and uplinks, which may have filters by clsact: unlike a link, a filter has no
            pin that says on which device it is.
    """

    rule_priority: Annotated[int, msgspec.Meta(ge=1, le=32763)]
    table: Annotated[int, msgspec.Meta(ge=256, le=0xFFFFFF00)]
    pins: str
    socket: str
    devices: tuple[str, ...] = ()

    @classmethod
    def of(cls, section: BorderSection) -> Self:
        """The place that a configuration names."""
        names = {*section.lans, *(one.uplink for one in section.providers)} - {""}
        keys = section.rule_priority, section.table, section.pins, section.socket
        return cls(*keys, tuple(sorted(names)))

    @property
    def file(self) -> Path:
        """The file that says so."""
        path = Path(self.socket)
        return path.parent / f"{path.stem}.place.json"

    @property
    def priorities(self) -> range:
        """The priorities of the rules."""
        return range(self.rule_priority, self.rule_priority + RULES)

    def take_down(self, network: HostNetwork, besides: Self | None = None) -> list[str]:
        """Removes what is there.

        Args:
            network: the host's devices.
            besides: a place at which everything stays.

        Returns:
            A description of each object.

        Raises:
            PlatformError: the kernel refuses.
        """
        removed = []
        priorities = set(self.priorities).difference(besides.priorities if besides else ())
        for _ in range(COPIES_MAX):
            rules = source_routes.rules(priorities)
            if not rules:
                break
            source_routes.delete_rules(rules)
            removed += [f"rule {rule.priority} to table {rule.table}" for rule in rules]
        tables = [besides.table] if besides else []
        if self.table not in tables and source_routes.clear(self.table, tables):
            removed.append(f"routes of table {self.table}")
        removed += self.clear_former_tables(tables)
        if besides is None or Path(self.pins) != Path(besides.pins):
            removed += leave_pins(Path(self.pins), (), network)
        left = set(self.devices).difference(besides.devices if besides else ())
        removed += leave_filters(left, network)
        if (besides is None or self.file != besides.file) and self.file.exists():
            self.file.unlink(missing_ok=True)
            removed.append(f"file {self.file}")
        return removed

    def clear_former_tables(self, staying: Collection[int]) -> list[str]:
        """Removes the routes of an earlier version, which had a table for each provider.

        Args:
            staying: tables that are in use.

        Returns:
            A description of each table.

        Raises:
            PlatformError: the kernel refuses.
        """
        tables = range(self.table + 1, self.table + BORDER_PROVIDERS_MAX)
        return [
            f"routes of table {table}"
            for table in sorted(set(tables).difference(staying))
            if SourceRoute(UNREACHABLE) in source_routes.routes(table)
            and source_routes.clear(table, staying)
        ]


def _noted(file: Path) -> Place | None:
    """What a file says; None: there is none, it is damaged, or another user has written it."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # waits for no pipe
        with open(descriptor, "rb") as opened:
            if os.fstat(descriptor).st_uid == os.geteuid():
                return msgspec.json.decode(opened.read(), type=Place)
    return None


def former_places(section: BorderSection, before: Place | None) -> list[Place]:
    """The places, other than the present one, at which something may be.

    Args:
        section: the configuration.
        before: that of the configuration before a reload.
    """
    now = Place.of(section)
    known = dict.fromkeys((before, _noted(now.file)))
    return [one for one in known if one is not None and one != now]


def settle(section: BorderSection, former: Iterable[Place], network: HostNetwork) -> Place:
    """Removes what is at former places, and notes the present one.

    Args:
        section: the configuration.
        former: the former places.
        network: the host's devices.

    Raises:
        PlatformError: the kernel refuses.
    """
    place = Place.of(section)
    for one in former:
        for text in one.take_down(network, place):
            logger.info("moved: removed %s", text)
    for text in place.clear_former_tables([section.table]):
        logger.info("upgraded: removed %s", text)
    with contextlib.suppress(OSError):
        replace_file(place.file, msgspec.json.encode(place), mode=0o600)
    return place
