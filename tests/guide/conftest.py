# SPDX-License-Identifier: MIT
"""What the tests of the guide and of the recipes share."""

from pathlib import Path

import pytest

from tests.guide.network import make_wheels
from tests.once import made_once


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels that pip installs on the machines."""
    return made_once(tmp_path_factory, "wheels", make_wheels)
