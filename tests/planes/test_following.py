# SPDX-License-Identifier: MIT
"""The programs let Lp(peer) follow the source of the data of the peer, as the flow says [D41]."""

import mmap
import time
from dataclasses import replace
from pathlib import Path

from noid.constants import FOLLOW_INTERVAL, GAP_MAX, NEVER, SECOND
from noid.flows.clock import FlowClock
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.loading import Programs
from noid.wire import ipv6
from tests.planes.loading import loaded, programs
from tests.planes.test_layout import ETHERNET, LOCAL, PEER, SENDING, install, packet_of

__all__ = ["programs"]


def entries(programs: Programs) -> tuple[bytes, bytes]:
    """What the kernel has of the flow: the outbound entry and the inbound one."""
    both = []
    for name, key in (
        ("outbound", layout.aids_key(SENDING)),
        ("inbound", layout.label_key(SENDING.local_label)),
    ):
        entry = libbpf.Table(programs.maps[name], *TABLES[name]).find(key)
        assert entry is not None
        both.append(entry)
    return both[0], both[1]


def after_data_from(programs: Programs, source: Locator) -> tuple[Locator, FlowClock]:
    """Lp(peer), and the times, after a packet from a locator of the peer's."""
    packet = packet_of(source, LOCAL[2], 224, SENDING.local_label)
    programs.try_out("host_ingress", ETHERNET + packet)
    outbound, inbound = entries(programs)
    return layout.peer_locator_of(outbound), layout.clock_of(outbound, inbound)


def test_data_moves_the_peer_only_after_a_silence_of_the_locator_in_use(
    programs: Programs,
) -> None:
    flow = replace(SENDING, silence_ns=3600 * SECOND)
    for gap_ns, silent_ns, expected in (
        (GAP_MAX, SECOND, PEER[1]),
        (SECOND, 3 * SECOND, PEER[5]),
        (0, SECOND, PEER[5]),
    ):
        heard_ns = time.monotonic_ns() - silent_ns
        install(programs, flow, FlowClock(heard_ns=heard_ns, gap_ns=gap_ns))
        assert after_data_from(programs, PEER[5])[0] == expected
    brief = replace(flow, silence_ns=SECOND)
    heard_ns = time.monotonic_ns() - 2 * SECOND
    install(programs, brief, FlowClock(heard_ns=heard_ns, gap_ns=GAP_MAX))
    assert after_data_from(programs, PEER[5])[0] == PEER[5], "T is long enough"


def test_data_changes_the_peer_locator_only_to_verified_ones_once_a_second(
    programs: Programs,
) -> None:
    install(programs, SENDING, FlowClock())
    assert after_data_from(programs, PEER[3])[0] == PEER[1], "not verified"
    began_ns = time.monotonic_ns()
    assert after_data_from(programs, PEER[5])[0] == PEER[5]
    peer = after_data_from(programs, PEER[0])[0]
    assert peer == PEER[5] or time.monotonic_ns() - began_ns > FOLLOW_INTERVAL


def test_only_data_from_the_locator_in_use_counts_as_heard(programs: Programs) -> None:
    usual = replace(SENDING, follow_ns=NEVER)
    install(programs, usual, FlowClock())
    peer, clock = after_data_from(programs, PEER[5])
    assert (peer, clock.heard_ns) == (PEER[1], 0)
    assert clock.received_ns
    assert after_data_from(programs, PEER[1])[1].heard_ns


def test_data_from_the_known_source_of_the_peer_counts_and_changes_no_locator(
    programs: Programs,
) -> None:
    install(programs, replace(SENDING, peer_source=PEER[5]), FlowClock())
    peer, clock = after_data_from(programs, PEER[5])
    assert peer == PEER[1]
    assert clock.heard_ns
    assert not clock.moved_ns
    peer, clock = after_data_from(programs, PEER[1])
    assert peer == PEER[1]
    assert not clock.moved_ns, "it sends from Lp(peer)"


def test_data_moves_nothing_if_the_daemon_does_not_hear_of_it(tmp_path: Path) -> None:
    with loaded(tmp_path, sizes={"reports": mmap.PAGESIZE}) as programs:

        def moved() -> bool:
            install(programs, SENDING, FlowClock())
            return after_data_from(programs, PEER[5])[0] == PEER[5]

        reports: list[bytes] = []
        ring = libbpf.Reports(programs.maps["reports"], reports.append)
        moves = 0
        while moved():
            moves += 1
        ring.consume()
        assert len(reports) == moves > 0
        assert moved()
        ring.close()


def test_packets_of_a_silence_that_is_over_do_not_count_in_the_next(programs: Programs) -> None:
    now_ns = time.monotonic_ns()
    before = FlowClock(unanswered_ns=now_ns - 2 * SECOND, unanswered=4, heard_ns=now_ns - SECOND)
    install(programs, SENDING, before)
    packet = packet_of(SENDING.local_aid, SENDING.peer_aid, ipv6.UDP, Label(0))
    programs.try_out("host_egress", ETHERNET + packet)
    clock = layout.clock_of(*entries(programs))
    assert clock.unanswered_ns >= now_ns
    assert clock.unanswered == 1
