# SPDX-License-Identifier: MIT
"""What a sweep plays, cut into chunks, and what a worker makes of one."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from noid.engine.host import Host
from noid.errors import UsageError
from noid.sim.coverage import Entry
from noid.sim.node import MakeHost
from noid.sim.runs import PLAYABLE, Run, play, shortest, wanted
from noid.sim.scenarios import SWARM

CHUNK_SECONDS: Final = 2.0
"""How long a worker needs for a chunk, about."""
SECONDS_EACH: Final = {
    SWARM: 0.05,
    "healthy": 0.5,
    "renumbering-by-rules": 0.6,
    "partition": 0.1,
    "preferring": 0.5,
    "flapping": 0.2,
    "half-dead": 0.1,
    "storm": 0.15,
    "asleep": 0.3,
    "congested": 0.15,
    "bordered": 0.15,
    "bordered-lans": 0.4,
    "unable": 0.2,
    "walk-16x16": 0.5,
    "walk-2x8": 0.15,
    "walk-4x4": 0.15,
    "walk-3x3": 0.15,
    "walk-1x6": 0.15,
    "walk-2x2": 0.15,
}
"""What one run costs, about; 0.02 for those that are not here."""
SHORTENED_MAX: Final = 1
"""Violations of one chunk whose histories are made as short as they can be."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Runs of one scenario or family.

    Attributes:
        scenario: the scenario.
        numbers: the seeds, or numbers of histories.
    """

    scenario: str
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A violation.

    Attributes:
        scenario: the scenario.
        seed: and in which run.
        violation: what.
        history: the shortest that was found, as JSON; empty where there is none.
        ladder: the end of the run as a diagram.
    """

    scenario: str
    seed: int
    violation: str
    history: str
    ladder: str

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        return f"noid sim run --seed {self.seed} --scenario {self.scenario}"


@dataclass(slots=True)
class Totals:
    """What runs came to.

    Attributes:
        runs: how many.
        events: how much happened in them.
        seconds: of processor time.
        injected: faults by kind.
        seen: entries of the law of the state machine.
        judged: how often each law over time was.
        by_scenario: runs of each.
    """

    runs: int = 0
    events: int = 0
    seconds: float = 0.0
    injected: Counter[str] = field(default_factory=Counter)
    seen: Counter[Entry] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)
    by_scenario: Counter[str] = field(default_factory=Counter)

    def take(self, run: Run) -> None:
        """Adds one run."""
        self.runs += 1
        self.events += run.events
        self.injected += run.injected
        self.seen += run.seen
        self.judged += run.judged
        self.by_scenario[run.scenario] += 1

    def add(self, other: "Totals") -> None:
        """Adds the totals of other runs."""
        self.runs += other.runs
        self.events += other.events
        self.seconds += other.seconds
        self.injected += other.injected
        self.seen += other.seen
        self.judged += other.judged
        self.by_scenario += other.by_scenario


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a chunk came to."""

    chunk: Chunk
    totals: Totals
    found: tuple[Found, ...]


def chunks(seeds: int, scenarios: tuple[str, ...] = ()) -> list[Chunk]:
    """What a sweep plays.

    Args:
        seeds: how many are drawn; the exhaustive families and the directed scenarios come besides.
        scenarios: only these; all where there are none.

    Raises:
        UsageError: there is no such scenario.
    """
    unknown = [name for name in scenarios if name not in PLAYABLE]
    if unknown:
        raise UsageError(f"no scenario {unknown[0]!r}; see: noid sim run --scenario list")
    numbers = wanted(1, seeds, scenarios or tuple(PLAYABLE))
    return [chunk for name, some in numbers.items() for chunk in _cut(name, some)]


def _cut(name: str, numbers: tuple[int, ...]) -> list[Chunk]:
    size = max(1, int(CHUNK_SECONDS / SECONDS_EACH.get(name, 0.02)))
    return [Chunk(name, numbers[at : at + size]) for at in range(0, len(numbers), size)]


def carry_out(chunk: Chunk, make_host: MakeHost = Host) -> Outcome:
    """Runs a chunk, and shortens the first histories that violate a law or check."""
    totals, found = Totals(), []
    started_s = time.process_time()
    for number in chunk.numbers:
        run = play(number, chunk.scenario, make_host)
        totals.take(run)
        if run.violation and not run.known:
            found.append(run)
    totals.seconds = time.process_time() - started_s
    return Outcome(chunk, totals, tuple(_found(*one, make_host) for one in enumerate(found)))


def _found(index: int, run: Run, make_host: MakeHost) -> Found:
    history = shortest(run, make_host) if index < SHORTENED_MAX else None
    text = history.encode().decode() if history is not None else ""
    return Found(run.scenario, run.seed, run.violation, text, run.ladder)


assert not SECONDS_EACH.keys() - PLAYABLE.keys()
