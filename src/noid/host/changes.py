# SPDX-License-Identifier: MIT
"""Hears what changes on this host: links, addresses, routes, rules, filters.

What is lost is said at once and as it stands in the messages; everything else only that something
has changed, and ``HostNetwork.survey`` says what there is now.
"""

import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Final

from noid.errors import PlatformError
from noid.host.links import PASSING_ADDRESS
from noid.host.routes import DeletedRoute, Prefix, attributes_of
from noid.locators import LOCATOR_OCTETS, Locator, parse_locator

GROUPS: Final = 0x1 | 0x4 | 0x8 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, _NEIGH, _TC, _IPV6_IFADDR, _IPV6_ROUTE, and RTNLGRP_IPV6_RULE (rtnetlink.h)."""
RECEIVE_BUFFER_OCTETS: Final = 4 << 20
SO_RCVBUFFORCE: Final = 33
READ_OCTETS: Final = 65_536
READS_MAX: Final = 64
"""Datagrams read before other work gets its turn."""
MESSAGE: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: octets, type, flags, sequence number, port."""
ADDRESS_OCTETS: Final = 8
IFA_ADDRESS, IFA_LOCAL = 1, 2
"""The second is there only where the address has a peer, which is then the first."""
LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
ROUTE_OCTETS: Final = 12
NEIGHBOUR_OCTETS: Final = 12
NEW_LINK: Final = 16
DELETE_LINK: Final = 17
NEW_ADDRESS: Final = 20
DELETE_ADDRESS: Final = 21
NEW_ROUTE: Final = 24
DELETE_ROUTE: Final = 25
NEW_NEIGHBOUR: Final = 28
DELETE_NEIGHBOUR: Final = 29
NDA_DESTINATION: Final = 1
RTA_DESTINATION: Final = 1
RTA_METRIC: Final = 6
RTA_TABLE: Final = 15
HOST_BITS: Final = 128
FAR_AWAY_BITS: Final = 16
"""A route to the wide world has a prefix no longer than this."""
MAIN_TABLE: Final = 254
"""Of the routes to single addresses only those in this table are of interest."""
PREFIXES_MAX: Final = 64
"""Of one reading; where more change, any peer may be concerned."""
EVERYWHERE: Final = Prefix(parse_locator("::"), 0)


@dataclass(slots=True)
class Changes:
    """What the messages read at one time say.

    Attributes:
        matters: whether anything may have changed that is worth a survey.
        links: flags that the devices named have had all the time, by index; 0 for one that is gone.
        deleted: routes to single addresses that were deleted.
        unaddressed: addresses that were deleted. The kernel takes them out of the routes that have
            them as the source, and sends no message about that.
        prefixes: where routes to prefixes, or to single addresses in the main table, came or went.
        overflows: how often the kernel had more messages than the socket could hold.
    """

    matters: bool = False
    links: dict[int, int] = field(default_factory=dict)
    deleted: set[DeletedRoute] = field(default_factory=set)
    unaddressed: set[Locator] = field(default_factory=set)
    prefixes: set[Prefix] = field(default_factory=set)
    overflows: int = 0


class NetworkChanges:
    """A subscription to the kernel's messages.

    Args:
        neighbour: the address whose entries as a neighbour matter; those of others do not.

    Raises:
        PlatformError: the kernel refuses.
    """

    def __init__(self, neighbour: Locator) -> None:
        self._neighbour = neighbour
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
            self._socket.bind((0, GROUPS))
        except OSError as error:
            self._socket.close()
            words = str(error.strerror)
            raise PlatformError("hear of changes of links", error.errno or 0, words) from None

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
                found.matters = True
                found.overflows += 1
                continue
            take(data, found, self._neighbour)
        return found


def take(data: bytes, found: Changes, neighbour: Locator) -> None:
    """Adds what one datagram says; what is truncated or unknown is left out."""
    at = 0
    while at + MESSAGE.size <= len(data):
        octets, kind, *_ = MESSAGE.unpack_from(data, at)
        _take_one(kind, data[at + MESSAGE.size : at + octets], found, neighbour)
        at += max(octets + 3 & ~3, MESSAGE.size)


def _take_one(kind: int, body: bytes, found: Changes, neighbour: Locator) -> None:
    if kind in (NEW_ROUTE, DELETE_ROUTE):
        _take_route(kind, body, found)
    elif kind in (NEW_NEIGHBOUR, DELETE_NEIGHBOUR):
        attributes = attributes_of(body[NEIGHBOUR_OCTETS:])
        found.matters |= attributes.get(NDA_DESTINATION) == neighbour
    else:
        attributes = attributes_of(body[ADDRESS_OCTETS:])
        address = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS, b"")
        if kind in (NEW_ADDRESS, DELETE_ADDRESS) and address == PASSING_ADDRESS:
            return  # which makes connections look up their routes again
        found.matters = True
        if kind in (NEW_LINK, DELETE_LINK) and len(body) >= LINK.size:
            family, _, index, flags, _ = LINK.unpack_from(body)
            if family == socket.AF_UNSPEC:  # and not about a port of a bridge
                flags = flags if kind == NEW_LINK else 0
                found.links[index] = found.links.get(index, ~0) & flags
        elif kind == DELETE_ADDRESS and len(address) == LOCATOR_OCTETS:
            found.unaddressed.add(Locator(address))


def _take_route(kind: int, body: bytes, found: Changes) -> None:
    """Many routes to somewhere in particular come and go, and some are ours."""
    if len(body) < ROUTE_OCTETS or body[1] <= FAR_AWAY_BITS:
        found.matters = True
    elif body[1] < HOST_BITS or body[4] == MAIN_TABLE:
        _take_prefix(body, found)
    if kind == DELETE_ROUTE and len(body) >= ROUTE_OCTETS and body[1] == HOST_BITS:
        attributes = attributes_of(body[ROUTE_OCTETS:])
        table, metric = (
            int.from_bytes(attributes.get(one, b""), sys.byteorder)
            for one in (RTA_TABLE, RTA_METRIC)
        )
        aid = attributes.get(RTA_DESTINATION, b"")
        if len(aid) == LOCATOR_OCTETS:
            found.deleted.add(DeletedRoute(table, Locator(aid), metric))


def _take_prefix(body: bytes, found: Changes) -> None:
    """A route that is not ours, such as one of a VPN."""
    address = attributes_of(body[ROUTE_OCTETS:]).get(RTA_DESTINATION, b"")
    if len(address) != LOCATOR_OCTETS or body[1] > HOST_BITS:
        return
    if len(found.prefixes) < PREFIXES_MAX:
        found.prefixes.add(Prefix(Locator(address), body[1]))
    else:
        found.prefixes = {EVERYWHERE}
