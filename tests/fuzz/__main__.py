# SPDX-License-Identifier: MIT
"""``python -m tests.fuzz [SECONDS] [TARGET ...]``: fuzzes targets, guided by coverage.

An input that raises, takes ten seconds of processor time, hangs for ten minutes or takes more
memory than there is for one ends the run: its octets are kept in ``.fuzz/`` and the command that
replays them is printed. What was learned in earlier runs is kept there too.
"""

import contextlib
import io
import logging
import subprocess
import sys
from pathlib import Path
from random import Random

from tests.fuzz.limits import limited

SECONDS = 60
INPUT_PROCESSOR_S = 10.0
INPUT_S = 600
"""For one input that waits, or that runs where Python handles no signal. On a busy machine an input
takes many times its processor time."""
DIRECTORY = Path(".fuzz")
STORY_OCTETS_MAX = 1024
MEMORY_MB_MAX = 1024
"""Of the whole process; one that fuzzes a target for hours stays below."""
ALLOCATION_MB_MAX = 64
"""Of one allocation."""
SEEDS = {
    "control": [
        b'{"command":"status"}\n',
        b'{"command":"monitor"}\n',
        b'{"command":"ping","peer":"nobody"}\n',
        b'{"command":"use","uplink":"up1"}\n{"command":"auto"}\n',
        b'{"command":"avoid","uplink":"up2","for_s":1e3}\n',
    ],
    "host": [Random(number).randbytes(STORY_OCTETS_MAX // 2) for number in range(64)],
}
"""Inputs that coverage alone would be long in finding."""


def fuzz(target: str, *options: str) -> None:
    """Fuzzes one target in this process, which ends with it."""
    import atheris

    logging.getLogger("noid").setLevel(logging.CRITICAL)
    quietly = contextlib.redirect_stderr(io.StringIO())
    with quietly, atheris.instrument_imports(include=["noid"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([target, *options], limited(TARGETS[target], INPUT_PROCESSOR_S))
    atheris.Fuzz()


def run(target: str, seconds: int) -> int:
    """Fuzzes one target in a process of its own; its exit code."""
    corpus = DIRECTORY / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS.get(target, ())):
        (corpus / f"seed-{number}").write_bytes(seed)
    print(f"--- {target}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--one", target]
    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={STORY_OCTETS_MAX}",
        "-len_control=0",
        f"-rss_limit_mb={MEMORY_MB_MAX}",
        f"-malloc_limit_mb={ALLOCATION_MB_MAX}",
        f"-timeout={INPUT_S}",
        "-print_final_stats=1",
        "-verbosity=0",
        f"-artifact_prefix={corpus}.",
    ]
    code = subprocess.run([*command, *limits, str(corpus)], check=False).returncode
    if code:
        print(f"replay: {' '.join(command)} {corpus}.crash-...", flush=True)
    return code


def main(arguments: list[str]) -> int:
    """Whatever the arguments say; how many targets failed."""
    if arguments[:1] == ["--one"]:
        fuzz(*arguments[1:])
    seconds = int(arguments.pop(0)) if arguments and arguments[0].isdigit() else SECONDS
    if not arguments:
        from tests.fuzz.targets import TARGETS

        arguments = list(TARGETS)
    return sum(bool(run(target, seconds)) for target in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
