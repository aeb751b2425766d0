# SPDX-License-Identifier: MIT
"""How many TCP requests are answered in a second, noid to plain IPv6."""

import argparse

from noid.bench.report import Bench, Report, Watch
from noid.bench.twins import add_options, compare, exchanges

NOTE = (
    "one octet each way over one TCP connection, both ends in this process; "
    "the ratio is taken turn by turn"
)


def measure(arguments: argparse.Namespace, watch: Watch) -> Report:
    """Measures in alternation."""
    return compare(arguments, watch, unit="exchanges_per_second", measure=exchanges, note=NOTE)


BENCH = Bench(
    name="latency",
    summary="how many TCP requests are answered in a second, noid to plain IPv6",
    explanation=(
        "One octet there and one back, again and again, in two labs by turns, one of them without "
        "noid."
    ),
    example="noid bench latency --json",
    add_options=add_options,
    measure=measure,
)
