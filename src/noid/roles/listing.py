# SPDX-License-Identifier: MIT
"""Learns which addresses of this host the DNS has under its name.

An uplink may have several addresses, such as one by autoconfiguration and one by DHCPv6. A peer
uses other locators of this host only if the DNS ties them to the AID; so new connections start from
an address that the DNS has, where an uplink has such a one. Nothing else depends on the answer: the
resolver of this host may see another zone than its peers do.
"""

import asyncio
from collections.abc import Awaitable, Callable

from noid.dns.records import Answer, Kind, Question, Status, canonical_name
from noid.roles.local_locators import LocalLocators

ASK_INTERVAL_S = 30.0
"""Between two questions; within its lifetime, the answer is that of the cache."""


class Listing:
    """Keeps ``LocalLocators.listed`` up to date.

    Args:
        own: the host's locators.
        name: returns the present name of the host; empty if it has none.
        ask: asks the DNS.
    """

    def __init__(
        self,
        own: LocalLocators,
        name: Callable[[], str],
        ask: Callable[[Question], Awaitable[Answer]],
    ) -> None:
        self.own = own
        self.name = name
        self.ask = ask

    async def watch(self) -> None:
        """Asks until it is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(ASK_INTERVAL_S)

    async def look(self) -> None:
        """Asks once; without an answer, what is known stays."""
        name = canonical_name(self.name())
        if not name:
            self.own.listed = frozenset()
            return
        answer = await self.ask(Question(Kind.LOCATORS, name))
        if answer.status is not Status.UNREACHABLE:
            self.own.listed = frozenset(answer.locators)
