# SPDX-License-Identifier: MIT
"""The programs of others that noid runs: where they are, and what brings them."""

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
}
"""Programs and the Debian packages they come in."""
SERVER_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where servers are, which the path of a user may lack."""


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
