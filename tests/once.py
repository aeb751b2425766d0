# SPDX-License-Identifier: MIT
"""What several tests need and what takes long to make, made once for all processes of a run."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The directory in which a function has made something.

    The first process that asks makes it, and others wait for it. If that fails, the next one tries.

    Args:
        factory: of the temporary directories of this process.
        name: of the directory.
        make: is called with the empty directory.
    """
    base = factory.getbasetemp()
    common = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory, done = common / name, common / f"{name}.done"
    with (common / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            directory.mkdir(exist_ok=True)
            make(directory)
            done.touch()
    return directory
