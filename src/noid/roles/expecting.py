# SPDX-License-Identifier: MIT
"""Which uplinks this host should have, so that one that is down when the daemon starts is reported.

These are the interfaces that ``host.interfaces`` names without a glob, and those uplinks of the
last week, which the state directory has, whose device exists or that the configuration names. An
uplink may be missing on purpose: it is not expected if others have its interface or its prefix.
"""

import asyncio
import fnmatch
import functools
import logging
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from noid.config import HostSection
from noid.control.uplinks import Uplink, Uplinks
from noid.errors import PlatformError
from noid.locators import SUBNET_OCTETS, Locator, parse_locator
from noid.state.known_uplinks import KnownUplink, keep_uplinks, known_uplink, load_uplinks

BOOTING_S: Final = 60.0
"""How long after the start of the host an uplink may take to get its addresses: noid starts before
the network of the host, and PPPoE, LTE and the spanning tree of a bridge take long."""
STARTING_S: Final = 1.0
"""How long after the start of noid, at least: the network may have been restarted with it."""
KEPT_APART_S: Final = 10.0
"""How often it is looked whether uplinks are to be written."""
MISSING_MAX_S: Final = 7 * 86_400.0
"""An uplink that is missing for longer is not known to the next daemon."""
WRITTEN_AGAIN_S: Final = 86_400.0
"""How often the time is written at which uplinks were last seen."""
GLOB: Final = frozenset("*?[")

logger = logging.getLogger("noid")


class Expecting:
    """The uplinks that a host should have.

    Args:
        uplinks: those there are; missing ones are added.
        changed: is called when missing ones were added.
        starting_s: how long uplinks may take to appear; without it, as said in ``BOOTING_S``.
    """

    def __init__(
        self,
        uplinks: Uplinks,
        changed: Callable[[], object],
        *,
        starting_s: float | None = None,
    ) -> None:
        self.uplinks = uplinks
        self.changed = changed
        if starting_s is None:
            starting_s = patience_s(time.clock_gettime(time.CLOCK_BOOTTIME))
        self.starting_s = starting_s
        self.directory: Path | None = None
        self._found: dict[str, KnownUplink] = {}
        self._written: dict[str, tuple[str, tuple[Locator, ...]]] = {}
        self._written_s = 0.0
        self._is_failing = False

    def open(self, directory: Path) -> list[str]:
        """Reads which uplinks there were; returns the problems of the file."""
        self.directory = directory
        found, trouble = load_uplinks(directory)
        self._found = dict(found)
        if trouble:
            logger.warning("%s", trouble)
        return [trouble] * bool(trouble)

    async def watch(self, host: Callable[[], HostSection]) -> None:
        """Adds what is still missing some time after the start, and then keeps what there is.

        Args:
            host: ``[host]`` now.
        """
        await asyncio.sleep(self.starting_s)
        now_s = time.time()
        for name, one in self._found.items():
            if one.seen_s >= now_s - MISSING_MAX_S and _is_meant(one, host()):
                self._expect(name, one.interface, one.parsed, now_s)
        self.expect(host())
        while True:
            await self.keep(time.time())
            await asyncio.sleep(KEPT_APART_S)

    def expect(self, host: HostSection) -> None:
        """Adds the interfaces that are named without a glob, and removes uplinks not named."""
        self.uplinks.keep(functools.partial(_is_named, host))
        known = {one.interface for one in self.uplinks.by_name.values()}
        for name in host.interfaces:
            if name not in known and GLOB.isdisjoint(name) and not host.locators:
                self._expect(name, name, (), time.time())
        self.changed()

    async def keep(self, now_s: float) -> None:
        """Writes which uplinks there are, if they are others, and once a day."""
        there = {
            one.name: (one.interface, one.locators)
            for one in self.uplinks.by_name.values()
            if one.locators and one.name.isprintable()  # else it may not be text
        }
        is_old = not 0 <= now_s - self._written_s < WRITTEN_AGAIN_S
        if self.directory is None or (there == self._written and not is_old):
            return
        known = {
            name: known_uplink(interface, locators, self._seen_s(name, now_s))
            for name, (interface, locators) in there.items()
        }
        try:
            await asyncio.to_thread(keep_uplinks, self.directory, known)
        except PlatformError as error:
            if not self._is_failing:
                logger.warning("%s; until then a restart forgets which uplinks there are", error)
            self._is_failing = True
            return
        self._is_failing = False
        self._found, self._written, self._written_s = known, there, now_s

    def _seen_s(self, name: str, now_s: float) -> float:
        uplink = self.uplinks.by_name[name]
        if uplink.is_there:
            return now_s
        seen_s = self._found[name].seen_s if name in self._found else uplink.since_s
        return min(seen_s, now_s)

    def _expect(
        self, name: str, interface: str, locators: tuple[Locator, ...], now_s: float
    ) -> None:
        """Adds an uplink, unless others have its interface or its prefix; the survey finds it down.

        It is not down before, so that this is reported as any other change.
        """
        subnets = _subnets(locators)
        for one in self.uplinks.by_name.values():
            is_on_it = one.is_there and one.interface == interface
            if is_on_it or not subnets.isdisjoint(_subnets(one.locators)):
                return
        missing = Uplink(
            name=name, interface=interface, locators=locators, since_s=now_s, is_there=False
        )
        self.uplinks.by_name.setdefault(name, missing)


def patience_s(since_boot_s: float) -> float:
    """How long uplinks may take to appear after a start of noid so long after that of the host."""
    return max(STARTING_S, BOOTING_S - since_boot_s)


def _is_named(host: HostSection, uplink: Uplink) -> bool:
    """Whether a survey of the host may find an uplink."""
    locators = _named(host)
    return (not locators or not locators.isdisjoint(uplink.locators)) and any(
        fnmatch.fnmatchcase(uplink.interface, glob) for glob in host.interfaces
    )


def _named(host: HostSection) -> frozenset[Locator]:
    return frozenset(map(parse_locator, host.locators))


def _subnets(locators: tuple[Locator, ...]) -> frozenset[bytes]:
    return frozenset(one[:SUBNET_OCTETS] for one in locators)


def _is_meant(one: KnownUplink, host: HostSection) -> bool:
    """Whether the configuration names an uplink, or its device exists.

    A device that is gone, and that only a glob matches, may have another name now, or is unplugged.
    """
    if host.locators:
        return not _named(host).isdisjoint(one.parsed)
    return one.interface in host.interfaces or _exists(one.interface)


def _exists(interface: str) -> bool:
    try:
        return bool(socket.if_nametoindex(interface))
    except (OSError, ValueError):
        return False
