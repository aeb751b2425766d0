# SPDX-License-Identifier: MIT
"""The command line of dumpcap, and waiting until it has written everything."""

import contextlib
import time
from pathlib import Path
from typing import Final

from noid.errors import PlatformError
from noid.host.programs import find_program
from noid.lab.waiting import wait_for

QUIET_S: Final = 0.5
"""dumpcap gets its packets a quarter of a second late; twice that without one is the end."""
FLUSH_TIMEOUT_S: Final = 3.0
BUFFER_MIB: Final = 32
"""The kernel's buffer, for packets that arrive while dumpcap does not run; the default is 2."""


def command(interface: str, path: Path, octets_each: int) -> list[str]:
    """The command line that captures what passes an interface, or ``any``.

    Args:
        interface: its name.
        path: the pcapng file to write.
        octets_each: how much to keep of each packet; all of it if 0.

    Raises:
        Unsupported: dumpcap is missing.
    """
    program = find_program("dumpcap")
    options = ["-q", "-B", str(BUFFER_MIB), "-s", str(octets_each)]
    return [program, "-i", interface, *options, "-w", str(path)]


def await_quiet(path: Path) -> None:
    """Waits until a capture file has stopped growing, for a while at most."""
    octets, since = path.stat().st_size, time.monotonic()

    def quiet() -> bool:
        nonlocal octets, since
        if path.stat().st_size != octets:
            octets, since = path.stat().st_size, time.monotonic()
        return time.monotonic() - since >= QUIET_S

    # Traffic that does not end is no fault: the capture is then cut off where it stands.
    with contextlib.suppress(PlatformError):
        wait_for(f"{path} stops growing", quiet, FLUSH_TIMEOUT_S)
