# SPDX-License-Identifier: MIT
"""AIDs that have left their link, and that another host there may have now.

An AID of a context stays deliverable although its address is removed [D23]. A virtual address of
several hosts (VRRP) is removed here because another host takes it: then programs of this host mean
that host, and the address is not kept.
"""

import asyncio
from collections.abc import Collection, Mapping

from noid.host.netlink import HostNetwork
from noid.locators import Locator

FIRST_WAIT_S = 1.0
"""After an address has left, how long until its link is asked again; doubled each time."""
LAST_WAIT_S = 10.0
ASKED_MAX = 64
"""Addresses that are asked for at one time."""


class FormerAddresses:
    """Finds out which AIDs other hosts have now.

    Args:
        network: the host's.

    Attributes:
        taken: those that a neighbour on their former link answers for.
    """

    def __init__(self, network: HostNetwork) -> None:
        self.network = network
        self.taken: frozenset[Locator] = frozenset()
        self._was_on: dict[Locator, int] = {}
        self._asked: frozenset[Locator] = frozenset()
        self._at_s = 0.0
        self._wait_s = FIRST_WAIT_S

    def note(self, links: Mapping[int, Collection[Locator]], in_use: Collection[Locator]) -> None:
        """Notes on which link each AID is.

        Args:
            links: the addresses of each uplink, by its index.
            in_use: the local AIDs of the contexts there are.
        """
        self._was_on = {aid: link for aid, link in self._was_on.items() if aid in in_use}
        for link, addresses in links.items():
            self._was_on |= {aid: link for aid in addresses if aid in in_use}

    async def look(self, gone: Collection[Locator], links: Collection[int], now_s: float) -> bool:
        """Asks the links for AIDs that have left them, if it is time to.

        Args:
            gone: the AIDs that no uplink has.
            links: the indexes of the uplinks that are up.
            now_s: the time.

        Returns:
            Whether ``taken`` is another now.
        """
        on = {aid: self._was_on[aid] for aid in gone if self._was_on.get(aid) in links}
        asked = frozenset(on)
        if asked - self._asked:
            self._wait_s, self._at_s = FIRST_WAIT_S, now_s
        self._asked = asked
        before = self.taken
        if not asked:
            self.taken = frozenset()
        elif now_s >= self._at_s:
            some = dict(list(on.items())[:ASKED_MAX])
            self.taken = await asyncio.to_thread(self.network.answered_for, some)
            self._at_s = now_s + self._wait_s
            self._wait_s = min(2 * self._wait_s, LAST_WAIT_S)
        return self.taken != before
