# SPDX-License-Identifier: MIT
"""ICMPv6 echo requests by one device, and the answers of one target [RFC 4443 §4]."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from noid.errors import PlatformError
from noid.host.socket_filter import take_only
from noid.locators import Locator

REQUEST, REPLY = 128, 129
HEADER: Final = struct.Struct(">BBHHH")
PACKET_INFO: Final = struct.Struct("=16sI")
"""struct in6_pktinfo: source, index of the device."""
ICMPV6_FILTER: Final = 1
BLOCK_ALL_BUT_REPLIES: Final = struct.pack(
    "=8I", *(0xFFFFFFFF & ~(1 << REPLY % 32 if word == REPLY // 32 else 0) for word in range(8))
)
READ_OCTETS: Final = 256
ANSWERS_AT_ONCE: Final = 64
"""Answers read in one turn; others wait in the kernel's buffer, and are lost when it is full."""


class Echo:
    """Requests by a device.

    Args:
        device: its name.

    Raises:
        PlatformError: there is no such device, or we lack CAP_NET_RAW.
    """

    def __init__(self, device: str) -> None:
        self._identifier = int.from_bytes(os.urandom(2))
        self._target: Locator | None = None
        try:
            self._socket = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        except OSError as error:
            raise _refused(f"echo by {device}", error) from None
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_ICMPV6, ICMPV6_FILTER, BLOCK_ALL_BUT_REPLIES)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        except OSError as error:
            self.close()
            raise _refused(f"echo by {device}", error) from None

    def close(self) -> None:
        """Ends it."""
        self._socket.close()

    def fileno(self) -> int:
        """For a loop that waits for answers."""
        return self._socket.fileno()

    def send(
        self, target: Locator, index: int, sequence: int, source: Locator | None = None
    ) -> None:
        """Sends a request.

        Args:
            target: to whom.
            index: of the device, for targets of link-local scope.
            sequence: its number.
            source: from which address; None: the kernel chooses.

        Raises:
            PlatformError: the request cannot be sent.
        """
        # The kernel sets the checksum.
        message = HEADER.pack(REQUEST, 0, 0, self._identifier, sequence)
        scope = index if target[:2] == b"\xfe\x80" else 0
        about = []
        if source is not None:
            about = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, PACKET_INFO.pack(source, index))]
        try:
            if target != self._target:
                take_only(self._socket, target)
                self._target = target
            self._socket.sendmsg([message], about, 0, (_text(target), 0, 0, scope))
        except OSError as error:
            raise _refused(f"echo to {_text(target)}", error) from None

    def answers(self, target: Locator) -> Iterator[int]:
        """The sequence numbers that a target has answered; what others send is ignored."""
        with contextlib.suppress(OSError):
            for _ in range(ANSWERS_AT_ONCE):
                message, sender = self._socket.recvfrom(READ_OCTETS)
                if len(message) < HEADER.size:
                    continue
                kind, _, _, identifier, sequence = HEADER.unpack_from(message)
                source = socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])
                if (kind, identifier, source) == (REPLY, self._identifier, bytes(target)):
                    yield sequence


def _refused(operation: str, error: OSError) -> PlatformError:
    advice = "is CAP_NET_RAW missing?" if error.errno == errno.EPERM else "is the uplink there?"
    return PlatformError(operation, error.errno or 0, advice)


def _text(target: Locator) -> str:
    return socket.inet_ntop(socket.AF_INET6, target)
