# SPDX-License-Identifier: MIT
"""The compiled programs, and the pins of a plane, which stay without a daemon [D36]."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from noid.config import PlaneSection
from noid.constants import TRIAL_SUFFIX
from noid.errors import PlatformError, ShimError, Unsupported
from noid.host.netlink import HostNetwork
from noid.host.socket_diag import end_connections
from noid.planes import steering
from noid.planes.bpf import bpffs, libbpf
from noid.planes.bpf.carried import TABLES

OBJECT = "host.bpf.o"


def segmenter_names(device: str) -> tuple[str, str]:
    """The pair that cuts super-packets: where they go in, and where their segments come out.

    Packets to M6 peers are routed to the second while their uplink is down.
    """
    return f"{device}-out", f"{device}-cut"


def own_devices(device: str) -> tuple[str, ...]:
    """The names of all devices of noid.

    Args:
        device: that of the slow path.
    """
    return (device, *segmenter_names(device), f"{device}{TRIAL_SUFFIX}")


def object_code(name: str = OBJECT) -> bytes:
    """The compiled programs.

    Args:
        name: of their object.

    Raises:
        Unsupported: this installation has none.
        PlatformError: they cannot be read.
    """
    try:
        return resources.files("noid.planes.bpf.programs").joinpath(name).read_bytes()
    except FileNotFoundError:
        raise Unsupported(
            "the compiled data plane",
            "install noid again; its build makes it with clang or ziglang",
        ) from None
    except OSError as error:
        raise PlatformError(f"read {name}", error.errno or 0, str(error.strerror)) from None


def prepare_pins(pins: Path, key: str = "plane.pins") -> None:
    """Creates the directory of the pins on a BPF file system, which is mounted if necessary.

    Args:
        pins: the directory.
        key: of the configuration that names it.

    Raises:
        PlatformError: it cannot be made, or it or something in it is not this user's own.
    """
    try:
        pins.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise PlatformError(
            f"{key} {pins}",
            error.errno or 0,
            f"{error.strerror}; name a directory on a BPF file system (mount -t bpf)",
        ) from None
    _refuse_others(pins)
    if not bpffs.is_bpffs(pins):
        bpffs.mount_bpffs(pins)
        _refuse_others(pins)
    with contextlib.suppress(OSError):
        os.chmod(pins, stat.S_IRWXU)
    check_pins(pins)


def check_pins(pins: Path) -> None:
    """Checks that the directory and its pins belong to this user.

    Raises:
        PlatformError: they are not.
    """
    for path in (pins, *our_pins(pins)):
        if os.path.lexists(path):
            _refuse_others(path)


def _refuse_others(path: Path) -> None:
    try:
        trouble = bpffs.owner_trouble(path)
    except OSError as error:
        raise PlatformError(f"plane.pins {path}", error.errno or 0, str(error.strerror)) from None
    if trouble:
        raise PlatformError(f"plane.pins {path}", errno.EPERM, trouble)


def our_pins(pins: Path) -> list[Path]:
    """The pins of a plane, without files of the kernel and pins of others."""
    sides = ("egress", "ingress", "early")
    links = (path for side in sides for path in pins.glob(f"link-*-{side}"))
    return sorted([*links, *our_tables(pins)])


def our_tables(pins: Path) -> list[Path]:
    """The tables among them, with any layout."""
    return [path for name in TABLES for path in pins.glob(f"map-{name}-*")]


def take_down(section: PlaneSection, network: HostNetwork) -> Iterator[str]:
    """Removes everything that a kernel plane has left; yields a description of each object.

    Raises:
        PlatformError: pins are not this user's own; nothing is removed.
    """
    pins = Path(section.pins)
    check_pins(pins)
    # First, or packets would be led to programs that are gone.
    removed = steering.take_down(network, section)
    if removed:
        yield f"{removed} rules of priority {section.rule_priority} and after"
    tables = set(our_tables(pins))
    for path in our_pins(pins):
        if path in tables:
            libbpf.unpin(path)
        else:
            libbpf.drop(path)
        yield f"pin {path}"
    for index, name in socket.if_nameindex():
        with contextlib.suppress(ShimError):
            if network.detach_filters(index):
                yield f"filters on {name}"
    if bpffs.unmount_bpffs(pins):
        yield f"mount {pins}"
    with contextlib.suppress(OSError):  # it is gone, or has something of others in it
        pins.rmdir()
    # The kernel would wait for connections that have used the address of an AID there.
    with contextlib.suppress(OSError, ShimError):
        index = socket.if_nametoindex(segmenter_names(section.device)[1])
        ended = end_connections(network.addresses_on(index))
        if ended:
            yield f"{ended} connections from addresses that no uplink has"
    for name in segmenter_names(section.device):
        if network.remove_device(name):
            yield f"device {name}"
