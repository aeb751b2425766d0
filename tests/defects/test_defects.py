# SPDX-License-Identifier: MIT
"""The tests bite: each deliberate defect, planted in a copy of the package, is noticed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.defects.table import DEFECTS, Defect
from tests.reverts.play import copy_to

ROOT = Path(__file__).parent.parent.parent
FAILED = 1
"""What pytest exits with when a test failed, and not when one was not there or broke down."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, in a directory of its own."""
    return copy_to(tmp_path_factory.mktemp("copy"))


def run_tests(package: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Runs tests of the suite against a copy of the package."""
    # A defect may have as many octets as what it replaces: what was compiled before must not stay.
    environment = os.environ | {
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_PROFILE": "ci",
    }
    options = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=line"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_copy_as_it_is_passes(copy: Path) -> None:
    (copy / "origin.txt").write_text("the tests must run against this one")
    asked = (
        "import noid, pathlib; print(pathlib.Path(noid.__file__).with_name('origin.txt').exists())"
    )
    said = subprocess.run(
        [sys.executable, "-c", asked],
        env=os.environ | {"PYTHONPATH": str(copy.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "True\n"
    result = run_tests(copy, *(defect.test for defect in DEFECTS))
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_test_detects_the_planted_defect(copy: Path, defect: Defect) -> None:
    module = copy / defect.module
    text = module.read_text(encoding="utf-8")
    assert text.count(defect.old) == 1, f"{defect.module} has changed: plant this defect anew"
    module.write_text(text.replace(defect.old, defect.new), encoding="utf-8")
    try:
        result = run_tests(copy, defect.test)
    finally:
        module.write_text(text, encoding="utf-8")
    assert result.returncode == FAILED, result.stdout + result.stderr
    assert "1 failed" in result.stdout


def test_no_defect_is_planted_twice() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
    assert len({(defect.module, defect.old) for defect in DEFECTS}) == len(DEFECTS)
