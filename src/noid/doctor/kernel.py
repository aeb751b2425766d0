# SPDX-License-Identifier: MIT
"""What the data plane needs of the kernel, and what this one lacks, as a report has it."""

from typing import Any

from noid.planes.bpf.features import FUNCTIONS, MAPS, TIMERS, missing
from noid.planes.privileges import lacking


def features() -> dict[str, Any]:
    """The features that are needed and those that are missing; None where asking is not allowed.

    Raises:
        Unsupported: libbpf is missing.
    """
    needed = [one.name for one in (*MAPS, *FUNCTIONS)]
    if lacking():
        return {"needed": needed, "missing": None, "timers": None, "lacking": lacking()}
    found = [one.name for one in missing()]
    return {
        "needed": needed,
        "missing": found,
        "timers": not missing(functions=TIMERS),
        "lacking": [],
    }
