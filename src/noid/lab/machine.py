# SPDX-License-Identifier: MIT
"""What a lab requires of the machine: root, and programs."""

import errno
import os

from noid.errors import PlatformError
from noid.host.programs import find_program


def check_machine(*programs: str) -> None:
    """Refuses a machine on which no lab can be built.

    Raises:
        PlatformError: we are not root.
        Unsupported: a program is missing.
    """
    check_root()
    for program in programs:
        find_program(program)


def check_root() -> None:
    """Raises unless the user is root.

    Raises:
        PlatformError: we are not root.
    """
    if os.geteuid() != 0:
        raise PlatformError(
            "lab", errno.EPERM, "building network namespaces takes privileges; run as root"
        )
