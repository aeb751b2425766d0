# SPDX-License-Identifier: MIT
"""The Debian package, built once."""

from pathlib import Path

import pytest

from tests.packaging.upgrades import make_package


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("deb"))
