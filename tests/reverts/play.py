# SPDX-License-Identifier: MIT
"""Plants a revert in a copy of the package, and plays a family until a law notices."""

import compileall
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

import noid
from tests.reverts.table import Revert

SOURCE = Path(noid.__file__).parent
SECONDS_MAX = 60.0
"""Of processor time: a law must have noticed by then."""
PLAY = """
import itertools, json, sys, time
from noid.sim.runs import play
family, seconds, first = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
started_s = time.process_time()
for number in itertools.chain([first], itertools.count()):
    run = play(number, family)
    if run.violation and not run.known or time.process_time() - started_s >= seconds:
        break
print(json.dumps([run.violation, number, time.process_time() - started_s]))
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of it.

    Attributes:
        violation: the law, and what violates it; empty where none was.
        number: of the history that does.
        seconds: of processor time until then.
    """

    violation: str
    number: int
    seconds: float


def copy_to(directory: Path) -> Path:
    """A copy of the package in a directory, compiled; a module that is edited is compiled anew."""
    package = directory / "noid"
    shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(package, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return package


@contextlib.contextmanager
def planted(package: Path, revert: Revert) -> Iterator[None]:
    """The copy without a fix, for as long as this lasts."""
    modules = {package / module for module, _, _ in revert.edits}
    before = {module: module.read_text(encoding="utf-8") for module in modules}
    try:
        for name, old, new in revert.edits:
            module = package / name
            text = module.read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{name} has changed: take this fix back anew: {old!r}"
            module.write_text(text.replace(old, new), encoding="utf-8")
        yield
    finally:
        for module, text in before.items():
            module.write_text(text, encoding="utf-8")


def verdict_on(package: Path, family: str, first: int = 0, seconds: float = SECONDS_MAX) -> Verdict:
    """What the first histories of a family say about a copy.

    Args:
        package: the copy.
        family: the family.
        first: the number of the history that is played before the others.
        seconds: of processor time, until it is given up.
    """
    environment = os.environ | {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    said = subprocess.run(
        [sys.executable, "-c", PLAY, family, str(seconds), str(first)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return Verdict(*json.loads(said.stdout))
