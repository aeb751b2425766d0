# SPDX-License-Identifier: MIT
"""Waiting: always for a condition, never for a time, and never without an end."""

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from noid.errors import PlatformError

POLL_S = 0.01

Found = TypeVar("Found")


def wait_for(description: str, condition: Callable[[], Found], timeout_s: float) -> Found:
    """Asks until the answer is true, and returns it.

    Args:
        description: what is to become true, such as "nginx answers on b"; for the error.
        condition: asked every few milliseconds.
        timeout_s: when to give up.

    Raises:
        PlatformError: it did not become true in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise PlatformError(
                "waiting", errno.ETIMEDOUT, f"not within {timeout_s:g} s: {description}"
            )
        time.sleep(POLL_S)
