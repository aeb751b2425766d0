# SPDX-License-Identifier: MIT
"""One-way traffic in the kernel: when a keepalive is due, and what is silence [D42]."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from noid.constants import (
    GAPS_USUAL,
    KEEPALIVE_INTERVAL,
    MANY_PATIENCE,
    MILLISECOND,
    SECOND,
    UNANSWERED_PATIENCE,
    UNPROVEN_TIME,
)
from noid.flows.clock import FlowClock
from noid.identifiers import Label
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.kernel_flows import FRAME_OCTETS
from noid.planes.bpf.loading import Programs
from noid.wire import ipv6
from tests.planes.loading import loaded
from tests.planes.test_layout import ETHERNET, LOCAL, PEER, SENDING, install, packet_of, rough

FLOW = replace(SENDING, silence_ns=5 * MILLISECOND)
KEY = layout.label_key(FLOW.local_label)
DATA = packet_of(PEER[1], LOCAL[2], 225, FLOW.local_label)
PATIENCE_S = 60.0
DATAGRAM = packet_of(LOCAL[0], PEER[0], ipv6.UDP)
SEGMENT = packet_of(LOCAL[0], PEER[0], ipv6.TCP)


class Kernel:
    """The programs with one flow, and what they report."""

    def __init__(self, programs: Programs) -> None:
        self.programs = programs
        self.kinds: list[int] = []
        self.ring = libbpf.Reports(programs.maps["reports"], self._take)

    def _take(self, report: bytes) -> None:
        head = layout.Report.of(report)
        assert head.local_label == KEY
        self.kinds.append(head.kind)

    def given(self, **times: int) -> None:
        """The flow, with these times of its clock; something authentic came just now."""
        install(self.programs, FLOW, FlowClock(**{"proven": rough(time.monotonic_ns())} | times))

    def reports(self, program: str, packet: bytes) -> list[int]:
        """The kinds of what a program reports of a packet."""
        self.kinds.clear()
        self.programs.try_out(program, packet)
        self.ring.consume()
        return list(self.kinds)

    def hears(self, *, unasked: bool, label: Label = FLOW.local_label) -> list[int]:
        """An authentic message has come; the kinds of what is reported of that."""
        word = layout.heard_word(label, unasked=unasked)
        return self.reports("host_heard", word.ljust(FRAME_OCTETS, bytes(1)))

    def clock(self) -> FlowClock:
        tables = {name: libbpf.Table(self.programs.maps[name], *TABLES[name]) for name in TABLES}
        outbound = tables["outbound"].find(layout.aids_key(FLOW))
        return layout.clock_of(outbound, tables["inbound"].find(KEY))


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with loaded(tmp_path) as programs:
        kernel = Kernel(programs)
        yield kernel
        kernel.ring.close()


def test_a_keepalive_is_due_at_the_second_packet_since_something_was_sent(kernel: Kernel) -> None:
    kernel.given(sent_ns=time.monotonic_ns() - SECOND)
    assert kernel.reports("host_ingress", ETHERNET + DATA) == []
    assert kernel.reports("host_ingress", ETHERNET + DATA) == [layout.ReportKind.ONE_WAY_DATA]
    assert time.monotonic_ns() - kernel.clock().sent_ns < SECOND


def test_a_keepalive_is_due_once_in_its_interval(kernel: Kernel) -> None:
    kernel.given(sent_ns=time.monotonic_ns() - SECOND)
    due, began_ns = 0, time.monotonic_ns()
    while due < 2 or time.monotonic_ns() - began_ns < 5 * KEEPALIVE_INTERVAL:
        due += len(kernel.reports("host_ingress", ETHERNET + DATA))
    took_ns = time.monotonic_ns() - began_ns
    assert 2 <= due <= took_ns // KEEPALIVE_INTERVAL + 1


def test_a_host_that_sends_owes_no_keepalive(kernel: Kernel) -> None:
    kernel.given(sent_ns=time.monotonic_ns() - SECOND)
    for _ in range(20):
        assert kernel.reports("host_egress", ETHERNET + DATAGRAM) == []
        kernel.reports("host_ingress", ETHERNET + DATA)
        sent_ns = kernel.clock().sent_ns
        reports = kernel.reports("host_ingress", ETHERNET + DATA)
        assert reports == [] or time.monotonic_ns() - sent_ns > KEEPALIVE_INTERVAL


def test_a_host_that_answers_each_packet_owes_no_keepalive(kernel: Kernel) -> None:
    """However far apart the packets are."""
    kernel.given(sent_ns=time.monotonic_ns() - SECOND)
    for _ in range(3):
        assert kernel.reports("host_ingress", ETHERNET + DATA) == []
        before_ns = kernel.clock().sent_ns
        kernel.reports("host_egress", ETHERNET + DATAGRAM)
        assert kernel.clock().sent_ns > before_ns
        while time.monotonic_ns() <= kernel.clock().sent_ns + KEEPALIVE_INTERVAL:
            pass


def test_an_authentic_message_answers_what_was_sent(kernel: Kernel) -> None:
    now_ns = time.monotonic_ns()
    kernel.given(unanswered_ns=now_ns - SECOND, unanswered=4, received_ns=now_ns - 2 * SECOND)
    assert kernel.reports("host_egress", ETHERNET + SEGMENT) == [
        layout.ReportKind.UNANSWERED_PACKET
    ]
    kernel.hears(unasked=False)
    assert kernel.reports("host_egress", ETHERNET + SEGMENT) == []
    clock = kernel.clock()
    assert clock.unanswered_ns > now_ns
    assert clock.received_ns == now_ns - 2 * SECOND, "no data came"


def test_an_authentic_message_of_an_unknown_flow_changes_nothing(kernel: Kernel) -> None:
    kernel.given()
    assert kernel.hears(unasked=True, label=Label(0xFFFFF)) == []


def test_the_gap_between_signs_of_life_is_learnt(kernel: Kernel) -> None:
    kernel.given(heard_ns=time.monotonic_ns() - SECOND)
    kernel.reports("host_ingress", ETHERNET + DATA)
    assert SECOND <= kernel.clock().gap_ns < 4 * SECOND


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Other processes take no ticks from this one."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def test_the_gaps_within_a_tick_are_learnt_too(kernel: Kernel) -> None:
    kernel.given()
    until_s = time.monotonic() + PATIENCE_S
    with undisturbed():
        while not 0 < kernel.clock().gap_ns < 2 * MILLISECOND:
            assert time.monotonic() < until_s, kernel.clock()
            for _ in range(20):
                kernel.programs.try_out("host_ingress", ETHERNET + DATA)


def test_an_outage_counts_as_two_gaps(kernel: Kernel) -> None:
    kernel.given(heard_ns=time.monotonic_ns() - 3 * SECOND, gap_ns=100 * MILLISECOND)
    kernel.hears(unasked=True)
    assert kernel.clock().gap_ns == (3 + GAPS_USUAL) * 100 * MILLISECOND // 4


def test_only_what_comes_unasked_counts_as_a_gap(kernel: Kernel) -> None:
    kernel.given(heard_ns=time.monotonic_ns() - SECOND, gap_ns=SECOND)
    before = kernel.clock()
    kernel.hears(unasked=False)
    assert (kernel.clock().gap_ns, kernel.clock().heard_ns) == (before.gap_ns, before.heard_ns)
    kernel.hears(unasked=True)
    assert kernel.clock().heard_ns > before.heard_ns


@pytest.mark.parametrize(
    ("gap_ns", "unanswered", "silent_ns", "packet", "is_silence"),
    [
        (0, 3, 2 * UNANSWERED_PATIENCE, SEGMENT, True),
        (0, 1, UNANSWERED_PATIENCE // 4, SEGMENT, False),
        (0, 4, 2 * FLOW.silence_ns, SEGMENT, True),
        (20 * MILLISECOND, 1, 2 * UNANSWERED_PATIENCE, DATAGRAM, True),
        (20 * MILLISECOND, 4, 20 * MILLISECOND, DATAGRAM, False),
        (4 * SECOND, 4, MANY_PATIENCE // 2, DATAGRAM, False),
        (4 * SECOND, 3, SECOND, DATAGRAM, False),
        (4 * SECOND, 4, SECOND, DATAGRAM, True),
        (0, 4, MANY_PATIENCE // 2, DATAGRAM, False),
        (0, 3, 60 * SECOND, DATAGRAM, False),
        (0, 4, 2 * MANY_PATIENCE, DATAGRAM, True),
    ],
)
def test_silence(
    kernel: Kernel, gap_ns: int, unanswered: int, silent_ns: int, packet: bytes, is_silence: bool
) -> None:
    unanswered_ns = time.monotonic_ns() - silent_ns
    kernel.given(unanswered_ns=unanswered_ns, unanswered=unanswered, gap_ns=gap_ns)
    reports = kernel.reports("host_egress", ETHERNET + packet)
    late_ns = time.monotonic_ns() - unanswered_ns - silent_ns
    assert (
        reports == [layout.ReportKind.UNANSWERED_PACKET] * is_silence or late_ns > FLOW.silence_ns
    )


@pytest.mark.parametrize(
    ("packet", "silent_ns", "counts"),
    [
        (DATAGRAM, KEEPALIVE_INTERVAL // 4, False),
        (DATAGRAM, KEEPALIVE_INTERVAL, True),
        (SEGMENT, KEEPALIVE_INTERVAL // 4, True),
    ],
)
def test_packets_that_a_peer_owes_no_keepalive_for_are_not_counted(
    kernel: Kernel, packet: bytes, silent_ns: int, counts: bool
) -> None:
    unanswered_ns = time.monotonic_ns() - silent_ns
    kernel.given(unanswered_ns=unanswered_ns, unanswered=1)
    kernel.reports("host_egress", ETHERNET + packet)
    late_ns = time.monotonic_ns() - unanswered_ns - silent_ns
    assert kernel.clock().unanswered == 1 + counts or late_ns > KEEPALIVE_INTERVAL // 2


def test_a_sending_flow_without_a_proof_is_reported_once(kernel: Kernel) -> None:
    proven = rough(time.monotonic_ns() - 2 * UNPROVEN_TIME)
    kernel.given(proven=proven)
    kernel.reports("host_ingress", ETHERNET + DATA)  # may be forged
    assert layout.ReportKind.LONG_UNPROVEN in kernel.reports("host_egress", ETHERNET + DATAGRAM)
    kernel.given(proven=kernel.clock().proven)
    assert layout.ReportKind.LONG_UNPROVEN not in kernel.reports("host_egress", ETHERNET + DATAGRAM)


def test_an_authentic_message_is_a_proof(kernel: Kernel) -> None:
    kernel.given(proven=rough(time.monotonic_ns() - 2 * UNPROVEN_TIME))
    kernel.hears(unasked=False)
    assert layout.ReportKind.LONG_UNPROVEN not in kernel.reports("host_egress", ETHERNET + DATAGRAM)
