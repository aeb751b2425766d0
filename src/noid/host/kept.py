# SPDX-License-Identifier: MIT
"""Replaces files of other programs in one step, and keeps the previous ones to restore them."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.errors import PlatformError
from noid.host.replacement import made_beside, replace_file

FILE_MODE: Final = 0o644
SUFFIX: Final = ".before-noid"
"""Of the name under which a file or symlink is kept."""


def aside(path: Path) -> Path:
    """The path under which the previous file is kept."""
    return path.with_name(path.name + SUFFIX)


def put(path: Path, text: str, *, kept_as: Path | None = None) -> None:
    """Replaces a file in one step; on a full disk nothing changes.

    Args:
        path: the path of the file.
        text: what is in it.
        kept_as: a second name for what was there, a file or a symlink; nothing is copied.
    """
    if kept_as is None:
        replace_file(path, text.encode(), mode=FILE_MODE)
        return
    with made_beside(path, text.encode(), mode=FILE_MODE) as made:
        was_kept = os.path.lexists(kept_as)
        second = made.with_suffix(".second")
        try:
            os.link(path, second, follow_symlinks=False)
            try:
                os.replace(second, kept_as)
            finally:
                second.unlink(missing_ok=True)  # it is left where both are names of one file
            os.replace(made, path)
        except OSError:
            if not was_kept:
                kept_as.unlink(missing_ok=True)
            raise


def text_of(path: Path) -> str:
    """The text of a regular file, symlinks followed; another one may never end, such as a FIFO.

    Raises:
        OSError: it cannot be read, or is not regular.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    return path.read_text(encoding="utf-8", errors="replace")


def lines_of(path: Path) -> list[str]:
    """The lines of the regular file at a path, symlinks followed; none if there is none."""
    try:
        return text_of(path).splitlines() if path.is_file() else []
    except FileNotFoundError:
        return []


def servers_in(lines: list[str]) -> list[str]:
    """The resolvers that the lines of a resolv.conf name, in order."""
    words = [line.split() for line in lines]
    return [one[1] for one in words if len(one) > 1 and one[0] == "nameserver"]


@contextlib.contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """A refusal of the system, as a PlatformError that names the file."""
    try:
        yield
    except OSError as error:
        advice = ""
        if isinstance(error, PermissionError):
            advice = "; run as root" if os.geteuid() else f"; if it is immutable: chattr -i {path}"
        why = f"{error.strerror}{advice}"
        raise PlatformError(f"change {path}", error.errno or 0, why) from None
