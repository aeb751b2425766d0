# SPDX-License-Identifier: MIT
"""Waiting for a program that was started until it does what it was started for."""

from collections.abc import Callable
from typing import Final

from noid.errors import PlatformError
from noid.lab.processes import Process
from noid.lab.waiting import wait_for

START_TIMEOUT_S: Final = 60.0
"""A busy machine; a program that ends is noticed at once."""


def await_ready(process: Process, description: str, condition: Callable[[], bool]) -> None:
    """Waits until a condition holds that a program brings about.

    Args:
        process: the program.
        description: what is to become true; for the error.
        condition: asked every few milliseconds.

    Raises:
        PlatformError: the condition does not hold in time, or the program ends instead; its last
            line is quoted then.
    """
    wait_for(description, lambda: condition() or not process.running, START_TIMEOUT_S)
    if not process.running:
        lines = process.output().splitlines() or ["it said nothing"]
        raise PlatformError(
            f"start {process.record.name}",
            process.popen.returncode,
            lines[-1].removeprefix("noid: "),
        )
