# SPDX-License-Identifier: MIT
"""Encodes and decodes the entries of the kernel's tables, declared in ``programs/shim.h``. Pure.

Addresses and labels are in network order, as packets carry them; everything else is in the order of
the machine. A test compares the layouts here with the type information of the compiled object.
"""

import enum
import struct
from itertools import zip_longest
from typing import NamedTuple

from noid.constants import FLOW_LABEL_MASK, Codepoints
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import LOCATOR_OCTETS, Locator
from noid.planes.uplink import (
    Uplink,
)

LOCATORS_NEAR = 4
"""Locators of each set that stand in the inbound entry itself; any others are in ``far``."""
LOCATORS_FAR = 12
NOT_ONE_OF_THEM = 0xFF

HOLDS, FAR = 1, 2

EDITION = 5
"""Of the layouts; the name of what is pinned has it, since sizes alone do not tell them apart."""
OUTBOUND = struct.Struct("=4s4sBBBB4x16sQQ16s24x16s24xQQ")
INBOUND = struct.Struct("=HBBBBBBQ4xI128sQQI2xHQ")
UPLINK = struct.Struct("=II6sBx")
FAR_ENTRY = struct.Struct("=192s192sBB6x")
WATCHED = struct.Struct("=Q")
ROW = struct.Struct("=I")
"""A row of the table of uplinks: its key there, and the value of an address of this host."""
SETTINGS = struct.Struct("=IIIIBBBBB3x")
REPORT = struct.Struct("=I4sQ16sB3xIII")
"""The head of a report; the packet follows."""
ACTIVITY_HEAD = struct.Struct("=16x32xQ4xI8x")
"""What an activity has before its report; since when, and its version, are of interest here."""
REPORTED_OCTETS_MAX = 2048
ACTIVITY_OCTETS = ACTIVITY_HEAD.size + REPORT.size + REPORTED_OCTETS_MAX
SEGMENT_HEAD = struct.Struct("=Q4xIII")
"""What a segment of a connection has before its packet: since when, its version, octets."""
SEGMENT_OCTETS_MAX = 1536
SEGMENT_OCTETS = SEGMENT_HEAD.size + SEGMENT_OCTETS_MAX
CONNECTION_OCTETS = 8
LABEL_OCTETS = 4
AIDS_OCTETS = 2 * LOCATOR_OCTETS
COUNT = struct.Struct("=Q")


class ReportKind(enum.IntEnum):
    """The kind of a report of the programs: ``enum report_kind``."""

    UNKNOWN_LABEL_SEEN = 0
    PLAIN_PACKET = 1
    UNANSWERED_PACKET = 2
    SOURCE_MOVED = 3
    UNKNOWN_PEER = 4
    ONE_WAY_DATA = 5
    CONTROL_SEEN = 6
    OPTION_SEEN = 7
    LONG_UNPROVEN = 8
    MESSAGE_SEEN = 9
    TAKEN_AS_NAMED = 10
    TAKEN_AS_OTHER = 11
    LONG_REPEATED = 12
    ESCAPE_SEEN = 13


class Outbound(NamedTuple):
    """The fields of an outbound entry; ``struct outbound`` describes them."""

    peer_label: bytes
    local_label: bytes
    uplink: int
    next_header_first: int
    chosen: int
    unanswered: int
    local_locator: bytes
    silence_ns: int
    unanswered_ns: int
    peer: bytes
    other_peer: bytes
    reported_ns: int
    sent_ns: int

    def pack(self) -> bytes:
        """The octets of the entry."""
        return OUTBOUND.pack(*self)

    @classmethod
    def of(cls, entry: bytes) -> "Outbound":
        """The fields of an entry."""
        return cls(*OUTBOUND.unpack(entry))


class Inbound(NamedTuple):
    """The fields of an inbound entry; ``struct inbound`` describes them."""

    verified: int
    local_count: int
    peer_count: int
    current: int
    own: int
    flags: int
    answered: int
    received_ns: int
    home: int
    near: bytes
    moved_ns: int
    heard_ns: int
    gap_ns: int
    proven: int
    follow_ns: int

    def pack(self) -> bytes:
        """The octets of the entry."""
        return INBOUND.pack(*self)

    @classmethod
    def of(cls, entry: bytes) -> "Inbound":
        """The fields of an entry."""
        return cls(*INBOUND.unpack(entry))


