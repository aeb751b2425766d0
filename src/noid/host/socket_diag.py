# SPDX-License-Identifier: MIT
"""What the kernel knows of the sockets of this host, and the end of some of them (sock_diag(7)).

Connections from addresses that this host is about to lose are ended: the kernel waits for them
before it lets a device go that had such an address, without a limit. The stub resolver asks for the
user at the other end of a conversation.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from noid.host.messages import (
    ACKNOWLEDGE,
    ANSWER_OCTETS,
    DUMP,
    HEADER,
    error_at,
    replies,
    request,
)
from noid.host.subordinates import accountable
from noid.locators import LOCATOR_OCTETS, Locator

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
SOCK_DESTROY: Final = 21
QUERY: Final = struct.Struct("=BBBBI")
"""The head of struct inet_diag_req_v2: family, protocol, extensions, padding, states."""
IDENTITY_AT, IDENTITY_OCTETS = 4, 48
SOURCE_AT: Final = 4
"""Where struct inet_diag_msg has the identity of a socket, and that has the source address."""
RETRANSMISSION: Final = 1
"""The timer of a socket that struct inet_diag_msg shows, behind family and state."""
EVERY_STATE: Final = 0xFFFFFFFF
SENDING: Final = 1 << 1 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11
"""ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK and CLOSING: data or a FIN may be unacknowledged."""
PORTS: Final = struct.Struct("!HH")
ANY_COOKIE: Final = struct.Struct("=III")
"""Behind the addresses in an identity: the device, and a cookie for one socket alone."""
NO_COOKIE: Final = 0xFFFFFFFF
NO_PORT: Final = 1
"""A port from which nothing asks."""
USER: Final = struct.Struct("=I")
USER_AT: Final = HEADER.size + IDENTITY_AT + IDENTITY_OCTETS + 12
"""Where an answer has idiag_uid: behind idiag_expires, idiag_rqueue and idiag_wqueue."""
PROTOCOLS: Final = (socket.IPPROTO_TCP, socket.IPPROTO_UDP)


Place = tuple[str, int]
"""An address as text, and a port."""


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


class Unacknowledged(NamedTuple):
    """A TCP connection of which the peer has not acknowledged everything.

    Attributes:
        ports: its own and that of the peer, as its segments have them.
        local: its own address.
        peer: that of the peer.
        expiries: how often in a row its timer has expired.
    """

    ports: bytes
    local: Locator
    peer: Locator
    expiries: int


def unacknowledged_connections(ends: Collection[bytes]) -> list[Unacknowledged]:
    """The TCP connections over IPv6 that wait for an acknowledgement.

    Connections that are not established yet are left out: an error would end them.

    Args:
        ends: the own address and that of the peer, of all connections that are of interest.

    Raises:
        OSError: the kernel does not list its sockets.
    """
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.bind((0, 0))
        every = bytes(IDENTITY_OCTETS)
        _ask(kernel, SOCK_DIAG_BY_FAMILY, DUMP, socket.IPPROTO_TCP, every, SENDING)
        for kind, data, start, _ in replies(kernel):
            if kind != SOCK_DIAG_BY_FAMILY:
                break
            _, _, timer, expiries = data[start : start + IDENTITY_AT]
            at = start + IDENTITY_AT + SOURCE_AT
            both = bytes(data[at : at + 2 * LOCATOR_OCTETS])
            if timer == RETRANSMISSION and both in ends:
                ports = bytes(data[at - SOURCE_AT : at])
                local, peer = Locator(both[:LOCATOR_OCTETS]), Locator(both[LOCATOR_OCTETS:])
                found.append(Unacknowledged(ports, local, peer, expiries))
    return found


class SocketOwners:
    """The users of sockets that talk to a server of this host.

    Args:
        family: AF_INET6 or AF_INET.
    """

    def __init__(self, family: int) -> None:
        self.family = family
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        try:
            self._kernel.connect((0, 0))
            self._loopback = socket.if_nametoindex("lo")
        except OSError:
            self._kernel.close()
            raise

    def close(self) -> None:
        """Closes the netlink socket."""
        self._kernel.close()

    def of_client(self, protocol: int, server: Place, client: Place) -> int | None:
        """The user who is the client of a server; None if there is no such socket on this host."""
        if protocol == socket.IPPROTO_UDP:
            # "src and dst are swapped for historical reasons" (Linux, net/ipv4/udp_diag.c).
            return self._owner(protocol, server, client)
        return self._owner(protocol, client, server)

    def of_server(self, protocol: int, server: Place) -> int | None:
        """The user id of the server itself; None if the kernel does not list its sockets."""
        return self.of_client(protocol, (server[0], NO_PORT), server)

    def _owner(self, protocol: int, source: Place, destination: Place) -> int | None:
        """What the kernel says of one socket; packets between sockets of one host pass loopback."""
        ports = PORTS.pack(source[1], destination[1])
        addresses = b"".join(
            socket.inet_pton(self.family, place[0].partition("%")[0]).ljust(LOCATOR_OCTETS, b"\0")
            for place in (source, destination)
        )
        identity = ports + addresses + ANY_COOKIE.pack(self._loopback, NO_COOKIE, NO_COOKIE)
        body = QUERY.pack(self.family, protocol, 0, 0, EVERY_STATE) + identity
        try:
            self._kernel.send(request(SOCK_DIAG_BY_FAMILY, 0, body))
            answer = self._kernel.recv(ANSWER_OCTETS)
        except OSError:
            return None
        if HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
            return None
        return accountable(USER.unpack_from(answer, USER_AT)[0])


def _listed(kernel: socket.socket, protocol: int) -> Iterator[bytes]:
    """The identities of all sockets of a protocol over IPv6."""
    _ask(kernel, SOCK_DIAG_BY_FAMILY, DUMP, protocol, bytes(IDENTITY_OCTETS))
    for kind, data, start, _ in replies(kernel):
        if kind != SOCK_DIAG_BY_FAMILY:
            return
        first = start + IDENTITY_AT
        yield data[first : first + IDENTITY_OCTETS]


def _destroy(kernel: socket.socket, protocol: int, identity: bytes) -> bool:
    _ask(kernel, SOCK_DESTROY, ACKNOWLEDGE, protocol, identity)
    answer = kernel.recv(ANSWER_OCTETS)
    return error_at(answer) in (0, errno.ENOENT)


def _ask(
    kernel: socket.socket,
    kind: int,
    flags: int,
    protocol: int,
    identity: bytes,
    states: int = EVERY_STATE,
) -> None:
    body = QUERY.pack(socket.AF_INET6, protocol, 0, 0, states) + identity
    kernel.sendto(request(kind, flags, body), (0, 0))
