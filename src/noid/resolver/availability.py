# SPDX-License-Identifier: MIT
"""Checks whether a resolver answers: at the start, and after each possible change [D49].

noid starts and runs without a resolver: established contexts continue, and programs get SERVFAIL
instead of no answer. An outage is reported once, with the remedy, and its end once.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from noid.resolver.port import Server
from noid.resolver.upstream import Upstream

RETRY_FIRST_S: Final = 1.0
"""Wait before the resolvers are asked again, doubled each time."""
RETRY_MAX_S: Final = 30.0
"""The longest such wait."""
CHECK_INTERVAL_S: Final = 1.0
"""Shortest time between two checks."""

logger = logging.getLogger("noid")


class Availability:
    """What is known of the resolvers as a whole.

    Args:
        upstream: sends queries to them.
        find: returns the present resolvers; those of the system may change.
        retry_first_s: wait before they are asked again.
        retry_max_s: the longest such wait.
        check_interval_s: shortest time between two checks.
    """

    def __init__(
        self,
        upstream: Upstream,
        find: Callable[[], Sequence[Server]],
        *,
        retry_first_s: float = RETRY_FIRST_S,
        retry_max_s: float = RETRY_MAX_S,
        check_interval_s: float = CHECK_INTERVAL_S,
    ) -> None:
        self.upstream = upstream
        self.find = find
        self.retry_first_s = retry_first_s
        self.retry_max_s = retry_max_s
        self.check_interval_s = check_interval_s
        self.checks = 0
        self._answers: bool | None = None
        self._since = ""
        self._wake = asyncio.Event()
        upstream.resolvers.on_outcome = self._note

    def describe(self) -> str:
        """The text for ``noid status``."""
        match self._answers:
            case None:
                return "not asked yet"
            case True:
                return "answers"
            case False:
                return f"no answer since {self._since}"

    def check_soon(self) -> None:
        """Requests a check after a change that may make a resolver reachable or unreachable."""
        self._wake.set()

    async def watch(self) -> None:
        """Checks now, after each sign of a change, and with back-off while nothing answers."""
        delay_s = self.retry_first_s
        while True:
            await self._check()
            self._wake.clear()
            await asyncio.sleep(self.check_interval_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._answers else delay_s):
                    await self._wake.wait()
            delay_s = self.retry_first_s if self._answers else min(2 * delay_s, self.retry_max_s)

    async def _check(self) -> None:
        """Asks over every path, and reports a change."""
        self.checks += 1
        self.upstream.resolvers.use(self.find())
        before, self._answers = self._answers, await self.upstream.reachable()
        names = ", ".join(address for address, _ in self.upstream.resolvers.servers)
        if self._answers and before is False:
            logger.info("dns.upstream: a resolver answers again: %s", names)
        elif not self._answers and before is not False:
            self._since = datetime.now(UTC).isoformat(timespec="seconds")
            logger.warning(
                "dns.upstream: no answer from %s over any uplink; check the addresses and the "
                "network. noid runs without names and asks again",
                names,
            )

    def _note(self, answered: bool) -> None:
        """A query ended: requests a check if its result contradicts the known state."""
        if self._answers is not None and answered is not self._answers:
            self._wake.set()
