# SPDX-License-Identifier: MIT
"""The laws bite: each fix that is taken back, in a copy of the package, is noticed."""

from pathlib import Path

import pytest

from tests.reverts.play import copy_to, planted, verdict_on
from tests.reverts.table import REVERTS, Revert


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, in a directory of its own."""
    return copy_to(tmp_path_factory.mktemp("copy"))


@pytest.mark.slow
@pytest.mark.parametrize("revert", REVERTS, ids=lambda revert: revert.name)
def test_a_law_notices_when(copy: Path, revert: Revert) -> None:
    with planted(copy, revert):
        found = verdict_on(copy, revert.family, revert.number)
    assert found.violation.startswith(f"{revert.law}:"), found


def test_no_fix_is_taken_back_twice() -> None:
    assert len({revert.name for revert in REVERTS}) == len(REVERTS)
