# SPDX-License-Identifier: MIT
"""The capabilities that the kernel plane needs, and which of them are missing."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

STATUS: Final = Path("/proc/self/status")
CAP_NET_ADMIN: Final = 12
CAP_SYS_ADMIN: Final = 21
CAPABILITIES: Final = {"CAP_BPF": 39, "CAP_PERFMON": 38, "CAP_NET_ADMIN": CAP_NET_ADMIN}
"""By name; without CAP_PERFMON the verifier takes less than the programs do."""
SOCKETS: Final = {"CAP_NET_ADMIN": CAP_NET_ADMIN, "CAP_NET_RAW": 13}
"""What raw sockets with a firewall mark take."""
IMPLIED: Final = ("CAP_BPF", "CAP_PERFMON")
"""By CAP_SYS_ADMIN, which had their meaning before Linux 5.8."""


def lacking(path: Path = STATUS, *, of: Mapping[str, int] = CAPABILITIES) -> list[str]:
    """The capabilities that this process lacks, by name.

    Args:
        path: the file of the kernel that lists its capabilities.
        of: the required capabilities.
    """
    words = next(
        (
            line.split()
            for line in path.read_text(encoding="ascii").splitlines()
            if line.startswith("CapEff:")
        ),
        ["CapEff:", "0"],
    )
    held = int(words[1], 16)
    lacked = [name for name, number in of.items() if not held >> number & 1]
    if held >> CAP_SYS_ADMIN & 1:
        lacked = [name for name in lacked if name not in IMPLIED]
    return lacked


def advice(number: int, *, of: Mapping[str, int] = CAPABILITIES) -> str:
    """The meaning of an error number of the kernel, and the remedy."""
    if number not in (errno.EPERM, errno.EACCES):
        return os.strerror(number)
    missing = lacking(of=of)
    found = f" (lacking: {', '.join(missing)})" if missing else ""
    *first, last = of
    return f"permission denied{found}; run as root, or with {', '.join(first)} and {last}"
