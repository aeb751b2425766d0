"""``noid sim scale``: what the failure of a provider costs sites of any size."""

import argparse
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from noid.constants import MILLISECOND, SECOND
from noid.sim.site import BIN, QUIET, Part, Toll, play
from noid.sweep.workers import on_cluster, on_this_machine

HOSTS: Final = (100, 1_000, 10_000)
CONTEXTS: Final = (10, 100, 1_000)
PLAYED: Final = 1_000
PROGRESS_S: Final = 2.0
BINS_PER_SECOND: Final = SECOND // BIN
WINDOW: Final = 10
"""Bins of a tenth of a second, in which the peak is looked for."""
FAULTS: Final = ("silent", "noticed")
EXAMPLE: Final = """\
example:
  noid sim scale --hosts 100 10000 --contexts 10 10000 --played 10000 --plot scale.png
  noid sim scale --cluster tcp://192.0.2.1:8786 --json
"""


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """A host to be played.

    Attributes:
        contexts: of each host; which column of the study.
        fault: "silent", "noticed", or "quiet".
        number: of the host.
        gap_ms: between two packets of a program.
    """

    contexts: int
    fault: str
    number: int
    gap_ms: int


def carry_out(job: Job) -> tuple[Job, Toll]:
    """Plays it."""
    part = Part(
        number=job.number,
        contexts=job.contexts,
        gap_ns=job.gap_ms * MILLISECOND,
        notices=job.fault == "noticed",
        quiet=job.fault == "quiet",
    )
    return job, play(part)


@dataclass(slots=True)
class Study:
    """What was played, by contexts of a host and fault."""

    tolls: dict[tuple[int, str], Toll] = field(default_factory=dict)

    def take(self, job: Job, toll: Toll) -> None:
        """One more host."""
        key = job.contexts, job.fault
        if key in self.tolls:
            self.tolls[key].add(toll)
        else:
            self.tolls[key] = toll

    def row(self, hosts: int, contexts: int, fault: str) -> dict[str, Any]:
        """What a site of this size comes to: what was played, as often as it has such hosts."""
        toll, quiet = self.tolls[contexts, fault], self.tolls[contexts, "quiet"]
        factor = hosts * contexts / toll.contexts
        silences = Counter({key: count for key, count in toll.silence.items() if key >= 0})
        questions = quiet.questions.total() / quiet.contexts
        return {
            "fault": fault,
            "hosts": hosts,
            "contexts_each": contexts,
            "played": toll.contexts,
            "messages_per_context": round(toll.control.total() / toll.contexts, 2),
            "messages_per_context_max": max(toll.per_context),
            "octets_per_context": round(toll.control_octets / toll.contexts),
            "messages_per_second_peak": math.ceil(peak(toll.control) * factor),
            "share_of_data": round(toll.control_octets / max(1, toll.data_octets), 5),
            "questions_per_context_at_set_up": round(quiet.asked / quiet.contexts, 2),
            "questions_per_second_and_zone": round(
                questions * hosts * contexts / (QUIET / SECOND), 2
            ),
            "convergence_ms": {
                "median": quantile(silences, 0.5),
                "p99": quantile(silences, 0.99),
                "max": quantile(silences, 1.0),
            },
            "not_converged": toll.silence[-1],
        }


def peak(control: Counter[int]) -> float:
    """The most messages a second, in any tenth of a second."""
    if not control:
        return 0.0
    spans = range(max(control) + 1)
    most = max(sum(control[at + one] for one in range(WINDOW)) for at in spans)
    return most * BINS_PER_SECOND / WINDOW


def quantile(values: Counter[int], share: float) -> int:
    """The least time, in ms, within which so large a share of contexts has been answered."""
    wanted, seen = share * values.total(), 0
    for value, count in sorted(values.items()):
        seen += count
        if seen >= wanted:
            return (value + 1) * BIN // MILLISECOND
    return 0


def jobs(contexts: Iterable[int], played: int, gap_ms: int) -> list[Job]:
    """The hosts that have to be played: for each size as many as have so many contexts."""
    return [
        Job(each, fault, number, gap_ms)
        for each in contexts
        for fault in (*FAULTS, "quiet")
        for number in range(1, 1 + math.ceil(played / each))
    ]


