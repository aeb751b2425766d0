# SPDX-License-Identifier: MIT
"""Which executables of a directory are run: regular files that only root can have written.

Their names are those that run-parts(8) runs, so that copies of editors and packages are not run.
"""

import os
import pwd
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SCRIPTS_MAX: Final = 16
"""Scripts that are run for one event, in the order of their names."""
ROOT: Final = 0
USER: Final = "noid"
"""Whom the units run the daemon as."""
NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
GROUP_SHIFT: Final = 3
WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
WRITABLE: Final = "others can write it; chown root, chmod 755"
LISTED: Final = os.R_OK | os.X_OK


class Refused(NamedTuple):
    """What is not run, why, and the command that corrects it; empty if none does."""

    what: str
    why: str
    fix: str = ""


def daemons_user(control: Path) -> pwd.struct_passwd | None:
    """Whom the daemon runs as; None if it is not known, or root, who may run everything.

    Args:
        control: its control socket, which belongs to it.
    """
    try:
        user = pwd.getpwuid(control.stat().st_uid)
    except (OSError, KeyError):
        try:
            user = pwd.getpwnam(USER)
        except KeyError:
            return None
    return user if user.pw_uid != ROOT else None


def scripts_in(
    directory: Path, user: pwd.struct_passwd | None = None
) -> tuple[list[Path], list[Refused]]:
    """The scripts that are run, in their order, and what is not run.

    Args:
        directory: where they are; it need not exist.
        user: who runs them; None: who asks.
    """
    try:
        status = directory.stat()
        if not _is_trusted(status):
            return [], [Refused("directory", WRITABLE, _corrected(directory))]
        if not _may(directory, status, LISTED, user):
            why = "the daemon cannot list it; chmod 755"
            return [], [Refused("directory", why, _corrected(directory))]
        files = sorted(directory.iterdir())
        refused = list(_refused(files, user))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [Refused("directory", str(error.strerror))]
    left_out = {one.what for one in refused}
    found = [one for one in files if one.name not in left_out]
    refused += [
        Refused("too many scripts", f"{one.name} is not run: {SCRIPTS_MAX} are")
        for one in found[SCRIPTS_MAX:]
    ]
    return found[:SCRIPTS_MAX], refused


def _refused(files: list[Path], user: pwd.struct_passwd | None) -> Iterator[Refused]:
    for path in files:
        status = path.lstat()
        if not NAME.fullmatch(path.name):
            yield Refused(path.name, "its name has more than letters, digits, - and _")
        elif not stat.S_ISREG(status.st_mode):
            yield Refused(path.name, "it is not a regular file")
        elif not _may(path, status, os.X_OK, user):
            yield Refused(path.name, "it is not executable; chmod 755", _corrected(path))
        elif not _is_trusted(status):
            yield Refused(path.name, WRITABLE, _corrected(path))


def _may(path: Path, status: os.stat_result, wanted: int, user: pwd.struct_passwd | None) -> bool:
    """Whether the user has these rights to a file of root."""
    if user is None:
        return os.access(path, wanted)
    of_group = status.st_gid == user.pw_gid
    return (status.st_mode >> GROUP_SHIFT * of_group) & wanted == wanted


def _corrected(path: Path) -> str:
    """The command after which it is run."""
    name = shlex.quote(str(path))
    return f"chown root {name}; chmod 755 {name}"


def _is_trusted(status: os.stat_result) -> bool:
    """Whether only root can have written it."""
    return status.st_uid == ROOT and not status.st_mode & WRITABLE_BY_OTHERS
