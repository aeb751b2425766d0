# SPDX-License-Identifier: MIT
"""The last segment of each TCP connection of a flow, which the programs keep."""

import struct
import time

import pytest

from noid.constants import SECOND
from noid.flows.clock import FlowClock
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import PASSING_TABLES, TABLES
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.segments import KEPT_TIME, Segments
from noid.wire import ipv6
from tests.planes.loading import A1, B1, CODEPOINTS, HERE, flow_on_aids, programs

__all__ = ["programs"]

FLOW = flow_on_aids(silence_ns=60 * SECOND)
SEGMENTS_MAX = 4096
PEER_PORT = 7000


def ports(own: int) -> bytes:
    return struct.pack("!HH", own, PEER_PORT)


def send(programs: Programs, own: int, data: bytes) -> None:
    """A segment of a connection leaves, by its own port."""
    body = ports(own) + struct.pack("!IIBBHHH", 1, 1, 0x50, 0x18, 500, 0, 0) + data
    header = ipv6.Header(source=A1, destination=B1, next_header=ipv6.TCP, payload_octets=len(body))
    programs.try_out("host_egress", bytes(12) + b"\x86\xdd" + header.encode() + body)


@pytest.fixture
def segments(programs: Programs) -> Segments:
    """Those of one flow."""
    tables = {
        name: libbpf.Table(programs.maps[name], *sizes)
        for name, sizes in {**TABLES, **PASSING_TABLES}.items()
    }
    clock = FlowClock()
    entry, _ = layout.inbound_entries(FLOW, HERE, clock)
    sent = layout.outbound_entry(FLOW, HERE, CODEPOINTS, clock)
    assert tables["inbound"].put(layout.label_key(FLOW.local_label), entry)
    assert tables["outbound"].put(layout.aids_key(FLOW), sent)
    return Segments(tables, {FLOW.local_label: FLOW})


def test_the_last_segment_of_each_connection_is_kept(
    programs: Programs, segments: Segments
) -> None:
    began_ns = time.monotonic_ns()
    for own in (1, 2):
        send(programs, own, b"a word of %d" % own)
    send(programs, 3, b"")
    now_ns = time.monotonic_ns()
    for own in (1, 2):
        packet = segments.of_connection(FLOW, ports(own), now_ns)
        assert packet.endswith(b"a word of %d" % own)
        assert segments.of_connection(FLOW, ports(own), began_ns) == b"", "it was sent later"
        assert segments.of_connection(FLOW, ports(own), now_ns + KEPT_TIME) == b"", "it is old"
    assert segments.of_connection(FLOW, ports(3), now_ns) == b"", "it wants no answer"


def test_a_later_segment_takes_the_place_of_the_one_before(
    programs: Programs, segments: Segments
) -> None:
    def is_kept(data: bytes) -> bool:
        send(programs, 1, data)
        return segments.of_connection(FLOW, ports(1), time.monotonic_ns()).endswith(data)

    assert is_kept(b"first")
    deadline = time.monotonic() + 60
    while not is_kept(b"second"):  # in another tick of the kernel
        assert time.monotonic() < deadline


def test_the_connections_that_sent_longest_ago_are_forgotten(
    programs: Programs, segments: Segments
) -> None:
    for own in range(1, 2 * SEGMENTS_MAX):
        send(programs, own, b"data")
    now_ns = time.monotonic_ns()
    kept = [
        own
        for own in range(1, 2 * SEGMENTS_MAX)
        if segments.of_connection(FLOW, ports(own), now_ns)
    ]
    assert 0 < len(kept) <= SEGMENTS_MAX
    assert kept[-1] == 2 * SEGMENTS_MAX - 1
