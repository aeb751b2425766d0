# SPDX-License-Identifier: MIT
"""Looks up again, in batches, the routes that the host itself has to peers."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from noid.host.routes import Prefix
from noid.locators import Locator

AT_ONCE: Final = 16
"""A lookup takes about a millisecond."""


class Inquiries:
    """The peers that may be affected by a changed route of the host.

    Args:
        look_up: looks up one peer.
    """

    def __init__(self, look_up: Callable[[Locator], None]) -> None:
        self._look_up = look_up
        self._waiting: dict[Locator, None] = {}

    def add(self, prefixes: Iterable[Prefix], peers: Iterable[Locator]) -> None:
        """Looks up the peers in these prefixes."""
        changed = list(prefixes)
        self.add_all(one for one in peers if any(prefix.covers(one) for prefix in changed))

    def add_all(self, peers: Iterable[Locator]) -> None:
        """Looks up these peers."""
        concerned = dict.fromkeys(peers)
        if concerned and not self._waiting:
            asyncio.get_running_loop().call_soon(self._look_up_some)
        self._waiting |= concerned

    def close(self) -> None:
        """Cancels all look-ups that wait."""
        self._waiting.clear()

    def _look_up_some(self) -> None:
        for aid in list(self._waiting)[:AT_ONCE]:
            del self._waiting[aid]
            self._look_up(aid)
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._look_up_some)
