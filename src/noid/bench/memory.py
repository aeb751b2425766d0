# SPDX-License-Identifier: MIT
"""How much memory the process has, and how much of it Python objects are."""

import gc
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAGE_OCTETS = os.sysconf("SC_PAGE_SIZE")


def resident_octets() -> int:
    """The resident memory of this process in octets, after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE_OCTETS


def allocated_octets() -> int:
    """The traced allocations in octets, after a garbage collection."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@contextmanager
def traced() -> Iterator[None]:
    """Traces every allocation; everything is several times slower while the block runs."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
