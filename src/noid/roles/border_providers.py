# SPDX-License-Identifier: MIT
"""The state of each provider of a border, from the facts of the host."""

import contextlib
from collections.abc import Collection
from ipaddress import IPv6Network
from typing import Final

from noid.border_config import BorderConfig, ProviderTable
from noid.constants import NEVER, SECOND
from noid.errors import ShimError
from noid.flows.border import HIGH_OCTETS, Provider, Site
from noid.flows.liveness import Liveness
from noid.host import gateways
from noid.host.gateways import Gateway, Link
from noid.locators import Locator
from noid.planes.bpf.border_tables import LINK_OCTETS, Left
from noid.roles import border_host
from noid.roles.checking import Target
from noid.roles.detecting import down_text

GATEWAY_PATIENCE_NS: Final = 3 * SECOND
"""A gateway may stay unknown for so long: the kernel asks three times, a second apart."""
NO_DEVICE, NO_CARRIER = "there is no such device", "no carrier"
NO_ROUTE, NO_ANSWER = "no default route", "the gateway does not answer"
NOT_HERE: Final = "another router has its uplink"
BEYOND: Final = frozenset({"check", "bfd"})
"""Signs of what is beyond the gateway, if that is another border."""


class ProviderState:
    """The state of a provider.

    Args:
        table: what is configured about it.
        config: the whole configuration.

    Attributes:
        link: its uplink; None: it is not there.
        gateway: its router; None: there is no route.
        is_beyond: whether another border, in a LAN, has the uplink.
        other: the link-layer address of that border, as far as it is known.
    """

    def __init__(self, table: ProviderTable, config: BorderConfig) -> None:
        self.table = table
        self.liveness = Liveness(round(config.border.hold_s * SECOND))
        self.link: Link | None = None
        self.gateway: Gateway | None = None
        self.is_beyond = config.is_behind_lan(self.table)
        self.other = b""
        self._config = config
        self._source: Locator | None = None
        self._silent_since_ns = NEVER

    @property
    def index(self) -> int:
        """The index of the uplink; 0: it does not exist."""
        return self.link.index if self.link is not None else 0

    @property
    def gateway_address(self) -> Locator | None:
        """The address of the gateway, if there is one."""
        return self.gateway.address if self.gateway is not None else None

    @property
    def route(self) -> tuple[int, Gateway | None]:
        """The default route that it needs: the index of the uplink, and the gateway; None: none.

        Packets to another border use it, too.
        """
        is_bad = self.liveness.bad.keys() - (BEYOND if self.is_beyond else set())
        return self.index, None if is_bad else self.gateway

    def facts(self, now_ns: int) -> Provider:
        """What determines the choice."""
        works = self.liveness.works(now_ns)
        return Provider(works, self.table.priority, self.table.weight, self.is_beyond)

    def look(self, link: Link | None, now_ns: int) -> None:
        """Reads its state from the host.

        Args:
            link: the device, if it is there.
            now_ns: the time.

        Raises:
            PlatformError: the kernel does not say.
        """
        self.link, self.gateway = link, None
        if link is None:
            why = NO_DEVICE if self.table.uplink else NOT_HERE
            self.liveness.take("carrier", why, now_ns)
            return
        if self.is_beyond:
            # The other border forwards only packets with a source of the provider's prefix.
            with contextlib.suppress(ShimError):
                self._source = border_host.source_in(link.index, self.table.prefixes)
        configured = self._config.gateway_of(self.table)
        self.gateway = Gateway(configured) if configured else gateways.gateway_of(link.index)
        self.liveness.take("route", "" if self.gateway else NO_ROUTE, now_ns)
        if link.carries and self.gateway_address is not None:
            why = self._ask_gateway(link.index, self.gateway_address, now_ns)
            self.liveness.take("gateway", why, now_ns)
        else:
            self._silent_since_ns = NEVER
            self.liveness.take("gateway", "", now_ns)
        self.liveness.take("carrier", "" if link.carries else NO_CARRIER, now_ns)

    def _ask_gateway(self, device: int, address: Locator, now_ns: int) -> str:
        """What is wrong with a gateway; it is asked for, so that the next time it is known.

        The state FAILED of a neighbour is short: the next packet starts a new resolution.
        """
        found = gateways.neighbour(device, address)
        if not found.is_permanent:  # the kernel would forget what the operator has set
            gateways.ask_for(device, address)
        if self.is_beyond and len(found.link_address) == LINK_OCTETS:
            self.other = found.link_address
        if found.answers:
            self._silent_since_ns = NEVER
            return ""
        self._silent_since_ns = min(self._silent_since_ns, now_ns)
        is_silent = found.answers is False or now_ns - self._silent_since_ns >= GATEWAY_PATIENCE_NS
        return NO_ANSWER if is_silent or "gateway" in self.liveness.bad else ""

    def inherit(self, left: Left, before: Liveness | None, now_ns: int) -> None:
        """Goes on with signs of an earlier daemon, until this one has found out otherwise.

        Args:
            left: what the kernel has; its signs are those of prefixes.
            before: that of this provider before a reload; None: there was none, or not of it.
            now_ns: the time.
        """
        signs: Collection[str]
        if before is not None:
            signs = before.bad
            self.liveness.go_on(before, now_ns)
        else:
            networks = map(IPv6Network, self.table.prefixes)
            own = {one.network_address.packed[:HIGH_OCTETS] for one in networks}
            signs = {sign for sign, highs in left.failed.items() if own & highs}
            if own & left.unused:
                self.liveness.wait(now_ns)
        why = {"gateway": NO_ANSWER}
        if self.table.check:
            why["check"] = f"{self.table.check} does not answer"
        if self.table.bfd:
            why["bfd"] = down_text(self.table)
        for sign in why.keys() & signs:
            self.liveness.take(sign, why[sign], now_ns)

    def target(self, address: Locator | None) -> Target | None:
        """Where packets that ask an address by this uplink go; None: that is not known."""
        return None if address is None else Target(address, self.index, self._source)

    def check_target(self) -> Target | None:
        """The target of the echo requests."""
        return self.target(self._config.check_of(self.table, self.gateway_address))

    def bfd_target(self) -> Target | None:
        """The target of the BFD session."""
        return self.target(self._config.bfd_peer_of(self.table, self.gateway_address))


