# SPDX-License-Identifier: MIT
"""Between the hosts: lines, providers, borders, and everything a network does to packets.

There is a line from each locator to each other one, each way its own. A locator belongs to one
provider, and a packet passes that of its source and that of its destination. A border may send a
packet that says "rewrite ok" by another provider than its source's and then rewrites the source
[draft §6, D6].
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

from noid.constants import MILLISECOND, SECOND
from noid.locators import Locator
from noid.sim.parcel import CODEPOINTS, SLOTS, Parcel, is_control, is_m6
from noid.wire import icmpv6, ipv6
from noid.wire.ipv6 import ADDRESSES_AT, NEXT_HEADER_AT

ROUTERS = {p: Locator(bytes.fromhex(f"20010db8{p:04x}") + bytes(9) + b"\1") for p in range(16)}
MTU_DEFAULT = 1500
QUEUE_NS = 200 * MILLISECOND
"""A packet that would wait longer for a line with a rate is dropped."""


@dataclass(slots=True)
class Line:
    """What the way from one locator to another does to packets.

    Attributes:
        delay_ns: of every packet, at least.
        jitter_ns: at most so much more; more than the gap between packets reorders them.
        loss: share that is lost.
        duplication: share that arrives twice.
        corruption: share in which one bit changes.
        mtu: longer packets are dropped, and their sender is told.
        rate: octets a second; 0 for any.
        filtered: next headers that are dropped.
        filtered_types: ICMPv6 types that are dropped.
        is_up: whether anything passes.
        free_ns: when the packets it has taken will have left it.
    """

    delay_ns: int = 10 * MILLISECOND
    jitter_ns: int = 2 * MILLISECOND
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    mtu: int = MTU_DEFAULT
    rate: int = 0
    filtered: frozenset[int] = frozenset()
    filtered_types: frozenset[int] = frozenset()
    is_up: bool = True
    free_ns: int = 0

    @property
    def is_lossy(self) -> bool:
        """Whether packets vanish by chance or by their number."""
        return bool(self.loss or self.corruption or self.rate)

    def filters(self, octets: bytes) -> bool:
        """Whether it drops a packet for its next header or its ICMPv6 type."""
        kind = octets[NEXT_HEADER_AT]
        if kind in self.filtered:
            return True
        return kind == ipv6.ICMPV6 and octets[ipv6.HEADER_OCTETS] in self.filtered_types

    def queueing_ns(self, octets: int, now_ns: int) -> int | None:
        """How long a packet waits and leaves a line with a rate; None where the queue is full."""
        free_ns = max(self.free_ns, now_ns) + octets * SECOND // self.rate
        if free_ns - now_ns > QUEUE_NS:
            return None
        self.free_ns = free_ns
        return free_ns - now_ns


@dataclass(slots=True)
class LinkConditions(Line):
    """What every line does that has no entry of its own, and what routers do.

    Attributes:
        rewriting: share of rewritable packets that a border sends by another provider.
        tells: routers say "destination unreachable".
    """

    rewriting: float = 0.0
    tells: bool = False


def locator_of(provider: int, host: int) -> Locator:
    """The address a host has by a provider."""
    return Locator(bytes.fromhex(f"20010db8{provider:04x}{host:04x}") + bytes(6) + b"\0\1")


def provider_of(locator: Locator) -> int:
    """The provider a locator belongs to."""
    return int.from_bytes(locator[4:6], "big")


class Network:
    """The lines between the nodes.

    Args:
        source: of chance.
        injected: counts the faults.
        weather: what the lines do.

    Attributes:
        lines: those that differ from the weather, by the addresses of source and destination.
        down: providers that pass nothing.
        cuts: pairs (provider of the source, provider of the destination) that pass nothing.
        filtered: providers whose firewall drops the M6 next headers.
        borders: nodes whose border rewrites; all their locators.
        handover_ns: what a rewritten packet takes from one border of a site to the other.
        present: the addresses that exist now, and whose.
        doomed: serial numbers of control messages that are lost; ``controls`` counts them.
    """

    def __init__(
        self, source: random.Random, injected: Counter[str], weather: LinkConditions
    ) -> None:
        self.random = source
        self.injected = injected
        self.weather = weather
        self.lines: dict[bytes, Line] = {}
        self.down: set[int] = set()
        self.cuts: set[tuple[int, int]] = set()
        self.filtered: set[int] = set()
        self.borders: dict[str, tuple[Locator, ...]] = {}
        self.handover_ns = 0
        self.present: dict[bytes, str] = {}
        self.doomed: frozenset[int] = frozenset()
        self.controls = 0
        self.listeners: list[Callable[[Parcel], None]] = []

    def heal(self) -> None:
        """Everything passes, nothing is lost."""
        self.weather = LinkConditions(self.weather.delay_ns)
        for ends, line in self.lines.items():
            self.lines[ends] = Line(line.delay_ns)
        self.down.clear()
        self.cuts.clear()
        self.filtered.clear()

    def line(self, source: Locator, destination: Locator) -> Line:
        """The way from one locator to another, to be changed: the weather's until then."""
        weather, ends = self.weather, source + destination
        if ends not in self.lines:
            own = {field.name: getattr(weather, field.name) for field in fields(Line)}
            self.lines[ends] = Line(**own)
        return self.lines[ends]

    def passes(self, source: Locator, destination: Locator) -> bool:
        """Whether anything gets from one locator to the other."""
        line = self.lines.get(source + destination)
        if not (line is None or line.is_up) or destination not in self.present:
            return False
        return not (self.down or self.cuts) or self._provided(source, destination)

    def _provided(self, source: Locator, destination: Locator) -> bool:
        """Whether the providers of both locators pass packets from the one to the other."""
        there, here = provider_of(source), provider_of(destination)
        return not (there in self.down or here in self.down or (there, here) in self.cuts)

    def carry(self, parcel: Parcel, now_ns: int) -> tuple[Parcel, list[int], str]:
        """What becomes of a packet.

        Returns:
            The packet as it arrives, after which delays (none: it is lost), and what happened.
        """
        handover_ns = 0
        if self.borders:
            parcel, before = self._at_border(parcel), parcel
            handover_ns = self.handover_ns if parcel is not before else 0
        octets = parcel.octets
        line = self.lines.get(octets[ADDRESSES_AT : ipv6.HEADER_OCTETS], self.weather)
        obstacle = self._obstacle(parcel, line)
        if obstacle:
            self.injected[obstacle] += 1
            return parcel, [], f"x {obstacle}"
        waits_ns = line.queueing_ns(len(octets), now_ns) if line.rate else 0
        if self.doomed and is_control(octets):
            self.controls += 1
            if self.controls in self.doomed:
                waits_ns = None
        if waits_ns is None or (line.loss and self.random.random() < line.loss):
            self.injected["lost"] += 1
            return parcel, [], "x lost"
        waits_ns += handover_ns
        delays = [waits_ns + self._delay(line)]
        fate = ""
        if line.duplication and self.random.random() < line.duplication:
            self.injected["duplicated"] += 1
            delays.append(waits_ns + self._delay(line))
            fate = "twice"
        if line.corruption and self.random.random() < line.corruption:
            self.injected["corrupted"] += 1
            parcel = self._corrupted(parcel)
            fate += " corrupted"
        return parcel, delays, fate

    def _obstacle(self, parcel: Parcel, line: Line) -> str:
        """Why a packet does not pass, whatever chance says; empty where it does."""
        octets = parcel.octets
        source, destination = Locator(octets[8:24]), Locator(octets[24:40])
        if source not in self.present and not parcel.forged and provider_of(source):
            return "source gone"
        if not line.is_up or destination not in self.present:
            return "unreachable"
        if (self.down or self.cuts) and not self._provided(source, destination):
            return "unreachable"
        if (line.filtered or line.filtered_types) and line.filters(octets):
            return "filtered"
        if self.filtered and is_m6(octets):
            providers = {provider_of(source), provider_of(destination)}
            if providers & self.filtered:
                return "filtered"
        return "too big" if len(octets) > line.mtu else ""

    def error_about(self, parcel: Parcel, fate: str) -> bytes | None:
        """What a router says about a packet it did not pass, if it says anything."""
        octets = parcel.octets
        if parcel.forged or (octets[6] == ipv6.ICMPV6 and octets[40] < 128):
            return None
        if fate == "x too big":
            line = self.lines.get(octets[ADDRESSES_AT : ipv6.HEADER_OCTETS], self.weather)
            kind, value = icmpv6.PACKET_TOO_BIG, line.mtu
        elif fate == "x unreachable" and self.weather.tells:
            kind, value = icmpv6.DESTINATION_UNREACHABLE, 0
        else:
            return None
        source = Locator(octets[8:24])
        error = icmpv6.ErrorMessage(type=kind, code=0, value=value, quote=octets)
        return error.encode_packet(ROUTERS[provider_of(source) & 15], source)

    def _delay(self, line: Line) -> int:
        jitter = line.jitter_ns
        return line.delay_ns + (self.random.randrange(jitter) if jitter else 0)

    def _at_border(self, parcel: Parcel) -> Parcel:
        """Rewrites the source of a packet that allows it, when it leaves by another provider."""
        slot = SLOTS[parcel.octets[6]]
        locators = self.borders.get(parcel.sender)
        if locators is None or slot is None or not slot.rewritable or parcel.forged:
            return parcel
        source = Locator(parcel.octets[8:24])
        dead = provider_of(source) in self.down
        if not dead and self.random.random() >= self.weather.rewriting:
            return parcel
        others = [
            one
            for one in locators
            if one != source and one in self.present and provider_of(one) not in self.down
        ]
        if not others:
            return parcel
        self.injected["rewritten"] += 1
        octets = parcel.octets[:8] + self.random.choice(others) + parcel.octets[24:]
        return Parcel(octets, parcel.sender, parcel.sent_ns)

    def _corrupted(self, parcel: Parcel) -> Parcel:
        """One bit changed; not of the version or the length, which links see, nor of the end."""
        octets = bytearray(parcel.octets)
        at = self.random.choice((1, 2, 3, *range(8, 24), *range(40, len(octets))))
        bit = self.random.randrange(4 if at == 1 else 8)
        octets[at] ^= 1 << bit
        return Parcel(
            bytes(octets), parcel.sender, parcel.sent_ns, parcel.forged, parcel.informed, True
        )


def rejection_of(octets: bytes) -> bytes:
    """What a host without the shim says of an M6 next header (RFC 8200 §4)."""
    error = icmpv6.ErrorMessage(
        type=icmpv6.PARAMETER_PROBLEM,
        code=icmpv6.UNRECOGNIZED_NEXT_HEADER,
        value=6,
        quote=octets,
    )
    return error.encode_packet(Locator(octets[24:40]), Locator(octets[8:24]))


assert CODEPOINTS.rewritable_first != CODEPOINTS.fixed_first
