# SPDX-License-Identifier: MIT
"""Converts reports of the programs to events of the engine."""

from noid.flows.events import (
    DatapathEvent,
    LongPacketLost,
    LongUnproven,
    OneWayDataSeen,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownPeerSeen,
)
from noid.host.subordinates import accountable
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.bpf.copies import finished
from noid.planes.bpf.layout import Report, ReportKind
from noid.wire import ipv6


def event_of(head: Report, copy: bytes) -> DatapathEvent | None:
    """The event for a report; None if there is none.

    Args:
        head: the fields of the report.
        copy: the packet that follows them.
    """
    local_label = Label(int.from_bytes(head.local_label, "big"))
    has_packet = head.octets >= ipv6.HEADER_OCTETS
    match head.kind:
        case ReportKind.SOURCE_MOVED:
            return SourceMoved(local_label, Locator(head.source), bool(head.followed))
        case ReportKind.ONE_WAY_DATA:
            return OneWayDataSeen(local_label)
        case ReportKind.LONG_UNPROVEN:
            return LongUnproven(local_label)
        case ReportKind.UNKNOWN_PEER:
            return UnknownPeerSeen(Locator(head.source), accountable(head.user))
        case ReportKind.PLAIN_PACKET if has_packet:
            packet = finished(copy, head.segment_octets)
            return UlpPacketSeen(packet, accountable(head.user))
        case ReportKind.UNANSWERED_PACKET if has_packet:
            packet = finished(copy, head.segment_octets)
            return UnansweredPacket(local_label, packet, head.silent_ns)
        case ReportKind.LONG_REPEATED if has_packet:
            return LongPacketLost(local_label, finished(copy, head.segment_octets))
    return None
