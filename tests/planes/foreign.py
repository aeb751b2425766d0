# SPDX-License-Identifier: MIT
"""Programs in the kernel that are not ours, and who hangs on a hook."""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from pyroute2 import IPRoute

from noid.host.clsact import EGRESS, FILTER_PRIORITY, INGRESS
from noid.planes.bpf import libbpf

SCHED_CLS: Final = 3
LET_THE_NEXT_HAVE_IT: Final = bytes.fromhex("b7000000ffffffff9500000000000000")
"""r0 = -1; exit."""
DROP_CONTROL: Final = bytes.fromhex(
    "bf160000000000003000000014000000550004003a0000003000000036000000"
    "55000200c8000000b7000000020000009500000000000000b7000000ffffffff"
    "9500000000000000"
)
"""Drops ICMPv6 type 200 behind an Ethernet header; as above for all others."""
PROGRAMS_MAX: Final = 64
BEFORE: Final = 7
BEHIND: Final = FILTER_PRIORITY + 7
KINDS: Final = {"egress": libbpf.TCX_EGRESS, "ingress": libbpf.TCX_INGRESS}
PARENTS: Final = {"egress": EGRESS, "ingress": INGRESS}


class Hanging(NamedTuple):
    """How many programs hang on one side of a device, by which hook."""

    tcx: int
    clsact: int


def program(code: bytes = LET_THE_NEXT_HAVE_IT) -> int:
    """A program of another owner, which passes every packet by default; its descriptor."""
    instructions = ctypes.create_string_buffer(code, len(code))
    descriptor = libbpf.library().bpf_prog_load(
        SCHED_CLS, b"foreign", b"GPL", instructions, len(code) // 8, None
    )
    assert descriptor >= 0
    return int(descriptor)


def hang(hook: str, interface: str, side: str, descriptor: int, *, priority: int) -> int:
    """Hangs a program on an interface, in the namespace we are in.

    Args:
        hook: ``tcx``, where it comes behind those that are there, or ``clsact``.
        interface: on which.
        side: ``egress`` or ``ingress``.
        descriptor: of the program.
        priority: its place, by clsact.

    Returns:
        What keeps it there until it is closed; by clsact it stays by itself.
    """
    index = socket.if_nametoindex(interface)
    if hook == "tcx":
        return libbpf.attach(descriptor, index, KINDS[side])
    with IPRoute() as kernel:
        if not _has_clsact(kernel, index):
            kernel.tc("add", "clsact", index)
        kernel.tc(
            "add-filter",
            "bpf",
            index,
            fd=descriptor,
            name="foreign",
            parent=PARENTS[side],
            prio=priority,
            classid=1,
            direct_action=True,
        )
    return os.dup(descriptor)


def clear(interface: str) -> None:
    """Removes clsact from an interface, with all that hangs there."""
    index = socket.if_nametoindex(interface)
    with IPRoute() as kernel:
        if _has_clsact(kernel, index):
            kernel.tc("del", "clsact", index)


def has_clsact(interface: str) -> bool:
    """Whether filters could hang on an interface."""
    with IPRoute() as kernel:
        return _has_clsact(kernel, socket.if_nametoindex(interface))


def hanging(interface: str, side: str) -> Hanging:
    """How many programs hang on an interface, in the namespace we are in."""
    index = socket.if_nametoindex(interface)
    identities = (ctypes.c_uint32 * PROGRAMS_MAX)()
    count = ctypes.c_uint32(PROGRAMS_MAX)
    asked = libbpf.library().bpf_prog_query(
        index, KINDS[side], 0, None, identities, ctypes.byref(count)
    )
    with IPRoute() as kernel:
        options = [
            one.get_attr("TCA_OPTIONS")
            for one in kernel.get_filters(index=index, parent=PARENTS[side])
        ]
    # Each priority is listed as well, without options.
    return Hanging(tcx=count.value if asked == 0 else 0, clsact=len(list(filter(None, options))))


def _has_clsact(kernel: IPRoute, index: int) -> bool:
    disciplines = kernel.get_qdiscs(index=index)
    return any(one.get_attr("TCA_KIND") == "clsact" for one in disciplines)


@contextmanager
def seeing(*descriptors: int) -> Iterator[None]:
    """Asserts that each of the programs sees a packet while the block runs."""
    with libbpf.statistics():
        before = [libbpf.run_time_ns(one) for one in descriptors]
        yield
        after = [libbpf.run_time_ns(one) for one in descriptors]
    assert all(late > early for early, late in zip(before, after, strict=True)), (before, after)
