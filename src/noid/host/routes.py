# SPDX-License-Identifier: MIT
"""Very many routes to single addresses: one message to the kernel for each, one answer for all.

The netlink library takes half a millisecond for one route, most of it in Python; a daemon that
takes up a hundred thousand contexts has as many routes to see to.
"""

import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from noid.host.messages import (
    ACKNOWLEDGE,
    ANSWER_OCTETS,
    ATTRIBUTE,
    BITS_AT,
    CREATE,
    DELETE_ROUTE,
    DUMP,
    ERROR,
    GET_ROUTE,
    HEADER,
    HOST_BITS,
    NEW_ROUTE,
    REPLACE,
    ROUTE,
    RTA_CACHE,
    RTA_DESTINATION,
    RTA_DEVICE,
    RTA_GATEWAY,
    RTA_METRIC,
    RTA_METRICS,
    RTA_SOURCE,
    RTA_TABLE,
    RTAX_HOP_LIMIT,
    RTAX_MTU,
    STATIC,
    UNICAST,
    UNIVERSE,
    attribute,
    attributes_of,
    check_requests,
    error_at,
    number_attribute,
    number_in,
    replies,
    request,
)
from noid.locators import LOCATOR_OCTETS, Locator

ADDRESS: Final = struct.Struct("=HH16s")
NUMBER: Final = struct.Struct("=HHI")
OF_A_ROUTE: Final = {RTA_DEVICE, RTA_GATEWAY, RTA_METRIC, RTA_METRICS, RTA_SOURCE, RTA_TABLE}
EVERY_TABLE: Final = 0
AT_ONCE: Final = 100
"""Routes in one call; were all of them refused, the answers would still fit the socket's buffer."""
LIKE_MAX: Final = 1024
"""Combinations of attributes that one listing remembers."""


class PeerRoute(NamedTuple):
    """A route to one address.

    Attributes:
        aid: the address.
        table: number of the routing table.
        device: index of the device it leads to.
        metric: of several routes to an address, the one with the least is taken.
        gateway: the neighbour on the device that packets are sent to; None for the address itself.
        source: the source that programs get by default; None leaves it to the kernel.
        metrics: what it says of the path, such as its MTU, as an attribute of netlink has it.
    """

    aid: Locator
    table: int
    device: int
    metric: int
    gateway: Locator | None = None
    source: Locator | None = None
    metrics: bytes = b""


class Prefix(NamedTuple):
    """A prefix that a route leads to.

    Attributes:
        address: its first address.
        bits: its length.
    """

    address: Locator
    bits: int

    def covers(self, locator: Locator) -> bool:
        """Whether an address lies in it."""
        rest = 8 * LOCATOR_OCTETS - self.bits
        first, other = (int.from_bytes(one, "big") >> rest for one in (self.address, locator))
        return first == other


EVERYWHERE: Final = Prefix(Locator(bytes(LOCATOR_OCTETS)), 0)


class Difference(NamedTuple):
    """How a routing table differs from what is wanted.

    Attributes:
        missing: routes that are wanted, and that it lacks.
        extra: routes that it has, and that are not wanted.
    """

    missing: set[PeerRoute]
    extra: set[PeerRoute]


class DeletedRoute(NamedTuple):
    """A route to one address that is gone.

    Attributes:
        table: number of the routing table.
        aid: the address.
        metric: the route's.
    """

    table: int
    aid: Locator
    metric: int


def add(routes: Sequence[PeerRoute]) -> int:
    """Adds routes; one with the address, table and metric of another is put in its place.

    Returns:
        How many the kernel refused.

    Raises:
        OSError: it takes no such messages at all.
    """
    return _tell(NEW_ROUTE, CREATE | REPLACE, routes)


def remove(routes: Sequence[PeerRoute]) -> None:
    """Removes routes; one that is gone already is no error.

    Raises:
        OSError: the kernel takes no such messages at all.
    """
    _tell(DELETE_ROUTE, 0, routes)


def listed(table: int, count: int = 1) -> set[PeerRoute]:
    """The routes to single addresses of some routing tables.

    Args:
        table: the number of the first.
        count: how many follow each other; for more than one, the kernel lists all there are.

    Raises:
        OSError: the kernel does not say.
    """
    found: set[PeerRoute] = set()
    reader = _Reader()
    asked = table if count == 1 else EVERY_TABLE
    body = ROUTE.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0) + number_attribute(RTA_TABLE, asked)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        check_requests(kernel)
        kernel.sendto(request(GET_ROUTE, DUMP, body), (0, 0))
        for kind, data, start, end in replies(kernel):
            if kind != NEW_ROUTE:
                break
            if data[start + BITS_AT] == HOST_BITS:
                one = reader.read(data[start + ROUTE.size : end])
                if table <= one.table < table + count:
                    found.add(one)
    return found


def mtu_in(metrics: bytes) -> int:
    """The MTU that a route says its path has, in octets; 0 if it says none."""
    return number_in(attributes_of(metrics), RTAX_MTU)


def with_mtu(metrics: bytes, mtu: int) -> bytes:
    """What a route says of its path, with another MTU in octets unless it says a smaller one."""
    least = min(mtu, mtu_in(metrics) or mtu)
    return _with(metrics, RTAX_MTU, least)


