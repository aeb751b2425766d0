# SPDX-License-Identifier: MIT
"""What the tests of both sides of the control socket share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noid.control.schema import ROWS_PER_LINE

ANSWER = {"version": "1"}
WAIT_S = 60.0
"""A busy machine."""


def commands() -> dict[str, Callable[[], Any]]:
    return {"status": lambda: ANSWER, "contexts": lambda: iter([ANSWER] * (ROWS_PER_LINE + 1))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "noid.sock"
