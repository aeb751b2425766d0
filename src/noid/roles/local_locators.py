# SPDX-License-Identifier: MIT
"""The locators of this host and their marks [D20, D22, D23, D25].

Turns a survey of addresses, links and routes into the event LocatorsChanged.
Two rules depend on earlier surveys: an address that is already deprecated when first seen is
ignored, and an address that never had a default route by its link needs none.

Of the uplinks that work, those of the lowest configured priority are in use. All others are marked
as backups; the marks change when an uplink goes down or comes back.
"""

import fnmatch
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from noid.config import HostSection
from noid.control.uplinks import name_within
from noid.engine.events import LocatorsChanged
from noid.engine.options import Pin, Policy
from noid.host.survey import OwnAddress, Survey
from noid.locators import SUBNET_OCTETS, Locator, chosen, is_unique_local, parse_locator
from noid.policy_config import PRIORITY_MAX, UplinkSection, UplinkSections, section_of
from noid.state.preferences import Preferences

NO_UPLINKS: UplinkSections = {}
AWAY_MAX: Final = 256
"""Addresses that are away of which it is remembered that they had a default route."""


class LocalLocators:
    """What is known of them.

    Args:
        host: what the operator wants of them.
        sections: how each uplink is used.
        pins: peers, each with the name of the uplink that it is pinned to.

    Attributes:
        said: what the engine was told last.
        addresses: every address read last that could be a locator, of interfaces that are up: the
            kernel receives nothing at others, though they may keep their addresses.
        everything: every address of this host, on any device.
        links: the addresses of each uplink, by its index.
        wanted: which uplinks the operator wants used or avoided now.
        listed: addresses that the DNS has under the name of this host, as far as is known.
        down: locators on uplinks that are down, as far as peers answer [noid.control.uplinks].
        interfaces: the interface of each locator.
        away: locators whose packets leave through another interface: there is no route by source.
    """

    def __init__(
        self,
        host: HostSection,
        sections: UplinkSections = NO_UPLINKS,
        pins: Sequence[tuple[Policy, str]] = (),
    ) -> None:
        self.host = host
        self.sections = sections
        self.pins = pins
        self.said = LocatorsChanged(())
        self.addresses: tuple[Locator, ...] = ()
        self.everything: frozenset[Locator] = frozenset()
        self.links: dict[int, frozenset[Locator]] = {}
        self.wanted = Preferences()
        self.listed: frozenset[Locator] = frozenset()
        self.down: frozenset[Locator] = frozenset()
        self.interfaces: dict[Locator, str] = {}
        self.away: frozenset[Locator] = frozenset()
        self._led_out: dict[tuple[str, Locator], None] = {}

    @property
    def locators(self) -> tuple[Locator, ...]:
        """The locators, the preferred one first."""
        return self.said.locators

    @property
    def sources(self) -> tuple[Locator, ...]:
        """The locators from which new connections start: of uplinks in use, if there are any.

        Of an uplink with several, those that the DNS has: for an AID that it does not have, peers
        use no other locator. Where uplinks are ranked or weighted, those that work. Otherwise a
        failure changes nothing: a UDP server that is bound to no address answers from the address
        that its client used.
        """
        in_use = frozenset(self.locators) - self.said.backup
        kept = self.not_left
        found = tuple(one for one in kept if one in in_use) or kept
        if self.is_ranked or self.is_weighted:
            found = self.working(in_use) or self.working(self.locators) or kept
        listed = {self._uplink(one) for one in found if one in self.listed}
        return tuple(one for one in found if one in self.listed or self._uplink(one) not in listed)

    def _uplink(self, locator: Locator) -> tuple[str, bytes]:
        """The uplink of a locator: its interface, and the prefix of its link."""
        return self.interfaces.get(locator, ""), locator[:SUBNET_OCTETS]

    def working(self, locators: Collection[Locator]) -> tuple[Locator, ...]:
        """The locators among these whose uplink works and is not to be left."""
        unfit = self.down | self.said.broken | self.said.deprecated | self.away
        return tuple(one for one in self.locators if one in locators and one not in unfit)

    @property
    def not_left(self) -> tuple[Locator, ...]:
        """The locators that are not to be left; all if each is to be left."""
        kept = tuple(one for one in self.locators if one not in self.said.deprecated)
        return kept or self.locators

    @property
    def weights(self) -> dict[Locator, int]:
        """The weight of one locator per uplink in ``sources``; empty if none is configured.

        Unique local addresses are left out if there are others.
        """
        uplinks: dict[tuple[str, bytes], Locator] = {}
        sources = self.sources
        for one in [one for one in sources if not is_unique_local(one)] or sources:
            uplinks.setdefault(self._uplink(one), one)
        if not self.is_weighted:
            return {}
        return {one: self._weight(one) for one in uplinks.values()}

    @property
    def is_ranked(self) -> bool:
        """Whether any uplink is configured to be used after others."""
        return any(one.priority > 1 or one.backup for one in self.sections.values())

    @property
    def is_weighted(self) -> bool:
        """Whether the weight of any uplink is configured."""
        return any(section.weight is not None for section in self.sections.values())

    def _weight(self, locator: Locator) -> int:
        return self.section(locator).weight or 1

    def set_down(self, down: frozenset[Locator]) -> bool:
        """Records which locators are on uplinks that are down; returns if marks may change."""
        is_other, self.down = down != self.down, down
        return is_other and any(one.priority > 1 for one in self.sections.values())

    def section(self, locator: Locator) -> UplinkSection:
        """How the uplink of a locator is used, as configured."""
        interface = self.interfaces.get(locator, "")
        return section_of(self.sections, name_within(interface, locator), interface)

    def look(self, survey: Survey) -> LocatorsChanged | None:
        """Takes what there is; returns what is to be said to the engine, or None if nothing is."""
        found = survey.locators
        self.everything = survey.addresses.union(one.locator for one in found)
        up = {device.name for device in survey.devices}
        self.addresses = tuple(one.locator for one in found if one.interface in up)
        self.links = {device.index: device.addresses for device in survey.devices}
        usable = [one for one in found if not one.deprecated or one.locator in self.locators]
        present = tuple(dict.fromkeys(one.locator for one in usable))
        if self.host.locators:
            wanted = [parse_locator(text) for text in self.host.locators]
            present = tuple(locator for locator in wanted if locator in present)
        stranded = self._stranded(usable).intersection(present)
        self.away = frozenset(survey.leaving)
        self.interfaces = {one.locator: one.interface for one in usable}
        left = frozenset(one.locator for one in usable if self._is_left(one))
        broken = stranded.union(one.locator for one in usable if one.broken)
        event = LocatorsChanged(
            chosen({one: self.interfaces[one] for one in present}, self.locators),
            deprecated=left,
            broken=broken,
            backup=self._backups(usable, left | broken | self.down),
            weights={one: weight for one in present if (weight := self._weight(one)) > 1},
            pins=tuple(self._pins(usable)),
            is_spread=self.is_weighted and not self.wanted.use,
        )
        if event == self.said:
            return None
        self.said = event
        return event

    def _stranded(self, usable: Sequence[OwnAddress]) -> frozenset[Locator]:
        """The locators that led out of their interface once, and do not now.

        Also those that were away in between: a link that is set down loses its addresses. Of those
        that are away, the last ``AWAY_MAX`` are remembered.
        """
        there = {(one.interface, one.locator): one.leads_out for one in usable}
        away = [one for one in self._led_out if one not in there]
        led_out = [one for one in there if there[one] or one in self._led_out]
        self._led_out = dict.fromkeys([*away[-AWAY_MAX:], *led_out])
        leading = {one.locator for one in usable if one.leads_out}
        return frozenset(locator for _, locator in led_out if locator not in leading)

    def lost(self, index: int) -> LocatorsChanged | None:
        """The change of locators by a link that has just been lost, by its index."""
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

    def _backups(
        self, usable: Sequence[OwnAddress], unfit: frozenset[Locator]
    ) -> frozenset[Locator]:
        """The locators to be used only if no other works.

        Args:
            usable: all addresses that may be locators.
            unfit: those of them that do not work, or are to be left.
        """
        if self.wanted.use:
            return frozenset(
                one.locator
                for one in usable
                if not is_of(self.wanted.use, one.interface, one.locator)
            )
        kept = frozenset(one.locator for one in usable if self.is_kept_back(one.locator))
        others = [one.locator for one in usable if one.locator not in kept]
        working = (self.section(one).priority for one in others if one not in unfit)
        best = min(working, default=PRIORITY_MAX)
        return kept.union(one for one in others if self.section(one).priority > best)

    def is_kept_back(self, locator: Locator) -> bool:
        """Whether a locator is configured as a backup, by itself or by its uplink."""
        return self.section(locator).backup or any(
            parse_locator(one) == locator
            if ":" in one
            else fnmatch.fnmatchcase(self.interfaces.get(locator, ""), one)
            for one in self.host.backup
        )

    def _pins(self, usable: Sequence[OwnAddress]) -> Iterable[Pin]:
        for peers, uplink in self.pins:
            found = (one.locator for one in usable if is_of(uplink, one.interface, one.locator))
            yield Pin(peers, frozenset(found))


def is_of(uplink: str, interface: str, locator: Locator) -> bool:
    """Whether an uplink is that of a locator, by its name; see ``noid.control.uplinks``."""
    return uplink in (interface, name_within(interface, locator))
