# SPDX-License-Identifier: MIT
"""The umask of this process."""

import os


def umask() -> int:
    """The umask; the kernel returns it only when another one is set."""
    found = os.umask(0)
    os.umask(found)
    return found
