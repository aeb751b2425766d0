# SPDX-License-Identifier: MIT
"""A context as a host that acts by itself keeps it: the sets, and the pair in use [§1, §6]."""

from dataclasses import dataclass, field

from tests.interop.asking import Verifier
from tests.interop.context import Context
from tests.interop.names import Found
from tests.interop.octets import IN_LSL, LocatorSet, Message

NOTHING_FOUND = Found("", (), ())
FIRST_S = 4.0
UPDATE_MAX_S = 120.0
HELD_MAX = 4

Pair = tuple[str, str]
"""A source and a destination."""
Ulp = tuple[int, bytes]
"""A packet of a ULP: its protocol, and what follows its IPv6 header."""


@dataclass(slots=True, kw_only=True)
class Talk(Context):
    """One end of one context.

    Attributes:
        locators: Lsl(local) and its flags.
        own_lsr: Lsr(local), what the peer found; None until it said so.
        pair: Lp(local), Lp(peer).
        aid_proven: the set-up has proven the AID.
        probation: where the CC went, while the DNS has not proven that [§6, provisional].
        verifier: the inquiry about the peer.
        found: what it found, or the one before it while it is under way.
        told: the Lsr that the peer was told; None if it was told none.
        announced: whether our label may be used.
        tries: INITs sent; replies: CCRs sent.
        held: packets that wait, and their sources.
        waiting: the latest packet that went plain; carried: the one on the last INIT.
        update: the UR with new sets that waits for its acknowledgement.
    """

    locators: LocatorSet
    own_lsr: set[str] | None = None
    pair: Pair = ("", "")
    aid_proven: bool = False
    probation: str = ""
    verifier: Verifier | None = None
    found: Found = NOTHING_FOUND
    told: set[str] | None = None
    announced: bool = False
    tries: int = 0
    replies: int = 0
    held: list[tuple[str, Ulp]] = field(default_factory=list)
    waiting: Ulp | None = None
    carried: Ulp | None = None
    update: Message | None = None

    def __post_init__(self) -> None:
        self.pair = self.local, self.peer

    @property
    def settled(self) -> bool:
        return self.state in ("established", "ur-sent")

    @property
    def lsl(self) -> list[str]:
        """Lsl(peer), the AID first; empty until the peer has spoken."""
        said = [one for one, flags in self.peer_locators.items() if flags & IN_LSL]
        return said if not said or self.peer in said else [*said, self.peer]

    @property
    def acceptable(self) -> set[str]:
        """The sources of packets from the peer."""
        return {self.peer, *(self.lsl or self.lsr)}

    @property
    def lsr(self) -> tuple[str, ...]:
        return self.found.remote or (self.peer,)

    @property
    def ls(self) -> list[str]:
        """Ls(peer), the AID first."""
        both = [one for one in self.lsr if one in self.lsl or not self.lsl]
        return [self.peer, *(one for one in both if one != self.peer)]

    @property
    def lsv(self) -> list[str]:
        """Lsv(peer)."""
        proven = {*self.found.verified, *([self.peer] if self.aid_proven else [])}
        return [one for one in self.ls if one in proven]

    @property
    def ls_local(self) -> list[str]:
        """Ls(local), the AID first."""
        found = self.own_lsr
        both = [one for one in self.locators if found is None or one in found]
        return [self.local, *(one for one in both if one != self.local)]

    @property
    def carries(self) -> bool:
        """Whether data may leave by the context."""
        return self.settled and not self.probation and self.pair[1] in self.lsv

    @property
    def first_contacts(self) -> list[Pair]:
        """A round of INIT: the sources, and for each the proven destinations, the AIDs first."""
        sources = [self.local, *(one for one in self.locators if one != self.local)]
        proven = [one for one in self.ls if one == self.peer or one in self.lsv]
        return [(source, destination) for source in sources for destination in proven]

    @property
    def pairs(self) -> list[Pair]:
        """Every pair that data may use."""
        return [(source, destination) for source in self.ls_local for destination in self.lsv]

    def start_on(self, pair: Pair) -> None:
        """Uses the pair that has just worked, as soon as it may be used."""
        self.pair = pair
        self.settle()

    def settle(self) -> None:
        """Brings the pair in use back into the sets, once something is proven."""
        if self.probation:
            return
        source, destination = self.pair
        if source not in self.ls_local:
            source = self.local
        if destination not in self.lsv:
            destination = self.lsv[0] if self.lsv else self.peer
        self.pair = source, destination
