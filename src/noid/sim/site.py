# SPDX-License-Identifier: MIT
"""A site with a border in the simulated network, by the reference in ``noid.flows.border``."""

from typing import Final

from noid.flows.border import (
    HIGH_OCTETS,
    SOURCE_AT,
    Choice,
    Outcome,
    Provider,
    Site,
    SitePrefix,
    arriving,
    choose,
    departing,
    leaving,
)
from noid.locators import LOCATOR_OCTETS, Locator
from noid.sim.parcel import CODEPOINTS
from noid.wire import ipv6
from noid.wire.slots import m6_next_headers

BITS: Final = 48
"""Of every prefix of a site; see ``network.locator_of``."""
REWRITABLE: Final = m6_next_headers(CODEPOINTS)[:8]
OUTSIDE: Final = Locator(bytes.fromhex("20010dc8") + bytes(11) + b"\1")
"""A destination in no site."""
PRIORITY, PRIORITY_BETTER = 100, 50
REFUSED: Final = "refused"
"""The fate of a packet whose sender gets ICMPv6 code 5."""
WITHOUT_BORDER: Final = "router dead"


class SiteBorder:
    """The border of a site.

    Args:
        uplinks: how many it has.
        locators: an address of a host for each prefix; prefix n is of uplink n modulo ``uplinks``.

    Attributes:
        works: which uplinks work, as far as the daemon knows.
        delegated: bit n is set if prefix n is configured.
        manual: the uplink that the operator has chosen; empty: none.
        preferred: the uplink with the best priority; empty: all have the same.
        has_daemon: whether the daemon runs; without it the programs keep the last choice.
        is_alive: whether the router forwards anything.
    """

    def __init__(self, uplinks: int, locators: tuple[Locator, ...]) -> None:
        self.uplinks = uplinks
        self._highs = [one[: BITS // 8].ljust(HIGH_OCTETS, b"\0") for one in locators]
        self.site: Site
        self.choice: Choice
        self.works: list[bool]
        self.heal()

    def heal(self) -> None:
        """Restores the first configuration, with everything working."""
        self.works = [True] * self.uplinks
        self.delegated = (1 << len(self._highs)) - 1
        self.manual = self.preferred = ""
        self.has_daemon = self.is_alive = True
        self.decide()

    @property
    def is_whole(self) -> bool:
        """Whether nothing fails at the border."""
        everything = (1 << len(self._highs)) - 1
        return (
            self.has_daemon
            and self.is_alive
            and all(self.works)
            and self.delegated == everything
            and len(self.choice.rows) == len(self._highs)
        )

    def decide(self) -> None:
        """Chooses the uplinks, if there is a daemon."""
        if not self.has_daemon:
            return
        self.site = Site(
            BITS,
            tuple(
                SitePrefix(high, 1 + number % self.uplinks, str(number % self.uplinks))
                for number, high in enumerate(self._highs)
                if self.delegated >> number & 1
            ),
        )
        providers = {
            str(number): Provider(
                works, PRIORITY_BETTER if str(number) == self.preferred else PRIORITY, 1
            )
            for number, works in enumerate(self.works)
        }
        self.choice = choose(self.site, providers, self.manual)

    def carry_out(self, packet: bytes) -> tuple[bytes, str]:
        """The packet of a host as it leaves the site, and why it does not; empty if it does."""
        if not self.is_alive:
            return packet, WITHOUT_BORDER
        judged = leaving(self.site, self.choice, REWRITABLE, packet)
        if judged.outcome is Outcome.REFUSED:
            return packet, REFUSED
        row = self.site.row_of(judged.packet[SOURCE_AT:])
        uplink = 0 if row is None else self.site.prefixes[row].uplink
        if departing(self.site, uplink, judged.packet).outcome is Outcome.DROPPED:
            return packet, "source outside the site"
        return judged.packet, ""

    def carry_in(self, packet: bytes) -> str:
        """Why a packet for a host of the site does not arrive; empty if it does."""
        if not self.is_alive:
            return WITHOUT_BORDER
        dropped = arriving(self.site, packet).outcome is Outcome.DROPPED
        return "source of the site" if dropped else ""

    def source_of(self, source: Locator, *, rewritable: bool) -> Locator | None:
        """The source with which a packet of a host leaves; None if it does not."""
        header = ipv6.Header(
            source=source,
            destination=OUTSIDE,
            next_header=REWRITABLE[0] if rewritable else ipv6.NO_NEXT_HEADER,
            payload_octets=0,
        )
        packet, obstacle = self.carry_out(header.encode())
        return None if obstacle else Locator(packet[SOURCE_AT : SOURCE_AT + LOCATOR_OCTETS])
