# SPDX-License-Identifier: MIT
"""The contexts of an earlier daemon are found page by page, as long as the kernel carries them."""

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from noid.constants import SECOND
from noid.engine.records import ContextRecord
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES, pin_of
from noid.planes.bpf.pins import prepare_pins
from noid.state.contexts import ContextStore
from noid.state.restore import PAGE, UNANSWERED_MAX, Found, Takeover
from noid.wire import ipv6
from tests.planes.loading import CODEPOINTS, HERE, load
from tests.planes.test_layout import packet_of
from tests.state.test_contexts import A1, B2, memory, row

COUNT = 2 * PAGE + 7
CLOCK = FlowClock(unanswered_ns=1, reported_ns=2, received_ns=3, moved_ns=4)


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    """Tables that an earlier daemon has left, empty."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes tables in the kernel")
    path = tmp_path / "pins"
    prepare_pins(path)
    programs = load(tmp_path, room=2 * COUNT)
    for name in TABLES:
        libbpf.pin(programs.maps[name], pin_of(path, name))
    programs.close()
    yield path
    subprocess.run(["umount", path], check=True)


def numbered(label: Label) -> ContextRecord:
    """A memory with a peer of its own."""
    peer = Locator(bytes.fromhex("20010db8") + label.to_bytes(12, "big"))
    return replace(memory(label), peer_aid=peer)


def carry(pins: Path, one: ContextRecord, *, peer_locator: Locator = B2) -> None:
    """Lets the kernel have the flow of a memory."""
    flow = Flow(
        local_aid=one.local_aid,
        peer_aid=one.peer_aid,
        local_label=one.local_label,
        peer_label=one.peer_label,
        local_locator=A1,
        peer_locator=peer_locator,
        local_locators=frozenset((A1,)),
        peer_locators=frozenset((one.peer_aid, peer_locator)),
        verified_locators=frozenset((peer_locator,)),
        rewritable=True,
        transmits=True,
        silence_ns=1,
    )
    sent = layout.outbound_entry(flow, HERE, CODEPOINTS, CLOCK)
    came, _ = layout.inbound_entries(flow, HERE, CLOCK)
    for name, key, value in (
        ("outbound", layout.aids_key(flow), sent),
        ("inbound", layout.label_key(flow.local_label), came),
    ):
        put(pins, name, key, value)


def put(pins: Path, name: str, key: bytes, value: bytes) -> None:
    """Puts an entry into a table that an earlier daemon has left."""
    descriptor = libbpf.pinned(pin_of(pins, name))
    assert descriptor is not None
    assert libbpf.Table(descriptor, *TABLES[name]).put(key, value.ljust(TABLES[name][1], bytes(1)))
    os.close(descriptor)


def found(memories: ContextStore, pins: Path) -> list[Found]:
    takeover = Takeover(memories, pins)
    try:
        assert takeover.is_worth_it()
        pages = list(takeover.pages())
        assert takeover.looked_at == takeover.total
        return [one for page in pages for one in page]
    finally:
        takeover.close()


def test_everything_is_found_page_by_page_with_its_times(tmp_path: Path, pins: Path) -> None:
    memories = ContextStore(tmp_path)
    everything = [numbered(Label(label)) for label in range(1, COUNT + 1)]
    memories.keep((one.local_label, one) for one in everything)
    for one in everything:
        carry(pins, one)
    assert found(memories, pins) == [Found(one, CLOCK) for one in everything]


def test_what_the_kernel_does_not_carry_is_forgotten(tmp_path: Path, pins: Path) -> None:
    memories = ContextStore(tmp_path)
    carried, gone, another = numbered(Label(1)), numbered(Label(2)), numbered(Label(3))
    memories.keep((one.local_label, one) for one in (carried, gone, another))
    carry(pins, carried)
    carry(pins, replace(another, peer_aid=numbered(Label(9)).peer_aid))  # has the label by now
    assert [one.memory for one in found(memories, pins)] == [carried]
    assert memories.page(NO_LABEL, PAGE) == [(1, carried)]


def test_what_is_unanswered_while_there_is_no_daemon_is_found(tmp_path: Path, pins: Path) -> None:
    memories = ContextStore(tmp_path)
    silent, idle, other = (numbered(Label(label)) for label in (1, 2, 3))
    memories.keep((one.local_label, one) for one in (silent, idle, other))
    for one in (silent, idle, other):
        carry(pins, one)
    kept_segment(pins, silent, silent.peer_aid)
    kept_segment(pins, other, silent.peer_aid)  # has the label by now
    first, second, third = found(memories, pins)
    assert second.unanswered is third.unanswered is None
    event = first.unanswered
    assert event is not None
    assert (event.local_label, event.received_ns) == (silent.local_label, CLOCK.received_ns)
    assert event.packet[24:40] == silent.peer_aid
    assert event.silent_ns > SECOND


def test_of_very_many_unanswered_contexts_a_limited_number_is_reported(
    tmp_path: Path, pins: Path
) -> None:
    memories = ContextStore(tmp_path)
    everything = [numbered(Label(label)) for label in range(1, PAGE + 9)]
    memories.keep((one.local_label, one) for one in everything)
    for one in everything:
        carry(pins, one)
        kept_segment(pins, one, one.peer_aid)
    for limit, count in ((PAGE + 3, PAGE + 3), (UNANSWERED_MAX, PAGE + 8)):
        takeover = Takeover(memories, pins, unanswered_max=limit)
        assert len([one for page in takeover.pages() for one in page]) == PAGE + 8
        takeover.close()
        assert len({one.local_label for one in takeover.unanswered}) == count


def kept_segment(pins: Path, one: ContextRecord, peer: Locator) -> None:
    """Lets the programs have kept a segment of a flow."""
    packet = packet_of(one.local_aid, peer, ipv6.TCP)
    report = layout.REPORT.pack(2, layout.label_key(one.local_label), 0, bytes(16), 0, 0, 60, 0)
    entry = layout.ACTIVITY_HEAD.pack(time.monotonic_ns(), 2) + report + packet
    put(pins, "activities", layout.label_key(one.local_label), entry)


def test_the_peer_is_where_the_kernel_has_followed_it_to(tmp_path: Path, pins: Path) -> None:
    memories = ContextStore(tmp_path)
    one = numbered(Label(1))
    memories.keep([(Label(1), one)])
    elsewhere = numbered(Label(77)).peer_aid
    carry(pins, one, peer_locator=elsewhere)
    assert [each.memory for each in found(memories, pins)] == [replace(one, peer_locator=elsewhere)]


def test_without_tables_there_is_nothing_to_take_up(tmp_path: Path) -> None:
    memories = ContextStore(tmp_path)
    memories.keep([row(1)])
    takeover = Takeover(memories, tmp_path / "none")
    assert not takeover.is_worth_it()
    assert list(takeover.pages()) == [[]]
    assert memories.count() == 0
