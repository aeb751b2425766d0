# SPDX-License-Identifier: MIT
"""Reports changes of this host: links, addresses, routes, rules, filters.

What is lost is said at once and as it stands in the messages; everything else only that something
has changed, and ``HostNetwork.survey`` says what there is now.
"""

import socket
from dataclasses import dataclass, field
from typing import Final

from noid.errors import PlatformError
from noid.host.links import PASSING_ADDRESS
from noid.host.messages import (
    BITS_AT,
    DELETE_ADDRESS,
    DELETE_LINK,
    DELETE_NEIGHBOUR,
    DELETE_ROUTE,
    HOST_BITS,
    IFA_ADDRESS,
    IFA_LOCAL,
    LINK,
    MAIN_TABLE,
    NDA_DESTINATION,
    NEIGHBOUR,
    NEW_ADDRESS,
    NEW_LINK,
    NEW_NEIGHBOUR,
    NEW_ROUTE,
    REFUSING,
    ROUTE,
    RTA_DESTINATION,
    RTA_METRIC,
    RTA_TABLE,
    TABLE_AT,
    TYPE_AT,
    attributes_of,
    number_in,
    spans,
)
from noid.host.routes import EVERYWHERE, DeletedRoute, Prefix
from noid.locators import LOCATOR_OCTETS, Locator

GROUPS: Final = 0x1 | 0x8 | 0x100 | 0x400 | 0x40000
"""RTMGRP_LINK, _TC, _IPV6_IFADDR, _IPV6_ROUTE, and RTNLGRP_IPV6_RULE (rtnetlink.h)."""
NEIGHBOURS: Final = 0x4
"""RTMGRP_NEIGH: very many messages where others send packets to many addresses of a link."""
RECEIVE_BUFFER_OCTETS: Final = 4 << 20
SO_RCVBUFFORCE: Final = 33
READ_OCTETS: Final = 65_536
READS_MAX: Final = 64
"""Datagrams read before other work."""
ADDRESS_OCTETS: Final = 8
FAR_AWAY_BITS: Final = 16
"""Maximum prefix length of a route to the Internet."""
PREFIXES_MAX: Final = 64
"""Prefixes of one reading; if more change, every peer may be concerned."""


@dataclass(slots=True)
class Changes:
    """The changes in the messages of one reading.

    Attributes:
        matters: whether anything may have changed that is worth a survey.
        links: flags that the devices named have had all the time, by index; 0 for one that is gone.
        deleted: routes to single addresses that were deleted.
        unaddressed: addresses that were deleted. The kernel takes them out of the routes that have
            them as the source, and sends no message about that.
        prefixes: where routes to prefixes, or to single addresses in the main table, or routes that
            refuse packets in any table, came or went; everywhere after messages were lost.
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
        neighbour: the address whose entries as a neighbour matter; None: no neighbours do.

    Raises:
        PlatformError: the kernel refuses.
    """

    def __init__(self, neighbour: Locator | None) -> None:
        self._neighbour = neighbour
        self._has_lost = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS)
            self._socket.bind((0, GROUPS | NEIGHBOURS * (neighbour is not None)))
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
        """The changes since the last reading, of at most READS_MAX datagrams."""
        found = Changes()
        for _ in range(READS_MAX):
            try:
                data = self._socket.recv(READ_OCTETS)
            except BlockingIOError:
                # The kernel drops messages until none waits, and says so before that, once.
                if self._has_lost:
                    found.matters, found.prefixes, self._has_lost = True, {EVERYWHERE}, False
                break
            except OSError:
                found.matters = self._has_lost = True
                found.overflows += 1
                continue
            take(data, found, self._neighbour)
        return found


def take(data: bytes, found: Changes, neighbour: Locator | None) -> None:
    """Adds the changes of one datagram; ignores truncated and unknown messages."""
    for kind, start, end in spans(data):
        _take_one(kind, data[start:end], found, neighbour)


def _take_one(kind: int, body: bytes, found: Changes, neighbour: Locator | None) -> None:
    if kind in (NEW_ROUTE, DELETE_ROUTE):
        _take_route(kind, body, found)
    elif kind in (NEW_NEIGHBOUR, DELETE_NEIGHBOUR):
        destination = attributes_of(body[NEIGHBOUR.size :]).get(NDA_DESTINATION)
        found.matters |= destination is not None and destination == neighbour
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
    """Routes to single prefixes change often, and some are ours: only others are recorded."""
    if len(body) < ROUTE.size:
        found.matters = True
        return
    bits, is_refusal = body[BITS_AT], body[TYPE_AT] in REFUSING
    found.matters |= bits <= FAR_AWAY_BITS
    # Routes to single addresses in other tables than the main one are ours, which refuse nothing.
    is_other = bits < HOST_BITS or body[TABLE_AT] == MAIN_TABLE
    if is_refusal or (is_other and bits > FAR_AWAY_BITS):
        _take_prefix(body, found)
    if kind == DELETE_ROUTE and bits == HOST_BITS:
        attributes = attributes_of(body[ROUTE.size :])
        table, metric = (number_in(attributes, one) for one in (RTA_TABLE, RTA_METRIC))
        aid = attributes.get(RTA_DESTINATION, b"")
        if len(aid) == LOCATOR_OCTETS:
            found.deleted.add(DeletedRoute(table, Locator(aid), metric))


def _take_prefix(body: bytes, found: Changes) -> None:
    """A route that is not ours, such as one of a VPN."""
    address = attributes_of(body[ROUTE.size :]).get(RTA_DESTINATION, b"")
    if len(address) != LOCATOR_OCTETS or body[BITS_AT] > HOST_BITS:
        return
    if len(found.prefixes) < PREFIXES_MAX:
        found.prefixes.add(Prefix(Locator(address), body[BITS_AT]))
    else:
        found.prefixes = {EVERYWHERE}
