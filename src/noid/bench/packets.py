# SPDX-License-Identifier: MIT
"""How many small UDP packets arrive in a second, noid to plain IPv6."""

import argparse

from noid.bench.report import Bench, Report, Watch
from noid.bench.twins import add_options, compare, small_packets

NOTE = (
    "iperf3, UDP, 64 octets of payload, what its receiver counts; the ratio is taken turn by turn"
)


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Measures in alternation."""
    return compare(arguments, watch, unit="packets_per_second", measure=small_packets, note=NOTE)


BENCH = Bench(
    name="packets",
    summary="how many small UDP packets arrive in a second, noid to plain IPv6",
    explanation=(
        "64 octets as fast as one iperf3 sends them, in two labs by turns, one without noid."
    ),
    example="noid bench packets --json",
    add_options=add_options,
    measure=measure,
)
