# SPDX-License-Identifier: MIT
"""What the lab asks of the machine: root, and the programs it drives."""

import errno
import os
import shutil
from typing import Final

from noid.errors import PlatformError, Unsupported

PACKAGES: Final = {
    "ip": "iproute2",
    "nsd": "nsd",
    "nginx": "nginx",
    "curl": "curl",
    "dumpcap": "tshark",
    "iperf3": "iperf3",
    "socat": "socat",
}
"""Programs and the Debian packages they come in."""
SERVER_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where servers live, which is not in everybody's path."""


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
    """Refuses anybody but root.

    Raises:
        PlatformError: we are not root.
    """
    if os.geteuid() != 0:
        raise PlatformError(
            "lab", errno.EPERM, "building network namespaces takes privileges; run as root"
        )


def find_program(program: str) -> str:
    """The path of a program.

    Raises:
        Unsupported: it is not installed.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:{SERVER_PATH}"
    found = shutil.which(program, path=path)
    if found is None:
        raise Unsupported(program, f"install the Debian package {PACKAGES.get(program, program)}")
    return found
