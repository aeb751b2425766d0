# SPDX-License-Identifier: MIT
"""Which uplinks this host should have, so that one that is down when the daemon starts is reported.

These are the interfaces that ``host.interfaces`` names without a glob, and those uplinks of the
last week, which the state directory has, whose device exists or that the configuration names. An
uplink may be missing on purpose: it is not expected if others have its interface or its prefix.
"""

import asyncio
import fnmatch
import functools
import itertools
import logging
import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import MappingProxyType
from typing import Final

from noid.config import HostSection
from noid.control.uplinks import Uplink, Uplinks
from noid.errors import PlatformError
from noid.locators import SUBNET_OCTETS, Locator, parse_locator
from noid.state.known_uplinks import (
    KNOWN_MAX,
    KnownUplink,
    KnownUplinks,
    keep_uplinks,
    known_uplink,
    load_uplinks,
)
from noid.state.system_start import system_start

BOOTING_S: Final = 60.0
"""How long an uplink may take to get its addresses when the host starts: noid starts before the
network of the host, and PPPoE, LTE and the spanning tree of a bridge take long."""
STARTING_S: Final = 1.0
"""How long if only noid starts: the network may have been restarted with it."""
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
        starting_s: how long uplinks may take to appear; without it, ``patience_s`` tells.

    Attributes:
        start: of the system, by ``system_start``; empty until uplinks had that time.
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
        self.starting_s = starting_s
        self.start = ""
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
        starts = [one.start for one in self._found.values()]
        ends_s = time.monotonic() + (
            patience_s(starts, system_start(), time.clock_gettime(time.CLOCK_BOOTTIME))
            if self.starting_s is None
            else self.starting_s
        )
        while (left_s := ends_s - time.monotonic()) > 0:
            await self.keep(time.time(), missing=self._found)
            await asyncio.sleep(min(left_s, KEPT_APART_S))
        self.start, self._written_s = system_start(), 0.0
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

    async def keep(self, now_s: float, missing: KnownUplinks = MappingProxyType({})) -> None:
        """Writes which uplinks there are, if they are others, and once a day.

        Args:
            now_s: in seconds since 1970.
            missing: further uplinks, which may still appear.
        """
        there = {
            one.name: (one.interface, one.locators)
            for one in self.uplinks.by_name.values()
            if one.locators and one.name.isprintable()  # else it may not be text
        }
        is_old = not 0 <= now_s - self._written_s < WRITTEN_AGAIN_S
        if self.directory is None or (there == self._written and not is_old):
            return
        known = {name: self._known(name, *one, now_s) for name, one in there.items()}
        known |= {name: one for name, one in missing.items() if name not in known}
        known = dict(itertools.islice(known.items(), KNOWN_MAX))
        try:
            await asyncio.to_thread(keep_uplinks, self.directory, known)
        except PlatformError as error:
            if not self._is_failing:
                logger.warning("%s; until then a restart forgets which uplinks there are", error)
            self._is_failing = True
            return
        self._is_failing = False
        self._found, self._written, self._written_s = known, there, now_s

    def _known(
        self, name: str, interface: str, locators: tuple[Locator, ...], now_s: float
    ) -> KnownUplink:
        """An uplink as it is stored; one that is missing was seen when it was stored before."""
        uplink = self.uplinks.by_name[name]
        seen_s, start = now_s, self.start
        if not uplink.is_there:
            before = self._found.get(name)
            seen_s, start = (before.seen_s, before.start) if before else (uplink.since_s, start)
        return known_uplink(interface, locators, min(seen_s, now_s), start)

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


def patience_s(starts: Collection[str], start: str, since_boot_s: float) -> float:
    """How long uplinks may take to appear after noid has started.

    Args:
        starts: of the system, in which those uplinks were there that are known.
        start: of the system, by ``system_start``.
        since_boot_s: how long the machine has been running. It counts where no uplink is known:
            the network of the host may start late, after a question for a password.
    """
    if starts:
        return STARTING_S if start in starts else BOOTING_S
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
