# SPDX-License-Identifier: MIT
"""The files that a set-up has written: what they were before, and how they become that again."""

import base64
import contextlib
import errno
import hashlib
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from noid.errors import PlatformError
from noid.host.replacement import replace_file

NEW_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755
USED_BY_OTHERS: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOENT, errno.ENOTDIR)
"""Others have put files into a directory, mounted something there, or removed it."""


class Written(msgspec.Struct, tag="file", kw_only=True):
    """A file that was written.

    Attributes:
        path: its path.
        before: its previous content, in base64; None if it did not exist.
        mode: its previous permissions.
        uid: its previous owner.
        gid: its previous group.
        changed_ns: when its previous content was written, in ns since 1970; None if not known.
        after: SHA-256 of the content written; two if it was written again.
        directories: the directories that were created for it.
        load: as for ``File``.
        apply: as for ``File``.
    """

    path: str
    before: str | None
    after: list[str]
    mode: int = NEW_MODE
    uid: int = 0
    gid: int = 0
    changed_ns: int | None = None
    directories: list[str] = msgspec.field(default_factory=list)
    load: list[str] = msgspec.field(default_factory=list)
    apply: list[str] = msgspec.field(default_factory=list)


def contents(path: str) -> bytes | None:
    """The content of a file; None if there is none.

    Raises:
        PlatformError: the file cannot be read.
    """
    with refused(Path(path)), contextlib.suppress(FileNotFoundError):
        return Path(path).read_bytes()
    return None


def before_of(entry: Written) -> bytes | None:
    """The previous content of a file; None if there was none."""
    return None if entry.before is None else base64.b64decode(entry.before)


def is_edited(entry: Written, octets: bytes | None) -> bool:
    """Whether a file exists and has neither the content written nor the previous content."""
    if octets is None or octets == before_of(entry):
        return False
    return hashlib.sha256(octets).hexdigest() not in entry.after


def describe(path: Path, digest: str) -> Written:
    """An entry with the current state of a file."""
    octets = contents(str(path))
    if octets is None:
        parents = [one for one in reversed(path.parents) if not one.exists()]
        return Written(
            path=str(path), before=None, after=[digest], directories=[str(one) for one in parents]
        )
    status = path.stat()
    return Written(
        path=str(path),
        before=base64.b64encode(octets).decode(),
        after=[digest],
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        changed_ns=status.st_mtime_ns,
    )


def restore(entry: Written) -> None:
    """Makes a file, and the directories that were made for it, what they were before.

    Raises:
        OSError: the system refuses.
    """
    path, octets = Path(entry.path), before_of(entry)
    if octets is not None:
        if contents(entry.path) != octets:
            replace(path, octets, entry, changed_ns=entry.changed_ns)
        return
    path.resolve().unlink(missing_ok=True)  # of a link, what it leads to was written
    for directory in reversed(entry.directories):
        try:
            Path(directory).rmdir()
        except OSError as error:
            if error.errno not in USED_BY_OTHERS:
                raise


def transfer_directories(entry: Written, others: Iterable[Written]) -> None:
    """Gives the directories that were made for a file, and that others need, to one of these."""
    for directory in entry.directories:
        users = (one for one in others if Path(directory) in Path(one.path).parents)
        user = next(users, None)
        if user is not None:
            user.directories = sorted({*user.directories, directory}, key=len)


def replace(path: Path, octets: bytes, entry: Written, *, changed_ns: int | None = None) -> None:
    """Writes a file with the permissions that it had, in one step.

    Args:
        path: the path of the file.
        octets: what is in it.
        entry: its entry.
        changed_ns: when it was written, in ns since 1970; None for now.

    Raises:
        OSError: the system refuses.
    """
    owner = None if entry.before is None else (entry.uid, entry.gid)
    replace_file(path.resolve(), octets, mode=entry.mode, owner=owner, changed_ns=changed_ns)


@contextlib.contextmanager
def refused(path: Path) -> Iterator[None]:
    """A refusal by the system, as a PlatformError that says what to do."""
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room there" if is_full else "run it as root, or correct the path"
        raise PlatformError(str(path), error.errno or 0, f"{error.strerror}; {remedy}") from None
