# SPDX-License-Identifier: MIT
"""Waiting: always for a condition, never for a time, and never without an end."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from noid.errors import PlatformError

POLL_S = 0.01
POLL_MAX_S = 0.1
PAUSES_PER_WAIT = 10
"""A pause is this part of what was waited so far: to ask a daemon takes processor time of both."""

Found = TypeVar("Found")


def wait_for(description: str, condition: Callable[[], Found], timeout_s: float) -> Found:
    """Asks until the answer is true, and returns it.

    Args:
        description: what is to become true, such as "nginx answers on b"; for the error.
        condition: asked every 10 ms at first, and every 100 ms after a second.
        timeout_s: when to give up.

    Raises:
        PlatformError: it did not become true in time.
    """
    began_s = time.monotonic()
    while True:
        found = condition()
        if found:
            return found
        waited_s = time.monotonic() - began_s
        if waited_s >= timeout_s:
            raise PlatformError(
                "waiting", errno.ETIMEDOUT, f"not within {timeout_s:g} s: {description}"
            )
        time.sleep(pause_s(waited_s))


def pause_s(waited_s: float) -> float:
    """The pause before a condition is asked again, after a wait of so long."""
    return min(max(POLL_S, waited_s / PAUSES_PER_WAIT), POLL_MAX_S)
