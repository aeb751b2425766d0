# SPDX-License-Identifier: MIT
"""The sets of locators of a context, with the names of the draft [draft §3.2].

Lsl(peer) is announced by the peer, Lsr(peer) is listed in the DNS, Ls(peer) is their intersection,
Lsv(peer) its proven part. **Data is sent only to members of Lsv(peer)**, and accepted only from
members of Lsl(peer). "If this intersection does not contain AID(peer) it is an error and the AID is
added to the set" [draft §7.4].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from noid.dns.verification import Verification
from noid.locators import Locator, with_aid
from noid.wire.options import Entries, LocatorFlag

MARKS = LocatorFlag.DEPRECATED | LocatorFlag.BROKEN | LocatorFlag.BACKUP | LocatorFlag.WEIGHT
NO_MARKS = 0

NOTHING_LAPSING: Mapping[Locator, int] = {}
"""The empty table, which most contexts share."""


@dataclass(slots=True, eq=False, kw_only=True)
class LocatorSets:
    """The locators of both hosts of a context.

    Attributes:
        local_aid: AID(local).
        peer_aid: AID(peer).
        own_local: Lsl(local), the AID among them, preferred first.
        own_marks: those of them with marks, and the marks.
        own_remote: Lsr(local), what the peer found in the DNS about us; None until it said so.
        peer_local: Lsl(peer); empty until the peer has sent it.
        peer_marks: those of them that the peer marks deprecated, broken or backup.
        verification: what the DNS says about the peer: FQDN(peer), Lsr(peer), and what it proves.
        lapsing: proven locators that the DNS no longer lists, and when they are dropped [D44].
        aid_proven: the peer answered at its AID, which counts as verified [draft §7.13, D8].
    """

    local_aid: Locator
    peer_aid: Locator
    own_local: tuple[Locator, ...]
    own_marks: Entries = ()
    own_remote: tuple[Locator, ...] | None = None
    peer_local: tuple[Locator, ...] = ()
    peer_marks: Entries = ()
    verification: Verification
    lapsing: Mapping[Locator, int] = field(default_factory=lambda: NOTHING_LAPSING)
    aid_proven: bool = False

    @property
    def is_all_proven(self) -> bool:
        """Whether the only locator of the peer is its AID, and that is proven.

        Then "there is no need to perform any DNS verification" [draft §7.13].
        """
        return self.aid_proven and len(self.peer_local) == 1

    @property
    def peer_remote(self) -> tuple[Locator, ...]:
        """Lsr(peer), the AID first; the AID alone while the DNS has said nothing."""
        return self.verification.remote or (self.peer_aid,)

    @property
    def peer_set(self) -> tuple[Locator, ...]:
        """Ls(peer), the AID first."""
        remote, local = self.verification.remote or (self.peer_aid,), self.peer_local
        if self.lapsing:
            remote = (*remote, *[one for one in self.lapsing if one not in remote])
        elif local is remote:
            return remote  # the usual case; both begin with the AID
        both = tuple([one for one in remote if one in local]) if local else remote
        return both if self.peer_aid in both else (self.peer_aid, *both)

    @property
    def peer_verified(self) -> frozenset[Locator]:
        """Lsv(peer)."""
        if self.verification.proven is (peer_set := self.peer_set):
            return frozenset(peer_set)  # the usual case; the AID is in it
        proven = {*self.verification.proven, *self.lapsing}
        if self.aid_proven:
            proven.add(self.peer_aid)
        return frozenset(proven.intersection(peer_set))

    def is_verified(self, locator: Locator) -> bool:
        """Whether a locator is in Lsv(peer)."""
        is_proven = locator in self.verification.proven or locator in self.lapsing
        if not is_proven and not (self.aid_proven and locator == self.peer_aid):
            return False
        return locator in self.peer_set

    @property
    def peer_acceptable(self) -> frozenset[Locator]:
        """Lsl(peer), the accepted sources."""
        return frozenset((*self.peer_local, self.peer_aid))

    def accepts(self, source: Locator) -> bool:
        """Whether a source is accepted."""
        return source in self.peer_local or source == self.peer_aid

    @property
    def own_set(self) -> tuple[Locator, ...]:
        """Ls(local), the AID among them."""
        remote, local = self.own_remote, self.own_local
        if remote is None or remote is local:
            return local
        return tuple(one for one in local if one in remote or one == self.local_aid)

    @property
    def own_usable(self) -> frozenset[Locator]:
        """The members of Lsl(local) that are not marked broken."""
        gone = {one.locator for one in self.own_marks if one.flags & LocatorFlag.BROKEN}
        return frozenset(self.own_local) - gone

    def marks_of(self, locator: Locator) -> int:
        """The marks that the peer gives to one of its locators."""
        return _flags_in(self.peer_marks, locator) & MARKS

    def own_marks_of(self, locator: Locator) -> int:
        """The marks of one of our own locators."""
        return _flags_in(self.own_marks, locator)

    def learn_own_locators(self, entries: Entries) -> None:
        """Takes Lsr(local) from a message, if it has one."""
        said = tuple([one.locator for one in entries if one.flags & LocatorFlag.REMOTE])
        if said:
            self.own_remote = with_aid(said, self.local_aid)
        self.share_sets()

    def share_sets(self) -> None:
        """Stores equal sets once: for most hosts, the DNS and the messages have the same set."""
        if self.peer_local == self.verification.remote:
            self.peer_local = self.verification.remote
        if self.own_remote == self.own_local:
            self.own_remote = self.own_local


def _flags_in(entries: Entries, locator: Locator) -> int:
    return next((one.flags for one in entries if one.locator == locator), NO_MARKS)
