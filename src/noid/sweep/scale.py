# SPDX-License-Identifier: MIT
"""What the failure of a provider costs, by the number of its customers and of their contexts.

Sizes that no machine can simulate are sampled: some of the hosts are simulated with all of their
contexts, and what all hosts cause together is multiplied. What one host or one context causes is
reported as it is measured.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from noid.constants import MILLISECOND, SECOND
from noid.errors import UsageError
from noid.sim.counts import PEERS, SURVIVING, Course, Failure, Peers, Phase, Plan
from noid.sim.outage import HOSTS_MAX, Outage

SAMPLE_DEFAULT: Final = 2_000
"""Contexts that are simulated of each size, where there are so many."""
TRAFFIC_DEFAULT: Final = 16.0
"""kbit/s of a context that fails over, in both directions together."""
HOSTS_LIMIT: Final = 1_000_000
CONTEXTS_LIMIT: Final = 20_000
"""Contexts of each host, at most: each of its peers is simulated."""
BITS_OF_KILO: Final = 1_000 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One size, and how it is measured.

    Attributes:
        hosts: customers of the provider.
        contexts: of each.
        failure: how the provider fails.
        peers: who the others are.
        simulated: hosts that are simulated.
        seed: of the run.
        calm_s: before the failure; half of it is measured.
        outage_s: how long the provider is away.
        after_s: measured after its return.
    """

    hosts: int
    contexts: int
    failure: Failure
    peers: Peers
    simulated: int
    seed: int
    calm_s: int = 600
    outage_s: int = 300
    after_s: int = 60

    @property
    def factor(self) -> float:
        """How many hosts each simulated one stands for."""
        return self.hosts / self.simulated


