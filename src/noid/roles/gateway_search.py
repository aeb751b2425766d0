# SPDX-License-Identifier: MIT
"""Asks the links of silent uplinks for their gateways.

A router may be replaced by one with another link-layer address that does not advertise it. The
kernel believes in the former address for up to 45 s after it was confirmed, and then asks that
address for 8 s. So when a context hears nothing over an uplink, all neighbours on its link are
asked: the kernel takes the answer of the new router at once. If the router is the same as before,
its answer changes nothing.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, NamedTuple

from noid.host.links import FAR_AWAY
from noid.host.lookup import Packet, routes_taken, usual_user
from noid.host.solicitation import solicit
from noid.host.survey import Survey
from noid.locators import Locator

WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""After a suspicion and between the questions that follow it; by then the kernel has asked, too."""


class Due(NamedTuple):
    """The next question.

    Attributes:
        at_s: when it is asked.
        times: how often it was asked since the suspicion.
        asked_s: when it was asked last.
    """

    at_s: float
    times: int
    asked_s: float


class GatewaySearch:
    """The questions for the gateways of one host.

    Args:
        counted: counts refusals of the kernel in its block.
        ask: asks for the gateways of some addresses; see ``seek``.
        waits_s: the times between the questions.
    """

    def __init__(
        self,
        counted: Callable[[], AbstractContextManager[None]],
        *,
        ask: Callable[[Collection[Locator], Mapping[int, bytes], int], object] | None = None,
        waits_s: Sequence[float] = WAITS_S,
    ) -> None:
        self._counted = counted
        self._ask = ask or seek
        self._waits_s = waits_s
        self._links: Mapping[int, bytes] = {}
        self._user = 0
        self._due: dict[Locator, Due] = {}
        self._news = asyncio.Event()

    def surveyed(self, survey: Survey) -> None:
        """The host is now like this."""
        self._links = {one.index: one.link for one in survey.devices if one.has_ethernet}
        self._user = usual_user(survey.rules)

    def suspect(self, locators: Collection[Locator]) -> None:
        """Nothing is heard at these locators of ours, which are at most as many as a host has."""
        now_s = asyncio.get_running_loop().time()
        for one in locators:
            before = self._due.get(one)
            if before is None or before.times > 1:
                least_s = now_s if before is None else before.asked_s + self._waits_s[0]
                self._due[one] = Due(max(now_s, least_s), 0, now_s)
                self._news.set()

    async def watch(self) -> None:
        """Asks until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            next_s = min((one.at_s for one in self._due.values()), default=None)
            try:
                async with asyncio.timeout_at(next_s):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            due = [one for one, it in self._due.items() if it.at_s <= loop.time()]
            if due:
                with self._counted():
                    await asyncio.to_thread(self._ask, due, self._links, self._user)
                self._put_off(due, loop.time())

    def _put_off(self, asked: Collection[Locator], now_s: float) -> None:
        for one in asked:
            times = self._due.pop(one).times
            if times < len(self._waits_s):
                self._due[one] = Due(now_s + self._waits_s[times], times + 1, now_s)


def seek(sources: Collection[Locator], links: Mapping[int, bytes], user: int) -> None:
    """Asks for the gateways by which packets from some addresses leave.

    Args:
        sources: the addresses.
        links: the link-layer addresses of the devices that have one, by their indexes.
        user: whose packets they are.

    Raises:
        PlatformError: the kernel refuses.
        OSError: it does not answer.
    """
    routes = routes_taken([Packet(FAR_AWAY, source=one) for one in sources], user)
    ways = {(one.gateway, one.device) for one in routes if one.device in links}
    for gateway, device in ways:
        if gateway is not None:
            solicit(gateway, device, links[device])