def facts(site: Site, states: Collection[ProviderState], now_ns: int) -> dict[str, Provider]:
    """What determines the choice, by name of the provider.

    While none works for all packets, those that wait to be good for long enough do from now on.

    Args:
        site: the prefixes.
        states: the providers.
        now_ns: the time.
    """
    if _none_works(site, states, now_ns):
        for one in states:
            one.liveness.trust()
    return {one.table.name: one.facts(now_ns) for one in states}


def facts_handed_over(
    site: Site, states: Collection[ProviderState], now_ns: int
) -> dict[str, Provider]:
    """What determines the choice for packets that another border has handed over.

    They can use an uplink of this router alone, also one that waits while no other works. For all
    other packets it goes on waiting, as that border has an uplink that works.

    Args:
        site: the prefixes.
        states: the providers.
        now_ns: the time.
    """
    none_works = _none_works(site, [one for one in states if not one.is_beyond], now_ns)
    found = {one.table.name: one.facts(now_ns) for one in states}
    for one in states:
        if none_works and not one.liveness.bad:
            found[one.table.name] = found[one.table.name]._replace(works=True)
    return found


def _none_works(site: Site, states: Collection[ProviderState], now_ns: int) -> bool:
    """Whether no uplink works that has a prefix which packets of other prefixes can get."""
    names = {one.provider for one in site.own if one.uplink and not one.is_new}
    return not any(one.table.name in names and one.liveness.works(now_ns) for one in states)
