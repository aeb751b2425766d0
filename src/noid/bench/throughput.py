# SPDX-License-Identifier: MIT
"""How fast one TCP stream is, noid to plain IPv6."""

import argparse

from noid.bench.report import Bench, Report, Watch
from noid.bench.twins import add_options, compare, stream

NOTE = "iperf3, one TCP stream, what its receiver counts; the ratio is taken turn by turn"


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Measures in alternation."""
    return compare(arguments, watch, unit="gbit_per_second", measure=stream, note=NOTE)


BENCH = Bench(
    name="throughput",
    summary="how fast one TCP stream is, noid to plain IPv6",
    explanation="One iperf3 stream from a to b in two labs by turns, one of them without noid.",
    example="noid bench throughput --moved --json",
    add_options=add_options,
    measure=measure,
)
