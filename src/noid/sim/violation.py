# SPDX-License-Identifier: MIT
"""The exception of a check or a law that does not hold."""


class Violation(Exception):
    """A check or a law does not hold.

    Args:
        check: the name of the check or law.
        what: what has happened.
    """

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check
        self.what = what
