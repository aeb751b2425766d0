# SPDX-License-Identifier: MIT
"""Runs tests against a copy of the package, in forks of a process that has imported their tools.

To import pytest, hypothesis and the libraries that noid needs takes longer than most of the tests.
That process has imported nothing of noid and no tests: a fork imports them from the copy.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
IMPORTED: Final = (
    *("asyncio", "ctypes", "multiprocessing", "sqlite3", "tomllib", "unittest.mock"),
    *("cryptography.hazmat.primitives.asymmetric.x25519", "msgspec.json"),
    *("dns.message", "dns.query", "dns.asyncquery", "dns.rrset", "dns.reversename"),
    *("hypothesis.strategies", "hypothesis.stateful"),
)
OPTIONS: Final = (
    *("-q", "-x", "--no-header", "--tb=line"),
    *("-p", "no:cacheprovider", "-p", "pytest_timeout"),
)
OTHER_PACKAGE: Final = 99
"""The status of a fork that would not test the copy."""


class Result(NamedTuple):
    """What a run of pytest came to.

    Attributes:
        status: its exit status.
        output: what it printed.
    """

    status: int
    output: str


class Runs:
    """The process that forks.

    Args:
        package: the copy of the package that is tested.
    """

    def __init__(self, package: Path) -> None:
        # A defect may have as many octets as what it replaces: what was compiled before must not
        # stay.
        environment = os.environ | {
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_PROFILE": "ci",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.defects.runs", str(package)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *tests: str) -> Result:
        """Runs tests of the suite against the copy as it is now."""
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(tests) + "\n")
        self._popen.stdin.flush()
        return Result(*json.loads(self._popen.stdout.readline()))

    def close(self) -> None:
        """Ends it."""
        self._popen.communicate()


@contextlib.contextmanager
def runs_of(package: Path) -> Iterator[Runs]:
    """The runs of tests against a copy."""
    runs = Runs(package)
    try:
        yield runs
    finally:
        runs.close()


def _serve(package: Path) -> None:
    for module in IMPORTED:
        importlib.import_module(module)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output:
            pid = os.fork()
            if not pid:
                _run(package, json.loads(line), output.fileno())
            _, status = os.waitpid(pid, 0)
            output.seek(0)
            said = output.read().decode(errors="replace")
        print(json.dumps([os.waitstatus_to_exitcode(status), said]), flush=True)


def _run(package: Path, tests: list[str], output: int) -> None:
    """Runs tests in a fork, which ends."""
    status = OTHER_PACKAGE
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.path.insert(0, str(package.parent))
        if Path(importlib.import_module("noid").__file__ or "").parent == package:
            status = pytest.main([*OPTIONS, *(f"tests/{test}" for test in tests)])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
