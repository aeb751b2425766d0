# SPDX-License-Identifier: MIT
"""The network between the hosts: lines, providers, borders, and what they do to packets.

There is a line from each locator to each other locator, one per direction. A locator belongs to one
provider, and a packet passes the providers of its source and of its destination. A border may send
a rewritable packet through another provider than that of its source, and then rewrites the source
[draft §6, D6].
"""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields

from noid.constants import MILLISECOND, SECOND
from noid.locators import Locator
from noid.sim.parcel import CODEPOINTS, MESSAGES, SLOTS, Parcel, is_control, is_m6
from noid.sim.site import REFUSED, WITHOUT_BORDER, SiteBorder
from noid.wire import icmpv6, ipv6
from noid.wire.ipv6 import ADDRESSES_AT, NEXT_HEADER_AT

ROUTERS = {p: Locator(bytes.fromhex(f"20010db8{p:04x}") + bytes(9) + b"\1") for p in range(16)}
ROUTER = "router"
"""The sender of ICMPv6 errors of routers."""
MTU_DEFAULT = 1500
SOURCE_POLICY = 5
"""Code of "source address failed ingress/egress policy" (RFC 4443 §3.1)."""
QUEUE_NS = 200 * MILLISECOND
"""The longest queueing time of a line with a rate; other packets are dropped."""


