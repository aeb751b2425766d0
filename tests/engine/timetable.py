# SPDX-License-Identifier: MIT
"""A network that notes when each message leaves, and whose delays have no random part."""

from collections.abc import Callable

from noid.constants import MILLISECOND
from noid.engine.history import Pair
from noid.wire.control import Code, ControlMessage
from tests.engine.network import Network, Station
from tests.engine.test_conformance_setup import control_of

FACTOR_OCTETS = 2
"""Entropy for the random factor of a delay; nothing else takes so much."""


def without_chance(entropy: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """The same entropy, by which each delay has the least factor, 0.5."""
    return lambda octets: bytes(octets) if octets == FACTOR_OCTETS else entropy(octets)


class Timetable(Network):
    """Times count from ``begin``."""

    def __init__(self) -> None:
        self.left: list[tuple[int, bytes]] = []
        self.began_ns = 0
        super().__init__()
        for station in self.stations:
            core = station.host.core
            core.entropy = without_chance(core.entropy)

    def begin(self) -> None:
        """Forgets what has left so far."""
        self.left.clear()
        self.began_ns = self.now_ns

    def put(self, packet: bytes) -> None:
        """A packet onto the wire."""
        self.left.append((self.now_ns - self.began_ns, packet))
        super().put(packet)

    def sent(self, station: Station, code: Code) -> list[tuple[float, Pair, bool, ControlMessage]]:
        """The messages of a station: after how many ms, over which pair, if in a slot, and what."""
        found = []
        for at_ns, packet in self.left:
            control = control_of(packet)
            if control is not None and control[1].code is code:
                header, message = control
                if header.source in station.locators:
                    pair = header.source, header.destination
                    found.append((at_ns / MILLISECOND, pair, header.next_header != 58, message))
        return found
