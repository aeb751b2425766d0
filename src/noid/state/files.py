# SPDX-License-Identifier: MIT
"""Files of the state directory: only their owner can access them; damaged ones are renamed.

The directory and its files belong to the user that noid runs as. Read permission of others is
removed; files that others own or can write are refused, because they may be forged [D35].
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from noid.errors import PlatformError
from noid.host.replacement import replace_file

DISK_TROUBLE: Final = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What a disk may say that is read-only, full or failing; nothing is wrong with what was asked."""
DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
ASIDE: Final = "damaged"
ASIDE_MAX: Final = 8
"""Damaged files of one name that are kept; the last is replaced."""

Content = TypeVar("Content")

logger = logging.getLogger("noid")


class DamagedError(Exception):
    """A state file that noid cannot have written; the text says why."""


class Trouble:
    """The problems of a state file; each is said in the log when it begins and ends.

    Args:
        path: of the file.

    Attributes:
        text: why it cannot be used, and the effect, for people; empty if it can.
        replaced: that a damaged file was replaced, and the effect; empty if none was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = ""
        self.replaced = ""

    @property
    def texts(self) -> list[str]:
        """The problems, for people."""
        return [one for one in (self.replaced, self.text) if one]

    def replaces(self, line: str) -> None:
        """Notes that a damaged file was replaced."""
        logger.warning("%s", line)
        self.replaced = line

    def begins(self, why: str, effect: str) -> None:
        """Notes that the file cannot be used."""
        line = f"{self.path} cannot be used ({why}); {effect}"
        if not self.text:
            logger.warning("%s", line)
        self.text = line

    def ends(self) -> None:
        """Notes that the file can be used."""
        if self.text:
            logger.warning("%s can be used again", self.path)
            self.text = ""


def prepare_directory(directory: Path) -> list[str]:
    """Creates the state directory with mode 0700.

    Returns:
        A warning for the operator, or an empty text.

    Raises:
        PlatformError: it cannot be made, is of another owner, or others can write there.
    """
    try:
        with explained(directory):
            directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    except PlatformError as error:
        if error.errno in DISK_TROUBLE:
            return [str(error)]
        raise
    with explained(directory):
        return _make_private(directory, directory.stat(), DIRECTORY_MODE)


def read(path: Path, octets_max: int) -> bytes | None:
    """The content of a state file, after its mode is set to 0600; None if it does not exist.

    Raises:
        DamagedError: it is no regular file, or too long.
        PlatformError: it is of another owner, others can write it, or it cannot be read.
    """
    with explained(path), _opened(path) as descriptor:
        if descriptor is None:
            return None
        _check(path, descriptor, octets_max)
        return os.read(descriptor, octets_max)


def load(
    path: Path, octets_max: int, decode: Callable[[bytes], Content], effect: str
) -> tuple[Content | None, str]:
    """What a state file says; a damaged one is moved aside.

    Args:
        path: of the file.
        octets_max: its maximum size; a longer one is not ours.
        decode: parses it; raises DamagedError.
        effect: what follows if it cannot be used, for people.

    Returns:
        The content, None if there is none; and the error, or an empty text.
    """
    try:
        octets = read(path, octets_max)
        return (None if octets is None else decode(octets)), ""
    except DamagedError as error:
        aside = move_aside(path)
        where = f"moved to {aside.name}" if aside else "which cannot be moved aside"
        return None, f"{path} could not be used ({error}), {where}; {effect}"
    except PlatformError as error:
        return None, f"{error}; {effect}"


def keep(path: Path, octets: bytes) -> None:
    """Replaces a state file durably.

    Raises:
        PlatformError: the disk cannot be written.
    """
    with explained(path):
        replace_file(path, octets, mode=FILE_MODE)


def check(path: Path, octets_max: int) -> None:
    """Sets the mode of a state file to 0600, if it exists.

    Raises:
        DamagedError: as ``read``.
        PlatformError: as ``read``.
    """
    with explained(path), _opened(path) as descriptor:
        if descriptor is not None:
            _check(path, descriptor, octets_max)


def create(path: Path) -> int:
    """Creates a state file, replacing an old one; returns a descriptor.

    Raises:
        OSError: it cannot be made.
    """
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        path.unlink()
    if path.is_dir():
        move_aside(path)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)


def move_aside(path: Path) -> Path | None:
    """Renames a damaged file of any type; returns the new name, or None if refused."""
    names = [path.with_name(f"{path.name}.{ASIDE}{n or ''}") for n in range(ASIDE_MAX)]
    aside = next((name for name in names if not os.path.lexists(name)), names[-1])
    try:
        path.rename(aside)
    except OSError:
        return None
    return aside


def _check(path: Path, descriptor: int, octets_max: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise DamagedError("no regular file")
    _make_private(path, status, FILE_MODE)
    if status.st_size > octets_max:
        raise DamagedError(f"it has {status.st_size} octets")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A file open for reading; opening does not block and follows no link."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise DamagedError("no regular file") from None
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_private(path: Path, status: os.stat_result, mode: int) -> list[str]:
    """Takes the rights of others away, as far as they could only read."""
    user, actual = os.geteuid(), stat.S_IMODE(status.st_mode)
    if status.st_uid != user:
        raise PlatformError(
            f"state file {path}",
            errno.EPERM,
            f"belongs to uid {status.st_uid}, noid runs as uid {user}; "
            f"remove it, or: chown {user} {path}",
        )
    if actual & (stat.S_IWGRP | stat.S_IWOTH):
        raise PlatformError(
            f"state file {path}",
            errno.EPERM,
            f"can be written by others (mode {actual:04o}); "
            f"remove it, or check its contents, then: chmod {mode:o} {path}",
        )
    if actual == mode:
        return []
    try:
        os.chmod(path, mode)
    except OSError as error:
        return [f"{path} has mode {actual:04o} and stays so ({error.strerror})"]
    return []


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """A refusal by the system, as a PlatformError that says what to do."""
    try:
        yield
    except OSError as error:
        raise PlatformError(
            f"state file {path}",
            error.errno or 0,
            f"{error.strerror}; set state.directory to a directory that can be written",
        ) from None
