# SPDX-License-Identifier: MIT
"""What the failure of a provider costs, drawn over the size as SVG; needs matplotlib."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from noid.sweep.scale import Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_INCHES: Final = 9.0
HEIGHT_INCHES: Final = 6.5
MARKERS: Final = "osD^v*"

Value = Callable[[Figures], float]


def draw(path: Path, measured: list[Figures]) -> None:
    """Draws four figures over the size; those of several hosts of one size as one line.

    Args:
        path: the SVG file to write.
        measured: all of one kind of failure.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "noid"}):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES))
        (one, two), (three, four) = figure.subplots(2, 2)
        title = "control messages/s through the surviving provider"
        _by_hosts(one, title, measured, lambda each: each.provider)
        _by_hosts(two, "questions/s to the busiest zone", measured, lambda each: each.busiest_zone)
        title = "seconds until 99 % of programs are answered"
        _by_contexts(three, title, measured, _recovered)
        title = "control messages of each context"
        _by_contexts(four, title, measured, lambda each: each.messages_each)
        three.set_yscale("log")
        four.set_ylim(bottom=0)
        figure.suptitle(f"A provider fails: {measured[0].cell.failure.value}")
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})


def _recovered(figures: Figures) -> float:
    return figures.recovered_s.most if figures.recovered_s is not None else float("nan")


def _by_hosts(axes: "Axes", title: str, measured: list[Figures], value: Value) -> None:
    """One line for each number of contexts."""
    for index, contexts in enumerate(sorted({one.cell.contexts for one in measured})):
        some = [one for one in measured if one.cell.contexts == contexts]
        some.sort(key=lambda one: one.cell.hosts)
        _line(axes, index, [one.cell.hosts for one in some], [value(one) for one in some], contexts)
    axes.set_yscale("symlog", linthresh=1)  # a zone may be asked nothing
    axes.set_ylim(bottom=0)
    _finish(axes, title, "hosts", "contexts each")


def _by_contexts(axes: "Axes", title: str, measured: list[Figures], value: Value) -> None:
    """One line for each number of hosts."""
    for index, hosts in enumerate(sorted({one.cell.hosts for one in measured})):
        some = [one for one in measured if one.cell.hosts == hosts]
        some.sort(key=lambda one: one.cell.contexts)
        values = [value(one) for one in some]
        _line(axes, index, [one.cell.contexts for one in some], values, hosts)
    _finish(axes, title, "contexts of each host", "hosts")


def _line(axes: "Axes", index: int, sizes: list[int], values: list[float], label: int) -> None:
    marker = MARKERS[index % len(MARKERS)]
    axes.plot(sizes, values, marker=marker, markersize=4, linewidth=1, label=f"{label:,}")


def _finish(axes: "Axes", title: str, size: str, legend: str) -> None:
    axes.set_xscale("log")
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(size)
    axes.legend(title=legend, fontsize=7, title_fontsize=7)
