# SPDX-License-Identifier: MIT
"""Sends prepared packets, many with each call of the kernel (sendmmsg(2))."""

import ctypes
import os
import socket
import struct
from collections.abc import Sequence
from typing import ClassVar, Final

from noid.errors import PlatformError

AT_ONCE: Final = 512
"""Packets of one call."""
ADDRESS: Final = struct.Struct("=HHI16sI")
"""struct sockaddr_in6."""


class _Piece(ctypes.Structure):
    """struct iovec."""

    _fields_: ClassVar = [("base", ctypes.c_void_p), ("octets", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_: ClassVar = [
        ("name", ctypes.c_void_p),
        ("name_octets", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_octets", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_: ClassVar = [("header", _Header), ("sent", ctypes.c_uint32)]


class Volley:
    """IPv6 packets that go round.

    Args:
        raw: a raw socket that takes whole packets.
        packets: what is sent.
    """

    def __init__(self, raw: socket.socket, packets: Sequence[bytes]) -> None:
        self._raw = raw
        self._at = 0
        self._count = len(packets)
        places = [ADDRESS.pack(socket.AF_INET6, 0, 0, one[24:40], 0) for one in packets]
        self._octets = [ctypes.create_string_buffer(one, len(one)) for one in (*packets, *places)]
        ends = [ctypes.addressof(one) for one in self._octets]
        self._pieces = (_Piece * self._count)(
            *[_Piece(end, len(one)) for end, one in zip(ends, packets, strict=False)]
        )
        first, size = ctypes.addressof(self._pieces), ctypes.sizeof(_Piece)
        self._messages = (_Message * self._count)(
            *[
                _Message(_Header(end, ADDRESS.size, first + size * number, 1))
                for number, end in enumerate(ends[self._count :])
            ]
        )
        self._send = ctypes.CDLL(None, use_errno=True).sendmmsg

    def send(self, count: int) -> None:
        """Sends the next packets.

        Raises:
            PlatformError: the kernel refuses one.
        """
        while count > 0:
            some = min(count, AT_ONCE, self._count - self._at)
            place = ctypes.byref(self._messages, self._at * ctypes.sizeof(_Message))
            sent = self._send(self._raw.fileno(), place, some, 0)
            if sent < 0:
                number = ctypes.get_errno()
                raise PlatformError("send packets", number, os.strerror(number))
            count -= sent
            self._at = (self._at + sent) % self._count
