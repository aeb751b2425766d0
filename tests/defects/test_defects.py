# SPDX-License-Identifier: MIT
"""The tests bite: each deliberate defect, planted in a copy of the package, is noticed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.defects.runs import OTHER_PACKAGE, Runs, runs_of
from tests.defects.table import DEFECTS, Defect
from tests.reverts.play import copy_to

FAILED = 1
"""What pytest exits with when a test failed, and not when one was not there or broke down."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, in a directory of its own."""
    return copy_to(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def runs(copy: Path) -> Iterator[Runs]:
    with runs_of(copy) as found:
        yield found


@pytest.mark.slow
def test_the_copy_as_it_is_passes(runs: Runs) -> None:
    result = runs.run(*(defect.test for defect in DEFECTS))
    assert result.status == 0, result.output


@pytest.mark.slow
def test_only_the_copy_is_tested(tmp_path: Path) -> None:
    with runs_of(tmp_path) as runs:
        assert runs.run("wire") == (OTHER_PACKAGE, "")


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_it_is_noticed_when(copy: Path, runs: Runs, defect: Defect) -> None:
    module = copy / defect.module
    text = module.read_text(encoding="utf-8")
    assert text.count(defect.old) == 1, f"{defect.module} has changed: plant this defect anew"
    module.write_text(text.replace(defect.old, defect.new), encoding="utf-8")
    try:
        result = runs.run(defect.test)
    finally:
        module.write_text(text, encoding="utf-8")
    assert result.status == FAILED, result.output
    assert "1 failed" in result.output


def test_no_defect_is_planted_twice() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS)
    assert len({(defect.module, defect.old) for defect in DEFECTS}) == len(DEFECTS)
