# SPDX-License-Identifier: MIT
"""Looks up again, in batches, the routes that the host itself has to peers."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from noid.host.routes import EVERYWHERE, Prefix
from noid.locators import Locator

AT_ONCE: Final = 16
"""Peers looked up in one turn of the loop, which takes about a millisecond or more."""
COMPARED_AT_ONCE: Final = 2_000
"""Comparisons of a peer with a prefix in one turn of the loop, which take two milliseconds."""
PREFIXES_MAX: Final = 64
"""With more changed routes, every peer is looked up."""


class Inquiries:
    """The peers that may be affected by a changed route of the host.

    With very many peers, it takes a fifth of a second to find out which those are. Therefore they
    are compared with the prefixes in batches, too, while other events are handled in between.

    Args:
        look_up: looks up a few peers.
    """

    def __init__(self, look_up: Callable[[Sequence[Locator]], None]) -> None:
        self._look_up = look_up
        self._waiting: dict[Locator, None] = {}
        self._changed: dict[Prefix, None] = {}
        self._peers: Iterable[Locator] = ()
        self._compared: Iterator[Locator] | None = None
        self._prefixes: tuple[Prefix, ...] = ()
        self._goes_on = False

    def add(self, prefixes: Iterable[Prefix], peers: Iterable[Locator]) -> None:
        """Looks up the peers in these prefixes."""
        self._changed |= dict.fromkeys(prefixes)
        if len(self._changed) > PREFIXES_MAX:
            self._changed = {EVERYWHERE: None}
        self._peers = peers
        self._go_on_soon()

    def add_all(self, peers: Iterable[Locator]) -> None:
        """Looks up these peers."""
        self._waiting |= dict.fromkeys(peers)
        self._go_on_soon()

    def close(self) -> None:
        """Cancels all look-ups that wait."""
        self._waiting.clear()
        self._changed.clear()
        self._compared = None

    def _go_on_soon(self) -> None:
        is_due = self._waiting or self._changed or self._compared is not None
        if is_due and not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self._compare_some()
        if some := list(islice(self._waiting, AT_ONCE)):
            for aid in some:
                del self._waiting[aid]
            self._look_up(some)
        self._go_on_soon()

    def _compare_some(self) -> None:
        """Compares the next peers with the prefixes; prefixes that came since are for later."""
        if self._compared is None:
            if not self._changed:
                return
            self._prefixes, self._compared = tuple(self._changed), iter(list(self._peers))
            self._changed.clear()
        count = COMPARED_AT_ONCE // len(self._prefixes)
        some = list(islice(self._compared, count))
        affected = (one for one in some if any(p.covers(one) for p in self._prefixes))
        self._waiting |= dict.fromkeys(affected)
        if len(some) < count:
            self._compared = None
