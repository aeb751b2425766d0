# SPDX-License-Identifier: MIT
"""Segments that are lost because they are long, as the programs notice it."""

import struct
import time

from noid.constants import MTU_MIN, SECOND
from noid.planes.bpf import layout, libbpf
from noid.wire import ipv6
from tests.planes import test_keepalives
from tests.planes.test_keepalives import KEY, Kernel
from tests.planes.test_layout import ETHERNET as FRAME
from tests.planes.test_layout import LOCAL, PEER

kernel = test_keepalives.kernel

LONG_TIMES = 4
LONG_SEGMENT = struct.Struct("=IIQQ")
"""Ports, sequence number, when it was sent, how often."""
LONG_WAIT = 4 * SECOND


def segment(*, octets: int = 1400, port: int = 1000, sequence: int = 7) -> bytes:
    """A TCP segment with data between the AIDs of the flow."""
    head = struct.pack("!HHIIBBHHH", port, 2000, sequence, 0, 5 << 4, 0x10, 1000, 0, 0)
    header = ipv6.Header(
        source=LOCAL[0],
        destination=PEER[0],
        next_header=ipv6.TCP,
        payload_octets=octets - ipv6.HEADER_OCTETS,
    )
    return (header.encode() + head).ljust(octets, b"x")


def is_reported(
    kernel: Kernel, packet: bytes, *, after_ns: int = SECOND, is_heard: bool = True
) -> bool:
    """Whether a segment is said to be lost that is sent so long after the one before."""
    table = libbpf.Table(kernel.programs.maps["long_segments"], 4, LONG_SEGMENT.size)
    before = table.find(KEY)
    if before is not None:
        ports, sequence, sent_ns, times = LONG_SEGMENT.unpack(before)
        table.put(KEY, LONG_SEGMENT.pack(ports, sequence, sent_ns - after_ns, times))
    kernel.given(received_ns=time.monotonic_ns() if is_heard else 1)
    return layout.ReportKind.LONG_REPEATED in kernel.reports("host_egress", FRAME + packet)


def test_a_long_segment_that_is_sent_again_while_its_peer_is_heard_is_reported(
    kernel: Kernel,
) -> None:
    reports = [is_reported(kernel, segment()) for _ in range(2 * LONG_TIMES)]
    assert reports == 2 * ([False] * (LONG_TIMES - 1) + [True])


def test_no_other_segment_is_reported(kernel: Kernel) -> None:
    for number in range(2 * LONG_TIMES):
        assert not is_reported(kernel, segment(octets=MTU_MIN))
        assert not is_reported(kernel, segment(sequence=number)), "it makes progress"
    for _ in range(2 * LONG_TIMES):
        assert not is_reported(kernel, segment(), is_heard=False), "nothing arrives"
    for _ in range(2 * LONG_TIMES):
        assert not is_reported(kernel, segment(port=1), after_ns=0), "it is sent twice at once"


def test_one_connection_of_a_flow_is_watched(kernel: Kernel) -> None:
    for _ in range(LONG_TIMES - 1):
        assert not is_reported(kernel, segment())
        assert not is_reported(kernel, segment(port=1), after_ns=0)
    assert is_reported(kernel, segment())
    for _ in range(LONG_TIMES - 1):
        assert not is_reported(kernel, segment(port=1), after_ns=LONG_WAIT)
    assert is_reported(kernel, segment(port=1))
