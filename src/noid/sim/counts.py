# SPDX-License-Identifier: MIT
"""What is simulated where a provider fails under many hosts, and what is counted."""

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from noid.constants import SECOND
from noid.dns.records import REVERSE_ZONE, locator_at
from noid.locators import Locator
from noid.sim.network import provider_of

FAILING: Final = 1
"""The provider that fails."""
SURVIVING: Final = 2
"""The other one of its customers."""
PEERS: Final = (3, 4)
"""Those of their peers."""


class Failure(enum.Enum):
    """How the provider fails."""

    SILENT = "silent"
    """It drops everything, and no host is told."""
    CARRIER = "carrier"
    """Each of its customers loses the link to it at the same moment, and is told."""


class Peers(enum.Enum):
    """Who the peers of the hosts are."""

    OWN = "own"
    """Each context has a peer of its own."""
    SHARED = "shared"
    """All hosts have contexts with the same peers."""


class Phase(enum.Enum):
    """A part of a run, of which counts are kept."""

    BEFORE = "before"
    OUTAGE = "outage"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated.

    Attributes:
        seed: everything that is drawn comes from it.
        hosts: customers of the provider.
        contexts: of each of them.
        failure: how the provider fails.
        peers: who the others are.
        load: how often the work of each peer is done; more than once where the hosts stand for
            others that have contexts with the same peers.
        calm_ns: between the set-up and the failure; its second half is ``Phase.BEFORE``.
        outage_ns: how long the provider is away.
        after_ns: how long it is watched after its return.
        fails: whether the provider fails; if not, all else is the same, for comparison.
    """

    seed: int
    hosts: int
    contexts: int
    failure: Failure
    peers: Peers = Peers.OWN
    load: int = 1
    calm_ns: int = 600 * SECOND
    outage_ns: int = 300 * SECOND
    after_ns: int = 60 * SECOND
    fails: bool = True

    @property
    def peer_count(self) -> int:
        """How many nodes there are besides the hosts."""
        return self.contexts * (self.hosts if self.peers is Peers.OWN else 1)

    @property
    def most_contexts(self) -> int:
        """How many the node has that has the most."""
        return max(self.contexts, self.hosts if self.peers is Peers.SHARED else 1)


@dataclass(slots=True)
class Counts:
    """What travelled and was asked in one phase.

    Attributes:
        seconds: how long it is.
        messages: control messages sent, by code.
        octets: of these, with their IPv6 headers.
        contexts: of these, by the two AIDs.
        switches: how often a context changed its pair of locators.
        provider: control messages through the surviving provider, by second.
        links: those over each access link, by locator and second.
        zones: questions to the servers of each zone, by zone and second.
    """

    seconds: float
    messages: Counter[str] = field(default_factory=Counter)
    octets: int = 0
    contexts: Counter[bytes] = field(default_factory=Counter)
    switches: int = 0
    provider: Counter[int] = field(default_factory=Counter)
    links: Counter[tuple[Locator, int]] = field(default_factory=Counter)
    zones: Counter[tuple[str, int]] = field(default_factory=Counter)

    def busiest_link(self, providers: tuple[int, ...]) -> int:
        """Control messages in the busiest second of any access link to one of the providers."""
        counts = (count for (at, _), count in self.links.items() if provider_of(at) in providers)
        return max(counts, default=0)

    def busiest_zones(self) -> dict[str, int]:
        """Questions in the busiest second of each zone."""
        busiest: dict[str, int] = {}
        for (zone, _), count in self.zones.items():
            busiest[zone] = max(busiest.get(zone, 0), count)
        return busiest

    def questions(self) -> Counter[str]:
        """All questions to each zone."""
        totals: Counter[str] = Counter()
        for (zone, _), count in self.zones.items():
            totals[zone] += count
        return totals


@dataclass(slots=True)
class Course:
    """What a run came to.

    Attributes:
        contexts: those that were set up before the failure.
        counts: of each phase.
        waited_ns: how long each program waited for the answer to what it sent into the outage.
        recovered_ns: when that came, after the failure.
        lost: contexts whose programs were still waiting when the provider returned.
        events: entries of the queue.
    """

    contexts: int
    counts: dict[Phase, Counts]
    waited_ns: list[int]
    recovered_ns: list[int]
    lost: int
    events: int


def zone_of(name: str) -> str:
    """The zone of a name: a reverse zone for each provider, a forward one for each group."""
    if name.endswith(REVERSE_ZONE):
        return f"reverse of provider {provider_of(locator_at(name))}"
    return name.partition(".")[2]


REVERSE_OF_FAILING: Final = f"reverse of provider {FAILING}"
