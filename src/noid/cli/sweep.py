# SPDX-License-Identifier: MIT
"""``noid sim sweep``: runs every history and many seeds, on all cores or on a cluster."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from noid.bench.report import positive
from noid.cli.leaves import add_json, add_leaf
from noid.cli.output import say
from noid.sim.coverage import every_entry
from noid.sim.families import FAMILIES
from noid.sim.laws import LAWS
from noid.sweep import workers
from noid.sweep.results import Results
from noid.sweep.work import Chunk, Found, Outcome, Totals, carry_out, chunks
from noid.text import json_line

PROGRESS_S: Final = 2.0
"""A sweep that takes longer shows its progress."""
LINES_S: Final = 15.0
"""Interval of progress lines if standard error is not a terminal."""
SHOWN_MAX: Final = 20
INTERRUPTED: Final = 130
"""The exit status of a program that SIGINT ended."""
SEEDS_DEFAULT: Final = 1_000
EXAMPLE: Final = """\
noid sim sweep --seeds 20000 --results sweep.sqlite
  noid sim sweep --seeds 1000 --scenario walk-4x4
  noid sim sweep --seeds 1000000 --cluster tcp://192.0.2.1:8786

An interrupted sweep continues when it is started again with the same --results.
"""


def add_command(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``sweep``."""
    sweep = add_leaf(
        leaves,
        "sweep",
        run_sweep,
        "run every history and many seeds, on all cores or on a cluster",
        EXAMPLE,
        description=(
            "Runs every cut of up to 3x3 locators, every loss of two control messages, and the\n"
            "given number of random runs. Histories that violate a law are shortened as far as\n"
            "possible. Exit status 1 if there is one."
        ),
    )
    sweep.add_argument(
        "--seeds",
        type=positive,
        default=SEEDS_DEFAULT,
        metavar="N",
        help=f"random runs in all; default: {SEEDS_DEFAULT}",
    )
    sweep.add_argument(
        "--scenario",
        action="append",
        default=[],
        metavar="NAME",
        help="run only this scenario; can be repeated; `noid sim run --scenario list` lists all",
    )
    workers.add_options(sweep)
    sweep.add_argument(
        "--results",
        default=":memory:",
        metavar="FILE",
        help="SQLite file; runs in it are not repeated; default: none",
    )
    add_json(sweep)


def run_sweep(arguments: argparse.Namespace) -> int:
    """Does the runs that are not in the results yet."""
    wanted = chunks(arguments.seeds, tuple(arguments.scenario))
    results = Results(arguments.results)
    try:
        missing = results.missing(wanted)
        count, play = workers.chosen(arguments, carry_out)
        started_s = time.monotonic()
        try:
            for outcome in _shown(play(missing), missing):
                results.keep(outcome)
        except KeyboardInterrupt:
            say(f"interrupted; the finished runs are in {arguments.results}", is_error=True)
            return INTERRUPTED
        seconds = time.monotonic() - started_s
        report = _report(arguments, results, count, seconds)
    finally:
        results.close()
    if arguments.json:
        say(json_line(report))
    else:
        _print(report)
    return 1 if report["violations"] else 0


def _report(
    arguments: argparse.Namespace, results: Results, count: int, seconds: float
) -> dict[str, Any]:
    totals, found = results.totals(), list(results.violations())
    entries = every_entry()
    never = [entry for entry in entries if entry not in totals.seen]
    cuts = sum(runs for name, runs in totals.by_scenario.items() if name.startswith("cuts-"))
    histories = sum(runs for name, runs in totals.by_scenario.items() if name in FAMILIES)
    return {
        "seeds": arguments.seeds,
        "runs": totals.runs,
        "violations": [_as_json(one) for one in found],
        "events": totals.events,
        "seconds": round(seconds, 1),
        "processor_seconds": round(totals.seconds, 1),
        "workers": count,
        "events_per_second_and_core": _pace(totals),
        "coverage": {
            "law_entries": len(entries) - len(never),
            "law_entries_of": len(entries),
            "law_entries_never": [[state.value, trigger.value] for state, trigger in never],
            "cuts": cuts,
            "histories": histories,
            "runs_by_scenario": dict(sorted(totals.by_scenario.items())),
            "judged": {law: totals.judged[law] for law in LAWS},
            "faults": dict(sorted(totals.injected.items())),
        },
        "results": arguments.results,
    }


def _pace(totals: Totals) -> int:
    return round(totals.events / totals.seconds) if totals.seconds else 0


def _as_json(found: Found) -> dict[str, Any]:
    return {
        "scenario": found.scenario,
        "seed": found.seed,
        "violation": found.violation,
        "replay": found.command,
        "shortest": json.loads(found.history) if found.history else None,
    }


def _print(report: dict[str, Any]) -> None:
    for one in report["violations"][:SHOWN_MAX]:
        say(f"FAILED {one['violation']}", f"  again: {one['replay']}")
        if one["shortest"]:
            say(f"  shortest: {json.dumps(one['shortest']['steps'])}")
    more = len(report["violations"]) - SHOWN_MAX
    if more > 0:
        say(f"and {more} more; all are in --json")
    coverage = report["coverage"]
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("runs", f"{report['runs']}, {len(report['violations'])} failed")
    entries = f"{coverage['law_entries']} of {coverage['law_entries_of']} entries reached"
    table.add_row("law", entries)
    table.add_row("histories", f"{coverage['histories']}, {coverage['cuts']} of them cuts")
    judged = ", ".join(f"{law} {count}" for law, count in coverage["judged"].items())
    table.add_row("judged", escape(judged))
    pace = f"{report['events_per_second_and_core']} a second and core"
    table.add_row("events", f"{report['events']}, {pace}, {report['workers']} workers")
    Console().print(table)


def _shown(outcomes: Iterator[Outcome], wanted: list[Chunk]) -> Iterator[Outcome]:
    """Yields the outcomes, and shows the progress on standard error after PROGRESS_S."""
    console = Console(stderr=True)
    total = sum(len(chunk.numbers) for chunk in wanted)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("", total=total)
    done = failed = 0
    begin_s = told_s = time.monotonic()
    try:
        for outcome in outcomes:
            done += len(outcome.chunk.numbers)
            failed += len(outcome.found)
            text = f"{done} of {total} runs, {failed} failed"
            bar.update(task, completed=done, description=text)
            now_s = time.monotonic()
            if now_s - begin_s > PROGRESS_S and console.is_terminal:
                bar.start()
            elif now_s - told_s > (LINES_S if told_s > begin_s else PROGRESS_S):
                told_s = now_s
                console.print(text)
            yield outcome
    finally:
        bar.stop()
