# SPDX-License-Identifier: MIT
"""Which start of the system this is: of the machine, or of a container in it."""

from pathlib import Path
from typing import Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
FIRST_PROCESS: Final = Path("/proc/1/stat")
START_TIME: Final = 22 - 3
"""The field of proc_pid_stat(5), counted behind the name of the program, which may have blanks."""


def boot_id() -> str:
    """The identifier of the start of the machine; that of a container is the same.

    Raises:
        OSError: /proc is not there.
    """
    return BOOT_ID.read_text(encoding="ascii").strip()


def system_start() -> str:
    """An identifier that differs after each start of the machine and of the container.

    Returns:
        The identifier; an empty text if /proc is not there.
    """
    try:
        first = FIRST_PROCESS.read_text(encoding="utf-8", errors="replace")
        return f"{boot_id()}-{first.rpartition(')')[2].split()[START_TIME]}"
    except (OSError, IndexError):
        return ""
