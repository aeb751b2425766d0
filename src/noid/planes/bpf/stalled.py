# SPDX-License-Identifier: MIT
"""Makes TCP send again at once after an outage, however long its timer has become (RFC 6069).

TCP doubles the time to the next retransmission with each one that is lost. The error "no route to
destination" about the segment that is sent again next reverts one doubling. The kernel lists the
connections that wait, and a program tells the sequence number of that segment.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from typing import Final

from noid.constants import SECOND
from noid.counters import PlaneCounter
from noid.host.socket_diag import PORTS, Stalled, stalled_connections
from noid.locators import Locator
from noid.planes.bpf.loading import Programs
from noid.wire import icmpv6, ipv6

OUTAGE_MIN: Final = 2 * SECOND // 5
"""The timer of TCP expires after 200 ms or more, and doubles then."""
PEER_SWITCHES_S: Final = 0.01
"""Segments are sent again so long after this host uses another pair: the peer may switch later."""
RESTS: Final = 4
"""After a look at the connections of the host, the next one waits so many times as long as it took:
a host may have very many connections."""
REVIVED_MAX: Final = 1_000
"""Connections that are made to send again at once; the others wait for their timers."""
EXPIRIES_MAX: Final = 16
"""The kernel gives a connection up after as many by default."""
REVIVED: Final = 2
"""The verdict of the program: there is such a connection."""
ETHERNET: Final = bytes(12) + b"\x86\xdd"
SEQUENCE_OCTETS: Final = 4
TCP_OCTETS: Final = 20


class StalledConnections:
    """The contexts whose connections are to send again.

    Args:
        programs: of the kernel.
        deliver: delivers a packet to the stack of this host.
        counted: counts refusals of the kernel.
    """

    def __init__(
        self,
        programs: Programs,
        deliver: Callable[[bytes], None],
        counted: Callable[[PlaneCounter], AbstractContextManager[None]],
    ) -> None:
        self._programs = programs
        self._deliver = deliver
        self._counted = counted
        self._aids: set[bytes] = set()
        self._task: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Ends what is under way."""
        if self._task is not None:
            self._task.cancel()

    def add(self, aids: bytes) -> None:
        """The context between two AIDs, the local one first, goes on after an outage."""
        self._aids.add(aids)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._revive_all())

    async def _revive_all(self) -> None:
        took_s = 0.0
        try:
            while self._aids:
                await asyncio.sleep(max(PEER_SWITCHES_S, RESTS * took_s))
                aids, self._aids = self._aids, set()
                began_s = time.monotonic()
                with self._counted(PlaneCounter.QUERIES_REFUSED):
                    every = await asyncio.to_thread(stalled_connections)
                    mine = (one for one in every if one.local + one.peer in aids)
                    for one in islice(mine, REVIVED_MAX):
                        self._revive(one)
                        await asyncio.sleep(0)
                took_s = time.monotonic() - began_s
        finally:
            self._task = None

    def _revive(self, one: Stalled) -> None:
        """Delivers the error as often as the timer has doubled."""
        segment = ETHERNET + _segment(one.peer, one.local, one.ports[::-1])
        verdict, answer = self._programs.try_out("host_stalled", segment)
        if verdict != REVIVED:
            return
        at = len(ETHERNET) + ipv6.HEADER_OCTETS + PORTS.size
        sequence = answer[at : at + SEQUENCE_OCTETS]
        error = icmpv6.ErrorMessage(
            type=icmpv6.DESTINATION_UNREACHABLE,
            code=icmpv6.NO_ROUTE,
            quote=_segment(one.local, one.peer, one.ports, sequence),
        )
        packet = error.encode_packet(one.peer, one.local)
        for _ in range(min(one.expiries, EXPIRIES_MAX)):
            self._deliver(packet)


def _segment(
    source: Locator, destination: Locator, ports: tuple[int, ...], sequence: bytes = b""
) -> bytes:
    """The headers of a segment of TCP."""
    header = ipv6.Header(
        source=source, destination=destination, next_header=ipv6.TCP, payload_octets=TCP_OCTETS
    )
    return header.encode() + (PORTS.pack(*ports) + sequence).ljust(TCP_OCTETS, bytes(1))
