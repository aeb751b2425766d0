# SPDX-License-Identifier: MIT
"""Plays generated packets before the law of a border and its programs in the kernel.

    python -m tests.border COUNT [SEED]

Needs root. Exit status 1 if they differ, or if something is rewritten that must not be.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.border.play import play, stage
from tests.namespaces import in_network_namespace

SHOWN_MAX = 20


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    arguments = parser.parse_args()

    def run() -> int:
        with tempfile.TemporaryDirectory() as directory, stage(Path(directory)) as made:
            started_s = time.monotonic()
            found = play(made, arguments.seed, arguments.count)
            seconds = time.monotonic() - started_s
            print(*found[:SHOWN_MAX], sep="\n")
            print(f"{arguments.count} packets, seed {arguments.seed}: {len(found)} differences")
            print(f"{seconds:.0f} s; {dict(made.outcomes)}")
            return int(bool(found))

    return in_network_namespace(run)


if __name__ == "__main__":
    sys.exit(main())
