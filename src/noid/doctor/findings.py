# SPDX-License-Identifier: MIT
"""The result of a check."""

import enum
from dataclasses import dataclass


class Health(enum.Enum):
    """The result of a check."""

    OK = "ok"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """The check could not be done; this does not set the exit status."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, for people.

    Attributes:
        check: the subject of the check.
        health: the result.
        text: what was found.
        fix: the command or record that fixes the problem; empty if there is none.
    """

    check: str
    health: Health
    text: str
    fix: str = ""
