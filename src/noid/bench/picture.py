# SPDX-License-Identifier: MIT
"""Draws what arrived around a fault as SVG, for the documentation; needs matplotlib."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from noid.bench.silence import BIN_NS, DRAWN_BEFORE_NS
from noid.constants import MILLISECOND, SECOND
from noid.errors import Unsupported

WIDTH_INCHES: Final = 8.0
ROW_INCHES: Final = 1.3
BITS: Final = 8
MEGA: Final = 1e6


def check_matplotlib() -> None:
    """Raises if figures cannot be drawn.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise Unsupported("--plot", "it needs matplotlib: pip install 'noid-m6[bench]'")


def draw(path: Path, title: str, curves: Mapping[str, Sequence[int]], *, packets: bool) -> None:
    """Draws one row for each way, all with the same axes; the fault is at 0.

    Args:
        path: the SVG file to write.
        title: what is shown.
        curves: name of a way -> what arrived in each bin, octets or packets.
        packets: whether they are packets.
    """
    import matplotlib
    from matplotlib.figure import Figure

    # The same figures give the same file: no random identifiers, and no date below.
    with matplotlib.rc_context({"svg.hashsalt": "noid"}):
        figure = Figure(figsize=(WIDTH_INCHES, 0.8 + ROW_INCHES * len(curves)))
        rows = figure.subplots(len(curves), sharex=True, sharey=True, squeeze=False)
        for (row,), (name, bins) in zip(rows, curves.items(), strict=True):
            starts = [(at * BIN_NS - DRAWN_BEFORE_NS) / MILLISECOND for at in range(len(bins))]
            scale = 1 if packets else BITS * SECOND / BIN_NS / MEGA
            row.fill_between(starts, [one * scale for one in bins], step="post", linewidth=0)
            row.axvline(0, color="tab:red", linewidth=1)
            row.set_ylabel(name, rotation=0, ha="right", va="center")
            row.margins(x=0)
            row.set_ylim(bottom=0)
        rows[0][0].set_title(title)
        rows[-1][0].set_xlabel("ms after the fault")
        unit = f"packets in {BIN_NS // MILLISECOND} ms" if packets else "Mbit/s received"
        figure.supylabel(unit)
        figure.tight_layout()
        figure.savefig(path, format="svg", metadata={"Date": None})
