# SPDX-License-Identifier: MIT
"""Draws mutants of wire/ and engine/ at random, and says how many of them tests notice.

    python -m tests.mutation [--sample COUNT] [--seed SEED] [--only NUMBERS] [TEST ...]

Without TESTs, it plays those of ``FAST`` that are not slow; else all that are given. The order of
the mutants is random, so that the score until an interruption is that of a sample, too.
"""

import argparse
import os
import sys
from collections import Counter
from math import sqrt
from typing import Final

import pytest

from tests.mutation.mutants import Mutant, drawn
from tests.mutation.player import Player, Verdict

FAST: Final = (
    *("tests/wire", "tests/engine", "tests/flows", "tests/planes"),
    "tests/test_docs.py::test_the_law_in_the_page_is_the_law_of_the_code",
)
OPTIONS: Final = ("-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist")
KILLED: Final = (Verdict.KILLED, Verdict.TIMED_OUT)
MISSED: Final = (Verdict.SURVIVED, Verdict.UNTESTED)
Z: Final = 1.96
"""Of an interval of 95 %."""


class Score:
    """How many mutants of each module have which verdict."""

    def __init__(self) -> None:
        self._counted: dict[str, Counter[Verdict]] = {}

    def add(self, mutant: Mutant, verdict: Verdict, test: str) -> None:
        """Counts a mutant, and prints it unless the type checker rejects it."""
        module = ".".join(mutant.path.with_suffix("").parts[1:])
        self._counted.setdefault(module, Counter())[verdict] += 1
        if verdict is not Verdict.REJECTED:
            print(f"{mutant.number} {verdict.value}: {module} {mutant.function}", test, flush=True)
        if verdict in MISSED:
            print(f"    line {mutant.lines.start}", *mutant.change, sep="\n    ", flush=True)

    def table(self) -> str:
        """The table of the documentation."""
        total: Counter[Verdict] = sum(self._counted.values(), Counter())
        rows = (_row(*one) for one in (*sorted(self._counted.items()), ("all", total)))
        return "\n".join(
            (
                "| module | killed | survived | not executed | score | rejected |",
                "|---|---:|---:|---:|---:|---:|",
                *rows,
                "",
                "95 % interval: {:.1f} to {:.1f} %".format(*_interval(total)),
            )
        )


def _row(name: str, count: Counter[Verdict]) -> str:
    killed, missed = (sum(count[one] for one in some) for some in (KILLED, MISSED))
    score = f"{100 * killed / (killed + missed):.1f} %" if killed + missed else "-"
    survived, untested, rejected = (count[one] for one in (*MISSED, Verdict.REJECTED))
    return f"| {name} | {killed} | {survived} | {untested} | {score} | {rejected} |"


def _interval(count: Counter[Verdict]) -> tuple[float, float]:
    """Wilson's, in percent."""
    n = sum(count[one] for one in (*KILLED, *MISSED)) or 1
    share = sum(count[one] for one in KILLED) / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return 100 * (middle - half), 100 * (middle + half)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=lambda text: {int(one) for one in text.split(",")})
    parser.add_argument("tests", nargs="*")
    arguments = parser.parse_args()
    os.environ["HYPOTHESIS_PROFILE"] = "mutation"
    mutants = drawn(arguments.sample, arguments.seed)
    mutants = [one for one in mutants if arguments.only is None or one.number in arguments.only]
    score = Score()
    player = Player(mutants, score.add, chooses=not arguments.tests)
    selected = arguments.tests or [*FAST, "-m", "not slow"]
    status = int(pytest.main([*OPTIONS, *selected], plugins=[player]))
    print(score.table())
    return status


if __name__ == "__main__":
    sys.exit(main())