@dataclass(slots=True)
class Line:
    """The properties of the path from one locator to another.

    Attributes:
        delay_ns: the least delay.
        jitter_ns: the most that is added; more than the gap between packets reorders them.
        loss: share of lost packets.
        duplication: share of packets that arrive twice.
        corruption: share of packets in which one bit changes.
        mtu: longer packets are dropped, and their sender gets an error.
        rate: octets per second; 0 means no limit.
        filtered: next headers that are dropped.
        filtered_types: ICMPv6 types that are dropped.
        is_up: whether packets pass.
        free_ns: when its queue will be empty.
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
        """Whether packets are lost by chance, by the rate, or until programs send shorter ones."""
        return bool(self.loss or self.corruption or self.rate or self.mtu < MTU_DEFAULT)

    def filters(self, octets: bytes) -> bool:
        """Whether the line drops a packet for its next header or its ICMPv6 type."""
        kind = octets[NEXT_HEADER_AT]
        if kind in self.filtered:
            return True
        return kind == ipv6.ICMPV6 and octets[ipv6.HEADER_OCTETS] in self.filtered_types

    def queueing_ns(self, octets: int, now_ns: int) -> int | None:
        """The time that a packet waits and takes on a line with a rate; None: the queue is full."""
        free_ns = max(self.free_ns, now_ns) + octets * SECOND // self.rate
        if free_ns - now_ns > QUEUE_NS:
            return None
        self.free_ns = free_ns
        return free_ns - now_ns


@dataclass(slots=True)
class LinkConditions(Line):
    """The properties of all lines without an entry of their own, and of routers.

    Attributes:
        rewriting: share of rewritable packets that a border sends through another provider.
        tells: whether routers send "destination unreachable".
    """

    rewriting: float = 0.0
    tells: bool = False


def filters_plain(line: Line) -> bool:
    """Whether a line drops plain packets of a kind."""
    return any(SLOTS[number] is None for number in line.filtered)


def filters_m6(line: Line) -> bool:
    """Whether the line drops M6 packets of a kind."""
    return any(SLOTS[number] is not None for number in line.filtered)


def filters_data_alone(line: Line) -> bool:
    """Whether the line passes messages in the form of data, and no data."""
    return filters_m6(line) and not line.filtered.issuperset(MESSAGES)


def filters_any(line: Line) -> bool:
    """Whether the line drops packets of any kind."""
    return bool(line.filtered or line.filtered_types)


def locator_of(provider: int, host: int) -> Locator:
    """The address of a host from a provider."""
    return Locator(bytes.fromhex(f"20010db8{provider:04x}{host:04x}") + bytes(6) + b"\0\1")


def provider_of(locator: bytes) -> int:
    """The provider a locator belongs to."""
    return int.from_bytes(locator[4:6], "big")


class Network:
    """The lines between the nodes.

    Args:
        source: the source of random numbers.
        injected: counts the faults.
        weather: the usual properties of lines.

    Attributes:
        lines: the lines that differ from ``weather``, by the addresses of source and destination.
        down: providers that pass nothing.
        cuts: pairs (provider of the source, provider of the destination) that pass nothing.
        filtered: providers whose firewall drops the M6 next headers.
        borders: nodes whose border rewrites; all their locators.
        sites: the sites of nodes behind a border of the reference; hosts of a site share it.
        handover_ns: the delay of a rewritten packet from one border of a site to the other.
        present: the addresses that exist now, and their nodes.
        doomed: serial numbers of control messages that are lost; ``controls`` counts messages.
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
        self.sites: dict[str, SiteBorder] = {}
        self.handover_ns = 0
        self.present: dict[bytes, str] = {}
        self.doomed: frozenset[int] = frozenset()
        self.controls = 0
        self.listeners: list[Callable[[Parcel], None]] = []

    def heal(self) -> None:
        """Removes all faults."""
        self.weather = LinkConditions(self.weather.delay_ns)
        for ends, line in self.lines.items():
            self.lines[ends] = Line(line.delay_ns)
        self.down.clear()
        self.cuts.clear()
        self.filtered.clear()
        for border in self.sites.values():
            border.heal()

    def line(self, source: Locator, destination: Locator) -> Line:
        """The line from one locator to another, to be changed; a copy of ``weather`` at first."""
        weather, ends = self.weather, source + destination
        if ends not in self.lines:
            own = {field.name: getattr(weather, field.name) for field in fields(Line)}
            self.lines[ends] = Line(**own)
        return self.lines[ends]

    def passes(self, source: Locator, destination: Locator) -> bool:
        """Whether packets pass from one locator to the other."""
        line = self.lines.get(source + destination)
        if not (line is None or line.is_up) or destination not in self.present:
            return False
        if self.sites and not self._is_reached(source, destination):
            return False
        return not (self.down or self.cuts) or self._provided(source, destination)

    def lossy_pairs(self) -> int:
        """The number of pairs that pass messages in the form of data, and no data."""
        lossy = [ends for ends, line in self.lines.items() if filters_data_alone(line)]
        return len({frozenset((ends[:16], ends[16:])) for ends in lossy})

    def _is_reached(self, source: Locator, destination: Locator) -> bool:
        """Whether the router of the site of a destination forwards what comes from a source.

        What a host of the site sends to a prefix that is no longer the site's has left it.
        """
        border, sender = self.sites.get(self.present[destination]), self.present.get(source, "")
        if border is None:
            return True
        is_ours = self.sites.get(sender) is border
        return border.is_alive and (not is_ours or self.is_within(sender, destination))

    def is_within(self, sender: str, destination: bytes) -> bool:
        """Whether what a node sends to a destination stays in its site."""
        border = self.sites.get(sender)
        if border is None or border is not self.sites.get(self.present.get(destination, "")):
            return False
        return border.site.has_inside(destination)

    def sources_sent(
        self, source: Locator, destination: Locator, *, rewritable: bool
    ) -> tuple[Locator, ...]:
        """With which source a packet leaves the site of its sender; none where it does not."""
        sender = self.present.get(source, "")
        border, sent = self.sites.get(sender), source
        if border is not None and not self.is_within(sender, destination):
            found = border.source_of(source, rewritable=rewritable)
            if found is None:
                return ()
            sent = found
        return (sent,) if sent in self.present else ()

    def keeps(self, source: Locator, destination: Locator) -> bool:
        """Whether every packet from a source leaves its site, and none is rewritten."""
        return not self.sites or all(
            self.sources_sent(source, destination, rewritable=one) == (source,)
            for one in (True, False)
        )

    def _provided(self, source: bytes, destination: bytes) -> bool:
        """Whether the providers of both locators pass packets from the one to the other."""
        there, here = provider_of(source), provider_of(destination)
        return not (there in self.down or here in self.down or (there, here) in self.cuts)

    def carry(self, parcel: Parcel, now_ns: int) -> tuple[Parcel, list[int], str]:
        """Carries a packet.

        Returns:
            The packet as it arrives, the delays of its copies (none: it is lost), and its fate.
        """
        handover_ns = 0
        if self.borders:
            parcel, before = self._at_border(parcel), parcel
            handover_ns = self.handover_ns if parcel is not before else 0
        obstacle = ""
        if self.sites:
            parcel, obstacle = self._at_sites(parcel)
        octets = parcel.octets
        line = self.lines.get(octets[ADDRESSES_AT : ipv6.HEADER_OCTETS], self.weather)
        obstacle = obstacle or self._obstacle(parcel, line)
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
        """Why a packet does not pass, apart from chance; empty if it passes."""
        octets = parcel.octets
        source, destination = octets[8:24], octets[24:40]
        is_of_host = not parcel.forged and parcel.sender != ROUTER
        if is_of_host and source not in self.present and provider_of(source):
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
        """The ICMPv6 error of a router about a dropped packet; None if there is none."""
        octets = parcel.octets
        if parcel.forged or (octets[6] == ipv6.ICMPV6 and octets[40] < 128):
            return None
        if fate == "x too big":
            line = self.lines.get(octets[ADDRESSES_AT : ipv6.HEADER_OCTETS], self.weather)
            kind, value = icmpv6.PACKET_TOO_BIG, line.mtu
        elif fate == f"x {REFUSED}" or (fate == "x unreachable" and self.weather.tells):
            kind, value = icmpv6.DESTINATION_UNREACHABLE, 0
        else:
            return None
        source = Locator(octets[8:24])
        code = SOURCE_POLICY if fate == f"x {REFUSED}" else 0
        error = icmpv6.ErrorMessage(type=kind, code=code, value=value, quote=octets)
        return error.encode_packet(ROUTERS[provider_of(source) & 15], source)

    def _delay(self, line: Line) -> int:
        jitter = line.jitter_ns
        return line.delay_ns + (self.random.randrange(jitter) if jitter else 0)

    def _at_sites(self, parcel: Parcel) -> tuple[Parcel, str]:
        """A packet after the borders of both sites, and why it does not pass; empty if it does."""
        sender = self.sites.get(parcel.sender)
        if sender is not None and self.is_within(parcel.sender, parcel.octets[24:40]):
            return parcel, "" if sender.is_alive else WITHOUT_BORDER
        if sender is not None:
            octets, obstacle = sender.carry_out(parcel.octets)
            if obstacle:
                return parcel, obstacle
            if octets != parcel.octets:
                self.injected["rewritten"] += 1
                parcel = dataclasses.replace(parcel, octets=octets)
        receiver = self.sites.get(self.present.get(parcel.octets[24:40], ""))
        if receiver is None or parcel.sender == ROUTER:  # whose address is of the prefix
            return parcel, ""
        return parcel, receiver.carry_in(parcel.octets)

    def _at_border(self, parcel: Parcel) -> Parcel:
        """Rewrites the source of a rewritable packet that leaves through another provider."""
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
        """The packet with one bit changed; not in version or length, which links check."""
        octets = bytearray(parcel.octets)
        at = self.random.choice((1, 2, 3, *range(8, 24), *range(40, len(octets))))
        bit = self.random.randrange(4 if at == 1 else 8)
        octets[at] ^= 1 << bit
        return Parcel(
            bytes(octets), parcel.sender, parcel.sent_ns, parcel.forged, parcel.informed, True
        )


def rejection_of(octets: bytes) -> bytes:
    """The error of a host without the shim about an M6 next header (RFC 8200 §4)."""
    error = icmpv6.ErrorMessage(
        type=icmpv6.PARAMETER_PROBLEM,
        code=icmpv6.UNRECOGNIZED_NEXT_HEADER,
        value=6,
        quote=octets,
    )
    return error.encode_packet(Locator(octets[24:40]), Locator(octets[8:24]))


assert CODEPOINTS.rewritable_first != CODEPOINTS.fixed_first
