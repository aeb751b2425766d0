# SPDX-License-Identifier: MIT
"""Which connections to an HTTP server of noid stay open: each client has a share of them [D46].

A client is a user of this host, or the site of an address elsewhere.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Hashable

from noid.constants import PREFIX_OCTETS
from noid.host.socket_diag import SocketOwners
from noid.shares.tenants import Tenants


class Admission:
    """The connections of a server, by client.

    Args:
        limit: the maximum of connections. One more closes the oldest of the client with the most,
            or is refused if that is the client itself.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: Tenants[asyncio.StreamWriter] = Tenants()

    @property
    def count(self) -> int:
        """The number of connections."""
        return self._open.count

    def enter(self, connection: asyncio.StreamWriter) -> bool:
        """Adds a connection, and returns whether there is room for it; may close another one."""
        client = client_of(connection)
        if self.count >= self.limit:
            oldest = self._open.oldest_of_largest(client)
            if self._open.tenant(oldest) == client:
                return False
            self.leave(oldest)
            oldest.transport.abort()
        self._open.add(client, connection, asyncio.get_running_loop().time())
        return True

    def leave(self, connection: asyncio.StreamWriter) -> None:
        """Removes a connection, if it is there."""
        self._open.remove(connection)


def client_of(connection: asyncio.StreamWriter) -> Hashable:
    """The client of a TCP connection: a user id, or the first octets of an address elsewhere.

    Where the kernel does not list sockets, all local users are one client. None if the client has
    closed the connection already.
    """
    here, there = (connection.get_extra_info(name) for name in ("sockname", "peername"))
    if not here or not there:
        return None
    family = socket.AF_INET6 if ":" in here[0] else socket.AF_INET
    with contextlib.suppress(OSError), contextlib.closing(SocketOwners(family)) as owners:
        user = owners.of_client(socket.IPPROTO_TCP, here[:2], there[:2])
        if user is not None:
            return user
    return ipaddress.ip_address(there[0].partition("%")[0]).packed[:PREFIX_OCTETS]
