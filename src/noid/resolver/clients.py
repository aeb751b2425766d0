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
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Final

from noid.host.socket_diag import SocketOwners

REMEMBERED_MAX: Final = 4_096
REMEMBERED_S: Final = 1.0
"""The users of so many UDP ports are remembered for so long, in seconds: a program that sends many
queries from one port is looked up once in this time."""


class Clients:
    """Who is at the other end of the stub's sockets.

    Args:
        listen: the address of the stub.
        port: its port.
    """

    def __init__(self, listen: str, port: int) -> None:
        self.place = listen, port
        self._family = socket.AF_INET6 if ":" in listen else socket.AF_INET
        self._owners = SocketOwners(self._family)
        self._remembered: OrderedDict[tuple[str, int], tuple[Hashable, float]] = OrderedDict()
        self._lists = {
            protocol: self._owners.of_server(protocol, self.place) is not None
            for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP)
        }
        """Protocols of which the kernel lists the sockets: ours are there."""

    def close(self) -> None:
        """Closes the sockets to the kernel."""
        self._owners.close()

    def of_datagram(self, address: tuple[Any, ...]) -> Hashable:
        """The user who sent a datagram; None if the sender is not on this host."""
        place = address[0], address[1]
        now_s = time.monotonic()
        known = self._remembered.get(place)
        if known is not None and now_s < known[1]:
            return known[0]
        client = self._of(socket.IPPROTO_UDP, place)
        if client is not None:
            self._remembered[place] = client, now_s + REMEMBERED_S
            self._remembered.move_to_end(place)
            if len(self._remembered) > REMEMBERED_MAX:
                self._remembered.popitem(last=False)
        return client

    def of_stream(self, address: tuple[Any, ...]) -> Hashable:
        """The user who opened a connection; None if the client is not on this host."""
        return self._of(socket.IPPROTO_TCP, (address[0], address[1]))

    def _of(self, protocol: int, place: tuple[str, int]) -> Hashable:
        if self._lists[protocol]:
            return self._owners.of_client(protocol, self.place, place)
        host = place[0].partition("%")[0]
        is_local = host == self.place[0] or ipaddress.ip_address(host).is_loopback
        return place if is_local else None
