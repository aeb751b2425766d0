# SPDX-License-Identifier: MIT
"""Lines that commands print."""

import sys

from noid.text import printable


def say(*lines: str, is_error: bool = False) -> None:
    """Prints lines on standard output, or on standard error."""
    for line in lines:
        print(printable(line), file=sys.stderr if is_error else sys.stdout)
