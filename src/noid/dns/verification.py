# SPDX-License-Identifier: MIT
"""Verifies by forward and reverse DNS the locators of a peer [draft §3.1, §7.13; D14, D29].

A locator of a peer may become a destination only when the name of the peer lists it (forward) and
it names the peer (reverse). The initiator begins with the name it resolved; the responder begins
with the AID, whose reverse record leads to the name. Later inquiries begin with the name [D44].
**The claims of a peer about itself prove nothing**; they only decide between names of one AID.

One ``Verification`` is one such inquiry: it returns the next questions and receives the answers, in
any order. It uses no socket, clock or cache. After a transient failure the question is unanswered,
and the caller decides when to ask again; a permanent failure excludes the locator [D30].
"""

from collections.abc import Collection

from noid.constants import LOCATORS_MAX, NAMES_PER_LOCATOR_MAX, TTL_BELIEVED_MAX
from noid.dns.records import (
    Answer,
    Kind,
    Question,
    Status,
    canonical_name,
    canonical_order,
    locator_at,
    reverse_name,
)
from noid.locators import Locator, is_global_unicast


class Verification:
    """One inquiry about one peer.

    Many thousand that are settled are kept, one in each context: what is empty takes no room, and
    every set is a tuple, in the order in which it came about.

    Args:
        aid: AID(peer).
        name: FQDN(peer), where the caller resolved it; None for a responder, who has to find it.
        locators: the AAAA records of ``name``; empty for a responder.

    Attributes:
        aid: AID(peer).
        name: FQDN(peer); empty while the responder does not know it.
        remote: Lsr(peer) as far as known; the AID first.
        proven: those of them whose reverse record names the peer, once the AID's own does [D33].
        another: a name other than ``name`` that the AID's reverse and forward records confirm, if
            a later inquiry found one; empty otherwise.
        ttl_seconds: the least TTL of what was answered; TTL_BELIEVED_MAX until something was.
        open: the questions that were asked and not answered.
        failed: those that were answered for now, to be asked again.
    """

    __slots__ = (
        "_is_fixed", "_listed", "_listing", "_pointing",
        "aid", "another", "failed", "name", "open", "proven", "remote", "ttl_seconds",
    )  # fmt: skip

    def __init__(self, aid: Locator, name: str | None, locators: tuple[Locator, ...] = ()) -> None:
        self.aid = aid
        self.name = canonical_name(name) if name else ""
        self.another = ""
        self.remote: tuple[Locator, ...] = ()
        self.ttl_seconds = TTL_BELIEVED_MAX
        self.open: tuple[Question, ...] = ()
        self.failed: tuple[Question, ...] = ()
        self.proven: tuple[Locator, ...] = ()
        self._pointing: tuple[Locator, ...] = ()
        self._listing: tuple[tuple[str, tuple[Locator, ...]], ...] = ()
        self._listed = False
        self._is_fixed = False
        if self.name:
            self._forward_found(locators)

    @classmethod
    def recalled(
        cls, aid: Locator, name: str, remote: tuple[Locator, ...], proven: tuple[Locator, ...]
    ) -> "Verification":
        """An inquiry that an earlier daemon has completed, with its result [D36]."""
        inquiry = cls(aid, None)
        inquiry.name, inquiry.remote, inquiry.proven = name, remote, proven
        return inquiry

    def again(self) -> "Verification":
        """The next inquiry about the same peer.

        It begins with the name once that has proven another locator than the AID: the name is then
        the peer's identity, and the AID may leave the DNS [D44].
        """
        inquiry = Verification(self.aid, None)
        if self._has_proven_others:
            inquiry.name, inquiry._is_fixed = self.name, True
        return inquiry

    @property
    def verified(self) -> frozenset[Locator]:
        """The proven locators, as a set."""
        return frozenset(self.proven)

    @property
    def settled(self) -> bool:
        """Whether no question is open, now or later."""
        return not self.open and not self.failed

    @property
    def _has_proven_others(self) -> bool:
        return self.proven not in ((), (self.aid,))

    @property
    def _have_locators_failed(self) -> bool:
        return any(one.kind is Kind.LOCATORS for one in self.failed)

    def begin(self) -> list[Question]:
        """The first questions, and the open questions of a restored inquiry."""
        self.open = self.failed = ()
        if self._is_fixed:
            return self._ask_forward([self.name])
        if self.name and not self._listed:
            return []  # the DNS says nothing about this peer [D14]
        if self.name:
            return self._ask_reverse(self.remote)
        return self._ask_reverse((self.aid,))

    def retry(self, first: Locator | None = None) -> list[Question]:
        """The questions with a transient failure, to be asked again; one about a locator first."""
        name = reverse_name(first) if first is not None else ""
        again = sorted(self.failed, key=lambda question: question.name != name)
        self.open += self.failed
        self.failed = ()
        return again

    def receive(
        self, question: Question, answer: Answer, said: Collection[Locator] = ()
    ) -> list[Question]:
        """Takes one answer; an answer to a question that is not open is ignored.

        Args:
            question: what was asked.
            answer: how that ended.
            said: Lsl(peer) as the peer says it, which decides between names of one AID.

        Returns:
            What to ask next.
        """
        if question not in self.open:
            return []
        self.open = tuple([other for other in self.open if other != question])
        if answer.status is Status.UNREACHABLE:
            self.failed += (question,)
            return self._choose(said) if question.kind is Kind.LOCATORS else []
        self.ttl_seconds = min(self.ttl_seconds, answer.ttl_seconds)
        if question.kind is Kind.LOCATORS:
            return self._forward(question.name, answer, said)
        names = [canonical_name(name) for name in answer.names]
        if len(names) > 1:
            names = sorted(set(names), key=canonical_order)
        locator = locator_at(question.name)
        if locator == self.aid:
            return self._aid_found(names)
        self._reverse_found(locator, names)
        return []

    def _ask(self, questions: list[Question]) -> list[Question]:
        fresh = [one for one in dict.fromkeys(questions) if one not in self.open]
        self.open = (*self.open, *fresh)
        self.failed = tuple([one for one in self.failed if one not in fresh])
        return fresh

    def _ask_forward(self, names: list[str]) -> list[Question]:
        return self._ask([Question(Kind.LOCATORS, name) for name in names])

    def _ask_reverse(self, locators: tuple[Locator, ...]) -> list[Question]:
        return self._ask([Question(Kind.NAMES, reverse_name(locator)) for locator in locators])

    def _aid_found(self, names: list[str]) -> list[Question]:
        """The names of the AID; is the one we began with among them, and if not, which lists it?

        A name that lists an address of another host must not get its traffic: the name that the
        reverse lookup confirms wins [draft §16.2, D33].
        """
        if self.name and self.name in names:
            if self._listed:
                self._confirm()
            return []
        if not self._is_fixed:
            self.name = ""
            self._listed = False
            self._pointing = self.proven = ()
            # "it will assume that the peer has no FQDN. In this case the Lsr(peer) will contain
            # only the AID(peer)" [draft §7.13]
            self.remote = () if names else (self.aid,)
        return self._ask_forward(names[:NAMES_PER_LOCATOR_MAX])

    def _forward(self, name: str, answer: Answer, said: Collection[Locator]) -> list[Question]:
        """One name's locators: those of the peer's name, or of a name of its AID."""
        if self._is_fixed and name == self.name:
            self._forward_found(answer.locators)
            return self._ask_reverse(self.remote)
        if self.aid in answer.locators:
            # A name that does not list the AID says nothing: otherwise the owner of a reverse zone
            # could claim the addresses of a victim [D14].
            self._listing = (*self._listing, (name, answer.locators))
        return self._choose(said)

    def _choose(self, said: Collection[Locator]) -> list[Question]:
        """Of the names that list the AID the one that lists most of what the peer says [D44].

        The first in canonical order of those that list as many. All answers are waited for; one
        that comes after a transient error may change the choice until another locator is proven.
        """
        if any(one.kind is Kind.LOCATORS for one in self.open):
            return []
        listing = sorted(self._listing, key=lambda one: canonical_order(one[0]))
        if self._is_fixed:
            self.another = listing[0][0] if listing else ""
        elif listing and not self._has_proven_others:
            name, locators = listing[0]
            if len(listing) > 1:
                name, locators = max(listing, key=lambda one: len(set(said).intersection(one[1])))
            if name != self.name:
                self.name = name
                self._forward_found(locators)
                self._confirm()
                return self._ask_reverse(self.remote[1:])
        elif not (listing or self._has_proven_others or self._have_locators_failed):
            self.remote = (self.aid,)
        return []

    def _forward_found(self, locators: tuple[Locator, ...]) -> None:
        """Takes what a name lists; loopback, link-local and the like are no locators [D23]."""
        self._listed = self.aid in locators
        if not self._listed and not self._is_fixed:
            locators = ()
        others = [
            locator
            for locator in dict.fromkeys(locators)
            if locator != self.aid and is_global_unicast(locator)
        ]
        self.remote = (self.aid, *others[: LOCATORS_MAX - 1])

    def _reverse_found(self, locator: Locator, names: list[str]) -> None:
        if self.name not in names:
            # "it should exclude those locator(s) from the set" [draft §7.13]
            self.remote = tuple(other for other in self.remote if other != locator)
        elif self._is_fixed or self.aid in self.proven:
            self._prove(locator)
        else:
            self._pointing += (locator,)

    def _confirm(self) -> None:
        """The AID names the peer too: what points at the name is the peer's."""
        self._prove(self.aid, *self._pointing)
        self._pointing = ()

    def _prove(self, *locators: Locator) -> None:
        proven = {*self.proven, *locators}
        if proven.issuperset(self.remote):
            self.proven = self.remote
        else:
            self.proven = tuple([one for one in self.remote if one in proven])
        if self._has_proven_others and not self._is_fixed:
            self._listing = ()  # the name is chosen
