# SPDX-License-Identifier: MIT
"""Entries and reports have every value where the other side looks for it, in C and in Python."""

import ctypes
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from noid.constants import NEVER
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.identifiers import NO_LABEL, Label
from noid.locators import Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.carried import TABLES
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.pins import object_code
from noid.planes.uplink import CUT_UDP, SENDS, Uplink
from noid.wire import ipv6
from tests.planes.loading import CODEPOINTS, HERE, own, programs

__all__ = ["programs"]

ETHERNET = bytes(12) + b"\x86\xdd"
BTF_KIND_STRUCT = 4
TYPE_HEAD_OCTETS = 12
MEMBER_OCTETS = 12
MEMBERS_MASK = 0xFFFF
PADDING = "reserved"
"""What members of no meaning are called, at the beginning."""


class Structures:
    """The structs of a compiled object, by default the host's: where each has its members."""

    def __init__(self, code: bytes = b"") -> None:
        self.bpf = libbpf.library()
        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        for name, returned, arguments in (
            ("bpf_object__btf", pointer, [pointer]),
            ("btf__find_by_name_kind", ctypes.c_int32, [pointer, ctypes.c_char_p, number]),
            ("btf__type_by_id", pointer, [pointer, number]),
            ("btf__name_by_offset", ctypes.c_char_p, [pointer, number]),
            ("btf__resolve_size", ctypes.c_int64, [pointer, number]),
        ):
            function = getattr(self.bpf, name)
            function.restype, function.argtypes = returned, arguments
        code = code or object_code()
        self._object = self.bpf.bpf_object__open_mem(code, len(code), None)
        self._btf = self.bpf.bpf_object__btf(self._object)

    def close(self) -> None:
        self.bpf.bpf_object__close(self._object)

    def octets(self, name: str) -> int:
        """The size of a struct."""
        return int(self.bpf.btf__resolve_size(self._btf, self._identity(name)))

    def places(self, name: str) -> dict[str, slice]:
        """Where the members of a struct are, those apart that mean nothing."""
        at = self.bpf.btf__type_by_id(self._btf, self._identity(name))
        _, info, _ = self._words(at)
        found = {}
        for index in range(info & MEMBERS_MASK):
            member_at = at + TYPE_HEAD_OCTETS + index * MEMBER_OCTETS
            name_at, member_type, bits = self._words(member_at)
            member = self.bpf.btf__name_by_offset(self._btf, name_at).decode()
            first = bits // 8
            octets = self.bpf.btf__resolve_size(self._btf, member_type)
            found[member] = slice(first, first + octets)
        return {member: at for member, at in found.items() if not member.startswith(PADDING)}

    def read(self, name: str, entry: bytes) -> dict[str, bytes]:
        """What the programs would find in each member."""
        assert len(entry) == self.octets(name)
        return {member: entry[place] for member, place in self.places(name).items()}

    def _identity(self, name: str) -> int:
        found = self.bpf.btf__find_by_name_kind(self._btf, name.encode(), BTF_KIND_STRUCT)
        assert found > 0, name
        return int(found)

    def _words(self, at: int) -> list[int]:
        octets = ctypes.string_at(at, 12)
        return [int.from_bytes(octets[word : word + 4], sys.byteorder) for word in (0, 4, 8)]


@pytest.fixture(scope="module")
def structures() -> Iterator[Structures]:
    found = Structures()
    yield found
    found.close()


def number(value: int, octets: int) -> bytes:
    return value.to_bytes(octets, sys.byteorder)


def locator(last: int) -> Locator:
    return Locator(bytes.fromhex("20010db8") + bytes(11) + bytes([last]))


LOCAL = [locator(one) for one in range(1, 7)]
PEER = [locator(one) for one in range(17, 24)]
NO_LINK = bytes(24)
"""Behind a locator of the peer: that no Ethernet header is known that leads there."""
FLOW = Flow(
    local_aid=LOCAL[0],
    peer_aid=PEER[0],
    local_label=Label(0x12345),
    peer_label=Label(0x54321),
    local_locator=LOCAL[2],
    peer_locator=PEER[1],
    local_locators=frozenset(LOCAL),
    peer_locators=frozenset(PEER),
    verified_locators=frozenset((PEER[0], PEER[1], PEER[5])),
    rewritable=False,
    transmits=False,
    silence_ns=0x1122334455,
    aside=True,
    holds=True,
    peer_source=PEER[2],
    follow_ns=0x123456789ABCDEF,
)
CLOCK = FlowClock(
    unanswered_ns=0x1111111111,
    unanswered=3,
    reported_ns=0x2222222222,
    received_ns=0x3333333333,
    moved_ns=4,
    sent_ns=0x5555555555,
    heard_ns=0x6666666666,
    gap_ns=0x7777,
    proven=0x8888,
)


