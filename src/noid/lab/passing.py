# SPDX-License-Identifier: MIT
"""What passes an interface of a lab: counted by source, with the kernel's time of the first."""

import abc
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, IPv6Network
from typing import Final, NamedTuple, Self

from noid.constants import SECOND, Codepoints
from noid.lab import namespaces
from noid.lab.lab import Lab

ETH_P_IPV6: Final = 0x86DD
ETH_P_ALL: Final = 3
PACKET_OUTGOING: Final = 4
SO_TIMESTAMPNS: Final = 35
SO_RCVBUFFORCE: Final = 33
BUFFER_OCTETS: Final = 1 << 23
TIMESPEC: Final = struct.Struct("=qq")
HEADER_OCTETS: Final = 40
PATIENCE_S: Final = 0.1
TCP_OF_CONTEXTS: Final = Codepoints().rewritable_first
"""The next header of TCP in a context, as the hosts of a lab have it."""


class Kind(NamedTuple):
    """What packets have in common.

    Attributes:
        outgoing: whether they leave by the interface.
        next_header: that of the IPv6 header.
        source: the source address.
    """

    outgoing: bool
    next_header: int
    source: IPv6Address


class Listener(abc.ABC):
    """Hears packets at a node, in a thread of its own, from its ``with`` on.

    Args:
        lab: the lab.
        node: on which node.
        open_socket: makes the socket, on the node; it has a short timeout.
    """

    def __init__(self, lab: Lab, node: str, open_socket: Callable[[], socket.socket]) -> None:
        self._socket = namespaces.inside(namespaces.namespace(lab.name, node), open_socket)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _watch(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                self.hear(self._socket)

    @abc.abstractmethod
    def hear(self, one: socket.socket) -> None:
        """Takes the next packet of the socket, or lets its TimeoutError pass."""


class Passing(Listener):
    """Watches an interface for IPv6 packets, from its ``with`` on.

    Args:
        lab: the lab.
        node: on which node.
        interface: its name.
    """

    def __init__(self, lab: Lab, node: str, interface: str) -> None:
        super().__init__(lab, node, lambda: _listener(interface))
        self._first_ns: dict[Kind, int] = {}
        self._counts = Counter[Kind]()

    def first_ns(self, *, outgoing: bool) -> int | None:
        """When the first TCP packet of a context passed one way, on the monotonic clock in ns."""
        return min(
            (at for kind, at in tuple(self._first_ns.items()) if _is_context(kind, outgoing)),
            default=None,
        )

    def of_contexts(self, *, outgoing: bool) -> int:
        """How many TCP packets of contexts have passed one way."""
        return sum(
            count for kind, count in tuple(self._counts.items()) if _is_context(kind, outgoing)
        )

    def sources(self, *, outgoing: bool) -> Iterator[IPv6Address]:
        """The sources of all packets that have passed one way."""
        return (kind.source for kind in tuple(self._counts) if kind.outgoing == outgoing)

    def from_prefix(self, prefix: IPv6Network, *, outgoing: bool) -> int:
        """How many packets with a source in a prefix have passed one way."""
        return sum(
            count
            for kind, count in tuple(self._counts.items())
            if kind.outgoing == outgoing and kind.source in prefix
        )

    def forget(self) -> None:
        """Counts from now on only."""
        self._first_ns.clear()
        self._counts.clear()

    def hear(self, one: socket.socket) -> None:
        """Counts the packet, if it is one of IPv6."""
        packet, ancillary, _, address = one.recvmsg(HEADER_OCTETS, 64)
        if len(packet) == HEADER_OCTETS and address[1] == ETH_P_IPV6:
            source = IPv6Address(packet[8:24])
            kind = Kind(address[2] == PACKET_OUTGOING, packet[6], source)
            self._counts[kind] += 1
            if kind not in self._first_ns:
                self._first_ns[kind] = _moment_ns(ancillary)


def _is_context(kind: Kind, outgoing: bool) -> bool:
    return kind.outgoing == outgoing and kind.next_header == TCP_OF_CONTEXTS


def _listener(interface: str) -> socket.socket:
    # With a protocol it would hear every interface until it is bound.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_OCTETS)
    made.settimeout(PATIENCE_S)
    made.bind((interface, ETH_P_ALL))
    return made


def _moment_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The kernel's time of a packet, on the monotonic clock."""
    behind_ns = time.time_ns() - time.monotonic_ns()
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, rest_ns = TIMESPEC.unpack(data[: TIMESPEC.size])
            return int(seconds * SECOND + rest_ns) - behind_ns
    return time.monotonic_ns()
