# SPDX-License-Identifier: MIT
"""Labels of deleted contexts, not allocated again while packets with them may arrive [D19].

Sites share the table, as they share contexts [D46]: a site that opens and closes many contexts
removes no label of another site early. The keys of the contexts are kept to acknowledge a CLOSE
that is repeated; and, while cookies of before are valid, what the peers said of themselves, so that
a CCR of before makes no other context.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from noid.constants import CLOSE_TIME, COOKIE_LIFETIME, ENDED_MAX
from noid.engine.context import Context
from noid.engine.secrets import Side
from noid.identifiers import Label
from noid.locators import Locator
from noid.shares.policy import QUARANTINE, site_of
from noid.shares.tables import Table


class _Kept(NamedTuple):
    until_ns: int
    key: bytes
    site: int | None


def exchange_of(context: Context) -> Side:
    """What the peer of a context said of itself; each CCR of the same exchange repeats it."""
    return Side(context.peer_aid, context.peer_label, context.peer_token, context.peer_key)


class Quarantine:
    """The labels in quarantine, in the order in which they leave it.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int = QUARANTINE.limit) -> None:
        self.limit = limit
        self.shares: Table[Label] = Table(QUARANTINE, limit)
        self._kept: OrderedDict[Label, _Kept] = OrderedDict()
        self._ended: OrderedDict[Side, int] = OrderedDict()
        """When the last context of each exchange was deleted, in this order."""

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Label]:
        return iter(self._kept)

    def __contains__(self, label: Label) -> bool:
        return label in self._kept

    def key_of(self, label: Label) -> bytes:
        """K of the context that had a label; empty if it had no key, or the label is not here."""
        kept = self._kept.get(label)
        return b"" if kept is None else kept.key

    def keep(self, context: Context, now_ns: int) -> None:
        """Adds the label of a deleted context, if packets with it may still arrive."""
        if context.is_known_to_peer or context.announced:
            self.put(context.local_label, now_ns, context.agreed_key, context.began)
            if now_ns - context.established_ns <= COOKIE_LIFETIME:
                self.end(exchange_of(context), now_ns)

    def end(self, peer: Side, now_ns: int) -> None:
        """Notes that a context of an exchange is deleted; a CCR may repeat that exchange."""
        ended = self._ended
        ended[peer] = now_ns
        ended.move_to_end(peer)
        while len(ended) > ENDED_MAX or next(iter(ended.values())) < now_ns - COOKIE_LIFETIME:
            ended.popitem(last=False)

    def deleted_ns(self, peer: Side) -> int:
        """When the last context of an exchange was deleted; -1 if none is here.

        Args:
            peer: what the peer said of itself in that exchange.
        """
        return self._ended.get(peer, -1)

    def put(self, label: Label, now_ns: int, key: bytes, began: Locator | None) -> None:
        """Adds a label; if the table is full, others are removed.

        Args:
            label: the label.
            now_ns: the present.
            key: K of its context.
            began: the locator of the peer whose share it takes; None if a local program began.
        """
        while self._kept and next(iter(self._kept.values())).until_ns <= now_ns:
            self.release_oldest()
        site = None if began is None else site_of(began)
        is_full = len(self._kept) >= self.limit
        for one in self.shares.in_the_way(site, now_ns, now_ns, _unused, is_full=is_full):
            self._release(one)
        if len(self._kept) >= self.limit:
            self.release_oldest()
        self._kept[label] = _Kept(now_ns + CLOSE_TIME, key, site)
        if site is not None:
            self.shares.add(site, label)

    def release_oldest(self) -> None:
        """Removes the label that is first in order."""
        self._release(next(iter(self._kept)))

    def _release(self, label: Label) -> None:
        kept = self._kept.pop(label)
        if kept.site is not None:
            self.shares.remove(kept.site, label)


def _unused(_: Label) -> tuple[bool, int]:
    return False, 0
