"""``noid bench``: the figures that docs/performance.md quotes, measured on this machine."""

import argparse
import contextlib
import json
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from noid.bench import (
    adoption,
    contexts,
    dns_stub,
    dns_verify,
    failover,
    flood,
    latency,
    packets,
    scale,
    setup,
    throughput,
)
from noid.bench.report import Bench, Report, Watch
from noid.lab.interruption import interruptible

BENCHES: Final[tuple[Bench, ...]] = (
    setup.BENCH,
    flood.BENCH,
    contexts.BENCH,
    dns_stub.BENCH,
    dns_verify.BENCH,
    throughput.BENCH,
    latency.BENCH,
    packets.BENCH,
    scale.BENCH,
    adoption.BENCH,
    failover.BENCH,
)
EXPLANATION_COLUMNS: Final = 78


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``bench`` with a command for each bench."""
    bench = commands.add_parser(
        "bench",
        help="how fast and how large: the figures of the documentation, measured again",
        description=(
            "Measures on this machine what docs/performance.md says of another. Whatever is a\n"
            "rate is measured several times. Let the machine do nothing else meanwhile."
        ),
        epilog="example:\n  noid bench setup --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    leaves = bench.add_subparsers(metavar="COMMAND", required=True)
    for one in BENCHES:
        leaf = leaves.add_parser(
            one.name,
            help=one.summary,
            description=textwrap.fill(
                f"{one.summary[0].upper()}{one.summary[1:]}. {one.explanation}",
                EXPLANATION_COLUMNS,
            ),
            epilog=f"example:\n  {one.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_options(leaf)
        leaf.add_argument("--json", action="store_true", help="JSON, for programs")
        leaf.set_defaults(handler=run_bench, bench=one)


def run_bench(arguments: argparse.Namespace) -> int:
    """Measures, and prints what came of it."""
    bench: Bench = arguments.bench
    with interruptible(), _progress(bench.name) as watch:
        report = bench.measure(arguments, watch)
    if arguments.json:
        print(json.dumps({"bench": bench.name, **report.as_json()}))
    else:
        _print(report)
    return 0


def _print(report: Report) -> None:
    console = Console(emoji=False)  # "2001:db8:1:a::a" holds no picture
    if report.series:
        table = Table(box=None, pad_edge=False)
        for column in ("", "n", "median", "min", "max"):
            table.add_column(column, justify="right" if column else "left")
        for name, series in report.series.items():
            cells = [_number_text(number) for number in series.as_json().values()]
            table.add_row(name.replace("_", " "), *cells)
        console.print(table)
    if report.rows:
        console.print(_rows_table(report.rows))
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, fact in report.facts.items():
        text = fact if isinstance(fact, str) else _number_text(fact)
        facts.add_row(name.replace("_", " "), escape(text))
    console.print(facts)


def _rows_table(rows: list[dict[str, Any]]) -> Table:
    """Rows with equal columns; a spread is one cell, and single runs are left to JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row if name != "runs"))
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(_cell(row.get(name, "")) for name in names))
    return table


def _cell(value: dict[str, float] | str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        middle, least, most = (_number_text(value[name]) for name in ("median", "min", "max"))
        return f"{middle} ({least}-{most})"
    return _number_text(value)


def _number_text(number: float) -> str:
    """Whole where it is large enough for that; yes and no for what is no number."""
    if isinstance(number, bool):
        return "yes" if number else "no"
    return f"{number:,.0f}" if number == int(number) or number >= 1000 else f"{number:,.3g}"


@contextlib.contextmanager
def _progress(title: str) -> Iterator[Watch]:
    """Shows on standard error how far it is, if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(f"measuring {title}", total=None)

        def watch(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield watch
