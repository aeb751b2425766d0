# SPDX-License-Identifier: MIT
"""What is above M6 in a second implementation: datagrams with numbers, and their echoes."""

import struct
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.interop.node import Node, tell
from tests.interop.octets import ICMPV6, UDP, with_checksum
from tests.interop.talk import Ulp

OWN_PORT: Final = 7100
ECHO_PORT: Final = 7001
SINK_PORT: Final = 7002
"""Where the other end echoes datagrams, and where it only takes them."""
ECHO_REQUEST, ECHO_REPLY = 128, 129
MARK: Final = b"datagram"
REPEATED_S: Final = 1.0


class Datagrams:
    """Sends datagrams with growing numbers, and counts those that come.

    Args:
        node: whose clock it uses.
        carry: takes a packet from us.
        ends: the AIDs of this end and the other; empty before there is a peer.
    """

    def __init__(
        self,
        node: Node,
        carry: Callable[[Ulp], None],
        ends: Callable[[], tuple[str, str]],
    ) -> None:
        self.node, self.carry, self.ends = node, carry, ends
        self.port = ECHO_PORT
        self.sent = 0
        self.answers: Counter[int] = Counter()
        self.arrived: Counter[str] = Counter()
        self.last_s = 0.0
        self.gap_s = 0.0
        self._brought: dict[bytes, float] = {}
        self.left, self.every_s = 0, 0.0

    def tick(self) -> None:
        """Sends the next datagram, if some are left."""
        if self.left:
            self.left -= 1
            self.sent += 1
            self.node.after(self.every_s, self.tick)
            self._say(OWN_PORT, self.port, MARK + struct.pack("!Q", self.sent))
        else:
            tell("sent", count=self.sent)

    def _say(self, source: int, destination: int, data: bytes) -> None:
        head = struct.pack("!4H", source, destination, 8 + len(data), 0)
        self.carry((UDP, with_checksum(*self.ends(), UDP, head + data)))

    def lately(self, payload: bytes) -> bool:
        """Whether another probe has brought a packet within the last second [§9]."""
        now_s = time.monotonic()
        lately = now_s - self._brought.get(payload, -REPEATED_S) < REPEATED_S
        self._brought[payload] = now_s
        return lately

    def receive(self, packet: Ulp) -> None:
        """Counts a datagram; answers an echo request."""
        protocol, payload = packet
        if protocol == ICMPV6 and payload[:1] == bytes((ECHO_REQUEST,)):
            reply = bytes((ECHO_REPLY,)) + payload[1:]
            self.carry((ICMPV6, with_checksum(*self.ends(), ICMPV6, reply)))
        elif protocol == UDP and payload[8:16] == MARK:
            (number,) = struct.unpack("!Q", payload[16:24])
            self.answers[number] += 1
            now_s = time.monotonic()
            if self.last_s:
                self.gap_s = max(self.gap_s, now_s - self.last_s)
            self.last_s = now_s

    def report(self) -> dict[str, object]:
        """How it went."""
        return {
            "sent": self.sent,
            "answered": len(self.answers),
            "twice": sum(count - 1 for count in self.answers.values()),
            "gap_ms": round(self.gap_s * 1000),
            "arrived": dict(self.arrived),
        }
