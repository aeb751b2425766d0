# SPDX-License-Identifier: MIT
"""Sockets that a service manager has opened for us (sd_listen_fds(3)).

A daemon that runs as its own user cannot listen on port 53 itself; systemd can, by noid.socket.
"""

import os
import socket
from typing import Final

from noid.errors import PlatformError

FIRST: Final = 3
"""The first descriptor that is passed."""
PASSED_MAX: Final = 16
"""Descriptors taken; a manager passes two, one for UDP and one for TCP."""


def passed_sockets() -> list[socket.socket]:
    """The sockets passed to this process, which belong to the caller now; at first use only.

    Raises:
        PlatformError: what was passed is no socket.
    """
    count = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        text = os.environ.get("LISTEN_FDS", "")
        count = min(int(text), PASSED_MAX) if text.isdecimal() else 0
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    try:
        sockets = [socket.socket(fileno=FIRST + number) for number in range(count)]
    except OSError as error:
        advice = f"{error.strerror}; pass sockets only, as noid.socket does"
        raise PlatformError("LISTEN_FDS", error.errno or 0, advice) from None
    for one in sockets:
        one.set_inheritable(False)
        one.setblocking(False)
    return sockets
