# SPDX-License-Identifier: MIT
"""``noid sim``: simulates the protocol in virtual time, with faults and attacks, from seeds."""

import argparse
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from noid.cli import scale, sweep
from noid.cli.leaves import add_group, add_json, add_leaf
from noid.cli.output import say
from noid.errors import UsageError
from noid.sim.coverage import every_entry, states_in
from noid.sim.history import History, decode
from noid.sim.runs import PLAYABLE, Run, Tally, plan, play, play_again, shortest
from noid.text import json_line

SEED_DEFAULT: Final = 1
FAULTS_SHOWN_MAX: Final = 24
EXAMPLES: Final = (
    "noid sim run --seeds 100",
    "noid sim run --seed 7",
    "noid sim run --scenario list",
    "noid sim run --scenario walk-4x4 --seeds 50 --shrink",
)

Step = Callable[[Tally], None]


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``sim`` with its own commands."""
    leaves = add_group(
        commands,
        "sim",
        description=(
            "Runs the real engines against loss, outages, reboots, false DNS answers and\n"
            "attackers, in virtual time, and checks the laws after every step. Needs no\n"
            "privileges and changes nothing on this machine."
        ),
        epilog="Start with: noid sim run",
    )
    run = add_leaf(
        leaves,
        "run",
        run_seeds,
        "run seeds, and print which failed and how to run them again",
        *EXAMPLES,
        description="Runs seeds. Exit status 1 if one fails.",
    )
    run.add_argument(
        "--seed", type=_count, metavar="N", help=f"the first seed; default: {SEED_DEFAULT}"
    )
    run.add_argument(
        "--seeds", type=_positive, default=1, metavar="COUNT", help="how many; default: 1"
    )
    run.add_argument("--scenario", metavar="NAME", help="run only this scenario; `list` lists all")
    run.add_argument(
        "--history",
        metavar="FILE",
        help="run the histories in a file, one line of JSON each, as --shrink prints them",
    )
    run.add_argument(
        "--shrink",
        action="store_true",
        help="shorten the history of each failure as far as possible, and print it",
    )
    add_json(run)
    sweep.add_command(leaves)
    scale.add_command(leaves)


def run_seeds(arguments: argparse.Namespace) -> int:
    """Plays the seeds asked for."""
    if arguments.scenario == "list":
        _print_scenarios(as_json=arguments.json)
        return 0
    if arguments.scenario is not None and arguments.scenario not in PLAYABLE:
        raise UsageError(f"no scenario {arguments.scenario!r}; see: noid sim run --scenario list")
    first = SEED_DEFAULT if arguments.seed is None else arguments.seed
    if arguments.shrink:
        return _print_shortest(first, arguments.seeds, arguments.scenario)
    plays = _plays(arguments, first)
    started_ns = time.perf_counter_ns()
    with _progress(len(plays)) as step:
        tally = _play_all(plays, step)
    result = Result(tally, first, arguments.seeds, (time.perf_counter_ns() - started_ns) / 1e9)
    if arguments.json:
        say(json_line(result.as_json()))
    else:
        result.print()
    return 1 if tally.failed else 0


def _print_shortest(first: int, count: int, scenario: str | None) -> int:
    """Prints the shortest history of each violation, one line of JSON each."""
    status = 0
    for seed, name in plan(first, count, scenario):
        run = play(seed, name)
        history = shortest(run)
        if run.violation:
            status = 1
            found = history.encode().decode() if history is not None else None
            say(json_line({"replay": run.command, "violation": run.violation}))
            say(found or "no history: the swarm and directed scenarios are not made of steps")
    return status


def _plays(arguments: argparse.Namespace, first: int) -> list[Callable[[], Run]]:
    """The runs."""
    if arguments.history is not None:
        histories = _histories(arguments.history)
        return [partial(play_again, one, arguments.history) for one in histories]
    runs = plan(first, arguments.seeds, arguments.scenario)
    return [partial(play, seed, scenario) for seed, scenario in runs]


def _histories(path: str) -> list[History]:
    try:
        lines = Path(path).read_bytes().splitlines()
        return [decode(line) for line in lines if line.startswith(b'{"seed"')]
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"{path}: {error}") from None


def _play_all(plays: list[Callable[[], Run]], step: Step) -> Tally:
    tally = Tally()
    for one in plays:
        tally.add(one())
        step(tally)
    return tally


@dataclass(frozen=True, slots=True)
class Result:
    """The result of all runs, and their duration."""

    tally: Tally
    first: int
    count: int
    seconds: float

    @property
    def events_per_second(self) -> int:
        """Simulated events per second of real time."""
        return round(self.tally.events / self.seconds) if self.seconds else 0

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        tally = self.tally
        return {
            "seeds": self.count,
            "first_seed": self.first,
            "runs": tally.passed + len(tally.failed) + len(tally.known),
            "passed": tally.passed,
            "failed": [_run_as_json(run) for run in tally.failed],
            "known_to_fail": [{**_run_as_json(run), "known": run.known} for run in tally.known],
            "events": tally.events,
            "seconds": round(self.seconds, 3),
            "events_per_second": self.events_per_second,
            "faults": dict(sorted(tally.injected.items())),
            "law": {
                "entries": len(every_entry()),
                "covered": len(every_entry()) - len(tally.never),
                "states": states_in(tally.seen),
                "never": [[state.value, trigger.value] for state, trigger in tally.never],
            },
            "judged": dict(tally.judged),
        }

    def print(self) -> None:
        """Prints the result as text."""
        tally = self.tally
        for run in tally.failed:
            say(f"FAILED seed {run.seed}, scenario {run.scenario}")
            say(f"  drawn: {run.faults or 'nothing'}")
            say(f"  {run.violation}")
            say(*run.ladder.splitlines())
            say(f"  again: {run.command}", "")
        table = Table(box=None, pad_edge=False, show_header=False)
        entries = len(every_entry())
        table.add_row("seeds", f"{self.count} from {self.first}")
        table.add_row("runs", f"{tally.passed} passed, {len(tally.failed)} failed")
        for run in tally.known:
            table.add_row("known to fail", escape(f"{run.command}: {run.known}"))
        pace = f"{tally.events} in {self.seconds:.1f} s, {self.events_per_second} a second"
        table.add_row("events", pace)
        table.add_row("law", f"{entries - len(tally.never)} of {entries} entries reached")
        if tally.judged:
            judged = ", ".join(f"{law} {count}" for law, count in sorted(tally.judged.items()))
            table.add_row("judged", escape(judged))
        common = tally.injected.most_common(FAULTS_SHOWN_MAX)
        table.add_row("faults", escape(", ".join(f"{kind} {count}" for kind, count in common)))
        Console().print(table)


def _run_as_json(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "scenario": run.scenario,
        "violation": run.violation,
        "faults": run.faults,
        "replay": run.command,
        "ladder": run.ladder.splitlines(),
    }


def _print_scenarios(*, as_json: bool) -> None:
    if as_json:
        say(json_line({name: one.summary for name, one in PLAYABLE.items()}))
        return
    width = max(map(len, PLAYABLE))
    for name, one in PLAYABLE.items():
        say(f"{name:{width}}  {one.summary}")


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Step]:
    """Shows the progress on standard error, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("playing", total=total)

        def step(tally: Tally) -> None:
            failed = f", {len(tally.failed)} failed" if tally.failed else ""
            bar.update(task, advance=1, description=f"playing{failed}")

        yield step


def _count(text: str) -> int:
    with contextlib.suppress(ValueError):
        if int(text) >= 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a seed: a whole number, 0 or more")


def _positive(text: str) -> int:
    if _count(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError("at least one seed")
