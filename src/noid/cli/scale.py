# SPDX-License-Identifier: MIT
"""``noid sim scale``: the cost of a provider failure, by number of hosts and contexts."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from noid.bench.picture import check_matplotlib
from noid.bench.report import positive
from noid.cli.leaves import add_json, add_leaf
from noid.cli.output import say
from noid.sim.counts import Failure, Peers
from noid.sweep import workers
from noid.sweep.picture import draw
from noid.sweep.scale import SAMPLE_DEFAULT, TRAFFIC_DEFAULT, Cell, Figures, Measurement, cells
from noid.text import json_line

HOSTS_DEFAULT: Final = [100, 1_000, 10_000]
CONTEXTS_DEFAULT: Final = [10, 100, 1_000, 10_000]
EXTRAPOLATED: Final = 1_000_000
"""Number of hosts that the table extrapolates to."""
WIDTH_MIN: Final = 130
"""Columns of the table; a narrower terminal wraps its lines."""
EXAMPLE: Final = """\
noid sim scale --hosts 100 --contexts 10,100
  noid sim scale --failure silent --plot pictures --json
  noid sim scale --sample 20000 --cluster tcp://192.0.2.1:8786

If a size has more contexts than --sample, only some hosts are simulated, with all their contexts,
and the sums over all hosts are multiplied accordingly. The figures of 1,000,000 hosts are
extrapolated: the median of the figures per host at the measured sizes, multiplied.
"""


def add_command(leaves: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command ``scale``."""
    scale = add_leaf(
        leaves,
        "scale",
        run_scale,
        "let a provider fail for many hosts, and measure the cost",
        EXAMPLE,
        description=(
            "Lets a provider fail. All contexts of its many hosts use it and carry traffic.\n"
            "Reports control messages, DNS queries, and how long programs wait."
        ),
    )
    scale.add_argument(
        "--hosts",
        type=_numbers,
        default=HOSTS_DEFAULT,
        metavar="N,...",
        help=f"customers of the provider; default: {_joined(HOSTS_DEFAULT)}",
    )
    scale.add_argument(
        "--contexts",
        type=_numbers,
        default=CONTEXTS_DEFAULT,
        metavar="N,...",
        help=f"of each host; default: {_joined(CONTEXTS_DEFAULT)}",
    )
    scale.add_argument(
        "--failure",
        choices=[one.value for one in Failure],
        action="append",
        default=[],
        help="silent: the provider drops everything; carrier: hosts lose the link; default: both",
    )
    scale.add_argument(
        "--peers",
        choices=[one.value for one in Peers],
        default=Peers.OWN.value,
        help="own: each context has a separate peer; shared: all hosts have the same peers",
    )
    scale.add_argument(
        "--sample",
        type=positive,
        default=SAMPLE_DEFAULT,
        metavar="N",
        help="maximum number of simulated contexts per size; default: %(default)s",
    )
    scale.add_argument(
        "--traffic",
        type=_rate,
        default=TRAFFIC_DEFAULT,
        metavar="KBITS",
        help="kbit/s of data per context, the base of the cost; default: %(default)s",
    )
    scale.add_argument("--seed", type=positive, default=1, metavar="N", help="default: 1")
    scale.add_argument(
        "--plot",
        type=Path,
        metavar="DIRECTORY",
        help="draw the figures as SVG, one file per failure; needs matplotlib",
    )
    workers.add_options(scale)
    add_json(scale)


def run_scale(arguments: argparse.Namespace) -> int:
    """Measures every size."""
    if arguments.plot is not None:
        check_matplotlib()
    failures = [Failure(one) for one in arguments.failure] or list(Failure)
    wanted = cells(
        arguments.hosts,
        arguments.contexts,
        failures,
        Peers(arguments.peers),
        arguments.sample,
        arguments.seed,
    )
    measure = Measurement(arguments.traffic)
    count, work = workers.chosen(arguments, measure)
    started_s = time.monotonic()
    measured = sorted(_shown(work(wanted), wanted), key=_order)
    seconds = time.monotonic() - started_s
    if arguments.plot is not None:
        _draw(arguments.plot, measured)
    extrapolated = extrapolate(measured) if Peers(arguments.peers) is Peers.OWN else []
    if arguments.json:
        rows = [_as_json(one) for one in measured]
        report = {"traffic_kbits": arguments.traffic, "seconds": round(seconds, 1)}
        say(json_line({**report, "workers": count, "sizes": rows, "extrapolated": extrapolated}))
    else:
        _print(measured, extrapolated, arguments.traffic)
    return 1 if any(one.lost for one in measured) else 0


