# SPDX-License-Identifier: MIT
"""Other programs that noid runs: their paths, and the packages that have them."""

import os
import shutil
from typing import Final

from noid.errors import Unsupported

PACKAGES: Final = {
    "ip": "iproute2",
    "nsd": "nsd",
    "nginx": "nginx",
    "curl": "curl",
    "dumpcap": "tshark",
    "iperf3": "iperf3",
    "socat": "socat",
    "nft": "nftables",
    "bird": "bird2",
    "birdc": "bird2",
    "tc": "iproute2",
}
"""Programs and their Debian packages."""
SERVER_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Directories of servers, which the PATH of a user may lack."""


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
