# SPDX-License-Identifier: MIT
"""The demonstration: the same failure of the same provider, without noid and with it."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from noid.lab import blackhole, site_failover
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.scenarios import Talk
from noid.lab.site_play import Moved
from noid.lab.sites import Sites
from noid.lab.timeline import Kind, Timeline
from noid.lab.transfer import Outcome, Run

STALL_AFTER_S: Final = 5.0


class Show(NamedTuple):
    """A scenario that is shown twice.

    Attributes:
        text: what happens.
        titles: of both times, by the plane of the hosts.
        sites: the network; None: that without borders.
        prepare: makes a lab ready.
        run: what happens in it.
    """

    text: str
    titles: dict[Plane, str]
    sites: Sites | None
    prepare: Callable[[Lab], None]
    run: Callable[..., Outcome]


PROVIDER_DIES: Final = Show(
    "Host a downloads a file from b. Halfway, their common provider fails silently.",
    {"none": "without noid", "auto": "with noid"},
    None,
    lambda lab: None,
    blackhole.run,
)
LINE_DIES: Final = Show(
    "Host a, behind the router of its site, downloads a file from b.\n"
    "Halfway, the line from the site to provider 1 loses its carrier.",
    {"none": "router with NPTv6", "auto": "border with noid"},
    "one",
    site_failover.prepare,
    site_failover.run,
)
STYLES: Final[dict[Kind, str]] = {"rates": "green", "silence": "red", "event": "bold yellow"}
VERDICTS: Final = {"yes": "green", "no": "red"}


def demonstrate(console: Console, show: Show = PROVIDER_DIES) -> bool:
    """Runs the same download without and with noid, prints the progress, and compares.

    Returns:
        Whether the download failed without noid, and the complete file arrived with noid.

    Raises:
        ShimError: a lab could not be built, or a run ended before the cut.
    """
    bars = "Every bar is 100 ms of bytes as the application receives them."
    console.print(Text(f"{show.text}\n{bars}"))
    outcomes = [_tell(console, show, plane) for plane in show.titles]
    console.print()
    console.print(table_of(outcomes, show.titles))
    without, with_noid = outcomes
    return not without.survived and with_noid.good


def table_of(
    outcomes: Sequence[Outcome | Talk | Moved],
    titles: Mapping[Plane, str] = PROVIDER_DIES.titles,
) -> Table:
    """The outcomes of one scenario side by side."""
    table = Table("")
    for outcome in outcomes:
        kind: Plane = "none" if outcome.plane == "none" else "auto"
        table.add_column(titles[kind], justify="right")
    for title in outcomes[0].figures:
        cells = (outcome.figures[title] for outcome in outcomes)
        table.add_row(title, *(Text(cell, style=VERDICTS.get(cell, "")) for cell in cells))
    return table


def _tell(console: Console, show: Show, plane: Plane) -> Outcome:
    console.print()
    console.print(Text(show.titles[plane], style="bold"))
    timeline = Timeline()

    def watch(run: Run) -> None:
        for line in timeline.advance(run, time.monotonic_ns()):
            console.print(Text(line.text, style=STYLES[line.kind]), soft_wrap=True)

    with contextlib.ExitStack() as stack:
        with Console(stderr=True).status("building the lab"):
            lab = stack.enter_context(Lab.create(plane=plane, sites=show.sites))
            show.prepare(lab)
        outcome = show.run(lab, stall_after_s=STALL_AFTER_S, watch=watch)
    if outcome.survived:
        verdict = f"whole file after {outcome.seconds:.1f} s"
    elif outcome.gap_ms < STALL_AFTER_S * 1000:
        verdict = f"the connection was reset after {outcome.seconds:.1f} s"
    else:
        verdict = f"given up after {outcome.gap_ms / 1000:.1f} s without a byte"
    console.print(Text(f"            {verdict}", style="bold"))
    return outcome