def rough(now_ns: int) -> int:
    """A time as the programs keep it where they have little room."""
    return now_ns >> 30 & 0xFFFF


def test_an_outbound_entry_has_the_layout_of_the_programs(structures: Structures) -> None:
    entry = layout.outbound_entry(FLOW, 77, CODEPOINTS, CLOCK)
    assert structures.read("outbound", entry) == {
        "local_locator": LOCAL[2],
        "peer": (PEER[1] + NO_LINK) * 2,
        "silence_ns": number(0x1122334455, 8),
        "unanswered_ns": number(CLOCK.unanswered_ns, 8),
        "reported_ns": number(CLOCK.reported_ns, 8),
        "sent_ns": number(CLOCK.sent_ns, 8),
        "peer_label": bytes.fromhex("00054321"),
        "local_label": bytes.fromhex("00012345"),
        "uplink": number(77, 1),
        "next_header_first": number(CODEPOINTS.fixed_first, 1),
        "chosen": bytes(1),
        "unanswered": number(3, 1),
        "tick": bytes(2),
        "kept": bytes(2),
    }


def test_a_row_of_the_uplinks(structures: Structures) -> None:
    link = bytes(range(1, 7))
    row = layout.uplink_row(Uplink(77, 1492, link, CUT_UDP | SENDS))
    assert structures.read("uplink", row) == {
        "ifindex": number(77, 4),
        "mtu": number(1492, 4),
        "link": link,
        "flags": number(2 | 16, 1),
    }


def test_the_segment_that_an_activity_has_kept(structures: Structures) -> None:
    octets = structures.octets("activity")
    assert octets == layout.ACTIVITY_OCTETS
    places = structures.places("activity")
    assert places["report"].start == layout.ACTIVITY_HEAD.size
    entry = bytearray(octets)
    entry[places["kept_ns"]] = number(77, 8)
    entry[places["version"]] = number(6, 4)
    head = layout.REPORT.pack(
        layout.ReportKind.UNANSWERED_PACKET, bytes(4), 0, bytes(16), 0, 1428, 5, 0
    )
    entry[places["report"]] = (head + b"12345").ljust(octets - places["report"].start, b"-")
    assert layout.kept_in(bytes(entry)) == layout.Kept(b"12345", 1428, 77, 6)


def test_the_segment_that_is_kept_of_a_connection(structures: Structures) -> None:
    octets = structures.octets("segment")
    assert octets == layout.SEGMENT_OCTETS
    assert structures.octets("connection") == layout.CONNECTION_OCTETS
    assert layout.connection_key(Label(0x12345), b"\1\2\3\4") == bytes.fromhex("0001234501020304")
    places = structures.places("segment")
    entry = bytearray(octets)
    entry[places["kept_ns"]] = number(77, 8)
    entry[places["version"]] = number(6, 4)
    entry[places["segment_octets"]] = number(1428, 4)
    entry[places["octets"]] = number(5, 4)
    entry[places["packet"]] = b"12345".ljust(layout.SEGMENT_OCTETS_MAX, b"-")
    assert layout.kept_of(bytes(entry)) == layout.Kept(b"12345", 1428, 77, 6)


