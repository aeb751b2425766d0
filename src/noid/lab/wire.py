# SPDX-License-Identifier: MIT
"""A link without link-layer headers: two TUN devices in two namespaces, joined by this program.

    python -m noid.lab.wire NAMESPACE INTERFACE NAMESPACE INTERFACE

It says ``up`` when both devices are there; they go with it.
"""

import contextlib
import fcntl
import functools
import os
import select
import struct
import sys
from pathlib import Path
from typing import Final

from noid.lab import namespaces

DEVICE: Final = Path("/dev/net/tun")
SET_INTERFACE: Final = 0x400454CA
"""TUNSETIFF."""
WITHOUT_HEADERS: Final = 0x1001
"""IFF_TUN | IFF_NO_PI."""
PACKET_OCTETS_MAX: Final = 65536


def open_device(interface: str) -> int:
    """Makes a TUN device in the namespace of the calling thread, and returns its descriptor.

    Raises:
        OSError: the kernel refuses.
    """
    descriptor = os.open(DEVICE, os.O_RDWR)
    fcntl.ioctl(
        descriptor, SET_INTERFACE, struct.pack("16sH22x", interface.encode(), WITHOUT_HEADERS)
    )
    return descriptor


def join(left: int, right: int) -> None:
    """Carries packets between two devices until the program is ended."""
    others = {left: right, right: left}
    while True:
        ready, _, _ = select.select([left, right], [], [])
        for descriptor in ready:
            # A device that is down neither gives packets nor takes any.
            with contextlib.suppress(OSError):
                os.write(others[descriptor], os.read(descriptor, PACKET_OCTETS_MAX))


def main() -> None:
    """Joins the two interfaces that the command line names."""
    left, right = (
        namespaces.inside(name, functools.partial(open_device, interface))
        for name, interface in (sys.argv[1:3], sys.argv[3:5])
    )
    print("up", flush=True)
    join(left, right)


if __name__ == "__main__":
    main()
