# SPDX-License-Identifier: MIT
"""A filter of the kernel on a socket: packets of other senders take no room in its buffer.

Without it, a flood of packets that are ignored displaces the packets that are waited for.
"""

import ctypes
import socket
import struct
from typing import Final

from noid.locators import LOCATOR_OCTETS, Locator

SO_ATTACH_FILTER: Final = 26
NETWORK_HEADER: Final = -0x100000
"""Where a filter finds the IPv6 header (linux/filter.h: SKF_NET_OFF)."""
HOP_LIMIT_AT, SOURCE_AT = 7, 8
LOAD_OCTET, LOAD_WORD, IF_EQUAL, IF_AT_LEAST, RETURN = 0x30, 0x20, 0x15, 0x35, 0x06
STEP: Final = struct.Struct("=HBBI")
PROGRAM: Final = struct.Struct("@HP")
WHOLE: Final = 0xFFFFFFFF
WORD_OCTETS: Final = 4


def take_only(one: socket.socket, source: Locator, hops_min: int = 0) -> None:
    """Makes a socket take packets of one source alone, in place of an earlier filter.

    Args:
        one: an IPv6 socket.
        source: the source address of the packets.
        hops_min: their least hop limit.

    Raises:
        OSError: the kernel refuses.
    """
    tests = [(LOAD_OCTET, HOP_LIMIT_AT, IF_AT_LEAST, hops_min)]
    for at in range(0, LOCATOR_OCTETS, WORD_OCTETS):
        word = int.from_bytes(source[at : at + WORD_OCTETS], "big")
        tests.append((LOAD_WORD, SOURCE_AT + at, IF_EQUAL, word))
    count = 2 * len(tests) + 2
    code = b""
    for number, (load, at, test, value) in enumerate(tests):
        to_refusal = count - 1 - (2 * number + 2)
        code += STEP.pack(load, 0, 0, (NETWORK_HEADER + at) & 0xFFFFFFFF)
        code += STEP.pack(test, 0, to_refusal, value)
    code += STEP.pack(RETURN, 0, 0, WHOLE) + STEP.pack(RETURN, 0, 0, 0)
    kept = ctypes.create_string_buffer(code, len(code))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, PROGRAM.pack(count, ctypes.addressof(kept)))
