# SPDX-License-Identifier: MIT
"""``noid use``, ``noid avoid``, ``noid auto``: which uplinks the operator wants used.

Locators of an avoided uplink are deprecated: peers and this host leave them for pairs that work
[draft §4.5, D22]. Where one uplink is to be used, the locators of all others are backups.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from noid.control.schema import RequestHandler
from noid.control.uplinks import Health, Uplink, Uplinks
from noid.errors import PlatformError
from noid.policy_config import USUAL, UplinkSection, section_of
from noid.roles.local_locators import LocalLocators, is_of
from noid.state.preferences import (
    AVOIDED_MAX,
    Preferences,
    keep_preferences,
    load_preferences,
)
from noid.text import duration, printable

AVOID_MAX_S: Final = 366 * 86_400.0
"""The longest time for which an uplink is avoided; without a time it holds until ``noid auto``."""
CLOCK_WAIT_MAX_S: Final = 30.0
"""How long the end of a time is waited for before the clock, which may be set, is read again."""

logger = logging.getLogger("noid")


class Refused(Exception):
    """A command that changes nothing; its text says why, and what to do."""


class Preferring:
    """What the operator wants of the uplinks of one host, as it is now.

    Args:
        own: the host's locators, which are marked accordingly.
        uplinks: those there are.
        changed: is called when marks may be others.
        clock_wait_max_s: how long the end of a time is waited for before the clock is read again.
    """

    def __init__(
        self,
        own: LocalLocators,
        uplinks: Uplinks,
        changed: Callable[[], object],
        *,
        clock_wait_max_s: float = CLOCK_WAIT_MAX_S,
    ) -> None:
        self.own = own
        self.uplinks = uplinks
        self.changed = changed
        self.clock_wait_max_s = clock_wait_max_s
        self.directory = Path()
        self.timer: asyncio.TimerHandle | None = None

    def open(self, directory: Path) -> list[str]:
        """Takes what was wanted before the daemon started; returns the problems of the file."""
        self.directory = directory
        found, trouble = load_preferences(directory)
        if trouble:
            logger.warning("%s", trouble)
        self.own.wanted = found.at(time.time())
        self._arm()
        return [trouble] * bool(trouble)

    def close(self) -> None:
        """Ends the wait for the end of a time."""
        if self.timer is not None:
            self.timer.cancel()

    # --- commands -----------------------------------------------------------------------------

    @property
    def requests(self) -> dict[str, RequestHandler]:
        """The commands, by the names that they have on the control socket."""
        return {"use": self.use, "avoid": self.avoid, "auto": self.auto}

    async def use(self, request: dict[str, Any]) -> dict[str, Any]:
        """``noid use UPLINK``: the others are for the worst case."""
        try:
            name = self._named(request)
        except Refused as refusal:
            return {"error": str(refusal)}
        left = {one: at_s for one, at_s in self.own.wanted.avoid.items() if one != name}
        logger.info("uplink %s is used before all others: noid use", printable(name))
        return self._want(Preferences(use=name, avoid=left))

    async def avoid(self, request: dict[str, Any]) -> dict[str, Any]:
        """``noid avoid UPLINK``: its locators are deprecated, for so long or until told."""
        try:
            name = self._named(request)
            for_s = _time_of(request)
            self._check_others(name)
        except Refused as refusal:
            return {"error": str(refusal)}
        before = self.own.wanted
        until_s = None if for_s is None else time.time() + for_s
        use = "" if before.use == name else before.use
        how_long = "until noid auto" if for_s is None else f"for {duration(for_s)}"
        logger.info("uplink %s is avoided %s: noid avoid", printable(name), how_long)
        return self._want(Preferences(use=use, avoid={**before.avoid, name: until_s}))

    async def auto(self, request: dict[str, Any]) -> dict[str, Any]:
        """``noid auto``: every uplink is as the configuration says."""
        if self.own.wanted != Preferences():
            logger.info("no uplink is preferred or avoided any more: noid auto")
        return self._want(Preferences())

    def _named(self, request: Mapping[str, Any]) -> str:
        name = str(request.get("uplink", ""))
        known = self.uplinks.by_name.values()
        if name not in {text for one in known for text in (one.name, one.interface)}:
            there = ", ".join(one.name for one in known) or "none"
            raise Refused(printable(f"no uplink is called {name!r}; there are: {there}"))
        return name

    def _check_others(self, name: str) -> None:
        avoided = {*self.own.wanted.at(time.time()).avoid, name}
        if len(avoided) > AVOIDED_MAX:
            raise Refused(f"{AVOIDED_MAX} uplinks are avoided already; first: noid auto")
        if all(any(_names(text, one) for text in avoided) for one in self.there):
            raise Refused(
                printable(f"no uplink besides {name} would be left to use; first: noid auto")
            )

    def _want(self, wanted: Preferences) -> dict[str, Any]:
        """Marks the locators accordingly, and writes it down."""
        self.own.wanted = wanted.at(time.time())
        warnings = list(self._warnings())
        try:
            keep_preferences(self.directory, self.own.wanted)
        except PlatformError as error:
            warnings.append(f"{error}; until then a restart forgets this")
            logger.warning("%s", warnings[-1])
        self._arm()
        self.changed()
        return {**self.describe(), "warnings": warnings}

    def _warnings(self) -> list[str]:
        wanted = self.own.wanted
        known = self.uplinks.by_name.values()
        left = [one for one in known if wanted.use and _names(wanted.use, one)] or [
            one for one in self.there if not any(_names(text, one) for text in wanted.avoid)
        ]
        if left and all(one.health is Health.DOWN for one in left):
            names = ", ".join(one.name for one in left)
            return [printable(f"{names} is down: others are used until it is up")]
        return []

    # --- the end of a time --------------------------------------------------------------------

    def _arm(self) -> None:
        self.close()
        ends = [at_s for at_s in self.own.wanted.avoid.values() if at_s is not None]
        if ends:
            wait_s = min(max(0.0, min(ends) - time.time()), self.clock_wait_max_s)
            self.timer = asyncio.get_running_loop().call_later(wait_s, self._on_time)

    def _on_time(self) -> None:
        before, now = self.own.wanted, self.own.wanted.at(time.time())
        if now == before:
            self._arm()
            return
        for name in before.avoid.keys() - now.avoid.keys():
            logger.info("uplink %s is not avoided any more: its time is over", printable(name))
        self._want(now)

    # --- what is shown ------------------------------------------------------------------------

    @property
    def there(self) -> list[Uplink]:
        """The uplinks that have a locator now."""
        return [one for one in self.uplinks.by_name.values() if one.is_there]

    def describe(self) -> dict[str, Any]:
        """What is wanted, as JSON has it."""
        wanted = self.own.wanted
        avoided = [
            {"uplink": name, "until": None if at_s is None else round(at_s, 3)}
            for name, at_s in wanted.avoid.items()
        ]
        return {"use": wanted.use, "avoid": avoided, "configured": list(self._configured())}

    def _configured(self) -> Iterator[dict[str, Any]]:
        """What the configuration says of each uplink that it names."""
        for one in self.there:
            section = self._section(one)
            is_backup = all(map(self.own.is_kept_back, one.locators))
            if section != USUAL or is_backup:
                yield {
                    "uplink": one.name,
                    "priority": section.priority,
                    "weight": section.weight,
                    "backup": is_backup,
                }

    def _section(self, uplink: Uplink) -> UplinkSection:
        return section_of(self.own.sections, uplink.name, uplink.interface)

    def show(self) -> None:
        """Updates the preference and the share of each uplink, for ``noid paths``."""
        wanted, weights = self.own.wanted, self.own.weights
        for one in self.uplinks.by_name.values():
            section = self._section(one)
            one.priority, one.weight = section.priority, section.weight
            one.share = None
            if weights:
                mine = sum(weights.get(locator, 0) for locator in one.locators)
                one.share = mine / sum(weights.values())
            ends = [at_s for name, at_s in wanted.avoid.items() if _names(name, one)]
            one.preference = "use" if wanted.use and _names(wanted.use, one) else ""
            one.until_s = None
            if ends:
                one.preference = "avoid"
                one.until_s = None if None in ends else max(filter(None, ends))


def _names(text: str, uplink: Uplink) -> bool:
    """Whether a text names an uplink."""
    return text in (uplink.name, uplink.interface) or any(
        is_of(text, uplink.interface, one) for one in uplink.locators
    )


def _time_of(request: Mapping[str, Any]) -> float | None:
    """For how long, in seconds.

    Raises:
        Refused: it is no time.
    """
    for_s = request.get("for_s")
    if for_s is None:
        return None
    is_number = isinstance(for_s, int | float) and not isinstance(for_s, bool)
    if not is_number or not 0 < for_s <= AVOID_MAX_S:
        raise Refused(f"for_s must be more than 0 and at most {AVOID_MAX_S:.0f} seconds")
    return float(for_s)
