# SPDX-License-Identifier: MIT
"""Runs of a scenario with a seed, and their results."""

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
        seed: its seed.
        scenario: its scenario.
        events: the number of events.
        faults: the drawn faults, in words.
        violation: the violation; empty if there is none.
        injected: the number of faults by kind.
        seen: the entries of the law that occurred.
        judged: how often each law over time was judged.
        digest: a hash of the trace.
        ladder: the end of the trace as a diagram, after a violation.
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
        """Why it fails, if that is known."""
        return PLAYABLE[self.scenario].known if self.scenario in PLAYABLE else ""

    @property
    def command(self) -> str:
        """The command that repeats this run."""
        if self.scenario not in PLAYABLE:
            return f"noid sim run --history {self.scenario}"
        return f"noid sim run --seed {self.seed} --scenario {self.scenario}"


@dataclass(slots=True)
class Tally:
    """The results of many runs."""

    events: int = 0
    passed: int = 0
    failed: list[Run] = field(default_factory=list)
    known: list[Run] = field(default_factory=list)
    injected: Counter[str] = field(default_factory=Counter)
    seen: Counter[Entry] = field(default_factory=Counter)
    judged: Counter[str] = field(default_factory=Counter)

    def add(self, run: Run) -> None:
        """Adds a run."""
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
    """Plays one scenario with one seed.

    Args:
        seed: the seed.
        scenario: its name, a key of ``PLAYABLE``.
        make_host: creates the engines.

    Returns:
        The result, which is equal for equal arguments.
    """
    return play_in(World(seed, make_host), scenario, PLAYABLE[scenario].play)


def play_in(world: World, scenario: str, happen: Callable[[World], None]) -> Run:
    """Plays an action in a new world; see ``play``."""
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
    """Plays a stored history.

    Args:
        history: the history.
        place: the place where it is stored.
        make_host: creates the engines.
    """
    world = World(history.seed, make_host)
    return play_in(world, place, lambda world: play_history(world, history))


def shortest(run: Run, make_host: MakeHost = Host) -> History | None:
    """The shortest history with the violation of a run; None if the run is of no family."""
    if run.scenario not in FAMILIES or not run.violation:
        return None
    return shrink(FAMILIES[run.scenario].history(run.seed), make_host)


def _of_family(family: Family) -> Scenario:
    return Scenario(family.summary, lambda world: play_history(world, family.history(world.seed)))


PLAYABLE = SCENARIOS | {name: _of_family(family) for name, family in FAMILIES.items()}
"""Every scenario and, a history for each seed, every family."""
assert len(PLAYABLE) == len(SCENARIOS) + len(FAMILIES)


SHARES = {
    SWARM: 28,
    "walk-2x2": 8,
    "bordered": 2,
    "bordered-lans": 2,
    "walk-1x6": 6,
    "walk-3x3": 4,
    "walk-4x4": 6,
    "walk-2x8": 4,
    "walk-16x16": 2,
    "healthy": 4,
    "renumbering-by-rules": 4,
    "partition": 4,
    "preferring": 4,
    "flapping": 4,
    "half-dead": 4,
    "storm": 5,
    "asleep": 3,
    "congested": 3,
    "unable": 3,
    "selective": 3,
    "interrupted": 2,
    "frozen": 2,
    "starved": 2,
    "rolled-back": 2,
    "blind": 1,
    "spelled": 1,
    "uneven": 2,
}
"""The share of each family in a hundred seeds."""
QUICK_MAX = 256
"""A family with more histories is only part of sweeps, unless it has a share."""
assert not SHARES.keys() - PLAYABLE.keys()


def plan(first: int, count: int, scenario: str | None) -> list[tuple[int, str]]:
    """The runs in order: seeds of one scenario, or a selection of everything.

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
        seeds: how many are drawn, divided among those of ``SHARES``; the exhaustive families and
            the directed scenarios are added.
        names: the names of the scenarios.
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
