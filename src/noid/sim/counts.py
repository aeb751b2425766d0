# SPDX-License-Identifier: MIT
"""The plan and the counts of a simulated failure of a provider with many hosts."""

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
"""The other provider of its customers."""
PEERS: Final = (3, 4)
"""The providers of their peers."""


class Failure(enum.Enum):
    """How the provider fails."""

    SILENT = "silent"
    """It drops everything silently."""
    CARRIER = "carrier"
    """All its customers lose the link to it at the same time, and detect that."""


class Peers(enum.Enum):
    """The peers of the hosts."""

    OWN = "own"
    """Each context has a peer of its own."""
    SHARED = "shared"
    """All hosts have contexts with the same peers."""


class Phase(enum.Enum):
    """A part of a run with its own counts."""

    BEFORE = "before"
    OUTAGE = "outage"
    AFTER = "after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is simulated.

    Attributes:
        seed: the source of everything that is drawn.
        hosts: customers of the provider.
        contexts: the number of contexts of each host.
        failure: how the provider fails.
        peers: the peers of the hosts.
        load: how often the work of each peer is done; more than once if each host stands for
            several that have contexts with the same peers.
        calm_ns: between the set-up and the failure; its second half is ``Phase.BEFORE``.
        outage_ns: how long the provider fails.
        after_ns: how long the run continues after that.
        fails: whether the provider fails; False for comparison.
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
        """The number of nodes that are not hosts."""
        return self.contexts * (self.hosts if self.peers is Peers.OWN else 1)

    @property
    def most_contexts(self) -> int:
        """The largest number of contexts of a node."""
        return max(self.contexts, self.hosts if self.peers is Peers.SHARED else 1)


@dataclass(slots=True)
class Counts:
    """The messages and questions of one phase.

    Attributes:
        seconds: how long it is.
        messages: control messages sent, by code.
        octets: octets of these, with IPv6 headers.
        contexts: messages of each context, by its two AIDs.
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
    """The result of a run.

    Attributes:
        contexts: the number set up before the failure.
        counts: the counts of each phase.
        waited_ns: how long each program waited for the answer to its first packet in the outage.
        recovered_ns: when that answer arrived, after the failure.
        lost: contexts whose programs still waited when the provider worked again.
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
