# SPDX-License-Identifier: MIT
"""The octets that each interface has carried, from the kernel's counters, with all headers."""

import contextlib
from pathlib import Path
from typing import Final

COUNTERS: Final = Path("/proc/self/net/dev")
RECEIVED_AT, SENT_AT = 0, 8
"""Columns behind the name (proc(5))."""


def interface_octets(counters: Path = COUNTERS) -> dict[str, tuple[int, int]]:
    """The octets that each interface has received and sent; none where the kernel does not say."""
    found: dict[str, tuple[int, int]] = {}
    with contextlib.suppress(OSError, ValueError):
        for line in counters.read_text(encoding="utf-8", errors="replace").splitlines():
            name, colon, rest = line.strip().rpartition(":")
            columns = rest.split()
            if colon and len(columns) > SENT_AT:
                found[name.strip()] = int(columns[RECEIVED_AT]), int(columns[SENT_AT])
    return found
