# SPDX-License-Identifier: MIT
"""User ids that belong to the containers of a user, by subuid(5) [D46].

An account usually has 65,536 subordinate ids and may run programs as any of them. With a share for
each of them it would have nearly everything that users share. So the ids of a range are one user.
"""

import bisect
import functools
import os
from pathlib import Path
from typing import Final

from noid.constants import NO_USER

SUBUID: Final = Path("/etc/subuid")
SUBORDINATE_MIN: Final = 65_536
"""A range that begins below has ids of accounts, and is ignored."""
OCTETS_MAX: Final = 1 << 20
"""What is read of the file."""
Version = tuple[int, int, int]


def accountable(user: int) -> int:
    """The user whose share a user id takes: the first id of its range, or the id itself.

    The file is read again when it has changed.
    """
    if user < SUBORDINATE_MIN or user == NO_USER:
        return user
    begins, ends = _ranges(SUBUID, _version(SUBUID))
    at = bisect.bisect_right(begins, user) - 1
    return begins[at] if at >= 0 and user < ends[at] else user


def _version(path: Path) -> Version | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=1)
def _ranges(path: Path, version: Version | None) -> tuple[list[int], list[int]]:
    """Where each range begins, in order, and where it ends; those that overlap are one."""
    begins: list[int] = []
    ends: list[int] = []
    for begin, end in sorted(_read(path) if version else ()):
        if ends and begin < ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(begin)
            ends.append(end)
    return begins, ends


def _read(path: Path) -> list[tuple[int, int]]:
    """The ranges in the file; lines that are no such ranges are ignored."""
    try:
        with path.open("rb") as file:
            lines = file.read(OCTETS_MAX).split(b"\n")
    except OSError:
        return []
    found = []
    for line in lines:
        _, *numbers = line.strip().split(b":")
        if len(numbers) == 2 and all(one.isdigit() and len(one) <= 10 for one in numbers):
            begin, count = map(int, numbers)
            if begin >= SUBORDINATE_MIN and count:
                found.append((begin, begin + count))
    return found
