# SPDX-License-Identifier: MIT
"""The demonstration: the same death of the same provider, without noid and with it."""

import contextlib
import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from noid.lab import blackhole
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.scenarios import Talk
from noid.lab.site_play import Moved
from noid.lab.timeline import Kind, Timeline
from noid.lab.transfer import Outcome, Run

STALL_AFTER_S: Final = 5.0
PLANES: Final[dict[Plane, str]] = {"none": "without noid", "auto": "with noid"}
"""What is shown, and under which title."""
STYLES: Final[dict[Kind, str]] = {"rates": "green", "silence": "red", "event": "bold yellow"}
VERDICTS: Final = {"yes": "green", "no": "red"}


def demonstrate(console: Console) -> bool:
    """Runs ``blackhole`` twice, telling it live, and compares.

    Returns:
        Whether both went as they should: a stall without noid, a whole file with it.

    Raises:
        ShimError: a lab could not be built, or a run did not come as far as the cut.
    """
    console.print(
        Text(
            "Host a downloads a file from b. Halfway, their common provider dies in silence.\n"
            "Every bar is 100 ms of bytes as the application receives them."
        )
    )
    outcomes = [_tell(console, plane) for plane in PLANES]
    console.print()
    console.print(table_of(outcomes))
    without, with_noid = outcomes
    return not without.survived and with_noid.good


def table_of(outcomes: Sequence[Outcome | Talk | Moved]) -> Table:
    """The outcomes of one scenario side by side."""
    table = Table("")
    for outcome in outcomes:
        title = "without noid" if outcome.plane == "none" else "with noid"
        table.add_column(title, justify="right")
    for title in outcomes[0].figures:
        cells = (outcome.figures[title] for outcome in outcomes)
        table.add_row(title, *(Text(cell, style=VERDICTS.get(cell, "")) for cell in cells))
    return table


def _tell(console: Console, plane: Plane) -> Outcome:
    console.print()
    console.print(Text(PLANES[plane], style="bold"))
    timeline = Timeline()

    def watch(run: Run) -> None:
        for line in timeline.advance(run, time.monotonic_ns()):
            console.print(Text(line.text, style=STYLES[line.kind]), soft_wrap=True)

    with contextlib.ExitStack() as stack:
        with Console(stderr=True).status("building the lab"):
            lab = stack.enter_context(Lab.create(plane=plane))
        outcome = blackhole.run(lab, stall_after_s=STALL_AFTER_S, watch=watch)
    if outcome.survived:
        verdict = f"whole file after {outcome.seconds:.1f} s"
    else:
        verdict = f"given up after {outcome.gap_ms / 1000:.1f} s without a byte"
    console.print(Text(f"            {verdict}", style="bold"))
    return outcome
