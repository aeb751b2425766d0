# SPDX-License-Identifier: MIT
"""A pair of devices of ours, joined, as the netlink library makes one. Pure."""

from typing import Any, NamedTuple


class Pair(NamedTuple):
    """Two connected virtual Ethernet devices of noid.

    Attributes:
        entry: index of the one that packets are sent to.
        exit: index of the one they come out of.
        link: the link-layer address of the second.
    """

    entry: int
    exit: int
    link: bytes


def veth(name: str, other: str, before: Pair | None) -> dict[str, Any]:
    """A pair of devices as the netlink library takes it, with the numbers it had before."""
    attributes = [["IFLA_IFNAME", other]]
    if before is not None:
        attributes.append(["IFLA_ADDRESS", before.link.hex(":")])
    peer = {"index": 0 if before is None else before.exit, "attrs": attributes}
    data = {"attrs": [["VETH_INFO_PEER", peer]]}
    information = {"attrs": [["IFLA_INFO_KIND", "veth"], ["IFLA_INFO_DATA", data]]}
    index = {} if before is None else {"index": before.entry}
    return {"ifname": name, "linkinfo": information, **index}
