# SPDX-License-Identifier: MIT
"""BPF file systems, where programs and tables are pinned."""

import contextlib
import ctypes
import errno
import os
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from noid.errors import PlatformError

BPFFS_MAGIC = 0xCAFE4A11
STATFS_OCTETS = 256
TICK_NS = 100_000_000
"""A directory that changes twice in a tick of the kernel, of at most 10 ms, has the same time."""
ROOT = 0
MOUNTS = Path("/proc/self/mounts")
MOUNT_SOURCE = b"noid"
KERNELS_OWN = frozenset({"maps.debug", "progs.debug"})
"""Files that the kernel itself puts into every BPF file system."""


def is_bpffs(directory: Path) -> bool:
    """Whether a directory is on a BPF file system."""
    room = ctypes.create_string_buffer(STATFS_OCTETS)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(directory), room) != 0:
        return False
    return int.from_bytes(room.raw[:4], "little") == BPFFS_MAGIC


def owner_trouble(path: Path) -> str:
    """Why a directory or object must not be used: another user owns it; empty if this user does.

    Raises:
        OSError: it does not exist, or cannot be examined.
    """
    status, user = path.lstat(), os.geteuid()
    if stat.S_ISLNK(status.st_mode):
        return f"is a link; remove it: rm {path}"
    if status.st_uid != user:
        why = f"belongs to uid {status.st_uid}, noid runs as uid {user}"
        if user == ROOT:
            return f"{why}; remove it: rm -r {path}"
        owner = "root" if status.st_uid == ROOT else f"uid {status.st_uid}"
        return f"{why}; run as {owner}, or stop the noid of {owner} and run noid down as {owner}"
    return ""


def is_own(path: Path) -> bool:
    """Whether an object and its directory exist and belong to this user."""
    try:
        return not (owner_trouble(path.parent) or owner_trouble(path))
    except OSError:
        return False


class Pinned:
    """Whether pins exist, which the kernel does not report.

    The time of their directory changes when one is removed, so usually one look at that is enough.

    Args:
        directory: where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._seen: tuple[int, ...] = ()

    def has(self, paths: Callable[[], Iterable[Path]]) -> bool:
        """Whether all of these exist, and existed when the directory last changed."""
        try:
            status = os.stat(self.directory)
        except OSError:
            return False
        seen = status.st_dev, status.st_ino, status.st_mtime_ns
        if seen == self._seen:
            return True
        self._seen = ()
        if not all(path.exists() for path in paths()):
            return False
        if abs(time.time_ns() - status.st_mtime_ns) > TICK_NS:
            self._seen = seen
        return True


def mount_bpffs(directory: Path) -> None:
    """Mounts a BPF file system on a directory; ``unmount_bpffs`` knows it by its source.

    Raises:
        PlatformError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(MOUNT_SOURCE, os.fsencode(directory), b"bpf", 0, b"mode=0700") != 0:
        number = ctypes.get_errno()
        words = os.strerror(number)
        if number in (errno.EPERM, errno.EACCES):
            user = os.geteuid()
            words = f"permission denied; as root: mount -t bpf bpf {directory}"
            words += f" && chown {user} {directory}" if user else ""
        raise PlatformError(f"mount a BPF file system on {directory}", number, words)


def unmount_bpffs(directory: Path) -> bool:
    """Unmounts a BPF file system that ``mount_bpffs`` has mounted, if nothing is pinned there.

    Returns:
        Whether there was one.
    """
    with contextlib.suppress(OSError):
        others = [path for path in directory.iterdir() if path.name not in KERNELS_OWN]
        mounts = MOUNTS.read_bytes().splitlines()
        if not others and _mount_line(directory) in [line.split()[:3] for line in mounts]:
            libc = ctypes.CDLL(None, use_errno=True)
            return bool(libc.umount2(os.fsencode(directory), 0) == 0)
    return False


def _mount_line(directory: Path) -> list[bytes]:
    """The first words of the line about a mount of ours, as the kernel writes it."""
    path = os.fsencode(directory.resolve())
    for letter in b"\\ \t\n":
        path = path.replace(bytes((letter,)), b"\\%03o" % letter)
    return [MOUNT_SOURCE, path, b"bpf"]
