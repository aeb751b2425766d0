# SPDX-License-Identifier: MIT
"""Which executables of a directory are run: regular files that only root can have written."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SCRIPTS_MAX: Final = 16
"""Scripts that are run for one event, in the order of their names."""
ROOT: Final = 0
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
WRITABLE: Final = "others can write it; chown root, chmod 755"


class Refused(NamedTuple):
    """What is not run, and why."""

    what: str
    why: str


def scripts_in(directory: Path) -> tuple[list[Path], list[Refused]]:
    """The scripts that are run, in their order, and what is not run."""
    try:
        if not _is_trusted(directory.stat()):
            return [], [Refused("directory", WRITABLE)]
        files = sorted(directory.iterdir())
        refused = list(_refused(files))
    except OSError:
        return [], []
    left_out = {one.what for one in refused}
    found = [one for one in files if one.name not in left_out]
    refused += [
        Refused("too many scripts", f"{one.name} is not run: {SCRIPTS_MAX} are")
        for one in found[SCRIPTS_MAX:]
    ]
    return found[:SCRIPTS_MAX], refused


def _refused(files: list[Path]) -> Iterator[Refused]:
    for path in files:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            yield Refused(path.name, "it is not a regular file")
        elif not os.access(path, os.X_OK):
            yield Refused(path.name, "it is not executable; chmod 755")
        elif not _is_trusted(status):
            yield Refused(path.name, WRITABLE)


def _is_trusted(status: os.stat_result) -> bool:
    """Whether only root can have written it."""
    return status.st_uid == ROOT and not status.st_mode & WRITABLE_BY_OTHERS
