# SPDX-License-Identifier: MIT
"""Finds the user of the local program that asks, by the socket at the other end [D46].

A conversation on this host has two sockets in this kernel, and the kernel knows the user of each. A
query whose other end is no socket of this host is not answered: it comes from another host, which
the stub does not serve, or its program is gone. So the stub amplifies nothing.

Where the kernel does not list sockets, each port is a client of its own, and the client is local if
its address is a loopback one or the stub's own.
"""

import ipaddress
import socket
from collections.abc import Hashable
from typing import Any

from noid.host.socket_diag import SocketOwners


class Clients:
    """Finds the users at the other ends of the stub's sockets.

    Args:
        listen: the address of the stub.
        port: its port.
    """

    def __init__(self, listen: str, port: int) -> None:
        self.place = listen, port
        self._family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        self._owners = SocketOwners(self._family)
        self._known: dict[tuple[str, int], Hashable] = {}
        self._lists = {
            protocol: self._owners.of_server(protocol, self.place) is not None
            for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP)
        }
        """The protocols whose sockets the kernel lists, checked with our own."""

    def close(self) -> None:
        """Closes the sockets to the kernel."""
        self._owners.close()

    def of_datagram(self, address: tuple[Any, ...]) -> Hashable:
        """The user who sent a datagram; None if the sender is not on this host.

        It is looked up once until ``forget``.
        """
        place = address[0], address[1]
        client = self._known.get(place)
        if client is None:
            client = self._of(socket.IPPROTO_UDP, place)
            if client is not None:
                self._known[place] = client
        return client

    def forget(self) -> None:
        """Looks every port up again: another user may have it by now, and is not to be blamed."""
        self._known.clear()

    def of_stream(self, address: tuple[Any, ...]) -> Hashable:
        """The user who opened a connection; None if the client is not on this host."""
        return self._of(socket.IPPROTO_TCP, (address[0], address[1]))

    def _of(self, protocol: int, place: tuple[str, int]) -> Hashable:
        if self._lists[protocol]:
            return self._owners.of_client(protocol, self.place, place)
        host = place[0].partition("%")[0]
        is_local = host == self.place[0] or ipaddress.ip_address(host).is_loopback
        return place if is_local else None
