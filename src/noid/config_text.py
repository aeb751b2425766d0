# SPDX-License-Identifier: MIT
"""The text of a configuration file, read without a wait and up to a limit: daemons read it, too."""

import os
import stat
from pathlib import Path
from typing import Final

from noid.errors import ConfigError

OCTETS_MAX: Final = 4 * 1024 * 1024
"""Of a file: a daemon that reads it does nothing else until it is done."""


def read_text(path: Path) -> str:
    """The text of a configuration file, without the byte order mark that some editors write.

    Raises:
        ConfigError: it cannot be read, is a pipe, is too long, or is no text.
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                raise ConfigError(str(path), "is a pipe", "write it to a file")
            octets = file.read(OCTETS_MAX + 1) or b""
    except OSError as error:
        remedy = "name a file that is there"
        if isinstance(error, PermissionError):
            remedy = "run as root, or let this user read it"
        raise ConfigError(str(path), f"cannot be read: {error.strerror}", remedy) from None
    if len(octets) > OCTETS_MAX:
        why = f"is longer than {OCTETS_MAX} octets"
        raise ConfigError(str(path), why, "name a configuration file")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text", "save it as UTF-8") from None


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
