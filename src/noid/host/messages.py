# SPDX-License-Identifier: MIT
"""Netlink messages as octets (netlink(7), rtnetlink(7)): heads, attributes, questions, answers.

For what the netlink library does too slowly, or for every thing there is instead of one.
"""

import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Final

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: octets, type, flags, sequence number, port."""
ATTRIBUTE: Final = struct.Struct("=HH")
"""struct rtattr: octets, type."""
ROUTE: Final = struct.Struct("=BBBBBBBBI")
"""struct rtmsg: family, bits of destination and source, TOS, table, protocol, scope, type, flags.
struct fib_rule_hdr has the same sizes, and the action where that has the type."""
BITS_AT, TABLE_AT, TYPE_AT = 1, 4, 7
"""Where struct rtmsg has the bits of the destination, the table and the type."""
LINK: Final = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, change."""
NEIGHBOUR: Final = struct.Struct("=BxHiHBB")
"""struct ndmsg with its padding: family, index, state, flags, type."""
ADDRESS: Final = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, bits of the prefix, flags, scope, index."""
ERROR_NUMBER: Final = struct.Struct("=i")
REQUEST, ACKNOWLEDGE, REPLACE, CREATE, DUMP = 0x1, 0x4, 0x100, 0x400, 0x300
ERROR, DONE = 2, 3
NEW_LINK, DELETE_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DELETE_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DELETE_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_RULE, DELETE_RULE, GET_RULE = 32, 33, 34
RTA_DESTINATION, RTA_FROM, RTA_DEVICE, RTA_GATEWAY, RTA_METRIC, RTA_SOURCE = 1, 2, 4, 5, 6, 7
RTA_METRICS, RTA_CACHE, RTA_TABLE, RTA_MARK, RTA_UID = 8, 12, 15, 16, 25
RTAX_MTU: Final = 2
"""In RTA_METRICS: octets of a packet that the path carries."""
RTAX_HOP_LIMIT: Final = 10
"""The same: the hop limit of packets whose program names none."""
NDA_DESTINATION, NDA_LINK_ADDRESS = 1, 2
IFLA_IFNAME: Final = 3
IFA_ADDRESS, IFA_LOCAL = 1, 2
"""The second is there only where the address has a peer, which is then the first."""
HOST_BITS: Final = 128
STATIC, UNIVERSE, UNICAST, UNREACHABLE, THROW = 4, 0, 1, 7, 9
REFUSING: Final = frozenset({6, 7, 8})
"""RTN_BLACKHOLE, _UNREACHABLE and _PROHIBIT; the actions of rules have the same numbers."""
MAIN_TABLE: Final = 254
ANSWER_OCTETS: Final = 1 << 17
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12


def request(kind: int, flags: int, body: bytes, number: int = 1) -> bytes:
    """A message to the kernel.

    Args:
        kind: its type.
        flags: besides REQUEST.
        body: what follows the header.
        number: its sequence number, which the answer has too.
    """
    return HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, number, 0) + body


def spans(data: bytes) -> Iterator[tuple[int, int, int]]:
    """The messages in a datagram: the type of each, and where its body begins and ends."""
    at = 0
    while at + HEADER.size <= len(data):
        octets, kind, *_ = HEADER.unpack_from(data, at)
        yield kind, at + HEADER.size, at + octets
        at += max(octets + 3 & ~3, HEADER.size)


def replies(kernel: socket.socket) -> Iterator[tuple[int, bytes, int, int]]:
    """The messages of a socket, without an end: the type of each, its datagram, its place there.

    Raises:
        OSError: the kernel does not answer.
    """
    while True:
        data = kernel.recv(ANSWER_OCTETS)
        for kind, start, end in spans(data):
            yield kind, data, start, end


def check_requests(kernel: socket.socket) -> None:
    """Makes the kernel apply every field of a request as a filter; else it lists everything."""
    kernel.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)


def error_at(data: bytes, start: int = HEADER.size) -> int:
    """The error number in an answer of type ERROR whose body begins there; 0: there was none."""
    number: int = -ERROR_NUMBER.unpack_from(data, start)[0]
    return number


def attribute(kind: int, octets: bytes) -> bytes:
    """An attribute whose value has a multiple of 4 octets."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(octets), kind) + octets


def number_attribute(kind: int, number: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return attribute(kind, number.to_bytes(4, sys.byteorder))


def attributes_of(octets: bytes) -> dict[int, bytes]:
    """The attributes of a message, by their type."""
    found = {}
    at = 0
    while at + ATTRIBUTE.size <= len(octets):
        length, kind = ATTRIBUTE.unpack_from(octets, at)
        found[kind] = octets[at + ATTRIBUTE.size : at + length]
        at += max((length + 3) & ~3, ATTRIBUTE.size)
    return found


def number_in(attributes: Mapping[int, bytes], kind: int) -> int:
    """A number of 32 bits among attributes; 0 where it is absent."""
    return int.from_bytes(attributes.get(kind, b""), sys.byteorder)
