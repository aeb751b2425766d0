# SPDX-License-Identifier: MIT
"""Control packets of BFD between this host and one router, on a link or beyond it.

[RFC 5881] for one hop, [RFC 5883] for several.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from random import SystemRandom
from typing import Final, NamedTuple

from noid.errors import PlatformError
from noid.host.socket_filter import take_only
from noid.locators import Locator

SOURCE_PORTS: Final = (49152, 65535)
HOPS: Final = 255
PACKET_INFO: Final = struct.Struct("=16sI")
"""struct in6_pktinfo: source, index of the device."""
PORT_TRIES: Final = 8
READ_OCTETS, ANCILLARY_OCTETS = 256, 64
PACKETS_AT_ONCE: Final = 64


class Reach(NamedTuple):
    """How far away the router of a session is.

    Attributes:
        port: of UDP, at both ends.
        hops_min: packets with a smaller hop limit are ignored.
    """

    port: int
    hops_min: int


ON_LINK: Final = Reach(3784, HOPS)
"""One hop. No packet from beyond the link has this hop limit [RFC 5881 §5]."""


def beyond(hops_min: int) -> Reach:
    """Several hops [RFC 5883 §5]."""
    return Reach(4784, hops_min)


class BfdSocket:
    """The two sockets of a session by a device.

    Args:
        device: its name.
        reach: how far away the router is.

    Raises:
        PlatformError: there is no such device, it has a program for BFD, or we lack privileges.
    """

    def __init__(self, device: str, reach: Reach) -> None:
        self._device = device
        self._reach = reach
        self._target: Locator | None = None
        with contextlib.ExitStack() as stack:
            try:
                self._in = stack.enter_context(self._opened())
                self._in.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
                self._in.bind(("::", reach.port))
                self._out = stack.enter_context(self._opened())
                self._out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, HOPS)
                self._bind_source()
            except OSError as error:
                advice = (
                    f"does another program use UDP port {reach.port}, or is CAP_NET_RAW missing?"
                )
                raise PlatformError(f"BFD by {device}", error.errno or 0, advice) from None
            self._closing = stack.pop_all()

    def close(self) -> None:
        """Ends both."""
        self._closing.close()

    def fileno(self) -> int:
        """For a loop that waits for packets."""
        return self._in.fileno()

    def send(
        self, target: Locator, index: int, packet: bytes, source: Locator | None = None
    ) -> None:
        """Sends a packet; one that cannot leave is lost, as on the way.

        Args:
            target: the router.
            index: of the device, for a target of link-local scope.
            packet: its octets.
            source: from which address; None: the kernel chooses.
        """
        scope = index if target[:2] == b"\xfe\x80" else 0
        text = socket.inet_ntop(socket.AF_INET6, target)
        about = []
        if source is not None:
            about = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PACKET_INFO.pack(source, index))]
        with contextlib.suppress(OSError):
            self._out.sendmsg([packet], about, 0, (text, self._reach.port, 0, scope))

    def packets(self, target: Locator) -> Iterator[bytes]:
        """What the router has sent; all else is ignored."""
        with contextlib.suppress(OSError):
            if target != self._target:
                take_only(self._in, target, self._reach.hops_min)
                self._target = target
            for _ in range(PACKETS_AT_ONCE):
                packet, ancillary, _, sender = self._in.recvmsg(READ_OCTETS, ANCILLARY_OCTETS)
                source = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])
                if source == bytes(target) and _hops(ancillary) >= self._reach.hops_min:
                    yield packet

    def _opened(self) -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
        except OSError:
            made.close()
            raise
        return made

    def _bind_source(self) -> None:
        for attempt in range(PORT_TRIES):
            try:
                self._out.bind(("::", SystemRandom().randint(*SOURCE_PORTS)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or attempt == PORT_TRIES - 1:
                    raise
            else:
                return


def _hops(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
            return int(struct.unpack("=i", data[:4])[0])
    return 0