@dataclass(frozen=True, slots=True)
class Spread:
    """Of many values: the median, the 99th of a hundred, and the greatest."""

    median: float
    most: float
    greatest: float

    @classmethod
    def of(cls, values: Iterable[int], unit: int) -> "Spread | None":
        """The spread of times in ns, in another unit; None if there are none."""
        ordered = sorted(values)
        if not ordered:
            return None
        picked = (len(ordered) // 2, len(ordered) * 99 // 100, len(ordered) - 1)
        return cls(*(round(ordered[at] / unit, 3) for at in picked))


@dataclass(frozen=True, slots=True)
class Zone:
    """Questions that the servers of one zone get, each second.

    Attributes:
        before: on average before the failure.
        outage: on average during the outage.
        busiest: in the busiest second of the outage.
        after: on average after it.
    """

    before: float
    outage: float
    busiest: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured of one size; what all hosts cause is multiplied by ``Cell.factor``.

    Attributes:
        cell: the size.
        simulated: contexts that were simulated and set up before the failure.
        lost: those of them that were not through when the provider returned.
        before_each: control messages of a context each second, before the failure.
        messages: control messages of a context because of the failure, by code: those of the
            outage without those of the same time in a run in which nothing fails.
        messages_each: all of them.
        messages_most: the most of any context.
        messages_all: of a context in the outage, with those that it would send anyway.
        octets_each: of those because of the failure, with IPv6 headers.
        return_each: control messages of a context because of the return.
        switches_each: changes of the pair of a context.
        provider: control messages through the surviving provider in its busiest second.
        host_link: of the busiest access link of a host.
        peer_link: of the busiest access link of a peer.
        zones: of the DNS, by name.
        waited_ms: how long a program waited for the answer to its first packet into the outage.
        recovered_s: when that came, after the failure.
        share: octets of control messages because of failure and return, against the traffic of the
            outage.
        events: of the simulation.
        seconds: of processor time.
    """

    cell: Cell
    simulated: int
    lost: int
    before_each: float
    messages: dict[str, float]
    messages_each: float
    messages_most: int
    messages_all: float
    octets_each: float
    return_each: float
    switches_each: float
    provider: float
    host_link: int
    peer_link: float
    zones: dict[str, Zone]
    waited_ms: Spread | None
    recovered_s: Spread | None
    share: float
    events: int
    seconds: float

    @property
    def busiest_zone(self) -> float:
        """Questions in the busiest second of any zone."""
        return max((zone.busiest for zone in self.zones.values()), default=0.0)


def cells(
    hosts: list[int],
    contexts: list[int],
    failures: list[Failure],
    peers: Peers = Peers.OWN,
    sample: int = SAMPLE_DEFAULT,
    seed: int = 1,
) -> list[Cell]:
    """Every size, those first that take longest.

    Args:
        hosts: numbers of customers.
        contexts: numbers of contexts of each.
        failures: how the provider fails.
        peers: who the others are.
        sample: contexts that are simulated of a size, and at least those of one host.
        seed: of the first run; each has its own.

    Raises:
        UsageError: a number is beyond its limit.
    """
    if max(contexts) > CONTEXTS_LIMIT:
        raise UsageError(f"--contexts: at most {CONTEXTS_LIMIT} of each host")
    if max(hosts) > HOSTS_LIMIT:
        raise UsageError(f"--hosts: at most {HOSTS_LIMIT}")
    if sample + max(contexts) > HOSTS_MAX // 2:
        raise UsageError(f"--sample: at most {HOSTS_MAX // 2 - max(contexts)}")
    sizes = [(failure, one, each) for failure in failures for one in hosts for each in contexts]
    return sorted(
        (
            Cell(
                hosts=one,
                contexts=each,
                failure=failure,
                peers=peers,
                simulated=max(1, min(one, sample // each)),
                seed=seed + index,
            )
            for index, (failure, one, each) in enumerate(sizes)
        ),
        key=lambda cell: -cell.simulated * cell.contexts,
    )


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measures a cell, anywhere.

    Attributes:
        traffic: kbit/s of each context.
    """

    traffic: float

    def __call__(self, cell: Cell) -> Figures:
        """Plays the failure."""
        started_s = time.process_time()
        shared = cell.peers is Peers.SHARED
        plan = Plan(
            seed=cell.seed,
            hosts=cell.simulated,
            contexts=cell.contexts,
            failure=cell.failure,
            peers=cell.peers,
            load=round(cell.factor) if shared else 1,
            calm_ns=cell.calm_s * SECOND,
            outage_ns=cell.outage_s * SECOND,
            after_ns=cell.after_s * SECOND,
        )
        course, calm = Outage(plan).play(), Outage(replace(plan, fails=False)).play()
        return figures(cell, course, calm, self.traffic, time.process_time() - started_s)


def figures(cell: Cell, course: Course, calm: Course, traffic: float, seconds: float) -> Figures:
    """What a run says about a size, compared with one in which nothing fails."""
    before, outage, after = (course.counts[phase] for phase in Phase)
    _, instead, afterwards = (calm.counts[phase] for phase in Phase)
    count = cell.simulated * cell.contexts
    saved = traffic * BITS_OF_KILO * cell.outage_s * count
    busiest, factor = outage.busiest_zones(), cell.factor
    questions = [counts.questions() for counts in (before, outage, after)]
    names = sorted(set().union(*questions))
    rates = {
        name: [
            round(asked[name] / counts.seconds * factor, 3)
            for asked, counts in zip(questions, (before, outage, after), strict=True)
        ]
        for name in names
    }
    return Figures(
        cell=cell,
        simulated=course.contexts,
        lost=course.lost,
        before_each=before.messages.total() / before.seconds / count,
        messages={
            code: (each - instead.messages[code]) / count
            for code, each in sorted(outage.messages.items())
        },
        messages_each=(outage.messages.total() - instead.messages.total()) / count,
        messages_most=max(
            (each - instead.contexts[ends] for ends, each in outage.contexts.items()), default=0
        ),
        messages_all=outage.messages.total() / count,
        octets_each=(outage.octets - instead.octets) / count,
        return_each=(after.messages.total() - afterwards.messages.total()) / count,
        switches_each=outage.switches / count,
        provider=max(outage.provider.values(), default=0) * factor,
        host_link=outage.busiest_link((SURVIVING,)),
        peer_link=outage.busiest_link(PEERS) * (factor if cell.peers is Peers.SHARED else 1),
        zones={
            name: Zone(rate[0], rate[1], busiest.get(name, 0) * factor, rate[2])
            for name, rate in rates.items()
        },
        waited_ms=Spread.of(course.waited_ns, MILLISECOND),
        recovered_s=Spread.of(course.recovered_ns, SECOND),
        share=(outage.octets + after.octets - instead.octets - afterwards.octets) / saved,
        events=course.events + calm.events,
        seconds=seconds,
    )
