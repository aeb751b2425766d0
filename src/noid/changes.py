"""Hears what changes on this host: links, addresses, routes, rules, filters.

What is lost is said at once and as it stands in the messages; everything else only that something
has changed, and ``HostNetwork.survey`` says what there is now.
"""

import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Final

from noid.locators import LOCATOR_OCTETS, Locator
from noid.routes import attributes_of

GROUPS: Final = 0x1 | 0x8 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, _TC, _IPV6_IFADDR, _IPV6_ROUTE, and RTNLGRP_IPV6_RULE (linux/rtnetlink.h)."""
RECEIVE_BUFFER_OCTETS: Final = 4 << 20
SO_RCVBUFFORCE: Final = 33
READ_OCTETS: Final = 65_536
READS_MAX: Final = 64
"""Datagrams read before other work gets its turn."""
MESSAGE: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: octets, type, flags, sequence number, port."""
LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
ROUTE_OCTETS: Final = 12
NEW_LINK: Final = 16
DELETE_LINK: Final = 17
NEW_ROUTE: Final = 24
DELETE_ROUTE: Final = 25
RTA_DESTINATION: Final = 1
RTA_TABLE: Final = 15
HOST_BITS: Final = 128
FAR_AWAY_BITS: Final = 16
"""A route to the wide world has a prefix no longer than this."""


@dataclass(slots=True)
class Changes:
    """What the messages read at one time say.

    Attributes:
        matters: whether anything may have changed that is worth a survey.
        links: flags that the devices named have had all the time, by index; 0 for one that is gone.
        deleted: routes to single addresses that were deleted: routing table and address.
    """

    matters: bool = False
    links: dict[int, int] = field(default_factory=dict)
    deleted: set[tuple[int, Locator]] = field(default_factory=set)


class NetworkChanges:
    """A subscription to the kernel's messages."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
        self._socket.bind((0, GROUPS))

    def fileno(self) -> int:
        """Becomes readable when there is something to read."""
        return self._socket.fileno()

    def close(self) -> None:
        """Ends the subscription."""
        self._socket.close()

    def read(self) -> Changes:
        """What has been said since the last time, or as much of it as READS_MAX allows."""
        found = Changes()
        for _ in range(READS_MAX):
            try:
                data = self._socket.recv(READ_OCTETS)
            except BlockingIOError:
                break
            except OSError:
                found.matters = True  # the kernel had more to say than it could keep
                continue
            _take(data, found)
        return found


def _take(data: bytes, found: Changes) -> None:
    at = 0
    while at + MESSAGE.size < len(data):
        octets, kind, *_ = MESSAGE.unpack_from(data, at)
        _take_one(kind, data[at + MESSAGE.size : at + octets], found)
        at += max(octets + 3 & ~3, MESSAGE.size)


def _take_one(kind: int, body: bytes, found: Changes) -> None:
    if kind in (NEW_LINK, DELETE_LINK) and len(body) >= LINK.size:
        _, _, index, flags, _ = LINK.unpack_from(body)
        found.links[index] = found.links.get(index, ~0) & (flags if kind == NEW_LINK else 0)
    elif kind in (NEW_ROUTE, DELETE_ROUTE) and body[1] > FAR_AWAY_BITS:
        # Many routes to somewhere in particular come and go, and some are ours.
        if kind == DELETE_ROUTE and body[1] == HOST_BITS:
            _take_deleted(body, found)
        return
    found.matters = True


def _take_deleted(body: bytes, found: Changes) -> None:
    attributes = attributes_of(body[ROUTE_OCTETS:])
    table = attributes.get(RTA_TABLE, b"")
    aid = attributes.get(RTA_DESTINATION, b"")
    if len(aid) == LOCATOR_OCTETS:
        found.deleted.add((int.from_bytes(table, sys.byteorder), Locator(aid)))