class Report(NamedTuple):
    """The fields of a report; ``struct report`` describes them. The packet follows."""

    kind: int
    local_label: bytes
    silent_ns: int
    source: bytes
    followed: int
    segment_octets: int
    octets: int
    user: int

    @classmethod
    def of(cls, octets: bytes, at: int = 0) -> "Report":
        """The fields of a report that begins there."""
        return cls(*REPORT.unpack_from(octets, at))


NO_OUTBOUND = Outbound.of(bytes(OUTBOUND.size))
NO_INBOUND = Inbound.of(bytes(INBOUND.size))


def label_key(label: Label) -> bytes:
    """A flow label as a key: 4 octets, network order."""
    assert 0 < label <= FLOW_LABEL_MASK
    return label.to_bytes(LABEL_OCTETS, "big")


def heard_word(label: Label, *, unasked: bool) -> bytes:
    """The input of ``host_heard``: the label, and an octet that is 1 for an unsolicited message."""
    return label_key(label) + bytes((unasked,))


def aids_key(flow: Flow) -> bytes:
    """The key of a flow on transmit: AID(local), AID(peer)."""
    return flow.local_aid + flow.peer_aid


class Interfaces(NamedTuple):
    """The indexes of the devices of noid that programs send packets to.

    Attributes:
        slow: behind which the daemon does what is rare.
        segmenter: which cuts super-packets.
        own: where its segments come out, and to which packets to M6 peers are routed.
    """

    slow: int
    segmenter: int
    own: int


def settings(
    codepoints: Codepoints, *, mark: int, devices: Interfaces, referrals: bool, timers: bool
) -> bytes:
    """The constants of a load."""
    return SETTINGS.pack(
        mark,
        *devices,
        codepoints.rewritable_first,
        codepoints.fixed_first,
        referrals,
        timers,
        codepoints.icmpv6_type,
    )


def uplink_row(uplink: Uplink) -> bytes:
    """A row of the table of uplinks."""
    return UPLINK.pack(uplink.ifindex, uplink.mtu, uplink.link, uplink.flags)


def outbound_entry(flow: Flow, row: int, codepoints: Codepoints, clock: FlowClock) -> bytes:
    """The outbound entry of a flow, through the uplink in a row."""
    first = codepoints.rewritable_first if flow.rewritable else codepoints.fixed_first
    return Outbound(
        peer_label=label_key(flow.peer_label),
        local_label=label_key(flow.local_label),
        uplink=row,
        next_header_first=first,
        chosen=0,
        unanswered=clock.unanswered,
        local_locator=flow.local_locator,
        silence_ns=flow.silence_ns,
        unanswered_ns=clock.unanswered_ns,
        peer=flow.peer_locator,
        other_peer=flow.peer_locator,
        reported_ns=clock.reported_ns,
        sent_ns=clock.sent_ns,
    ).pack()


def inbound_entries(flow: Flow, home: int, clock: FlowClock) -> tuple[bytes, bytes]:
    """The inbound entry of a flow, and the entry of its further locators.

    The second is empty where the first holds them all.

    Args:
        flow: the flow.
        home: row of the uplink of AID(local), where they are to appear; 0 for where they arrive.
        clock: its times.
    """
    local = _ordered(flow.local_aid, flow.local_locators)
    peer = _ordered(flow.peer_aid, flow.peer_locators)
    verified = sum(1 << at for at, one in enumerate(peer) if one in flow.verified_locators)
    near = slice(0, LOCATORS_NEAR)
    further = slice(LOCATORS_NEAR, LOCATORS_NEAR + LOCATORS_FAR)
    is_far = max(len(local), len(peer)) > LOCATORS_NEAR
    pairs = zip_longest(local[near], peer[near], fillvalue=bytes(LOCATOR_OCTETS))
    entry = Inbound(
        verified=verified,
        local_count=len(local[near]),
        peer_count=len(peer[near]),
        current=_place(flow.peer_source, peer),
        own=_place(flow.local_locator, local),
        flags=HOLDS * flow.holds | FAR * is_far,
        answered=False,
        received_ns=clock.received_ns,
        home=home,
        near=b"".join(own + other for own, other in pairs),
        moved_ns=clock.moved_ns,
        heard_ns=clock.heard_ns,
        gap_ns=clock.gap_ns,
        proven=clock.proven,
        follow_ns=flow.follow_ns,
    ).pack()
    if not is_far:
        return entry, b""
    more = FAR_ENTRY.pack(
        b"".join(local[further]),
        b"".join(peer[further]),
        len(local[further]),
        len(peer[further]),
    )
    return entry, more


