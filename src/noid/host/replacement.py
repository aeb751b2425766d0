# SPDX-License-Identifier: MIT
"""Replaces a file in one step: a crash or a full disk leaves the old one or the new one."""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UNFINISHED: Final = re.compile(r"\..+\.[a-z0-9_]{8}")
"""The names of new files before they replace others, by ``tempfile``."""


def remove_unfinished(directory: Path) -> None:
    """Removes what a process that was killed has left of its replacements in a directory."""
    with contextlib.suppress(OSError):
        for path in directory.iterdir():
            if UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)


def replace_file(
    path: Path,
    octets: bytes,
    *,
    mode: int,
    owner: tuple[int, int] | None = None,
    changed_ns: int | None = None,
) -> None:
    """Writes a file to the disk and replaces the previous one, if there is one.

    Args:
        path: the path of the file.
        octets: what is in it.
        mode: its permissions.
        owner: user and group; None for those of this process.
        changed_ns: when it was written, in ns since 1970; None for now.

    Raises:
        OSError: the system refuses; nothing is changed.
    """
    with made_beside(path, octets, mode=mode, owner=owner, changed_ns=changed_ns) as made:
        os.replace(made, path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def made_beside(
    path: Path,
    octets: bytes,
    *,
    mode: int,
    owner: tuple[int, int] | None = None,
    changed_ns: int | None = None,
) -> Iterator[Path]:
    """A new file in the directory of another, on the disk; it is removed unless it is renamed.

    Raises:
        OSError: the system refuses.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(octets)
                os.fchmod(descriptor, mode)
                if owner is not None:
                    os.fchown(descriptor, *owner)
                file.flush()
                if changed_ns is not None:
                    os.utime(descriptor, ns=(changed_ns, changed_ns))
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield Path(name)
    finally:
        with contextlib.suppress(OSError):
            Path(name).unlink(missing_ok=True)
