# SPDX-License-Identifier: MIT
"""A child process that removes one rule when the daemon ends, even if it is killed.

A daemon that is killed cannot remove the rule by which new connections get a locator as their
source; without a daemon, no other source would be selected after a failure. The child waits for the
end of the daemon on a pipe, removes that rule, and ends. Connections are not touched [D36, D49].
If another daemon is running by then, because this one was refused or replaced, the rule is
that of the other daemon and stays. A daemon that stops removes the rule itself and dismisses the
child, which would take longer to import the netlink library than the daemon takes to stop.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

from noid.config import Config
from noid.control.client import answers

ENDED = b""
DISMISSED = b"."
FIRST = 3
"""Descriptors below are the standard ones."""
DESCRIPTORS = 1 << 20
"""More than any process has."""


def stand_guard(config: Config) -> Callable[[], object]:
    """Starts the child; to be called before this process has threads.

    Args:
        config: the daemon's.

    Returns:
        Dismisses the child; for a daemon that has removed the rule.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)  # the other end is open as long as this process lives
        return partial(_dismiss, writing)
    status = 1
    try:
        os.close(writing)
        _close_others(reading)
        if _wait(reading) == ENDED:
            _hand_back(config)
        status = 0
    finally:
        os._exit(status)


def _dismiss(writing: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # something has killed it
        os.write(writing, DISMISSED)


def _close_others(reading: int) -> None:
    """Closes what is the daemon's, such as sockets that were passed to it."""
    os.closerange(FIRST, reading)
    os.closerange(reading + 1, DESCRIPTORS)


def _wait(reading: int) -> bytes:
    """Waits for the end of the daemon, which signals to all its processes do not bring forward.

    Returns:
        ENDED or DISMISSED.
    """
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return os.read(reading, 1)


def _hand_back(config: Config) -> None:
    if answers(Path(config.control.socket)):  # that of the daemon that ended may be open still
        return
    from noid.errors import ShimError
    from noid.host.netlink import HostNetwork
    from noid.planes.rules import choosing

    network = HostNetwork()
    with contextlib.suppress(ShimError):
        network.remove_rules([choosing(config.plane)])
    network.close()
