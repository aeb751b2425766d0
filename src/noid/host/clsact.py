# SPDX-License-Identifier: MIT
"""BPF programs on a device by clsact, where the kernel has no tcx."""

import contextlib
import errno
from collections.abc import Collection, Iterator
from typing import NamedTuple

from noid.errors import PlatformError
from noid.host.library import IPRoute, NetlinkError

EGRESS = 0xFFFFFFF3
INGRESS = 0xFFFFFFF2
FILTER_PRIORITY = 9
"""Priority of our filters on clsact, or a smaller number where another program has this one.

Before those of shaping scripts, which take every inbound packet off the device (SQM has 10) and
bring it back behind all filters.
"""
NAME = "noid"
"""That of our filters; all others belong to other programs."""


class _Filter(NamedTuple):
    priority: int
    handle: int
    is_ours: bool


def attach(route: IPRoute, ifindex: int, program: int, *, egress: bool) -> None:
    """Attaches a program to a device, in place of our previous one.

    Raises:
        PlatformError: the device has an ingress qdisc in the place of clsact, or filters of others
            have every priority.
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
    parent = EGRESS if egress else INGRESS
    there = list(_filters(route, ifindex, parent))
    taken = {one.priority for one in there if not one.is_ours}
    free = [one for one in range(FILTER_PRIORITY, 0, -1) if one not in taken]
    if not free:
        raise PlatformError(
            f"clsact on device {ifindex}",
            errno.EEXIST,
            f"filters of others have every priority up to {FILTER_PRIORITY}",
        )
    route.tc(
        "replace-filter",
        "bpf",
        ifindex,
        handle=1,
        fd=program,
        name=NAME,
        parent=parent,
        prio=free[0],
        classid=1,
        direct_action=True,
    )
    for one in there:
        if one.is_ours and one.priority != free[0]:  # of an earlier version
            _delete(route, ifindex, parent, one)


def has_ours(route: IPRoute, ifindex: int, *, egress: bool) -> bool:
    """Whether our program is on a device."""
    parent = EGRESS if egress else INGRESS
    try:
        if not _has_clsact(route, ifindex):
            return False
        return any(one.is_ours for one in _filters(route, ifindex, parent))
    except NetlinkError:
        return False


def detach(route: IPRoute, ifindex: int, sides: Collection[int] = (EGRESS, INGRESS)) -> bool:
    """Removes our programs from a device, and its clsact if no other program uses it.

    Args:
        route: the netlink socket.
        ifindex: index of the device.
        sides: the sides from which they are removed.

    Returns:
        Whether there were any.
    """
    if not _has_clsact(route, ifindex):
        return False
    found = left = 0
    for parent in (EGRESS, INGRESS):
        for one in list(_filters(route, ifindex, parent)):
            if one.is_ours and parent in sides:
                _delete(route, ifindex, parent, one)
                found += 1
        left += len(list(_filters(route, ifindex, parent)))
    if found and not left:
        with contextlib.suppress(NetlinkError):
            route.tc("del", "clsact", ifindex)
    return bool(found)


def _delete(route: IPRoute, ifindex: int, parent: int, one: _Filter) -> None:
    with contextlib.suppress(NetlinkError):
        ends = {"parent": parent, "prio": one.priority, "handle": one.handle}
        route.tc("del-filter", "bpf", ifindex, **ends)


def _filters(route: IPRoute, ifindex: int, parent: int) -> Iterator[_Filter]:
    """The filters on one side of a device."""
    for one in route.get_filters(index=ifindex, parent=parent):
        options = one.get_attr("TCA_OPTIONS")
        if not options:
            continue  # each priority is listed as well
        name = options.get_attr("TCA_BPF_NAME") if one.get_attr("TCA_KIND") == "bpf" else None
        yield _Filter(one["info"] >> 16, one["handle"], name == NAME)


def _has_clsact(route: IPRoute, ifindex: int) -> bool:
    """Whether a device has clsact, and not the ingress qdisc, which takes its place."""
    return any(qdisc.get("kind") == "clsact" for qdisc in route.get_qdiscs(index=ifindex))
