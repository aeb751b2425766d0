# SPDX-License-Identifier: MIT
"""What the tests of the planes share: where a plane in the kernel pins."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """Where the plane pins; it mounts the file system itself."""
    path = tmp_path / "pins"
    yield path
    for _ in range(2):
        subprocess.run(["umount", path], check=False, capture_output=True)
