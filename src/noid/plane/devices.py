"""Devices of ours that go when this process does: TUN and TAP."""

import contextlib
import errno
import fcntl
import os
import struct

from noid.errors import PlatformError, Unsupported

TUN_PATH = "/dev/net/tun"
TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
IFF_TUN = 0x0001
IFF_TAP = 0x0002
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000
"""Refuse a device of that name that another program has made, instead of taking it over."""
TAKES_TCP = 0x01 | 0x02 | 0x04 | 0x08
"""TUN_F_CSUM, _TSO4, _TSO6 and _TSO_ECN: sums and super-packets of TCP."""
TAKES_ALL = TAKES_TCP | 0x20 | 0x40
"""The same and TUN_F_USO4 and _USO6, super-packets of UDP, which Linux 6.2 has."""


def open_tun(device: str) -> int:
    """A new TUN device of that name, as a descriptor that does not block.

    Raises:
        ShimError: there is no such driver, or it refuses.
    """
    return _open(device, IFF_TUN | IFF_NO_PI)


def open_tap(device: str) -> int:
    """A new TAP device of that name that takes super-packets; returns its descriptor.

    Nothing is ever read from it: programs on it take every packet.

    Raises:
        ShimError: there is no such driver, or it refuses.
    """
    descriptor = _open(device, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
    for offloads in (TAKES_ALL, TAKES_TCP):
        with contextlib.suppress(OSError):
            fcntl.ioctl(descriptor, TUNSETOFFLOAD, offloads)
            break
    return descriptor


def _open(device: str, flags: int) -> int:
    try:
        descriptor = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unsupported("the TUN driver", f"{TUN_PATH} is missing; try: modprobe tun") from None
    except OSError as error:
        raise PlatformError(TUN_PATH, error.errno or 0, _tun_advice(error, device)) from None
    try:
        request = struct.pack("16sH22x", device.encode(), flags | IFF_TUN_EXCL)
        fcntl.ioctl(descriptor, TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise PlatformError(
            f"device {device}", error.errno or 0, _tun_advice(error, device)
        ) from None
    return descriptor


def _tun_advice(error: OSError, device: str) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "permission denied; run as root, or with CAP_NET_ADMIN and CAP_NET_RAW"
    if error.errno in (errno.EBUSY, errno.EINVAL):
        return f"is in use; stop what made it (ip link show {device}) or set plane.device"
    return str(error.strerror)