def clock_of(outbound: bytes | None, inbound: bytes | None) -> FlowClock:
    """The times in the entries that are being replaced, if there are any."""
    sent = Outbound.of(outbound) if outbound else NO_OUTBOUND
    came = Inbound.of(inbound) if inbound else NO_INBOUND
    return FlowClock(
        unanswered_ns=sent.unanswered_ns,
        unanswered=sent.unanswered,
        reported_ns=sent.reported_ns,
        received_ns=came.received_ns,
        moved_ns=came.moved_ns,
        sent_ns=sent.sent_ns,
        heard_ns=came.heard_ns,
        gap_ns=came.gap_ns,
        proven=came.proven,
    )


def silence(outbound: bytes | None, inbound: bytes | None, now_ns: int) -> int:
    """The time in ns for which packets of a flow have been unanswered; 0 if none are."""
    if outbound is None or inbound is None:
        return 0
    clock = clock_of(outbound, inbound)
    is_answered = Inbound.of(inbound).answered or clock.heard_ns >= clock.unanswered_ns
    return 0 if is_answered or not clock.unanswered_ns else now_ns - clock.unanswered_ns


def received_ns(inbound: bytes | None) -> int:
    """When a packet last arrived by an inbound entry; 0 if never, or without one."""
    return Inbound.of(inbound).received_ns if inbound else 0


def heard_ns(inbound: bytes | None) -> int:
    """When data or a keepalive last arrived by an inbound entry; 0 if never, or without one."""
    entry = Inbound.of(inbound) if inbound else NO_INBOUND
    return max(entry.received_ns, entry.heard_ns)


def peer_locator_of(outbound: bytes) -> Locator:
    """Lp(peer) in an outbound entry, which the programs can change [D41]."""
    entry = Outbound.of(outbound)
    return Locator(entry.other_peer if entry.chosen & 1 else entry.peer)


def aids_of(inbound: bytes) -> bytes:
    """AID(local) and AID(peer) of an inbound entry."""
    return Inbound.of(inbound).near[:AIDS_OCTETS]


def _ordered(aid: Locator, locators: frozenset[Locator]) -> list[Locator]:
    """A set with its AID first, the rest in an order that is always the same."""
    return [aid, *sorted(locators - {aid})]


def _place(locator: Locator, among: list[Locator]) -> int:
    return among.index(locator) if locator in among else NOT_ONE_OF_THEM


class Kept(NamedTuple):
    """The last TCP segment that a flow has sent.

    Attributes:
        packet: as the stack sent it, between AIDs.
        segment_octets: what each segment of a super-packet carries; 0 for any other packet.
        at_ns: when, by the monotonic clock.
        version: even if it is whole; another once another one is kept.
    """

    packet: bytes
    segment_octets: int
    at_ns: int
    version: int


def kept_in(activity: bytes) -> Kept:
    """The stored segment of an activity entry."""
    at_ns, version = ACTIVITY_HEAD.unpack_from(activity)
    report = Report.of(activity, ACTIVITY_HEAD.size)
    first = ACTIVITY_HEAD.size + REPORT.size
    return Kept(activity[first : first + report.octets], report.segment_octets, at_ns, version)


def connection_key(label: Label, ports: bytes) -> bytes:
    """A TCP connection of a flow as a key: F(local), and the ports as its segments have them."""
    return label_key(label) + ports


def kept_of(segment: bytes) -> Kept:
    """The stored segment of a connection."""
    at_ns, version, segment_octets, octets = SEGMENT_HEAD.unpack_from(segment)
    return Kept(segment[SEGMENT_HEAD.size :][:octets], segment_octets, at_ns, version)