def with_hop_limit(metrics: bytes, least: int) -> bytes:
    """What a route says of its path, with a hop limit that is not below this one."""
    said = number_in(attributes_of(metrics), RTAX_HOP_LIMIT)
    return _with(metrics, RTAX_HOP_LIMIT, max(said, least))


def _with(metrics: bytes, kind: int, number: int) -> bytes:
    said = {**attributes_of(metrics), kind: number.to_bytes(4, sys.byteorder)}
    return b"".join(_padded(one, said[one]) for one in sorted(said))


def _padded(kind: int, octets: bytes) -> bytes:
    """An attribute of any length, such as a name."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(octets), kind) + octets + bytes(-len(octets) % 4)


def difference(table: int, wanted: Iterable[PeerRoute]) -> Difference:
    """Compares a routing table with the routes it is to have.

    Raises:
        OSError: the kernel does not list the table.
    """
    there = listed(table)
    missing = set()
    for one in wanted:
        if one in there:
            there.discard(one)
        else:
            missing.add(one)
    return Difference(missing, there)


class _Reader:
    """Reads the attributes of routes that differ in little but their destination.

    A table has two hundred thousand such routes. What stands before and after the destination is
    read once for each combination that occurs.
    """

    def __init__(self) -> None:
        self._places: dict[int, tuple[int, int]] = {}
        self._known: dict[tuple[bytes, bytes], PeerRoute] = {}

    def read(self, octets: bytes) -> PeerRoute:
        """The route whose attributes these are."""
        destination, end = self._places.get(len(octets), (0, 0))
        after = destination + LOCATOR_OCTETS
        like = self._known.get((octets[:destination], octets[after:end])) if end else None
        if like is not None:
            return like._replace(aid=Locator(octets[destination:after]))
        one = _read(octets)
        destination, end = _places(octets)
        after = destination + LOCATOR_OCTETS
        if after <= end and len(self._known) < LIKE_MAX:
            self._places[len(octets)] = destination, end
            self._known[octets[:destination], octets[after:end]] = one
        return one


def _places(octets: bytes) -> tuple[int, int]:
    """Where the destination begins, and where what changes with every use of the route does."""
    at = destination = 0
    end = len(octets)
    while at + ATTRIBUTE.size <= len(octets):
        length, kind = ATTRIBUTE.unpack_from(octets, at)
        if kind == RTA_DESTINATION:
            destination = at + ATTRIBUTE.size
        elif kind == RTA_CACHE:
            end = at + ATTRIBUTE.size
        elif kind in OF_A_ROUTE:
            end = len(octets)
        at += max((length + 3) & ~3, ATTRIBUTE.size)
    return destination, end


def _read(octets: bytes) -> PeerRoute:
    attributes = attributes_of(octets)

    def address(kind: int) -> Locator | None:
        return Locator(attributes[kind]) if kind in attributes else None

    return PeerRoute(
        aid=Locator(attributes[RTA_DESTINATION]),
        table=number_in(attributes, RTA_TABLE),
        device=number_in(attributes, RTA_DEVICE),
        metric=number_in(attributes, RTA_METRIC),
        gateway=address(RTA_GATEWAY),
        source=address(RTA_SOURCE),
        metrics=attributes.get(RTA_METRICS, b""),
    )


def _tell(kind: int, flags: int, routes: Sequence[PeerRoute]) -> int:
    """Tells the kernel so about many routes; returns how many it refused."""
    refused = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        for first in range(0, len(routes), AT_ONCE):
            some = [_body(route) for route in routes[first : first + AT_ONCE]]
            messages = (
                request(kind, flags | ACKNOWLEDGE * (number == len(some)), body, number)
                for number, body in enumerate(some, start=1)
            )
            kernel.sendto(b"".join(messages), (0, 0))
            refused += sum(error != 0 for error in _errors(kernel, len(some)))
    return refused


def _body(route: PeerRoute) -> bytes:
    body = ROUTE.pack(socket.AF_INET6, HOST_BITS, 0, 0, 0, STATIC, UNIVERSE, UNICAST, 0)
    body += ADDRESS.pack(ADDRESS.size, RTA_DESTINATION, route.aid)
    for kind, value in (
        (RTA_TABLE, route.table),
        (RTA_DEVICE, route.device),
        (RTA_METRIC, route.metric),
    ):
        body += NUMBER.pack(NUMBER.size, kind, value)
    for kind, address in ((RTA_GATEWAY, route.gateway), (RTA_SOURCE, route.source)):
        if address is not None:
            body += ADDRESS.pack(ADDRESS.size, kind, address)
    return body + (attribute(RTA_METRICS, route.metrics) if route.metrics else b"")


def _errors(kernel: socket.socket, last: int) -> Iterator[int]:
    """The error numbers of what was refused, and of the last message, which is 0 if it was not."""
    number = 0
    while number != last:
        answer = kernel.recv(ANSWER_OCTETS)
        _, kind, _, number, _ = HEADER.unpack_from(answer)
        assert kind == ERROR, "to what does something, the kernel answers by no other message"
        yield error_at(answer)
