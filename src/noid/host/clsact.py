# SPDX-License-Identifier: MIT
"""BPF programs on a device by clsact, where the kernel has no tcx."""

import contextlib
import errno

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from noid.errors import PlatformError

EGRESS = 0xFFFFFFF3
INGRESS = 0xFFFFFFF2
FILTER_PRIORITY = 9
"""Priority of our filters on clsact; filters with other priorities belong to other programs.

Before those of shaping scripts, which take every inbound packet off the device (SQM has 10) and
bring it back behind all filters.
"""
FORMER_PRIORITY = 0x6D36
"""That of earlier versions of noid."""


def attach(route: IPRoute, ifindex: int, program: int, *, egress: bool) -> None:
    """Attaches a program to a device, in place of our previous one.

    Raises:
        PlatformError: the device has an ingress qdisc in the place of clsact.
        NetlinkError: the kernel refuses.
    """
    with contextlib.suppress(NetlinkError):
        route.tc("add", "clsact", ifindex)
    if not _has_clsact(route, ifindex):
        raise PlatformError(
            f"clsact on device {ifindex}",
            errno.EEXIST,
            "an ingress qdisc is in its place: tc qdisc del dev DEVICE ingress",
        )
    route.tc(
        "replace-filter",
        "bpf",
        ifindex,
        handle=1,
        fd=program,
        name="noid",
        parent=EGRESS if egress else INGRESS,
        prio=FILTER_PRIORITY,
        classid=1,
        direct_action=True,
    )
    with contextlib.suppress(NetlinkError):
        parent = EGRESS if egress else INGRESS
        route.tc("del-filter", "bpf", ifindex, parent=parent, prio=FORMER_PRIORITY)


def has_ours(route: IPRoute, ifindex: int, *, egress: bool) -> bool:
    """Whether our program is on a device."""
    parent = EGRESS if egress else INGRESS
    try:
        if not _has_clsact(route, ifindex):
            return False
        found = list(route.get_filters(index=ifindex, parent=parent))
    except NetlinkError:
        return False
    return any(one["info"] >> 16 == FILTER_PRIORITY for one in found)


def detach(route: IPRoute, ifindex: int) -> bool:
    """Removes our programs from a device, and its clsact if no other program uses it.

    Returns:
        Whether there were any.
    """
    found = left = 0
    for parent in (EGRESS, INGRESS):
        here = 0
        for priority in (FILTER_PRIORITY, FORMER_PRIORITY):
            with contextlib.suppress(NetlinkError):
                route.tc("del-filter", "bpf", ifindex, parent=parent, prio=priority)
                here += 1
        if here:
            left += len(list(route.get_filters(index=ifindex, parent=parent)))
        found += here
    if found and not left:
        with contextlib.suppress(NetlinkError):
            route.tc("del", "clsact", ifindex)
    return bool(found)


def _has_clsact(route: IPRoute, ifindex: int) -> bool:
    """Whether a device has clsact, and not the ingress qdisc, which takes its place."""
    return any(qdisc.get("kind") == "clsact" for qdisc in route.get_qdiscs(index=ifindex))
