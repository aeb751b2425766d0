# SPDX-License-Identifier: MIT
"""Lets a program bypass the shim: its new sockets get the firewall mark of noid.

The process runs in a separate control group, which has a BPF program of four instructions on
the hook of new sockets. Its children are in the group too; sockets that it inherits are not.
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from noid.errors import PlatformError, Unsupported
from noid.planes.bpf.libbpf import LIBRARY, PACKAGE

MOUNTS: Final = Path("/proc/self/mounts")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
PROCESSES: Final = "cgroup.procs"
CGROUP_SOCKET: Final = 9
"""BPF_PROG_TYPE_CGROUP_SOCK."""
SOCKET_CREATED: Final = 2
"""BPF_CGROUP_INET_SOCK_CREATE."""
ALLOW_MULTI: Final = 2
"""BPF_F_ALLOW_MULTI: programs of others on the same hook run too."""
MARK_AT: Final = 16
"""Of ``mark`` in struct bpf_sock."""
INSTRUCTION: Final = struct.Struct("=BBhi")
ADVICE: Final = "it takes root, or CAP_BPF, CAP_NET_ADMIN and a control group of one's own"


def instructions(mark: int) -> bytes:
    """The program: ``socket->mark = mark; return 1``."""
    signed = mark - (1 << 32) if mark >> 31 else mark
    return b"".join(
        INSTRUCTION.pack(*one)
        for one in (
            (0xB4, 0x02, 0, signed),  # w2 = mark
            (0x63, 0x21, MARK_AT, 0),  # *(u32 *)(r1 + 16) = w2
            (0xB7, 0x00, 0, 1),  # r0 = 1
            (0x95, 0x00, 0, 0),  # exit
        )
    )


@contextlib.contextmanager
def bypassing(mark: int) -> Iterator[None]:
    """New sockets of this process and of its children bypass the shim while the block runs.

    Args:
        mark: firewall mark of noid's own packets.

    Raises:
        Unsupported: there is no cgroup2, or no libbpf.
        PlatformError: the system refuses.
    """
    before = _own_group()
    group = before / f"noid-plain-{os.getpid()}"
    try:
        _enter(group, mark)
        yield
    finally:
        with contextlib.suppress(OSError):
            (before / PROCESSES).write_text("0")
        with contextlib.suppress(OSError):  # children that go on are in it
            group.rmdir()


def _enter(group: Path, mark: int) -> None:
    try:
        group.mkdir()
        _attach(group, mark)
        (group / PROCESSES).write_text("0")
    except OSError as error:
        raise PlatformError(f"control group {group}", error.errno or 0, _why(error)) from None


def _own_group() -> Path:
    """The control group that this process is in."""
    inside = next(
        (one[3:] for one in MEMBERSHIP.read_text().splitlines() if one.startswith("0::")), ""
    )
    for root in group_roots():
        group = root / inside.lstrip("/")
        if (group / PROCESSES).exists():
            return group
    raise no_groups()


def group_roots() -> list[Path]:
    """Where the control groups of version 2 are mounted."""
    mounted = (line.split() for line in MOUNTS.read_text().splitlines())
    return [Path(one[1]) for one in mounted if one[2] == "cgroup2"]


def no_groups() -> Unsupported:
    """The error if they are mounted nowhere."""
    return Unsupported("cgroup2", "mount it: mount -t cgroup2 none /sys/fs/cgroup")


def _attach(group: Path, mark: int) -> None:
    try:
        library = ctypes.CDLL(LIBRARY, use_errno=True)
    except OSError:
        raise Unsupported(LIBRARY, f"install the Debian package {PACKAGE}") from None
    code = instructions(mark)
    count = ctypes.c_size_t(len(code) // INSTRUCTION.size)
    program = library.bpf_prog_load(CGROUP_SOCKET, b"noid_plain", b"GPL", code, count, None)
    if program < 0:
        raise OSError(-program, os.strerror(-program))
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = library.bpf_prog_attach(program, directory, SOCKET_CREATED, ALLOW_MULTI)
        if status < 0:
            raise OSError(-status, os.strerror(-status))
    finally:
        os.close(directory)
        os.close(program)


def _why(error: OSError) -> str:
    refused = isinstance(error, PermissionError)
    return f"{error.strerror}; {ADVICE}" if refused else str(error.strerror)
