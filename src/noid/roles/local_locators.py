# SPDX-License-Identifier: MIT
"""The locators of this host and their marks [D20, D22, D23, D25].

Turns a survey of addresses, links and routes into the event LocatorsChanged.
Two rules depend on earlier surveys: an address that is already deprecated when first seen is
ignored, and an address on a link that never had a default route needs none.
"""

import fnmatch
from dataclasses import replace

from noid.config import HostSection
from noid.constants import LOCATORS_MAX
from noid.control.uplinks import name_within
from noid.engine.events import LocatorsChanged
from noid.host.survey import OwnAddress, Survey
from noid.locators import Locator, parse_locator
from noid.state.preferences import Preferences


class LocalLocators:
    """What is known of them.

    Args:
        host: what the operator wants of them.

    Attributes:
        said: what the engine was told last.
        addresses: every address read last that could be a locator.
        everything: every address of this host, whatever device has it.
        links: the addresses of each uplink, by its index.
        wanted: which uplinks the operator wants used or avoided now.
    """

    def __init__(self, host: HostSection) -> None:
        self.host = host
        self.said = LocatorsChanged(())
        self.addresses: tuple[Locator, ...] = ()
        self.everything: frozenset[Locator] = frozenset()
        self.links: dict[int, frozenset[Locator]] = {}
        self.wanted = Preferences()
        self._led_out: frozenset[Locator] = frozenset()

    @property
    def locators(self) -> tuple[Locator, ...]:
        """The locators, the preferred one first."""
        return self.said.locators

    @property
    def sources(self) -> tuple[Locator, ...]:
        """Those from which new connections may begin: not what is to be left, if there is more."""
        kept = tuple(one for one in self.locators if one not in self.said.deprecated)
        return kept or self.locators

    def look(self, survey: Survey) -> LocatorsChanged | None:
        """Takes what there is; returns what is to be said to the engine, or None if nothing is."""
        found = survey.locators
        self.addresses = tuple(one.locator for one in found)
        self.everything = survey.addresses.union(self.addresses)
        self.links = {device.index: device.addresses for device in survey.devices}
        usable = [one for one in found if not one.deprecated or one.locator in self.locators]
        present = tuple(one.locator for one in usable)
        if self.host.locators:
            wanted = [parse_locator(text) for text in self.host.locators]
            present = tuple(locator for locator in wanted if locator in present)
        leading = frozenset(one.locator for one in usable if one.leads_out)
        stranded = self._led_out.intersection(present) - leading
        self._led_out = leading | stranded
        event = LocatorsChanged(
            present[:LOCATORS_MAX],
            deprecated=frozenset(one.locator for one in usable if self._is_left(one)),
            broken=stranded.union(one.locator for one in usable if one.broken),
            backup=frozenset(one.locator for one in usable if self._is_backup(one)),
        )
        if event == self.said:
            return None
        self.said = event
        return event

    def lost(self, index: int) -> LocatorsChanged | None:
        """The same of a link that has just been lost, by its index."""
        gone = self.links.get(index, frozenset()).intersection(self.locators)
        if gone <= self.said.broken:
            return None
        self.said = replace(self.said, broken=self.said.broken | gone)
        return self.said

    def _is_left(self, address: OwnAddress) -> bool:
        """Whether an address is to be left: the host says so, or its uplink is avoided."""
        return address.deprecated or any(
            is_of(one, address.interface, address.locator) for one in self.wanted.avoid
        )

    def _is_backup(self, address: OwnAddress) -> bool:
        """Whether the operator keeps an address for the worst case, by itself or its interface.

        Where one uplink is to be used before all others, those are kept so, and it is not.
        """
        if self.wanted.use:
            return not is_of(self.wanted.use, address.interface, address.locator)
        return any(
            parse_locator(one) == address.locator
            if ":" in one
            else fnmatch.fnmatchcase(address.interface, one)
            for one in self.host.backup
        )


def is_of(uplink: str, interface: str, locator: Locator) -> bool:
    """Whether an uplink is that of a locator, by its name; see ``noid.control.uplinks``."""
    return uplink in (interface, name_within(interface, locator))
