# SPDX-License-Identifier: MIT
"""Packets that make the kernel's programs call the daemon: each /48 has its share [D46]."""

import mmap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noid.constants import SECOND
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.loading import Programs
from noid.shares.policy import CONTROL, SHARES, UNKNOWN
from noid.wire import ipv6, slots
from tests.planes.loading import CODEPOINTS, HERE, constants, loaded, own, programs
from tests.planes.test_layout import packet_of

__all__ = ["programs"]

ETHERNET = bytes(12) + b"\x86\xdd"
OURS = Locator(bytes.fromhex("20010db800010001") + bytes(7) + b"\x0b")
EVIL, GOOD = 0x20010DB8AAAA, 0x3FFF00000001
REDIRECTED = 7
"""TC_ACT_REDIRECT: to the device of the daemon."""
OPTIONS_PER_SECOND = 1_000
"""The same number as in inward.h."""


@pytest.fixture(autouse=True)
def _ours(programs: Programs) -> None:
    own(programs, OURS)


def packet(site: int, next_header: int, label: Label, *, options: bool = False) -> bytes:
    """An M6 packet of a host of a site."""
    source = Locator(site.to_bytes(6, "big") + bytes(9) + b"\x01")
    payload = (bytes((next_header,)) + bytes(7)) * options + bytes(40)
    header = ipv6.Header(
        source=source,
        destination=OURS,
        next_header=ipv6.HOP_BY_HOP if options else next_header,
        payload_octets=len(payload),
        flow_label=label,
    )
    return ETHERNET + header.encode() + payload


def handed_over(programs: Programs, one: bytes, count: int) -> int:
    """How many of so many such packets reach the daemon."""
    verdicts = [programs.try_out("host_ingress", one)[0] for _ in range(count)]
    return verdicts.count(REDIRECTED)


@pytest.mark.parametrize(
    ("next_header", "label", "options", "limit"),
    [
        pytest.param(230, 0, False, CONTROL.limit, id="control in a slot"),
        pytest.param(224, 7, True, OPTIONS_PER_SECOND, id="hop-by-hop options"),
        pytest.param(224, 7, False, UNKNOWN.limit, id="unknown labels"),
    ],
)
def test_one_48_gets_an_eighth_and_another_is_heard(
    programs: Programs, next_header: int, label: Label, options: bool, limit: int
) -> None:
    flood = packet(EVIL, next_header, label, options=options)
    share = limit // SHARES
    passed = handed_over(programs, flood, 4 * share)
    assert 0 < passed < 4 * share
    assert handed_over(programs, packet(GOOD, next_header, label, options=options), 1) == 1


def leave(programs: Programs, peer: Locator) -> None:
    """A packet of a program of this host to a peer leaves."""
    header = ipv6.Header(source=OURS, destination=peer, next_header=ipv6.TCP, payload_octets=40)
    programs.try_out("host_egress", ETHERNET + header.encode() + bytes(40))


def test_strangers_and_contexts_report_by_rings_of_their_own(programs: Programs) -> None:
    of_contexts: list[bytes] = []
    of_strangers: list[bytes] = []
    rings = [
        libbpf.Reports(programs.maps["reports"], of_contexts.append),
        libbpf.Reports(programs.maps["set_ups"], of_strangers.append, 16),
    ]
    for number in range(3_000):
        leave(programs, Locator(b"\x2a\x00" + number.to_bytes(14, "big")))
    rings[0].consume()
    rings[1].consume()
    assert of_contexts == []
    assert len(of_strangers) == 16, "then messages of others are read"
    for _ in range(1_000):
        rings[1].consume()
    assert 16 < len(of_strangers) < 3_000
    for ring in rings:
        ring.close()


def test_a_stranger_whose_report_is_lost_is_reported_by_its_next_packet(tmp_path: Path) -> None:
    few = {"set_ups": mmap.PAGESIZE}
    with loaded(tmp_path, settings=constants(referrals=True), sizes=few) as programs:
        own(programs, OURS)
        reported: list[bytes] = []
        ring = libbpf.Reports(programs.maps["set_ups"], reported.append)
        strangers = [Locator(b"\x2a\x00" + number.to_bytes(14, "big")) for number in range(150)]
        for peer in strangers:
            leave(programs, peer)
        ring.consume()
        assert 0 < len(reported) < len(strangers), "the others were lost"
        leave(programs, strangers[-1])
        ring.consume()
        assert reported[-1].find(strangers[-1]) > 0
        ring.close()