def test_an_inbound_entry_and_the_one_of_its_further_locators(structures: Structures) -> None:
    entry, far = layout.inbound_entries(FLOW, 78, CLOCK)
    assert structures.read("inbound", entry) == {
        "near": b"".join(b"".join(pair) for pair in zip(LOCAL[:4], PEER[:4], strict=True)),
        "received_ns": number(CLOCK.received_ns, 8),
        "moved_ns": number(CLOCK.moved_ns, 8),
        "heard_ns": number(CLOCK.heard_ns, 8),
        "gap_ns": number(CLOCK.gap_ns, 4),
        "owes": bytes(1),
        "more": bytes(1),
        "proven": number(CLOCK.proven, 2),
        "follow_ns": number(FLOW.follow_ns, 8),
        "answered": bytes(1),
        "tick": bytes(4),
        "home": number(78, 4),
        "verified": number(1 << 0 | 1 << 1 | 1 << 5, 2),
        "local_count": b"\4",
        "peer_count": b"\4",
        "current": b"\2",
        "own": b"\2",
        "flags": number(1 | 2, 1),
    }
    assert structures.read("far", far) == {
        "local": b"".join(LOCAL[4:]) + bytes(16 * (layout.LOCATORS_FAR - 2)),
        "peer": b"".join(PEER[4:]) + bytes(16 * (layout.LOCATORS_FAR - 3)),
        "local_count": b"\2",
        "peer_count": b"\3",
    }


def test_the_clock_is_read_where_the_programs_write_it(structures: Structures) -> None:
    outbound = bytearray(structures.octets("outbound"))
    inbound = bytearray(structures.octets("inbound"))
    for entry, name, members in (
        (outbound, "outbound", ("unanswered_ns", "unanswered", "reported_ns", "sent_ns")),
        (inbound, "inbound", ("received_ns", "moved_ns", "heard_ns", "gap_ns", "proven")),
    ):
        for member in members:
            place = structures.places(name)[member]
            entry[place] = number(getattr(CLOCK, member), place.stop - place.start)
    assert layout.clock_of(bytes(outbound), bytes(inbound)) == CLOCK
    assert layout.received_ns(bytes(inbound)) == CLOCK.received_ns
    assert layout.heard_ns(bytes(inbound)) == CLOCK.heard_ns
    place = structures.places("inbound")["heard_ns"]
    inbound[place] = bytes(place.stop - place.start)
    assert layout.heard_ns(bytes(inbound)) == CLOCK.received_ns


@pytest.mark.parametrize("chosen", [0, 1])
def test_the_peer_locator_is_the_one_the_programs_have_chosen(
    structures: Structures, chosen: int
) -> None:
    entry = bytearray(structures.octets("outbound"))
    places = structures.places("outbound")
    entry[places["peer"]] = PEER[0] + NO_LINK + PEER[1] + NO_LINK
    entry[places["chosen"]] = bytes([chosen])
    assert layout.peer_locator_of(bytes(entry)) == PEER[chosen]


def test_the_settings(structures: Structures) -> None:
    given = layout.settings(
        CODEPOINTS,
        mark=0x6D36,
        devices=layout.Interfaces(slow=11, segmenter=12, own=13),
        referrals=True,
        timers=True,
    )
    assert structures.read("settings", given) == {
        "mark": number(0x6D36, 4),
        "slow_ifindex": number(11, 4),
        "segmenter_ifindex": number(12, 4),
        "own_ifindex": number(13, 4),
        "rewritable_first": number(CODEPOINTS.rewritable_first, 1),
        "fixed_first": number(CODEPOINTS.fixed_first, 1),
        "referrals": b"\1",
        "timers": b"\1",
        "control_type": number(CODEPOINTS.icmpv6_type, 1),
    }


def test_a_watched_aid(structures: Structures) -> None:
    assert structures.read("watched", layout.WATCHED.pack(7)) == {"reported_ns": number(7, 8)}


# --- reports, of which the object has no type -----------------------------------------------------


def reported(programs: Programs, program: str, packet: bytes) -> tuple[layout.Report, bytes]:
    """The head of the one report a program makes of a packet, and the copy behind it."""
    taken: list[bytes] = []
    rings = [libbpf.Reports(programs.maps[name], taken.append) for name in ("reports", "set_ups")]
    programs.try_out(program, ETHERNET + packet)
    for ring in rings:
        ring.consume()
        ring.close()
    (report,) = taken
    head = layout.Report.of(report)
    return head, report[layout.REPORT.size :][: head.octets]


def packet_of(
    source: Locator, destination: Locator, next_header: int, label: Label = NO_LABEL
) -> bytes:
    header = ipv6.Header(
        source=source,
        destination=destination,
        next_header=next_header,
        payload_octets=20,
        flow_label=label,
    )
    return header.encode() + bytes(range(20))


