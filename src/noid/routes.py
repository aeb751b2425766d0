"""Very many host routes at once: one message to the kernel for each, one answer for all of them.

What HostNetwork does for one route takes half a millisecond, most of it in Python; a daemon that
takes up a hundred thousand contexts has as many routes to see to.
"""

import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from noid.locators import Locator

NEW_ROUTE: Final = 24
DELETE_ROUTE: Final = 25
GET_ROUTE: Final = 26
REQUEST, ACKNOWLEDGE, REPLACE, CREATE, DUMP = 0x1, 0x4, 0x100, 0x400, 0x300
ERROR: Final = 2
HEADER: Final = struct.Struct("=IHHII")
ROUTE: Final = struct.Struct("=BBBBBBBBI")
DESTINATION: Final = struct.Struct("=HH16s")
ATTRIBUTE: Final = struct.Struct("=HH")
NUMBER: Final = struct.Struct("=HHI")
RTA_DESTINATION, RTA_DEVICE, RTA_SOURCE, RTA_TABLE = 1, 4, 7, 15
STATIC, UNIVERSE, UNICAST = 4, 0, 1
HOST_BITS: Final = 128
AT_ONCE: Final = 100
"""Routes in one call; were all of them refused, the answers would still fit the socket's buffer."""
ANSWER_OCTETS: Final = 1 << 16
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12


def add(
    aids: Sequence[Locator], sources: Sequence[Locator | None], *, device: int, table: int
) -> int:
    """Routes each address to a device, by a table; a route that is there is replaced.

    Args:
        aids: the addresses.
        sources: for each the source that programs get by default; None leaves it to the kernel.
        device: its index.
        table: number of the routing table.

    Returns:
        How many the kernel refused.

    Raises:
        OSError: it takes no such messages at all.
    """
    bodies = [_body(*one, device, table) for one in zip(aids, sources, strict=True)]
    return _tell(NEW_ROUTE, CREATE | REPLACE, bodies)


def remove(aids: Sequence[Locator], *, device: int, table: int) -> None:
    """Removes such routes; one that is gone already is no error.

    Raises:
        OSError: the kernel takes no such messages at all.
    """
    _tell(DELETE_ROUTE, 0, [_body(aid, None, device, table) for aid in aids])


def _tell(kind: int, flags: int, bodies: Sequence[bytes]) -> int:
    """Tells the kernel so about many routes; returns how many it refused."""
    refused = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        for first in range(0, len(bodies), AT_ONCE):
            some = bodies[first : first + AT_ONCE]
            messages = (
                HEADER.pack(
                    HEADER.size + len(body),
                    kind,
                    REQUEST | flags | ACKNOWLEDGE * (number == len(some)),
                    number,
                    0,
                )
                + body
                for number, body in enumerate(some, start=1)
            )
            kernel.sendto(b"".join(messages), (0, 0))
            refused += sum(error != 0 for error in _errors(kernel, len(some)))
    return refused


def _body(aid: Locator, source: Locator | None, device: int, table: int) -> bytes:
    return b"".join(
        (
            ROUTE.pack(socket.AF_INET6, HOST_BITS, 0, 0, 0, STATIC, UNIVERSE, UNICAST, 0),
            DESTINATION.pack(DESTINATION.size, RTA_DESTINATION, aid),
            NUMBER.pack(NUMBER.size, RTA_DEVICE, device),
            NUMBER.pack(NUMBER.size, RTA_TABLE, table),
            b"" if source is None else DESTINATION.pack(DESTINATION.size, RTA_SOURCE, source),
        )
    )


def leading_to(device: int, table: int) -> dict[Locator, Locator | None]:
    """The addresses that a routing table leads to a device, one by one, each with its source.

    Args:
        device: its index.
        table: number of the routing table.

    Raises:
        OSError: the kernel does not say.
    """
    found: dict[Locator, Locator | None] = {}
    request = HEADER.pack(HEADER.size + ROUTE.size + NUMBER.size, GET_ROUTE, REQUEST | DUMP, 1, 0)
    route = ROUTE.pack(socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.bind((0, 0))
        # Or it would ignore which table we ask for, and tell all of them.
        kernel.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        kernel.sendto(request + route + NUMBER.pack(NUMBER.size, RTA_TABLE, table), (0, 0))
        while True:
            answer = kernel.recv(ANSWER_OCTETS)
            at = 0
            while at < len(answer):
                octets, kind, *_ = HEADER.unpack_from(answer, at)
                if kind != NEW_ROUTE:
                    return found
                attributes = attributes_of(answer[at + HEADER.size + ROUTE.size : at + octets])
                to = int.from_bytes(attributes.get(RTA_DEVICE, b""), sys.byteorder)
                if answer[at + HEADER.size + 1] == HOST_BITS and to == device:
                    source = attributes.get(RTA_SOURCE)
                    found[Locator(attributes[RTA_DESTINATION])] = (
                        Locator(source) if source else None
                    )
                at += octets


def attributes_of(octets: bytes) -> dict[int, bytes]:
    """The attributes of a message, by their kind."""
    found = {}
    at = 0
    while at < len(octets):
        length, kind = ATTRIBUTE.unpack_from(octets, at)
        found[kind] = octets[at + ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _errors(kernel: socket.socket, last: int) -> Iterator[int]:
    """The error numbers of what was refused, and of the last message, which is 0 if it was not."""
    number = 0
    while number != last:
        answer = kernel.recv(ANSWER_OCTETS)
        _, kind, _, number, _ = HEADER.unpack_from(answer)
        assert kind == ERROR, "to what does something, the kernel answers by no other message"
        yield -struct.unpack_from("=i", answer, HEADER.size)[0]
