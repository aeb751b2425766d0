# SPDX-License-Identifier: MIT
"""``noid bench``: measures the figures of docs/performance.md on this machine."""

import argparse
import contextlib
import textwrap
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from noid.bench import (
    adoption,
    against,
    border,
    contexts,
    dns_stub,
    dns_verify,
    failover,
    flood,
    latency,
    mass_failover,
    one_way,
    packets,
    scale,
    setup,
    spread,
    throughput,
    under_attack,
)
from noid.bench.report import Bench, Report, Watch, positive
from noid.bench.yardstick import Yardstick
from noid.cli.leaves import add_group, add_json, add_leaf
from noid.cli.output import say
from noid.lab.interruption import interruptible
from noid.text import json_line

BENCHES: Final[tuple[Bench, ...]] = (
    setup.BENCH,
    flood.BENCH,
    contexts.BENCH,
    dns_stub.BENCH,
    dns_verify.BENCH,
    throughput.BENCH,
    latency.BENCH,
    packets.BENCH,
    border.BENCH,
    scale.BENCH,
    adoption.BENCH,
    failover.BENCH,
    mass_failover.BENCH,
    one_way.BENCH,
    spread.BENCH,
    under_attack.BENCH,
)
EXPLANATION_COLUMNS: Final = 78
TABLE_COLUMNS: Final = 140
"""Maximum width of a table of figures; a narrower terminal wraps its lines."""
TURNS: Final = 5
ESTIMATE_PERIOD_S: Final = 600.0
"""The remaining time is estimated from the progress in this period: a turn may take a minute."""
WORDS: Final = ("figure", "fault", "traffic", "data", "plane", "cut")
"""Columns that hold no numbers."""
NOT_PASSED: Final = ("handler", "bench", "leaf", "json", "against", "turns", "runs")
"""Arguments of the command line that are not options of a single turn."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``bench`` with a command for each bench."""
    leaves = add_group(
        commands,
        "bench",
        description=(
            "Measures the figures of docs/performance.md on this machine. A rate is measured\n"
            "several times. Run nothing else on the machine. Compare machines and commits by\n"
            "ratios: to plain IPv6, per yardstick of the machine, or with --against COMMIT."
        ),
        epilog="Start with: noid bench setup",
    )
    for one in BENCHES:
        text = f"{one.summary[0].upper()}{one.summary[1:]}. {one.explanation}"
        leaf = add_leaf(
            leaves,
            one.name,
            run_bench,
            one.summary,
            one.example,
            description=textwrap.fill(text, EXPLANATION_COLUMNS),
        )
        one.add_options(leaf)
        add_json(leaf)
        leaf.add_argument(
            "--against",
            metavar="COMMIT",
            help="measure an earlier commit too, alternating, and print the ratio now to then",
        )
        leaf.add_argument(
            "--turns",
            type=positive,
            metavar="COUNT",
            help=f"runs of each commit; default: --runs if there is one, else {TURNS}",
        )
        leaf.set_defaults(bench=one, leaf=leaf)


def run_bench(arguments: argparse.Namespace) -> int:
    """Runs the bench, and prints its figures."""
    bench: Bench = arguments.bench
    with interruptible(), _progress(bench.name) as watch:
        yardstick = Yardstick.measure()
        report = _measure(arguments, watch)
        yardstick += Yardstick.measure()
    if arguments.json:
        say(json_line({"bench": bench.name, **report.as_json(), **_compared(report, yardstick)}))
    else:
        _print(report, yardstick)
    return 0


def _measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    bench: Bench = arguments.bench
    if not arguments.against:
        return bench.measure(arguments, watch)
    options = passed_on(arguments)
    turns = arguments.turns or getattr(arguments, "runs", TURNS)
    if hasattr(arguments, "runs"):
        options += ["--runs", "1"]
    return against.compare(arguments.against, bench.name, options, turns, watch)


def passed_on(arguments: argparse.Namespace) -> list[str]:
    """The bench's sizes, and those of its options that are not the defaults, as words."""
    words = []
    for name, value in vars(arguments).items():
        is_default = value == arguments.leaf.get_default(name)
        if name in NOT_PASSED or (is_default and name not in arguments.bench.sizes):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(",".join(value) if isinstance(value, tuple) else str(value))
    return words


def _compared(report: Report, yardstick: Yardstick) -> dict[str, dict[str, float]]:
    """The yardstick and the figures divided by it, for JSON."""
    return {"yardstick": yardstick.as_json(), "per_yardstick": yardstick.ratios(report.figures)}


def _print(report: Report, yardstick: Yardstick) -> None:
    console = Console(emoji=False)  # "2001:db8:1:a::a" holds no picture
    rows = report.table or _series_rows(report, yardstick)
    if rows:
        Console(emoji=False, width=TABLE_COLUMNS).print(_table(rows))
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, fact in report.facts.items():
        text = fact if isinstance(fact, str) else _number_text(fact)
        facts.add_row(name.replace("_", " "), escape(text))
    facts.add_row("yardstick", f"{_number_text(yardstick.seconds * 1000)} ms of processor time")
    console.print(facts)


def _series_rows(report: Report, yardstick: Yardstick) -> list[dict[str, str]]:
    """A row for each series; its median per yardstick comes first, if it has one."""
    ratios = yardstick.ratios(report.figures)
    rows = []
    for name, series in report.series.items():
        per_yardstick = _number_text(ratios[name]) if name in ratios else ""
        numbers = {key: _number_text(number) for key, number in series.as_json().items()}
        rows.append({"figure": name.replace("_", " "), "per yardstick": per_yardstick, **numbers})
    return rows


def _table(rows: list[dict[str, str]]) -> Table:
    """Rows with equal columns, without the columns that are empty in every row."""
    table = Table(box=None, pad_edge=False)
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    for name in names:
        table.add_column(name, no_wrap=True, justify="left" if name in WORDS else "right")
    for row in rows:
        table.add_row(*(escape(row[name]) for name in names))
    return table


def _number_text(number: float) -> str:
    """A number, without decimals if it is large; yes or no for a boolean."""
    if isinstance(number, bool):
        return "yes" if number else "no"
    return f"{number:,.0f}" if number == int(number) or number >= 1000 else f"{number:,.3g}"


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Watch]:
    """Shows the progress on standard error, if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=ESTIMATE_PERIOD_S,
    ) as bar:
        task = bar.add_task(f"measuring {title}", total=None)

        def watch(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield watch
