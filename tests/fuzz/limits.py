# SPDX-License-Identifier: MIT
"""A limit on the processor time of one input.

libFuzzer measures the time that passes, so that an input of a fraction of a second ends a run of an
hour where other processes keep the processors.
"""

import faulthandler
import os
import signal
from collections.abc import Callable
from types import FrameType


def limited(target: Callable[[bytes], None], seconds: float) -> Callable[[bytes], None]:
    """The target; the process aborts, with a traceback, in an input that takes longer.

    libFuzzer keeps the input of an abort. An exception would not do: an event loop catches it.

    Args:
        target: what is fuzzed.
        seconds: of processor time, of the user and of the system.
    """
    signal.signal(signal.SIGPROF, _abort)

    def run(octets: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            target(octets)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    return run


def _abort(number: int, frame: FrameType | None) -> None:
    faulthandler.dump_traceback()
    os.abort()
