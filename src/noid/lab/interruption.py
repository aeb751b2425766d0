# SPDX-License-Identifier: MIT
"""Handles an interrupt once, and ignores further ones.

A lab must be removed after Ctrl-C, ``kill`` or a closed terminal. Each of these becomes an
exception that unwinds through the ``finally`` of the lab. A second Ctrl-C during the removal does
not interrupt the removal.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turns the first signal into an exception and ignores the others until the block is left.

    To be used in the main thread.

    Raises:
        KeyboardInterrupt: SIGINT came.
        SystemExit: another signal came; the status is 128 and its number, as a shell says it.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for sign in previous:
            # Not SIG_IGN, which programs started from now on would inherit.
            signal.signal(sign, lambda number, frame: None)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    # Who has started us with nohup does not mean the end of the terminal to be our end.
    signs = [sign for sign in SIGNALS if not _outlives(sign)]
    previous = {sign: signal.signal(sign, interrupt) for sign in signs}
    try:
        yield
    finally:
        for sign, handler in previous.items():
            signal.signal(sign, handler)


def _outlives(sign: signal.Signals) -> bool:
    return sign is signal.SIGHUP and signal.getsignal(sign) is signal.SIG_IGN