REPORTS_PER_SECOND = 1_000
"""The same number as in tables.h."""
FIRST_SLOT = 224


def flow_of(site: int, label: Label) -> Flow:
    """The flow of a peer with two locators of its site."""
    peers = [
        Locator(site.to_bytes(6, "big") + bytes(6) + label.to_bytes(4)) for label in (label, 0)
    ]
    return Flow(
        local_aid=OURS,
        peer_aid=peers[0],
        local_label=label,
        peer_label=label,
        local_locator=OURS,
        peer_locator=peers[0],
        local_locators=frozenset({OURS}),
        peer_locators=frozenset(peers),
        verified_locators=frozenset(peers),
        rewritable=False,
        transmits=True,
        silence_ns=SECOND,
    )


def install(programs: Programs, flow: Flow) -> None:
    """A flow of few locators, of which nothing has come or gone so far."""
    inbound, _ = layout.inbound_entries(flow, HERE, FlowClock())
    outbound = layout.outbound_entry(flow, HERE, CODEPOINTS, FlowClock())
    tables = {name: libbpf.Table(programs.maps[name], *TABLES[name]) for name in TABLES}
    assert tables["outbound"].put(layout.aids_key(flow), outbound)
    assert tables["inbound"].put(layout.label_key(flow.local_label), inbound)


ESCAPES_PER_SECOND = 65_536
"""The same number as in inward.h."""


def test_one_48_gets_an_eighth_of_what_the_daemon_restores(programs: Programs) -> None:
    evil, good = flow_of(EVIL, Label(1)), flow_of(GOOD, Label(2))
    for flow in (evil, good):
        install(programs, flow)
    next_header = FIRST_SLOT + slots.SLOT_ESCAPE
    flood, other = (
        ETHERNET + packet_of(flow.peer_aid, OURS, next_header, flow.local_label)
        for flow in (evil, good)
    )

    def exceed() -> None:
        programs.cost_ns("host_ingress", flood, runs=ESCAPES_PER_SECOND // SHARES - 1)
        assert handed_over(programs, flood, 2) == 1

    in_one_second(exceed)
    assert handed_over(programs, other, 1) == 1


def data_of(flow: Flow, kind: layout.ReportKind) -> list[bytes]:
    """Packets of a peer that are reported once: from another locator, or without an answer."""
    (other,) = flow.peer_locators - {flow.peer_aid}
    sources = [other] if kind is layout.ReportKind.SOURCE_MOVED else [flow.peer_aid] * 2
    return [ETHERNET + packet_of(source, OURS, FIRST_SLOT, flow.local_label) for source in sources]


def in_one_second(act: Callable[[], None], prepare: Callable[[], None] = lambda: None) -> None:
    """Prepares and acts until an act began and ended in one second of the clock of the programs."""
    while True:
        prepare()
        second = time.monotonic_ns() // SECOND + 1
        while time.monotonic_ns() // SECOND < second:
            time.sleep(0.01)
        act()
        if time.monotonic_ns() // SECOND == second:
            return


@pytest.mark.parametrize("kind", [layout.ReportKind.ONE_WAY_DATA, layout.ReportKind.SOURCE_MOVED])
def test_peers_of_one_site_hide_nothing_of_another(tmp_path: Path, kind: layout.ReportKind) -> None:
    """Without keepalives, a peer that only sends would leave a pair that works [D42, D46]."""
    count = REPORTS_PER_SECOND + 100
    flows = [
        *(flow_of(EVIL, Label(label)) for label in range(1, count)),
        flow_of(GOOD, Label(count)),
    ]
    with loaded(tmp_path, room=2 * count) as programs:
        own(programs, OURS)
        labels: list[bytes] = []
        ring = libbpf.Reports(
            programs.maps["reports"], lambda one: labels.append(layout.Report.of(one).local_label)
        )

        packets = [one for flow in flows for one in data_of(flow, kind)]

        def prepare() -> None:
            labels.clear()
            for flow in flows:
                install(programs, flow)

        def flood() -> None:
            for one in packets:
                programs.try_out("host_ingress", one)
            ring.consume()

        in_one_second(flood, prepare)
        ring.close()
    assert len(labels) > REPORTS_PER_SECOND // 2, "a site has what others do not need"
    assert layout.label_key(Label(count)) in labels