def add_command(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``scale``."""
    scale = leaves.add_parser(
        "scale",
        help="what the failure of a provider costs sites of any size",
        description=(
            "Plays hosts with many contexts whose first provider fails, and reports control\n"
            "messages, questions to the DNS and the time until programs are answered again. A\n"
            "host stands for as many as the site has, since contexts share nothing."
        ),
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scale.add_argument(
        "--hosts",
        type=_positive,
        nargs="+",
        default=HOSTS,
        metavar="N",
        help="of the site; default: " + " ".join(map(str, HOSTS)),
    )
    scale.add_argument(
        "--contexts",
        type=_positive,
        nargs="+",
        default=CONTEXTS,
        metavar="N",
        help="of each host; default: " + " ".join(map(str, CONTEXTS)),
    )
    scale.add_argument(
        "--played",
        type=_positive,
        default=PLAYED,
        metavar="N",
        help=f"contexts that are played for each size of host; default: {PLAYED}",
    )
    scale.add_argument(
        "--gap-ms", type=_positive, default=200, metavar="N", help="between packets; default: 200"
    )
    scale.add_argument(
        "--processes", type=_positive, default=0, metavar="N", help="default: one a core"
    )
    scale.add_argument(
        "--cluster", metavar="ADDRESS", help="of a Dask scheduler, whose workers have noid"
    )
    scale.add_argument("--plot", metavar="FILE", help="draw it, as PNG or SVG")
    scale.add_argument("--json", action="store_true", help="JSON, for programs")
    scale.set_defaults(handler=run_scale)


def run_scale(arguments: argparse.Namespace) -> int:
    """Plays the hosts and reports the sites."""
    wanted = jobs(arguments.contexts, arguments.played, arguments.gap_ms)
    cluster = arguments.cluster
    _, work = (
        on_cluster(cluster, carry_out)
        if cluster
        else on_this_machine(arguments.processes, carry_out)
    )
    study = Study()
    for job, toll in _shown(work(wanted), len(wanted)):
        study.take(job, toll)
    rows = [
        study.row(hosts, each, fault)
        for fault in FAULTS
        for each in arguments.contexts
        for hosts in arguments.hosts
    ]
    if arguments.plot:
        _plot(rows, arguments.plot)
    if arguments.json:
        print(json.dumps({"rows": rows}))
    else:
        _print(rows)
    return 0


COLUMNS: Final = {
    "fault": "fault",
    "hosts": "hosts",
    "contexts_each": "contexts each",
    "messages_per_context": "messages/context",
    "messages_per_context_max": "max",
    "messages_per_second_peak": "messages/s",
    "share_of_data": "of data",
    "questions_per_second_and_zone": "DNS questions/s",
}


def _print(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in (*COLUMNS.values(), "answered after ms: median, p99, max"):
        table.add_column(heading, justify="right")
    for row in rows:
        times = row["convergence_ms"]
        cells = [str(row[name]) for name in COLUMNS]
        table.add_row(*cells, f"{times['median']}, {times['p99']}, {times['max']}")
    Console().print(table)


def _plot(rows: Sequence[dict[str, Any]], path: str) -> None:
    """Messages a second, DNS questions a second and convergence against size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5))
    for fault in FAULTS:
        mine = sorted(
            (row["hosts"] * row["contexts_each"], row) for row in rows if row["fault"] == fault
        )
        sizes = [size for size, _ in mine]
        axes[0].plot(sizes, [row["messages_per_second_peak"] for _, row in mine], "o", label=fault)
        axes[1].plot(
            sizes, [row["questions_per_second_and_zone"] for _, row in mine], "o", label=fault
        )
        axes[2].plot(sizes, [row["convergence_ms"]["p99"] for _, row in mine], "o", label=fault)
    texts = (
        "control messages/s, peak of 100 ms",
        "DNS questions/s, quiet",
        "answered after ms, p99",
    )
    for axis, text in zip(axes, texts, strict=True):
        axis.set(xscale="log", yscale="log", xlabel="contexts of the site", ylabel=text)
        axis.grid(visible=True, alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def _shown(outcomes: Iterator[tuple[Job, Toll]], total: int) -> Iterator[tuple[Job, Toll]]:
    """Passes outcomes on, and shows how far it is if it takes longer than PROGRESS_S."""
    console = Console(stderr=True)
    columns = (TextColumn("hosts"), BarColumn(), TimeRemainingColumn())
    begin_s = time.monotonic()
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total, visible=False)
        for done, outcome in enumerate(outcomes, 1):
            late = time.monotonic() - begin_s > PROGRESS_S
            bar.update(task, completed=done, visible=late)
            yield outcome


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number
