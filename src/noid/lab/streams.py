# SPDX-License-Identifier: MIT
"""One TCP connection between two hosts, with a paced stream of octets in each direction.

Both ends are sockets of this program, opened in the namespaces of the hosts, so that all times are
of one monotonic clock. A block of one segment is sent every few milliseconds whether the last one
has arrived or not: what is lost is found missing by what comes after it, not by a timer of TCP. In
a lab round trips are short, so the window of TCP is 10 segments, which last for 20 ms.
"""

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Self

from noid.constants import MILLISECOND, SECOND
from noid.lab import namespaces
from noid.lab.download import Arrival, longest_silence_ns
from noid.lab.lab import Lab

PORT: Final = 7003
PACE_NS: Final = 2 * MILLISECOND
WORD: Final = struct.Struct(">Q")
BLOCK_WORDS: Final = 128
BLOCK_OCTETS: Final = WORD.size * BLOCK_WORDS
CONNECT_TIMEOUT_S: Final = 10.0
RTT_OFFSET: Final = 68
"""Of tcpi_rtt in struct tcp_info, in microseconds [linux/tcp.h]."""
INFO_OCTETS: Final = 104


class Direction:
    """One of the two streams.

    Args:
        sender: the socket that sends.
        receiver: the socket at the other end.
    """

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self.arrivals: list[Arrival] = []
        self.octets = 0
        self.intact = True
        """Whether each octet arrived once, in order, as it was sent."""
        self._sender = sender
        self._receiver = receiver
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=one, daemon=True) for one in (self._send, self._read)
        ]

    def start(self) -> None:
        """Lets octets flow."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends both threads; the sockets are shut down by then."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def longest_silence_ns(self, since_ns: int, until_ns: int) -> int:
        """The longest time without an octet within a span of time."""
        return longest_silence_ns(tuple(self.arrivals), since_ns, until_ns)

    def _send(self) -> None:
        due_ns = time.monotonic_ns()
        with contextlib.suppress(OSError):
            for number in itertools.count():
                if self._over.is_set():
                    return
                self._sender.sendall(_block(number))
                due_ns += PACE_NS
                self._over.wait(max(0, due_ns - time.monotonic_ns()) / SECOND)

    def _read(self) -> None:
        rest, number = b"", 0
        with contextlib.suppress(OSError):
            while octets := self._receiver.recv(1 << 16):
                self.arrivals.append(Arrival(time.monotonic_ns(), len(octets)))
                self.octets += len(octets)
                rest += octets
                while len(rest) >= BLOCK_OCTETS:
                    self.intact &= rest[:BLOCK_OCTETS] == _block(number)
                    rest, number = rest[BLOCK_OCTETS:], number + 1


class Streams:
    """A connection from one host to another, from its ``with`` on.

    Args:
        lab: the lab.
        client: who connects, to an address of the server; the kernel chooses the source.
        server: who listens.
        address: of the server.
    """

    def __init__(self, lab: Lab, client: str, server: str, address: str) -> None:
        listener = _opened(lab, server)
        with listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("::", PORT))
            listener.listen(1)
            listener.settimeout(CONNECT_TIMEOUT_S)
            self._near = _opened(lab, client)
            self._near.settimeout(CONNECT_TIMEOUT_S)
            self._near.connect((address, PORT))
            self._far, _ = listener.accept()
        for one in (self._near, self._far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.settimeout(None)
        self.up = Direction(self._near, self._far)
        self.down = Direction(self._far, self._near)

    def __enter__(self) -> Self:
        self.up.start()
        self.down.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._near, self._far):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self.up.stop()
        self.down.stop()
        self._near.close()
        self._far.close()

    @property
    def round_trip_ns(self) -> int:
        """What TCP takes for the round trip, smoothed."""
        info = self._near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_OCTETS)
        return int.from_bytes(info[RTT_OFFSET : RTT_OFFSET + 4], "little") * 1000

    def flows(self, octets: int) -> Callable[[], bool]:
        """A condition: so many more octets than now have arrived in each direction."""
        up, down = self.up.octets + octets, self.down.octets + octets
        return lambda: self.up.octets >= up and self.down.octets >= down


def _opened(lab: Lab, host: str) -> socket.socket:
    """A TCP socket in the namespace of a host."""
    return namespaces.inside(
        namespaces.namespace(lab.name, host),
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_STREAM),
    )


def _block(number: int) -> bytes:
    return WORD.pack(number) * BLOCK_WORDS
