"""Runs: a seed and a scenario in, what happened out."""

from collections import Counter
from dataclasses import dataclass, field

from noid.engine.host import Host
from noid.sim.coverage import Entry, every_entry
from noid.sim.node import MakeHost
from noid.sim.scenarios import SCENARIOS, SWARM
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
    digest: str
    ladder: str = ""

    @property
    def known(self) -> str:
        """Why it fails, where it is known to."""
        return SCENARIOS[self.scenario].known

    @property
    def command(self) -> str:
        """What plays this run again."""
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

    def add(self, run: Run) -> None:
        """One more run."""
        self.events += run.events
        self.injected += run.injected
        self.seen += run.seen
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
        scenario: its name, a key of ``SCENARIOS``.
        make_host: makes the engines.

    Returns:
        What happened; the same for the same arguments.
    """
    world = World(seed, make_host)
    violation = ""
    try:
        SCENARIOS[scenario].play(world)
    except Violation as error:
        violation = str(error)
        world.remark("", f"VIOLATION: {violation}")
    return Run(
        seed=seed,
        scenario=scenario,
        events=world.events,
        faults=world.faults,
        violation=violation,
        injected=world.injected,
        seen=world.coverage.seen,
        digest=world.trace.digest() if violation else "",
        ladder=world.trace.ladder(list(world.nodes)) if violation else "",
    )


def plan(first: int, count: int, scenario: str | None) -> list[tuple[int, str]]:
    """What to play: the swarm for each seed, and every directed scenario with the first one."""
    seeds = range(first, first + count)
    if scenario is not None:
        return [(seed, scenario) for seed in seeds]
    directed = [(first, name) for name in SCENARIOS if name != SWARM]
    return directed + [(seed, SWARM) for seed in seeds]
