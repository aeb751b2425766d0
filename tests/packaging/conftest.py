# SPDX-License-Identifier: MIT
"""The Debian package, built once."""

from pathlib import Path

import pytest

from tests.once import made_once
from tests.packaging.upgrades import make_package


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = made_once(tmp_path_factory, "deb", make_package).glob("*.deb")
    return path
