# SPDX-License-Identifier: MIT
"""Files that a command of root writes in directories where other users may have files."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

MODE: Final = 0o600


def open_own(path: Path) -> BinaryIO:
    """Opens a file to write it from its beginning; only its owner can read a new one.

    Symbolic links, hard links and files of other users are refused: root would write elsewhere, or
    the other user could read what is written. So is a named pipe that no program reads: opening it
    would wait for one.

    Raises:
        OSError: the file is such a one, or the system refuses.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        file = os.fdopen(os.open(path, flags, MODE), "wb")
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a symbolic link") from None
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a named pipe that no program reads") from None
        raise
    try:
        found = os.fstat(file.fileno())
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"user {found.st_uid} owns it")
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink != 1:
                raise OSError(errno.EPERM, "it has several names (hard links)")
            file.truncate()
        os.set_blocking(file.fileno(), True)
    except BaseException:
        file.close()
        raise
    return file
