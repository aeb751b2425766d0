"""Stable storage: the birthday counter and the key of the reset tokens [draft §7.14, D35].

One small file, written beside and renamed over, so that a crash leaves the old or the new one. The
counter grows by one each time the host comes up without its contexts; a file that cannot be read is
told to the operator and begun afresh, at random. A disk that takes nothing does not prevent the
start: a random birthday is as good as a new one [D49].
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from noid.engine.secrets import KEY_OCTETS
from noid.errors import PlatformError

FILE_NAME = "state.json"
BIRTHDAYS = 1 << 32
DISK_TROUBLE = frozenset({errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""What a disk may say that is read-only, full or failing; nothing is wrong with what was asked."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """The file's contents.

    Attributes:
        birthday: the counter as of the last start, 32 bits.
        reset_key: 32 octets in hexadecimal.
    """

    birthday: int
    reset_key: str


@dataclass(frozen=True, slots=True)
class Birth:
    """What a start of the host is given.

    Attributes:
        birthday: the counter of this life.
        reset_key: the key of the reset tokens, the same in every life.
        warning: what was wrong with the file, or empty.
    """

    birthday: int
    reset_key: bytes
    warning: str


def be_born(directory: Path, *, goes_on: bool = False) -> Birth:
    """Counts a new birthday, durably, before anything is said to anybody.

    Args:
        directory: where the file is.
        goes_on: whether contexts of the life before are taken up, so that it is the same [D36].

    Raises:
        PlatformError: the directory is none, or may not be written.
    """
    path = directory / FILE_NAME
    warning = ""
    stored: Stored | None = None
    try:
        stored = _checked(msgspec.json.decode(path.read_bytes(), type=Stored))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        warning = f"{path} could not be used ({error}); starting with a fresh birthday and key"
    if stored is None:
        birthday = _random_birthday()
        reset_key = secrets.token_bytes(KEY_OCTETS)
    else:
        birthday = (stored.birthday + (0 if goes_on else 1)) % BIRTHDAYS
        reset_key = bytes.fromhex(stored.reset_key)
    try:
        _write(path, Stored(birthday=birthday, reset_key=reset_key.hex()))
    except PlatformError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        # One more than before would be said at each start; what goes on says what it said.
        if stored is None or not goes_on:
            birthday = _random_birthday()
        warning = f"{error}; noid runs with a random birthday, which nothing remembers"
    return Birth(birthday, reset_key, warning)


def _random_birthday() -> int:
    return int.from_bytes(secrets.token_bytes(4), "big")


def prepare_state(directory: Path) -> None:
    """Makes the state directory, unless the disk takes nothing.

    Raises:
        PlatformError: it cannot be made for another reason.
    """
    try:
        with _explained(directory / FILE_NAME):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except PlatformError as error:
        if error.errno not in DISK_TROUBLE:
            raise


def _checked(stored: Stored) -> Stored:
    if not 0 <= stored.birthday < BIRTHDAYS:
        raise ValueError("birthday out of range")
    if len(bytes.fromhex(stored.reset_key)) != KEY_OCTETS:
        raise ValueError("reset_key of another length")
    return stored


def _write(path: Path, stored: Stored) -> None:
    """Write, fsync, rename, fsync of the directory."""
    beside = path.with_suffix(".new")
    with _explained(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with open(beside, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(msgspec.json.encode(stored) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """A refusal by the system, as a PlatformError that says what to do."""
    try:
        yield
    except OSError as error:
        raise PlatformError(
            f"state file {path}",
            error.errno or 0,
            f"{error.strerror}; set state.directory to a directory that can be written",
        ) from None
