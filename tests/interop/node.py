# SPDX-License-Identifier: MIT
"""The node that a second implementation runs on: its sockets, its clock, and who it talks to.

What the test says comes in as lines of JSON; what happens goes out as lines of JSON.
"""

import contextlib
import heapq
import itertools
import json
import selectors
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.interop.arriving import arrived
from tests.interop.octets import M6_NEXT_HEADERS, Malformed, Packet

ETHERTYPE_IPV6 = 0x86DD


def tell(event: str, **details: object) -> None:
    print(json.dumps({"event": event, **details}), flush=True)


class Node:
    """The sockets and timers of one program.

    Args:
        locators: the addresses it sends from, all of this node.
    """

    def __init__(self, locators: Iterable[str]) -> None:
        # The packets themselves are read from below the stack, for their flow labels.
        self.packets = socket.socket(
            socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETHERTYPE_IPV6)
        )
        # A protocol that has a socket is not refused with a parameter problem.
        raw = (socket.AF_INET6, socket.SOCK_RAW)
        self.listeners = [socket.socket(*raw, protocol) for protocol in M6_NEXT_HEADERS]
        self.senders = {locator: socket.socket(*raw, socket.IPPROTO_RAW) for locator in locators}
        for locator, sender in self.senders.items():
            sender.bind((locator, 0))
        self.selector = selectors.DefaultSelector()
        self._numbers = itertools.count()
        self._timers: list[tuple[float, int]] = []
        self._calls: dict[int, Callable[[], None]] = {}

    def transmit(self, packet: Packet) -> None:
        self.senders[packet.source].sendto(packet.encode(), (packet.destination, 0))

    def watch(self, readable: socket.socket, call: Callable[[], None]) -> None:
        """Calls whenever a socket has something to read."""
        self.selector.register(readable, selectors.EVENT_READ, call)

    def after(self, delay_s: float, call: Callable[[], None]) -> int:
        """Calls once, later; the number is for ``cancel``."""
        number = next(self._numbers)
        self._calls[number] = call
        heapq.heappush(self._timers, (time.monotonic() + delay_s, number))
        return number

    def cancel(self, number: int) -> None:
        self._calls.pop(number, None)

    def run(
        self, receive: Callable[[Packet], None], obey: Callable[[dict[str, Any]], None]
    ) -> None:
        """Takes packets, commands and timers until the commands end."""
        with open(0, "rb", buffering=0) as commands, self.selector:
            self.selector.register(commands, selectors.EVENT_READ)
            self.selector.register(self.packets, selectors.EVENT_READ)
            tell("ready")
            while True:
                for key, _ in self.selector.select(self._wait_s()):
                    if key.fileobj is self.packets:
                        octets, address = self.packets.recvfrom(65536)
                        if address[2] != socket.PACKET_OUTGOING:
                            self._take(octets, receive)
                    elif key.fileobj is commands:
                        line = commands.readline()
                        if not line:
                            return
                        obey(json.loads(line))
                    else:
                        key.data()

    def _take(self, octets: bytes, receive: Callable[[Packet], None]) -> None:
        """Hands on a packet to one of our addresses, unless it is malformed."""
        with contextlib.suppress(Malformed):
            packet = arrived(octets)
            if packet is not None and packet.destination in self.senders:
                receive(packet)

    def _wait_s(self) -> float | None:
        """Calls what is due; how long until the next."""
        while self._timers:
            at_s, number = self._timers[0]
            wait_s = at_s - time.monotonic()
            if number in self._calls and wait_s > 0:
                return wait_s
            heapq.heappop(self._timers)
            if number in self._calls:
                self._calls.pop(number)()
        return None
