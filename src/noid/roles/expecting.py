# SPDX-License-Identifier: MIT
"""Which uplinks this host should have, so that one that is down when the daemon starts is reported.

These are the uplinks of the last week, which the state directory has, and each interface that
``host.interfaces`` names without a glob.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from noid.control.uplinks import Uplink, Uplinks
from noid.errors import PlatformError
from noid.locators import Locator
from noid.state.known_uplinks import KnownUplink, keep_uplinks, known_uplink, load_uplinks

STARTING_S: Final = 10.0
"""How long after the start an uplink may take to get its addresses: noid starts before the network
of the host."""
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
        starting_s: how long uplinks may take to appear after the start.
    """

    def __init__(
        self,
        uplinks: Uplinks,
        changed: Callable[[], object],
        *,
        starting_s: float = STARTING_S,
    ) -> None:
        self.uplinks = uplinks
        self.changed = changed
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

    async def watch(self, interfaces: Callable[[], Sequence[str]]) -> None:
        """Adds what is still missing some time after the start, and then keeps what there is.

        Args:
            interfaces: ``host.interfaces`` now.
        """
        await asyncio.sleep(self.starting_s)
        now_s = time.time()
        for name, one in self._found.items():
            if one.seen_s >= now_s - MISSING_MAX_S:
                self._expect(name, one.interface, one.parsed, now_s)
        self.expect(interfaces())
        while True:
            await self.keep(time.time())
            await asyncio.sleep(self.starting_s)

    def expect(self, interfaces: Sequence[str]) -> None:
        """Adds the interfaces that are named without a glob, and removes those not named."""
        self.uplinks.forget(interfaces)
        known = {one.interface for one in self.uplinks.by_name.values()}
        for name in interfaces:
            if name not in known and GLOB.isdisjoint(name):
                self._expect(name, name, (), time.time())
        self.changed()

    async def keep(self, now_s: float) -> None:
        """Writes which uplinks there are, if they are others, and once a day."""
        there = {
            one.name: (one.interface, one.locators)
            for one in self.uplinks.by_name.values()
            if one.locators
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
        return self._found[name].seen_s if name in self._found else uplink.since_s

    def _expect(
        self, name: str, interface: str, locators: tuple[Locator, ...], now_s: float
    ) -> None:
        """Adds an uplink, unless it is there or others have its locators; the survey finds it down.

        It is not down before, so that this is reported as any other change.
        """
        if all(self.uplinks.of(one) is None for one in locators):
            missing = Uplink(
                name=name, interface=interface, locators=locators, since_s=now_s, is_there=False
            )
            self.uplinks.by_name.setdefault(name, missing)
