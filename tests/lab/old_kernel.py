# SPDX-License-Identifier: MIT
"""Runs noid as on a kernel that does not know some of bpf(2): ``python -m tests.lab.old_kernel``.

The first argument names the commands that fail with EINVAL, which is what a kernel says that has
never heard of them; the others are noid's.
"""

import ctypes
import errno
import platform
import struct
import sys
from typing import Final

from noid.cli.main import main

BPF: Final = {"x86_64": 321, "aarch64": 280}
"""The number of the system call."""
COMMANDS: Final = {"map": 0, "link": 28}
NUMBER_AT, FIRST_ARGUMENT_AT = 0, 16
LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSE, ALLOW = 0x00050000, 0x7FFF0000
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


def forget(command: int) -> None:
    """Lets a command of bpf(2) fail from now on, in this process and those it starts."""
    instructions = b"".join(
        struct.pack("=HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, NUMBER_AT),
            (IF_EQUAL, 0, 3, BPF[platform.machine()]),
            (LOAD, 0, 0, FIRST_ARGUMENT_AT),
            (IF_EQUAL, 0, 1, command),
            (RETURN, 0, 0, REFUSE | errno.EINVAL),
            (RETURN, 0, 0, ALLOW),
        )
    )
    room = ctypes.create_string_buffer(instructions)
    program = struct.pack("@HP", len(instructions) // 8, ctypes.addressof(room))
    libc = ctypes.CDLL(None)
    assert libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    assert libc.prctl(SECCOMP, FILTER, program) == 0


if __name__ == "__main__":
    for name in sys.argv[1].split(","):
        forget(COMMANDS[name])
    sys.exit(main(sys.argv[2:]))
