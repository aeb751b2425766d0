"""Ends connections from addresses that this host is about to lose (sock_diag(7)).

The kernel waits for them before it lets a device go that had such an address, without a limit.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from typing import Final

from noid.locators import LOCATOR_OCTETS, Locator

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
SOCK_DESTROY: Final = 21
REQUEST, ACKNOWLEDGE, DUMP = 0x1, 0x4, 0x300
DONE: Final = 3
HEADER: Final = struct.Struct("=IHHII")
QUERY: Final = struct.Struct("=BBBBI")
"""The head of struct inet_diag_req_v2: family, protocol, extensions, padding, states."""
IDENTITY_AT, IDENTITY_OCTETS = 4, 48
SOURCE_AT: Final = 4
"""Where struct inet_diag_msg has the identity of a socket, and that has the source address."""
EVERY_STATE: Final = 0xFFFFFFFF
ANSWER_OCTETS: Final = 1 << 16
PROTOCOLS: Final = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)


def end_connections(addresses: Collection[Locator]) -> int:
    """Ends every TCP and UDP socket of this host that has one of these as its own address.

    Returns:
        How many the kernel has ended; it ends none where it lacks CONFIG_INET_DIAG_DESTROY.

    Raises:
        OSError: the kernel does not list its sockets.
    """
    ended = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.bind((0, 0))
        for protocol in PROTOCOLS:
            for identity in list(_listed(kernel, protocol)):
                source = identity[SOURCE_AT : SOURCE_AT + LOCATOR_OCTETS]
                if Locator(source) in addresses:
                    ended += _destroy(kernel, protocol, identity)
    return ended


def _listed(kernel: socket.socket, protocol: int) -> Iterator[bytes]:
    """The identities of all sockets of a protocol over IPv6."""
    _ask(kernel, SOCK_DIAG_BY_FAMILY, DUMP, protocol, bytes(IDENTITY_OCTETS))
    while True:
        answer = kernel.recv(ANSWER_OCTETS)
        at = 0
        while at < len(answer):
            octets, kind, *_ = HEADER.unpack_from(answer, at)
            if kind != SOCK_DIAG_BY_FAMILY:
                return
            first = at + HEADER.size + IDENTITY_AT
            yield answer[first : first + IDENTITY_OCTETS]
            at += octets + 3 & ~3


def _destroy(kernel: socket.socket, protocol: int, identity: bytes) -> bool:
    _ask(kernel, SOCK_DESTROY, ACKNOWLEDGE, protocol, identity)
    answer = kernel.recv(ANSWER_OCTETS)
    number: int = -struct.unpack_from("=i", answer, HEADER.size)[0]
    return number in (0, errno.ENOENT)


def _ask(kernel: socket.socket, kind: int, flags: int, protocol: int, identity: bytes) -> None:
    body = QUERY.pack(socket.AF_INET6, protocol, 0, 0, EVERY_STATE) + identity
    kernel.sendto(HEADER.pack(HEADER.size + len(body), kind, REQUEST | flags, 1, 0) + body, (0, 0))
