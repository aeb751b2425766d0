# SPDX-License-Identifier: MIT
"""What a check or a law says when it does not hold."""


class Violation(Exception):
    """Something that must never happen has.

    Args:
        check: which check or law failed.
        what: what it saw.
    """

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check
        self.what = what
