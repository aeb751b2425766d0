# SPDX-License-Identifier: MIT
"""When the default source of packets to a peer is to be chosen again.

A plane chooses from which address connections to a peer start that name none. An address may be
removed or deprecated: a provider replaces its prefix. Connections may still start from there, but
only while a context carries them by another locator of this host. Otherwise they start where they
would without noid.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from noid.flows.flow import Flow
from noid.locators import Locator
from noid.planes.delayed import Delayed
from noid.planes.inquiries import Inquiries

MOVE_S: Final = 1.0
"""How long a context that may use another locator of this host has to do so."""
AT_ONCE: Final = 1000
"""Peers that are looked at in one turn of the loop; there may be a hundred thousand."""

Chosen = Callable[[Locator], Locator | None]
"""The source that packets to a peer get; None: the kernel chooses."""


class DefaultSources:
    """The choices of one plane.

    Args:
        not_left: this host's locators that are not to be left, at any time.
        working: those of them whose uplinks work, as far as is known.
        flows: the flows of the plane, by their AIDs.
        chooses: whether the plane chooses the source of packets to a peer at all.
        chosen: what it has chosen.
        preferred: what it chooses if packets from there reach the peer; None: no address in
            particular.
        choose: chooses again.
    """

    def __init__(
        self,
        not_left: Callable[[], Collection[Locator]],
        working: Callable[[], Collection[Locator]],
        flows: Mapping[bytes, Flow],
        *,
        chooses: Callable[[Locator], bool],
        chosen: Chosen,
        preferred: Chosen = lambda aid: None,
        choose: Callable[[Locator], None],
    ) -> None:
        self._not_left = not_left
        self._working = working
        self._flows = flows
        self._chooses = chooses
        self._chosen = chosen
        self._preferred = preferred
        self._choose = choose
        self._due = Inquiries(self._choose_again)
        self._unseen: list[Locator] = []
        self._moving: set[Locator] = set()
        self._move = Delayed(self._look_again, MOVE_S)

    def close(self) -> None:
        """Chooses nothing any more."""
        self._due.close()
        self._unseen.clear()
        self._move.cancel()

    def reaches(self, source: Locator, aid: Locator) -> bool:
        """Whether packets from an address to a peer use a locator that is not to be left."""
        return self._reaches(source, aid, self._not_left())

    def _reaches(self, source: Locator, aid: Locator, kept: Collection[Locator]) -> bool:
        if source in kept:
            return True
        flow = self._flows.get(source + aid)
        return flow is not None and flow.local_locator in kept

    def look_at_all(self, aids: Iterable[Locator]) -> None:
        """Does what ``look`` does for very many peers, some in each turn of the event loop."""
        is_under_way, self._unseen = bool(self._unseen), list(aids)
        if self._unseen and not is_under_way:
            asyncio.get_running_loop().call_soon(self._look_at_some)

    def _look_at_some(self) -> None:
        self.look(self._unseen[-AT_ONCE:])
        del self._unseen[-AT_ONCE:]
        if self._unseen:
            asyncio.get_running_loop().call_soon(self._look_at_some)

    def look(self, aids: Iterable[Locator]) -> None:
        """Chooses again for those of some peers whose source is not the right one any more.

        At once, unless a context may still move: its peer knows other locators of this host, one of
        which works.
        """
        stale, working = set(self._stale(aids)), self._working()
        moving = {aid for aid in stale if self._may_move(aid, working)}
        self._due.add_all(stale - moving)
        self._moving |= moving
        if moving:
            self._move.request()

    def _look_again(self) -> None:
        moving, self._moving = self._moving, set()
        self._due.add_all(self._stale(moving))

    def _choose_again(self, aids: Iterable[Locator]) -> None:
        for aid in filter(self._chooses, aids):
            self._choose(aid)

    def _stale(self, aids: Iterable[Locator]) -> Iterator[Locator]:
        kept = self._not_left()
        return (aid for aid in aids if self._chooses(aid) and self._is_stale(aid, kept))

    def _is_stale(self, aid: Locator, kept: Collection[Locator]) -> bool:
        chosen, preferred = self._chosen(aid), self._preferred(aid)
        if preferred is not None and self._reaches(preferred, aid, kept):
            return chosen != preferred
        return bool(kept) if chosen is None else not self._reaches(chosen, aid, kept)

    def _may_move(self, aid: Locator, working: Collection[Locator]) -> bool:
        chosen = self._chosen(aid)
        flow = None if chosen is None else self._flows.get(chosen + aid)
        return flow is not None and not flow.usable_locators.isdisjoint(working)
