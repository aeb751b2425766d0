# SPDX-License-Identifier: MIT
"""Makes every TCP connection of a context go on at once after an outage.

The kernel lists the connections that wait for an acknowledgement. The timer of TCP expires after
200 ms or more: before, noid itself sends the last segment of each again.

TCP doubles the time to the next retransmission with each one that is lost. The error "no route to
destination" about the segment that is sent again next reverts one doubling (RFC 6069). A program
tells the sequence number of that segment. A copy of an old segment must not come before: its answer
is a round trip as long as the outage to TCP, whose timer then waits for a multiple of that.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final, NamedTuple

from noid.constants import SECOND
from noid.counters import PlaneCounter
from noid.flows.flow import Flow
from noid.host.socket_diag import Unacknowledged, unacknowledged_connections
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.bpf import layout
from noid.planes.bpf.loading import Programs
from noid.planes.bpf.segments import Segments
from noid.wire import icmpv6, ipv6
from noid.wire.ipv6 import NEXT_HEADER_AT

OUTAGE_MIN: Final = 2 * SECOND // 5
"""The timer of TCP expires after 200 ms or more, and doubles then: it is reverted from then on."""
PEER_SWITCHES_S: Final = 0.01
"""Segments are sent again so long after this host uses another pair: the peer may switch later."""
RESTS: Final = 4
"""After a look at the connections of the host, the next one waits so many times as long as it took:
a host may have very many connections."""
REVIVED_MAX: Final = 1_000
"""Connections that go on at once; the others wait for their timers."""
EXPIRIES_MAX: Final = 16
"""The kernel gives a connection up after as many by default."""
REVIVED: Final = 2
"""The verdict of the program: there is such a connection."""
ETHERNET: Final = bytes(12) + b"\x86\xdd"
PORTS_OCTETS: Final = 4
SEQUENCE_OCTETS: Final = 4
TCP_OCTETS: Final = 20


class Left(NamedTuple):
    """A context that uses another pair.

    Attributes:
        flow: which carries it.
        at_ns: until when segments were lost, by the monotonic clock.
        is_long: whether they were for so long that timers have doubled.
        repeated: the ports of a connection whose last segment has been sent again.
    """

    flow: Flow
    at_ns: int
    is_long: bool
    repeated: bytes


class StalledConnections:
    """The contexts whose connections are to go on.

    Args:
        programs: of the kernel.
        segments: the last ones of connections.
        send: sends a packet of a flow again, by its label.
        deliver: delivers a packet to the stack of this host.
        counted: counts refusals of the kernel.
    """

    def __init__(
        self,
        programs: Programs,
        segments: Segments,
        send: Callable[[Label, bytes], None],
        deliver: Callable[[bytes], None],
        counted: Callable[[PlaneCounter], AbstractContextManager[None]],
    ) -> None:
        self._programs = programs
        self._segments = segments
        self._send = send
        self._deliver = deliver
        self._counted = counted
        self._left: dict[bytes, Left] = {}
        self._task: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Ends what is under way."""
        if self._task is not None:
            self._task.cancel()

    def add(self, flow: Flow, packet: bytes, silent_ns: int) -> bytes:
        """A context goes on after an outage.

        Args:
            flow: which carries it.
            packet: the one that is to be sent again; may be empty.
            silent_ns: how long packets were lost; 0 if that is not known.

        Returns:
            What is to be sent now: the packet, or nothing while it would come too early.
        """
        aids = layout.aids_key(flow)
        is_tcp = packet[NEXT_HEADER_AT : NEXT_HEADER_AT + 1] == bytes((ipv6.TCP,))
        ports = packet[ipv6.HEADER_OCTETS :][:PORTS_OCTETS] if is_tcp else b""
        before = self._left.get(aids)
        is_long = silent_ns >= OUTAGE_MIN or (before is not None and before.is_long)
        is_early = is_tcp and is_long
        self._left[aids] = Left(flow, time.monotonic_ns(), is_long, b"" if is_early else ports)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._revive_all())
        return b"" if is_early else packet

    async def _revive_all(self) -> None:
        took_s = 0.0
        try:
            while self._left:
                await asyncio.sleep(max(PEER_SWITCHES_S, RESTS * took_s))
                left, self._left = self._left, {}
                began_s = time.monotonic()
                with self._counted(PlaneCounter.QUERIES_REFUSED):
                    every = await asyncio.to_thread(unacknowledged_connections, left.keys())
                    for one in islice(every, REVIVED_MAX):
                        self._go_on(one, left[one.local + one.peer])
                        await asyncio.sleep(0)
                took_s = time.monotonic() - began_s
        finally:
            self._task = None

    def _go_on(self, one: Unacknowledged, left: Left) -> None:
        if one.expiries > 1 or (one.expiries and left.is_long):
            self._revive(one)
        elif one.ports != left.repeated:
            packet = self._segments.of_connection(left.flow, one.ports, left.at_ns)
            if packet:
                self._send(left.flow.local_label, packet)

    def _revive(self, one: Unacknowledged) -> None:
        """Delivers the error as often as the timer has doubled."""
        back = one.ports[PORTS_OCTETS // 2 :] + one.ports[: PORTS_OCTETS // 2]
        segment = ETHERNET + _segment(one.peer, one.local, back)
        verdict, answer = self._programs.try_out("host_stalled", segment)
        if verdict != REVIVED:
            return
        at = len(ETHERNET) + ipv6.HEADER_OCTETS + PORTS_OCTETS
        sequence = answer[at : at + SEQUENCE_OCTETS]
        error = icmpv6.ErrorMessage(
            type=icmpv6.DESTINATION_UNREACHABLE,
            code=icmpv6.NO_ROUTE,
            quote=_segment(one.local, one.peer, one.ports, sequence),
        )
        packet = error.encode_packet(one.peer, one.local)
        for _ in range(min(one.expiries, EXPIRIES_MAX)):
            self._deliver(packet)


def _segment(source: Locator, destination: Locator, ports: bytes, sequence: bytes = b"") -> bytes:
    """The headers of a segment of TCP."""
    header = ipv6.Header(
        source=source, destination=destination, next_header=ipv6.TCP, payload_octets=TCP_OCTETS
    )
    return header.encode() + (ports + sequence).ljust(TCP_OCTETS, bytes(1))
