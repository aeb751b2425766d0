# SPDX-License-Identifier: MIT
"""Whatever the programs have reported they report again on the next occasion, in each life."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from noid.constants import KEEPALIVE_INTERVAL, MILLISECOND, SECOND
from noid.flows.clock import FlowClock
from noid.lab.waiting import wait_for
from noid.locators import parse_locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.kernel_flows import FRAME_OCTETS
from noid.planes.bpf.layout import ReportKind
from noid.planes.bpf.loading import Programs
from noid.wire import ipv6
from tests.planes.loading import A1, constants, loaded, own
from tests.planes.test_layout import ETHERNET, LOCAL, PEER, SENDING, install, packet_of, rough
from tests.planes.test_long_segments import segment

OCCASIONS: Final = 3
WITHIN_S: Final = 30.0
"""The longest wait of the programs is five seconds; on a busy machine."""
APART_S: Final = 0.002
A_TICK_S: Final = 0.02
LONG_APART_S: Final = 0.11
FLOW: Final = replace(SENDING, silence_ns=10 * MILLISECOND, verified_locators=frozenset(PEER[:2]))
WATCHED: Final = parse_locator("2001:db8:78::1")


@dataclass
class Kernel:
    """The programs, and what they report.

    Attributes:
        programs: with a flow and a watched peer.
        kinds: of the reports since the last occasion began.
        occasion: its number.
    """

    programs: Programs
    kinds: list[int] = field(default_factory=list)
    occasion: int = 0

    def __post_init__(self) -> None:
        take = lambda one: self.kinds.append(layout.Report.of(one).kind)  # noqa: E731
        self.rings = [libbpf.Reports(self.programs.maps[n], take) for n in ("reports", "set_ups")]
        self.tables = {
            name: libbpf.Table(self.programs.maps[name], *TABLES[name])
            for name in ("outbound", "inbound", "far", "activities", "watched")
        }

    def leaves(self, packet: bytes) -> None:
        self.programs.try_out("host_egress", ETHERNET + packet)

    def comes(self, source: int) -> None:
        """Data of the flow, from a locator of its peer."""
        packet = packet_of(PEER[source], LOCAL[2], 225, FLOW.local_label)
        self.programs.try_out("host_ingress", ETHERNET + packet)

    def hears(self) -> None:
        """An authentic message of the peer."""
        word = layout.heard_word(FLOW.local_label, unasked=False)
        self.programs.try_out("host_heard", word.ljust(FRAME_OCTETS, b"\0"))

    def reports(self, kind: ReportKind) -> bool:
        for ring in self.rings:
            ring.consume()
        return kind in self.kinds

    def waits(self, kind: ReportKind, stimulus: Callable[[], None]) -> None:
        """A stimulus again and again until there is a report."""

        def is_reported() -> bool:
            stimulus()
            return self.reports(kind)

        wait_for(f"{kind.name} is reported", is_reported, WITHIN_S)

    def begins(self) -> None:
        install(self.programs, FLOW, FlowClock(proven=rough(time.monotonic_ns())))
        self.tables["watched"].put(WATCHED, layout.WATCHED.pack(0))

    def ends(self) -> None:
        """As the daemon ends a flow, and no longer watches a peer."""
        self.tables["outbound"].remove(layout.aids_key(FLOW))
        for name in ("inbound", "far", "activities"):
            self.tables[name].remove(layout.label_key(FLOW.local_label))
        self.tables["watched"].remove(WATCHED)


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    with loaded(tmp_path, settings=constants(referrals=True)) as programs:
        own(programs, A1)
        found = Kernel(programs)
        yield found
        for ring in found.rings:
            ring.close()


# --- occasions ------------------------------------------------------------------------------------


def a_single_segment(kernel: Kernel) -> None:
    """Only the timer of the flow can notice that it stays unanswered."""
    kernel.leaves(packet_of(LOCAL[0], PEER[0], ipv6.TCP))
    kernel.waits(ReportKind.UNANSWERED_PACKET, lambda: None)


def four_segments(kernel: Kernel) -> None:
    """The timer, which then has less patience."""
    for _ in range(4):
        kernel.leaves(packet_of(LOCAL[0], PEER[0], ipv6.TCP))
        time.sleep(APART_S)
    kernel.waits(ReportKind.UNANSWERED_PACKET, lambda: None)


def datagrams(kernel: Kernel) -> None:
    """Each of them looks, as they have no timer."""

    def one() -> None:
        kernel.leaves(packet_of(LOCAL[0], PEER[0], ipv6.UDP))
        time.sleep(KEEPALIVE_INTERVAL / SECOND / 2)

    kernel.waits(ReportKind.UNANSWERED_PACKET, one)


def long_segments(kernel: Kernel) -> None:
    """The same one again and again, though the peer is heard."""

    def one() -> None:
        kernel.leaves(segment(sequence=kernel.occasion))
        kernel.comes(1)
        time.sleep(LONG_APART_S)

    kernel.waits(ReportKind.LONG_REPEATED, one)


def one_way_data(kernel: Kernel) -> None:
    kernel.waits(ReportKind.ONE_WAY_DATA, lambda: kernel.comes(1))


def another_source(kernel: Kernel) -> None:
    """Data from a locator that nothing is sent to; it may not be followed."""
    kernel.waits(ReportKind.SOURCE_MOVED, lambda: kernel.comes(5))


def a_followed_source(kernel: Kernel) -> None:
    """The peer sends from its other locator, and the packets to it follow."""
    entry = kernel.tables["outbound"].find(layout.aids_key(FLOW))
    assert entry is not None
    other = 0 if layout.peer_locator_of(entry) == PEER[1] else 1
    kernel.waits(ReportKind.SOURCE_MOVED, lambda: kernel.comes(other))


def a_plain_packet(kernel: Kernel) -> None:
    kernel.waits(ReportKind.PLAIN_PACKET, lambda: kernel.leaves(packet_of(A1, WATCHED, ipv6.UDP)))


def a_stranger(kernel: Kernel) -> None:
    """Another one each time: the same one is reported once a minute."""
    stranger = parse_locator(f"2001:db8:77::{kernel.occasion + 1:x}")
    kernel.waits(ReportKind.UNKNOWN_PEER, lambda: kernel.leaves(packet_of(A1, stranger, ipv6.UDP)))


def no_proof(kernel: Kernel) -> None:
    """A flow that sends for five seconds and hears nothing authentic."""

    def one() -> None:
        kernel.leaves(packet_of(LOCAL[0], PEER[0], ipv6.UDP))
        kernel.comes(1)
        time.sleep(A_TICK_S)

    kernel.waits(ReportKind.LONG_UNPROVEN, one)


EACH: Final[list[Callable[[Kernel], None]]] = [
    a_single_segment,
    four_segments,
    datagrams,
    long_segments,
    one_way_data,
    another_source,
    a_followed_source,
    a_plain_packet,
    a_stranger,
]


@pytest.mark.parametrize("is_new", [False, True], ids=["answered", "new flow"])
@pytest.mark.parametrize(
    "occur", [*EACH, pytest.param(no_proof, marks=pytest.mark.slow)], ids=lambda one: one.__name__
)
def test_each_occasion_is_reported(
    kernel: Kernel, occur: Callable[[Kernel], None], is_new: bool
) -> None:
    kernel.begins()
    for kernel.occasion in range(OCCASIONS):
        kernel.kinds.clear()
        occur(kernel)
        if is_new:
            kernel.ends()
            kernel.begins()
        # All is well for some ticks: the peer is heard, and the host sends.
        for _ in range(3):
            kernel.hears()
            if occur is not a_followed_source:
                kernel.comes(1)
            kernel.leaves(packet_of(LOCAL[0], PEER[0], ipv6.UDP))
            kernel.hears()
            time.sleep(A_TICK_S)
        for ring in kernel.rings:
            ring.consume()