def extrapolate(measured: list[Figures]) -> list[dict[str, Any]]:
    """The figures of a million hosts: those per host, times a million.

    Returns:
        For each failure and number of contexts the median, minimum and maximum over the measured
        sizes.
    """
    rows = []
    kinds = {(one.cell.failure, one.cell.contexts): None for one in measured}
    for failure, contexts in kinds:
        some = [
            one for one in measured if (one.cell.failure, one.cell.contexts) == (failure, contexts)
        ]
        row: dict[str, Any] = {"failure": failure.value, "contexts": contexts, "n": len(some)}
        for name, values in (
            ("provider_busiest_s", [one.provider / one.cell.hosts for one in some]),
            ("zone_busiest_s", [one.busiest_zone / one.cell.hosts for one in some]),
        ):
            scaled = [round(value * EXTRAPOLATED) for value in values]
            row[name] = {"median": median(scaled), "min": min(scaled), "max": max(scaled)}
        rows.append({"hosts": EXTRAPOLATED, **row})
    return rows


def _order(one: Figures) -> tuple[str, int, int]:
    return one.cell.failure.value, one.cell.hosts, one.cell.contexts


def _as_json(one: Figures) -> dict[str, Any]:
    cell = one.cell
    kinds = {"failure": cell.failure.value, "peers": cell.peers.value}
    said = asdict(one)
    said["cell"] |= kinds
    return {**said.pop("cell"), "contexts_simulated": said.pop("simulated"), **said}


def _print(measured: list[Figures], extrapolated: list[dict[str, Any]], traffic: float) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("failure", "hosts", "contexts", "simulated", "messages", "most", "all", "octets"):
        table.add_column(name, justify="left" if name == "failure" else "right")
    for name in ("cost", "provider/s", "host/s", "peer/s", "zone/s", "waited ms", "recovered s"):
        table.add_column(name, justify="right")
    for one in measured:
        waited, recovered = one.waited_ms, one.recovered_s
        table.add_row(
            one.cell.failure.value,
            f"{one.cell.hosts:,}",
            f"{one.cell.contexts:,}",
            f"{one.simulated:,}",
            f"{one.messages_each:.1f}",
            f"{one.messages_most}",
            f"{one.messages_all:.1f}",
            f"{one.octets_each:.0f}",
            f"{one.share:.2%}",
            f"{one.provider:,.0f}",
            f"{one.host_link:,}",
            f"{one.peer_link:,.0f}",
            f"{one.busiest_zone:,.0f}",
            f"{waited.median:.0f} ({waited.most:.0f})" if waited else "",
            f"{recovered.most:.2f}" if recovered else "",
        )
    console = Console()
    console.width = max(console.width, WIDTH_MIN)
    console.print(table)
    console.print(
        "messages, octets: of each context because of the failure, and the most of any; all: with\n"
        "those that it would send anyway; cost: of its traffic in the outage at "
        f"{traffic:g} kbit/s;\n/s: in the busiest second; waited: median (99 %); recovered: 99 %"
    )
    for row in extrapolated:
        provider, zone = row["provider_busiest_s"], row["zone_busiest_s"]
        console.print(
            f"extrapolated: {row['failure']}, {row['hosts']:,} hosts, {row['contexts']:,} contexts:"
            f" provider {provider['median']:,.0f}/s ({provider['min']:,}-{provider['max']:,}), "
            f"busiest zone {zone['median']:,.0f}/s ({zone['min']:,}-{zone['max']:,})"
        )


def _draw(directory: Path, measured: list[Figures]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for failure in dict.fromkeys(one.cell.failure for one in measured):
        some = [one for one in measured if one.cell.failure is failure]
        draw(directory / f"scale-{failure.value}.svg", some)


def _shown(outcomes: Iterator[Figures], wanted: list[Cell]) -> Iterator[Figures]:
    """Passes figures on, and shows on standard error how far it is, if that is a terminal."""
    console = Console(stderr=True)
    total = sum(cell.simulated * cell.contexts for cell in wanted)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(f"{total:,} contexts", total=total)
        for one in outcomes:
            bar.advance(task, one.cell.simulated * one.cell.contexts)
            yield one


def _numbers(text: str) -> list[int]:
    return [positive(one) for one in text.split(",")]


def _joined(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def _rate(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if value > 0:
        return value
    raise argparse.ArgumentTypeError(f"{text!r} is no rate above 0")
