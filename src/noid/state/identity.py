# SPDX-License-Identifier: MIT
"""Stable storage: the birthday counter and the key of the reset tokens [draft §7.14, D35].

One small file, replaced by renaming, so that a crash leaves the old or the new one. The counter
grows by one each time the host starts without its contexts; a file that cannot be read is renamed
and replaced by one with random values. A disk that cannot be written does not prevent the start: a
random birthday works too [D49].
"""

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec

from noid.engine.secrets import KEY_OCTETS
from noid.errors import PlatformError
from noid.host.replacement import replace_file
from noid.state import files
from noid.state.files import DISK_TROUBLE, DamagedError, explained, prepare_directory

FILE_NAME = "state.json"
BIRTHDAYS = 1 << 32
OCTETS_MAX = 4_096
"""The maximum size of the file; a longer one is not ours."""


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
    """The identity of one start of the host.

    Attributes:
        birthday: the counter of this start.
        reset_key: the key of the reset tokens, the same at every start.
        warning: a problem of the file, or empty.
        before: the counter of the start before, if this one follows it.
    """

    birthday: int
    reset_key: bytes
    warning: str
    before: int | None = None


def load_identity(directory: Path, *, goes_on: bool = False) -> Birth:
    """Increments the birthday, durably, before any message is sent.

    Args:
        directory: the directory of the file.
        goes_on: whether contexts of an earlier daemon continue, so that it stays the same [D36].

    Raises:
        PlatformError: the directory does not exist or cannot be written, or the file has another
            owner or others can write it.
    """
    path = directory / FILE_NAME
    stored, warning = _read(path)
    before = None if stored is None or goes_on else stored.birthday
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
        # Contexts that continue use the birthday that their peers know.
        if stored is None or not goes_on:
            birthday, before = _random_birthday(), None
        warning += "; " * bool(warning)
        warning += f"{error}; noid runs with a random birthday, which nothing remembers"
    return Birth(birthday, reset_key, warning, before)


def take_back(directory: Path, birth: Birth) -> None:
    """Restores the birthday after a failed start that has sent nothing with it.

    The next birthday after the one that peers know proves that this host has lost their contexts.
    If failed starts were counted, peers would have to detect that by silence [D35].
    """
    if birth.before is not None:
        stored = Stored(birthday=birth.before, reset_key=birth.reset_key.hex())
        with contextlib.suppress(PlatformError):
            _write(directory / FILE_NAME, stored)


def _random_birthday() -> int:
    return int.from_bytes(secrets.token_bytes(4), "big")


def _read(path: Path) -> tuple[Stored | None, str]:
    """The stored identity, and a problem of the file."""
    try:
        octets = files.read(path, OCTETS_MAX)
        return (None, "") if octets is None else (_decoded(octets), "")
    except DamagedError as error:
        aside = files.move_aside(path)
        where = f"moved to {aside.name}" if aside else "which cannot be moved aside"
        why = f"{path} could not be used ({error}), {where}"
    except PlatformError as error:
        if error.errno not in DISK_TROUBLE:
            raise
        why = str(error)
    return None, f"{why}; starting with a fresh birthday and key"


def _decoded(octets: bytes) -> Stored:
    """Parses the content of the file.

    Raises:
        DamagedError: it is not valid.
    """
    try:
        stored = msgspec.json.decode(octets, type=Stored)
        key = bytes.fromhex(stored.reset_key)
    except (ValueError, RecursionError) as error:
        raise DamagedError(str(error)) from None
    if not 0 <= stored.birthday < BIRTHDAYS:
        raise DamagedError("birthday out of range")
    if len(key) != KEY_OCTETS:
        raise DamagedError("reset_key of another length")
    return stored


def _write(path: Path, stored: Stored) -> None:
    """Writes the file, durably."""
    with explained(path):
        path.parent.mkdir(mode=files.DIRECTORY_MODE, parents=True, exist_ok=True)
        prepare_directory(path.parent)
        replace_file(path, msgspec.json.encode(stored) + b"\n", mode=files.FILE_MODE)