def install(programs: Programs, flow: Flow, clock: FlowClock) -> None:
    key = layout.label_key(flow.local_label)
    entry, far = layout.inbound_entries(flow, HERE, clock)
    for name, at, value in (
        ("outbound", layout.aids_key(flow), layout.outbound_entry(flow, HERE, CODEPOINTS, clock)),
        ("inbound", key, entry),
        ("far", key, far),
    ):
        assert libbpf.Table(programs.maps[name], *TABLES[name]).put(at, value)


SENDING = replace(
    FLOW, transmits=True, aside=False, holds=False, silence_ns=1, peer_source=PEER[1], follow_ns=0
)


def test_the_report_of_a_source_that_moved(programs: Programs) -> None:
    packet = packet_of(PEER[5], LOCAL[2], 224, SENDING.local_label)
    label = layout.label_key(SENDING.local_label)
    for follow_ns, followed in ((0, 1), (NEVER, 0)):
        install(programs, replace(SENDING, follow_ns=follow_ns), FlowClock())
        head, copy = reported(programs, "host_ingress", packet)
        assert head[:6] == (layout.ReportKind.SOURCE_MOVED, label, 0, PEER[5], followed, 0)
        assert not copy


def test_the_report_of_a_packet_that_nothing_has_answered(programs: Programs) -> None:
    sent_ns = time.monotonic_ns() - 1_000_000_000
    flow = replace(SENDING, silence_ns=100_000_000)
    proven = rough(time.monotonic_ns())
    install(programs, flow, FlowClock(unanswered_ns=sent_ns, unanswered=4, proven=proven))
    packet = packet_of(LOCAL[0], PEER[0], 6)
    head, copy = reported(programs, "host_egress", packet)
    assert head.kind == layout.ReportKind.UNANSWERED_PACKET
    assert head.local_label == layout.label_key(SENDING.local_label)
    assert 0 < head.silent_ns <= time.monotonic_ns() - sent_ns
    assert head.segment_octets == 0
    assert copy == packet


def test_what_came_is_an_answer_although_the_clock_was_asked_before_it(
    structures: Structures, programs: Programs
) -> None:
    sent_ns = time.monotonic_ns() - 1_000_000_000
    install(
        programs,
        SENDING,
        FlowClock(
            unanswered_ns=sent_ns,
            unanswered=1,
            received_ns=sent_ns - 1,
            proven=rough(time.monotonic_ns()),
        ),
    )
    tables = {name: libbpf.Table(programs.maps[name], *TABLES[name]) for name in TABLES}
    label = layout.label_key(SENDING.local_label)
    answered = structures.places("inbound")["answered"]

    programs.try_out("host_ingress", ETHERNET + packet_of(PEER[1], LOCAL[2], 224, Label(0x12345)))
    came = tables["inbound"].find(label)
    assert came is not None
    assert came[answered] == b"\1"
    heard_ns = layout.received_ns(came)
    assert sent_ns < heard_ns <= time.monotonic_ns()
    # As if the clock had been asked for a packet before the one that nothing has answered.
    place = structures.places("inbound")["received_ns"]
    tables["inbound"].put(label, came[: place.start] + bytes(8) + came[place.stop :])

    reports: list[bytes] = []
    taken = libbpf.Reports(programs.maps["reports"], reports.append)
    programs.try_out("host_egress", ETHERNET + packet_of(LOCAL[0], PEER[0], 6))
    taken.consume()
    taken.close()
    assert reports == []
    looked = tables["inbound"].find(label)
    assert looked is not None
    assert looked[answered] == b"\0"
    left = tables["outbound"].find(layout.aids_key(SENDING))
    assert layout.clock_of(left, looked).unanswered_ns >= heard_ns


def test_the_report_of_a_packet_to_a_stranger(programs: Programs) -> None:
    packet = packet_of(LOCAL[0], locator(99), 17)
    own(programs, LOCAL[0])
    head, copy = reported(programs, "host_egress", packet)
    assert head.kind == layout.ReportKind.UNKNOWN_PEER
    assert head.source == locator(99)
    assert copy == b""
