# SPDX-License-Identifier: MIT
"""What the daemon tells the service manager: the protocol of sd_notify(3) and its watchdog.

Without a service manager, which names its socket in NOTIFY_SOCKET, nothing is sent.
"""

import asyncio
import contextlib
import os
import socket
from typing import Final

PINGS_PER_PERIOD: Final = 2
"""sd_watchdog_enabled(3) recommends a ping at half of the period."""


def notify(state: str) -> None:
    """Sends assignments to the service manager, where there is one.

    Args:
        state: lines such as ``READY=1``.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one, contextlib.suppress(OSError):
        one.setblocking(False)
        one.sendto(state.encode(), address.replace("@", "\0", 1))


def ping_interval_s() -> float | None:
    """The interval of watchdog pings, in seconds; None if there is no watchdog."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    if not (microseconds.isascii() and microseconds.isdecimal() and int(microseconds)):
        return None
    return int(microseconds) / 1e6 / PINGS_PER_PERIOD


async def ping_watchdog() -> None:
    """Pings the watchdog while the event loop runs."""
    interval_s = ping_interval_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
