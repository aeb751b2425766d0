# SPDX-License-Identifier: MIT
"""The kernel's tables by name, and the flows of an earlier daemon in them [D36]."""

import os
import time
from pathlib import Path
from typing import NamedTuple

from noid.constants import UNANSWERED_PATIENCE
from noid.flows.clock import FlowClock
from noid.flows.events import UnansweredPacket
from noid.identifiers import Label
from noid.locators import LOCATOR_OCTETS, Locator
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.segments import last_segment

TABLES = {
    "outbound": (layout.AIDS_OCTETS, layout.OUTBOUND.size),
    "inbound": (layout.LABEL_OCTETS, layout.INBOUND.size),
    "far": (layout.LABEL_OCTETS, layout.FAR_ENTRY.size),
    "watched": (LOCATOR_OCTETS, layout.WATCHED.size),
    "ours": (LOCATOR_OCTETS, layout.ROW.size),
    "activities": (layout.LABEL_OCTETS, layout.ACTIVITY_OCTETS),
}
"""The tables that the next daemon finds: the octets of their keys and values."""
PASSING_TABLES = {
    "uplinks": (layout.ROW.size, layout.UPLINK.size),
    "segments": (layout.CONNECTION_OCTETS, layout.SEGMENT_OCTETS),
}
"""Those that each daemon begins anew."""


class Left(NamedTuple):
    """The state of a flow of an earlier daemon in the kernel.

    Attributes:
        peer_locator: Lp(peer), which the kernel may have moved [D21]; None if it does not send.
        clock: its times.
        unanswered: what a program of the kernel would report now, if it sends TCP segments and
            nothing answers.
    """

    peer_locator: Locator | None
    clock: FlowClock
    unanswered: UnansweredPacket | None = None


class Carried:
    """The flows that the kernel carries without a daemon.

    Tables with entries of another layout are not read.

    Args:
        pins: where they are pinned.
    """

    def __init__(self, pins: Path) -> None:
        names = "outbound", "inbound", "activities"
        self._outbound, self._inbound, self._activities = (_pinned(pins, one) for one in names)

    def close(self) -> None:
        """Closes the tables."""
        for table in (self._outbound, self._inbound, self._activities):
            if table is not None:
                os.close(table.descriptor)
        self._outbound = self._inbound = self._activities = None

    @property
    def are_there(self) -> bool:
        """Whether an earlier daemon of this user has left tables."""
        return self._outbound is not None and self._inbound is not None

    def find(self, local_label: Label, aids: bytes) -> Left | None:
        """The state of a flow, by F(local); None if it is missing, or the label has a new owner.

        Args:
            local_label: F(local).
            aids: AID(local) and AID(peer).
        """
        if self._outbound is None or self._inbound is None:
            return None
        inbound = self._inbound.find(layout.label_key(local_label))
        if inbound is None or layout.aids_of(inbound) != aids:
            return None
        outbound = self._outbound.find(aids)
        peer_locator = None if outbound is None else layout.peer_locator_of(outbound)
        clock = layout.clock_of(outbound, inbound)
        silent_ns = layout.silence(outbound, inbound, time.monotonic_ns())
        if self._activities is None or silent_ns <= UNANSWERED_PATIENCE:
            return Left(peer_locator, clock)
        packet = last_segment(self._activities, local_label, aids)
        event = UnansweredPacket(
            local_label, packet, silent_ns, clock.received_ns, clock.gap_ns, clock.unanswered
        )
        return Left(peer_locator, clock, event if packet else None)


def pin_of(pins: Path, name: str) -> Path:
    """The path of the pin of a table; its layout is part of the name."""
    return pins / f"map-{name}-{layout.EDITION}-{TABLES[name][1]}"


def _pinned(pins: Path, name: str) -> libbpf.Table | None:
    descriptor = libbpf.pinned(pin_of(pins, name))
    return None if descriptor is None else libbpf.Table(descriptor, *TABLES[name])
