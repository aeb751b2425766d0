# SPDX-License-Identifier: MIT
"""Runs: a seed and a scenario in, what happened out."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from noid.engine.host import Host
from noid.sim.coverage import Entry, every_entry
from noid.sim.families import FAMILIES, Family
from noid.sim.history import History
from noid.sim.history import play as play_history
from noid.sim.node import MakeHost
from noid.sim.scenarios import SCENARIOS, SWARM, Scenario
from noid.sim.shrink import shrink
from noid.sim.violation import Violation
from noid.sim.world import World


@dataclass(slots=True)
class Run:
    """One run.

    Attributes:
        seed: what it came from.
        scenario: and what was played.
        events: how much happened.
        faults: what was drawn, in words.
        violation: what must not have happened; empty where nothing did.
        injected: the faults by kind.
        seen: the entries of the law that occurred.
        judged: how often each law over time was judged.
        digest: of everything that happened, in order.
        ladder: the end of it as a diagram, where something went wrong.
    """

    seed: int
    scenario: str
    events: int
    faults: str
    violation: str
    injected: Counter[str]
    seen: Counter[Entry]
    judged: Counter[str]
    digest: str
    ladder: str = ""

    @property
    def known(self) -> str:
        """Why it fails, where it is known to."""
        return PLAYABLE[self.scenario].known if self.scenario in PLAYABLE else ""

    @property
    def command(self) -> str:
        """What plays this run again."""
        if self.scenario not in PLAYABLE:
            return f"noid sim run --history {self.scenario}"
        return f"noid sim run --seed {self.seed} --scenario {self.scenario}"


@dataclass(slots=True)
class Tally:
    """What many runs came to."""

    events: int = 0
    passed: int = 0
    failed: list[Run] = field(default_factory=list)
    known: list[Run] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    seen: Counter[Entry] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run) -> None:
        """One more run."""
        self.events += run.events
        self.injected += run.injected
        self.seen += run.seen
        self.judged += run.judged
        if run.known and not run.violation:
            run.violation = f"passes, but was known to fail: {run.known}"
            self.failed.append(run)
        elif run.known:
            self.known.append(run)
        elif run.violation:
            self.failed.append(run)
        else:
            self.passed += 1

    @property
    def never(self) -> list[Entry]:
        """The entries of the law that did not occur."""
        return [entry for entry in every_entry() if entry not in self.seen]


def play(seed: int, scenario: str = SWARM, make_host: MakeHost = Host) -> Run:
    """Plays one scenario out of one seed.

    Args:
        seed: where everything comes from.
        scenario: its name, a key of ``PLAYABLE``.
        make_host: makes the engines.

    Returns:
        What happened; the same for the same arguments.
    """
    return play_in(World(seed, make_host), scenario, PLAYABLE[scenario].play)


def play_in(world: World, scenario: str, happen: Callable[[World], None]) -> Run:
    """Lets something happen in a fresh world; see ``play``."""
    violation = ""
    try:
        happen(world)
    except Violation as error:
        violation = str(error)
        world.remark("", f"VIOLATION: {violation}")
    return Run(
        seed=world.seed,
        scenario=scenario,
        events=world.events,
        faults=world.faults,
        violation=violation,
        injected=world.injected,
        seen=world.coverage.total(),
        judged=world.laws.judged if world.laws is not None else Counter(),
        digest=world.trace.digest() if violation else "",
        ladder=world.trace.ladder(list(world.nodes)) if violation else "",
    )


def play_again(history: History, place: str, make_host: MakeHost = Host) -> Run:
    """Plays a history that was written down.

    Args:
        history: it.
        place: where it is written.
        make_host: makes the engines.
    """
    world = World(history.seed, make_host)
    return play_in(world, place, lambda world: play_history(world, history))


def shortest(run: Run, make_host: MakeHost = Host) -> History | None:
    """The shortest history that violates what a run did; None where it was drawn by no family."""
    if run.scenario not in FAMILIES or not run.violation:
        return None
    return shrink(FAMILIES[run.scenario].history(run.seed), make_host)


def _of_family(family: Family) -> Scenario:
    return Scenario(family.summary, lambda world: play_history(world, family.history(world.seed)))


PLAYABLE = SCENARIOS | {name: _of_family(family) for name, family in FAMILIES.items()}
"""Every scenario and, a history for each seed, every family."""
assert len(PLAYABLE) == len(SCENARIOS) + len(FAMILIES)


SHARES = {
    SWARM: 34,
    "walk-2x2": 10,
    "walk-1x6": 8,
    "walk-4x4": 8,
    "walk-2x8": 6,
    "walk-16x16": 2,
    "healthy": 4,
    "renumbering-by-rules": 4,
    "partition": 4,
    "preferring": 4,
    "flapping": 4,
    "half-dead": 4,
    "congested": 4,
    "unable": 4,
}
"""Of a hundred seeds."""
QUICK_MAX = 256
"""A family with more histories is left to sweeps, unless it has a share."""
assert not SHARES.keys() - PLAYABLE.keys()


def plan(first: int, count: int, scenario: str | None) -> list[tuple[int, str]]:
    """What to play, in order: seeds of one scenario, or a selection of everything.

    The selection has each directed scenario once, each exhaustive family that is small, and
    ``count`` seeds of the swarm with as many of the other families as their share is.
    """
    if scenario is not None:
        return [(seed, scenario) for seed in range(first, first + count)]
    quick = [name for name in PLAYABLE if name in SHARES or not _is_large(name)]
    seeds = count * sum(SHARES.get(name, 0) for name in quick) // SHARES[SWARM]
    numbers = wanted(first, seeds, tuple(quick))
    return [(number, name) for name, some in numbers.items() for number in some]


def _is_large(name: str) -> bool:
    return name in FAMILIES and FAMILIES[name].count > QUICK_MAX


def wanted(first: int, seeds: int, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Which numbers of each scenario to play.

    Args:
        first: the first seed.
        seeds: how many are drawn, shared among those of ``SHARES``; the exhaustive families and
            the directed scenarios come besides.
        names: of the scenarios.
    """
    total = sum(SHARES.get(name, 0) for name in names)
    numbers = {}
    for name in names:
        if name in SHARES:
            share = -(-seeds * SHARES[name] // total)
            numbers[name] = tuple(range(first, first + share))
        elif name in FAMILIES:
            numbers[name] = tuple(FAMILIES[name].numbers())
        else:
            numbers[name] = (first,)
    return numbers
