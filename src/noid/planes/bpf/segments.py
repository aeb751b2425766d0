# SPDX-License-Identifier: MIT
"""The last TCP segment of each flow and connection, which the programs keep.

They are sent again after a failure; that of a flow is also reported.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from noid.constants import SECOND, UNANSWERED_PATIENCE
from noid.flows.events import UnansweredPacket
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.planes.bpf import layout, libbpf
from noid.planes.bpf.copies import finished
from noid.wire import ipv6
from noid.wire.ipv6 import NEXT_HEADER_AT

SCAN_INTERVAL_S = 0.05
SCANNED_MAX = 64
"""How often, and how many, flows are looked at for silence where the kernel has no timers."""
KEPT_TIME = 2 * SECOND // 5
"""How old a segment may be that is sent again. To TCP the time until its answer is a round trip:
its timer then waits for a multiple, and it takes what it sent again for needless."""
TCP = bytes((ipv6.TCP,))


def last_segment(activities: libbpf.Table, local_label: Label, aids: bytes) -> bytes:
    """The last segment of a flow; empty if none is stored, or it is too old.

    Args:
        activities: the table of the programs that has it.
        local_label: F(local).
        aids: AID(local) and AID(peer).
    """
    kept = _kept(activities, layout.label_key(local_label), layout.kept_in)
    if kept is None or time.monotonic_ns() - kept.at_ns >= KEPT_TIME:
        return b""
    return _packet(kept, aids)


def _packet(kept: layout.Kept, aids: bytes) -> bytes:
    """The packet that is kept; empty if it is not between these AIDs."""
    is_its_own = kept.packet[8 : ipv6.HEADER_OCTETS] == aids
    return finished(kept.packet, kept.segment_octets) if is_its_own else b""


def _kept(
    table: libbpf.Table, key: bytes, kept_in: Callable[[bytes], layout.Kept]
) -> layout.Kept | None:
    """What an entry has kept; None if there is none, or it is written at this moment."""
    entries = [table.find(key) for _ in range(2)]
    kept = [kept_in(entry) for entry in entries if entry is not None]
    versions = {one.version for one in kept}
    return kept[0] if len(kept) == 2 and len(versions) == 1 and not versions.pop() % 2 else None


class Segments:
    """The segments that are kept.

    Args:
        tables: those of the programs.
        flows: every flow, by its local label.
    """

    def __init__(self, tables: Mapping[str, libbpf.Table], flows: Mapping[Label, Flow]) -> None:
        self._tables = tables
        self._flows = flows
        self._timer: asyncio.TimerHandle | None = None
        self._keys: Iterator[bytes] = iter(())

    def close(self) -> None:
        """Ends the scan, if it has begun."""
        if self._timer is not None:
            self._timer.cancel()

    def last(self, flow: Flow) -> bytes:
        """The last segment of a flow; empty if none is stored, or it is too old."""
        return last_segment(self._tables["activities"], flow.local_label, layout.aids_key(flow))

    def of_connection(self, flow: Flow, ports: bytes, until_ns: int) -> bytes:
        """The last segment of a TCP connection of a flow.

        Args:
            flow: which carries the connection.
            ports: its own and that of the peer, as its segments have them.
            until_ns: the latest time at which it was sent, by the monotonic clock.

        Returns:
            The packet; empty if none is stored whole, or a later one.
        """
        key = layout.connection_key(flow.local_label, ports)
        kept = _kept(self._tables["segments"], key, layout.kept_of)
        if kept is None or not until_ns - KEPT_TIME < kept.at_ns <= until_ns:
            return b""
        packet = _packet(kept, layout.aids_key(flow))
        return packet if packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] == TCP else b""

    def entries(self, local_label: Label) -> tuple[bytes | None, bytes | None]:
        """The entries of a flow in the tables `outbound` and `inbound`."""
        flow = self._flows.get(local_label)
        sent = self._tables["outbound"].find(layout.aids_key(flow)) if flow is not None else None
        return sent, self._tables["inbound"].find(layout.label_key(local_label))

    def silence_ns(self, local_label: Label) -> int:
        """How long packets of a flow have been unanswered; 0 if none are."""
        return layout.silence(*self.entries(local_label), time.monotonic_ns())

    def scan(self, notify: Callable[[UnansweredPacket], None]) -> None:
        """Reports flows whose last segment stays unanswered, where the kernel has no timers."""
        self._timer = asyncio.get_running_loop().call_later(SCAN_INTERVAL_S, self.scan, notify)
        some = list(islice(self._keys, SCANNED_MAX))
        for key in some:
            if event := self._unanswered(key):
                notify(event)
        if len(some) < SCANNED_MAX:
            self._keys = self._tables["activities"].keys()

    def _unanswered(self, key: bytes) -> UnansweredPacket | None:
        flow = self._flows.get(Label(int.from_bytes(key, "big")))
        kept = _kept(self._tables["activities"], key, layout.kept_in)
        if flow is None or kept is None:
            return None
        silent_ns = self.silence_ns(flow.local_label)
        if silent_ns <= max(flow.silence_ns, UNANSWERED_PATIENCE):
            return None
        return UnansweredPacket(
            flow.local_label, finished(kept.packet, kept.segment_octets), silent_ns
        )
