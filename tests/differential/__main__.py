# SPDX-License-Identifier: MIT
"""Plays generated packets before the law, the programs, the stack and the second implementation.

    python -m tests.differential COUNT [SEED] [--keep FILE]

Needs root. Exit status 1 if two differ; the packets are printed, and kept for the corpus.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.differential.packets import Generator
from tests.differential.play import Stage
from tests.namespaces import in_network_namespace

SHOWN_MAX = 20


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    parser.add_argument("--keep", type=Path, help="append packets that differ to this corpus")
    parser.add_argument("--without-stack", action="store_true")
    arguments = parser.parse_args()
    return in_network_namespace(lambda: play(arguments))


def play(arguments: argparse.Namespace) -> int:
    generator, differing = Generator(arguments.seed), 0
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory), has_stack=not arguments.without_stack)
        started_s = time.monotonic()
        for number in range(arguments.count):
            frame = generator.frame()
            found = stage.differences(frame)
            if not found:
                continue
            differing += 1
            if differing <= SHOWN_MAX:
                print(f"packet {number}: {frame.octets.hex()}", *found, sep="\n  ")
            if arguments.keep is not None:
                with arguments.keep.open("a") as corpus:
                    corpus.write(frame.octets.hex() + "\n")
        seconds = time.monotonic() - started_s
        stage.close()
    pace = arguments.count / seconds
    print(f"{arguments.count} packets, seed {arguments.seed}: {differing} differ")
    print(f"{seconds:.0f} s, {pace:.0f} packets/s; {dict(stage.outcomes)}")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
