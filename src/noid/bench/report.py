# SPDX-License-Identifier: MIT
"""A bench and its report: series of measurements, and further facts.

A bench is a module of this package with a ``BENCH``; ``noid.cli.bench`` lists them and needs to
know no more. Times are noisy on a machine that does other things too, so a rate is measured several
times and told as n, median, min, max; a figure that is counted is a fact.
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Watch = Callable[[int, int], None]
"""Called with the work that is done, and the total."""

Fact = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Series:
    """One quantity, measured several times.

    Attributes:
        values: what each run came to.
    """

    values: tuple[float, ...]

    def as_json(self) -> dict[str, float]:
        """For programs."""
        return {
            "n": len(self.values),
            "median": statistics.median(self.values),
            "min": min(self.values),
            "max": max(self.values),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a bench.

    Attributes:
        series: name of a quantity, with its unit in words -> its measurements.
        facts: what was counted or set, and what is in the figures and what not.
        rows: where the figures are of many combinations, one for each, for programs.
        table: the same for people: rows with equal columns.
    """

    series: dict[str, Series] = field(default_factory=dict)
    facts: dict[str, Fact] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    table: list[dict[str, str]] = field(default_factory=list)

    @property
    def figures(self) -> dict[str, float]:
        """Every figure by its name: the medians, and the facts that are numbers."""
        medians = {name: statistics.median(one.values) for name, one in self.series.items()}
        numbers = {
            name: fact
            for name, fact in self.facts.items()
            if isinstance(fact, int | float) and not isinstance(fact, bool)
        }
        return {**medians, **numbers}

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        measured = {name: one.as_json() for name, one in self.series.items()}
        rows = {"rows": self.rows} if self.rows else {}
        return {**measured, **self.facts, **rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One sub-command of ``noid bench``.

    Attributes:
        name: what is typed.
        summary: what it measures, in one line.
        explanation: what exactly, and what is not in it.
        example: a whole command line.
        add_options: adds its own options to its parser.
        measure: does it; told its options, and whom to tell how far it is.
        sizes: its options whose values an earlier commit is given too where they are the defaults,
            since there the default may be another.
    """

    name: str
    summary: str
    explanation: str
    example: str
    add_options: Callable[[argparse.ArgumentParser], None]
    measure: Callable[[argparse.Namespace, Watch], Report]
    sizes: tuple[str, ...] = ()


def positive(text: str) -> int:
    """An option's value that counts something.

    Raises:
        ArgumentTypeError: it is no whole number, or none that is 1 or more.
    """
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")


def add_runs(parser: argparse.ArgumentParser, default: int = 5) -> None:
    """Adds ``--runs``, which every rate has."""
    parser.add_argument(
        "--runs",
        type=positive,
        default=default,
        metavar="COUNT",
        help="how often it is measured; default: %(default)s",
    )


def add_contexts(parser: argparse.ArgumentParser, default: int, which: str) -> None:
    """Adds ``--contexts``: how many there are; ``which`` says of what."""
    parser.add_argument(
        "--contexts",
        type=positive,
        default=default,
        metavar="COUNT",
        help=f"how many {which}; default: %(default)s",
    )
