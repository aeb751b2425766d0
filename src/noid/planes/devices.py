# SPDX-License-Identifier: MIT
"""The TUN device of the slow path, which the kernel removes when this process ends."""

import errno
import fcntl
import os
import struct

from noid.errors import PlatformError, Unsupported
from noid.planes.privileges import SOCKETS, advice

TUN_PATH = "/dev/net/tun"
TUNSETIFF = 0x400454CA
TUNSETIFINDEX = 0x400454DA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
IFF_TUN_EXCL = 0x8000
"""Refuse a device of that name that another program has made, instead of taking it over."""


def open_tun(device: str, index: int = 0) -> int:
    """Creates a TUN device; returns a non-blocking descriptor.

    Args:
        device: the name.
        index: its interface index; 0: the kernel selects one.

    Raises:
        ShimError: the driver is missing, or refuses.
    """
    try:
        descriptor = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unsupported("the TUN driver", f"{TUN_PATH} is missing; try: modprobe tun") from None
    except OSError as error:
        raise PlatformError(TUN_PATH, error.errno or 0, _tun_advice(error, device)) from None
    try:
        request = struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL)
        if index:
            fcntl.ioctl(descriptor, TUNSETIFINDEX, struct.pack("=I", index))
        fcntl.ioctl(descriptor, TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise PlatformError(
            f"device {device}", error.errno or 0, _tun_advice(error, device)
        ) from None
    return descriptor


def _tun_advice(error: OSError, device: str) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        if not os.access(TUN_PATH, os.R_OK | os.W_OK):
            return f"permission denied; chmod 0666 {TUN_PATH}, as udev does"
        return advice(error.errno, of=SOCKETS)
    if error.errno in (errno.EBUSY, errno.EINVAL):
        return f"is in use; stop what made it (ip link show {device}) or set plane.device"
    return str(error.strerror)
