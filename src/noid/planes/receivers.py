# SPDX-License-Identifier: MIT
"""Raw sockets that receive M6: their filters, and the parser of a received packet."""

import contextlib
import ctypes
import socket
import struct
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

from noid.constants import FLOW_LABEL_MASK
from noid.flows.rewrite import Arrival, Refusal
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code

IPV6_FLOWINFO = 11
IPV6_RECVFRAGSIZE = 77
ICMPV6_FILTER = 1
SO_RCVBUFFORCE = 33
SO_ATTACH_FILTER = 26
SO_ATTACH_BPF = 50

PACKET_OCTETS_MAX = 65_575
"""An IPv6 header and the longest payload it can announce."""
RECEIVE_BUFFER_OCTETS = 8 << 20
STRANGERS_BUFFER_OCTETS = 1 << 20
"""Nothing that a stranger sends waits for longer than it takes to answer so much."""
ANCILLARY_OCTETS = 256
NETWORK_HEADER = -0x100000
"""Where a socket filter finds the IPv6 header (linux/filter.h: SKF_NET_OFF)."""
LOAD_OCTET, LOAD_TWO_OCTETS, IF_EQUAL, RETURN = 0x30, 0x28, 0x15, 0x06
NEXT, REFUSE, TAKE = 0, -1, -2
"""Where a step of a filter leads; what is refused is not for this socket."""


class Step(NamedTuple):
    """One instruction of a socket filter.

    Attributes:
        operation: the operation code.
        value: its operand.
        if_so: target of a comparison that is true: number of steps to skip, or an end.
        otherwise: target of a comparison that is false.
    """

    operation: int
    value: int
    if_so: int = NEXT
    otherwise: int = NEXT


def receiver(
    next_header: int, *, octets: int = RECEIVE_BUFFER_OCTETS, steps: Sequence[Step] = ()
) -> socket.socket:
    """A raw socket for one next header that also returns the fields of the IPv6 header.

    Args:
        next_header: the next header.
        octets: size of its receive buffer.
        steps: the filter; without steps, all packets pass.
    """
    one = socket.socket(socket.AF_INET6, socket.SOCK_RAW, next_header)
    try:
        one.setblocking(False)
        one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        one.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO, 1)
        one.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVFRAGSIZE, 1)
        _attach_filter(one, next_header, steps)
    except OSError:
        one.close()
        raise
    return one


def icmpv6_receivers(control: int, errors: Collection[int]) -> tuple[socket.socket, socket.socket]:
    """Two raw sockets, so that packets of strangers do not delay messages of contexts [D46].

    The programs of the kernel plane recognise messages of contexts better; see ``divide``.

    Args:
        control: the ICMPv6 type of control messages.
        errors: the ICMPv6 types of errors.

    Returns:
        One for control messages except INIT, one for INIT and errors.
    """
    code_is_init = [Step(LOAD_OCTET, 1), Step(IF_EQUAL, Code.INIT, REFUSE, TAKE)]
    is_error = [Step(LOAD_OCTET, 0), Step(IF_EQUAL, control, NEXT, TAKE)]
    is_init = [Step(LOAD_OCTET, 1), Step(IF_EQUAL, Code.INIT, TAKE, REFUSE)]
    with contextlib.ExitStack() as made:
        first = made.enter_context(receiver(ipv6.ICMPV6, steps=code_is_init))
        second = made.enter_context(
            receiver(ipv6.ICMPV6, octets=STRANGERS_BUFFER_OCTETS, steps=is_error + is_init)
        )
        first.setsockopt(ipv6.ICMPV6, ICMPV6_FILTER, _icmp_filter(control))
        second.setsockopt(ipv6.ICMPV6, ICMPV6_FILTER, _icmp_filter(control, *errors))
        made.pop_all()
    return first, second


def divide(receivers: Sequence[socket.socket], programs: Sequence[int]) -> None:
    """Replaces the filters of the two sockets by programs that select the socket of a message.

    Args:
        receivers: the result of ``icmpv6_receivers``.
        programs: the descriptors of ``host_named`` and ``host_others``.

    Raises:
        OSError: the kernel refuses.
    """
    for one, program in zip(receivers, programs, strict=True):
        one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_BPF, program)


def _attach_filter(one: socket.socket, next_header: int, steps: Sequence[Step]) -> None:
    """Takes packets that have the next header in their IPv6 header, or behind hop-by-hop options.

    A raw socket gets a packet behind any chain of headers. The one exception to the filter are
    reassembled fragments, of which the kernel tells in another way.
    """
    every = [
        Step(LOAD_OCTET, NETWORK_HEADER + ipv6.NEXT_HEADER_AT),
        Step(IF_EQUAL, next_header, 5),
        Step(IF_EQUAL, ipv6.HOP_BY_HOP, NEXT, REFUSE),
        Step(LOAD_OCTET, NETWORK_HEADER + ipv6.HEADER_OCTETS),
        Step(IF_EQUAL, next_header, NEXT, REFUSE),
        Step(LOAD_TWO_OCTETS, NETWORK_HEADER + 4),
        Step(IF_EQUAL, 0, REFUSE),  # a jumbogram
        *steps,
    ]
    ends = {TAKE: len(every), REFUSE: len(every) + 1}
    code = b""
    for at, step in enumerate([*every, Step(RETURN, PACKET_OCTETS_MAX), Step(RETURN, 0)]):
        jumps = (ends[to] - at - 1 if to < 0 else to for to in (step.if_so, step.otherwise))
        code += struct.pack("=HBBI", step.operation, *jumps, step.value & 0xFFFFFFFF)
    kept = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(every) + 2, ctypes.addressof(kept))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def receive(one: socket.socket, next_header: int) -> Arrival | Refusal | None:
    """The next packet of a raw socket, or why it is dropped, or None if there is none."""
    try:
        payload, ancillary, flags, sender = one.recvmsg(PACKET_OCTETS_MAX, ANCILLARY_OCTETS)
    except OSError:
        return None
    flow_information = hop_limit = device = 0
    destination = b""
    if flags & socket.MSG_TRUNC or len(payload) > ipv6.PAYLOAD_OCTETS_MAX:
        return Refusal.MALFORMED  # a jumbogram
    for level, kind, value in ancillary:
        if level != socket.IPPROTO_IPV6:
            continue
        if kind == IPV6_RECVFRAGSIZE:
            return Refusal.MISPLACED  # put together from fragments
        if kind == socket.IPV6_PKTINFO:
            destination, device = value[:16], int.from_bytes(value[16:20], sys.byteorder)
        elif kind == IPV6_FLOWINFO:
            flow_information = int.from_bytes(value[:4], "big")
        elif kind == socket.IPV6_HOPLIMIT:
            hop_limit = int.from_bytes(value[:4], "little")
    return Arrival(
        source=Locator(socket.inet_pton(socket.AF_INET6, sender[0].partition("%")[0])),
        destination=Locator(destination),
        next_header=next_header,
        flow_label=Label(flow_information & FLOW_LABEL_MASK),
        traffic_class=flow_information >> 20 & 0xFF,
        hop_limit=hop_limit & 0xFF,
        payload=payload,
        device=device,
    )


def _icmp_filter(*types: int) -> bytes:
    """An ICMPv6 filter (RFC 3542 §3.2) that lets these types through and no others."""
    words = [0xFFFFFFFF] * 8
    for kind in types:
        words[kind >> 5] &= ~(1 << (kind & 31)) & 0xFFFFFFFF
    return struct.pack("=8I", *words)
