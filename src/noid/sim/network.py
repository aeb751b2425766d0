"""Between the hosts: providers, borders, and everything a network does to packets.

A locator belongs to one provider, and a packet passes that of its source and that of its
destination. A border may send a packet that says "rewrite ok" by another provider than its source's
and then rewrites the source [draft §6, D6].
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from noid.constants import MILLISECOND
from noid.locators import Locator
from noid.sim.parcel import CODEPOINTS, SLOTS, Parcel, is_m6
from noid.wire import icmpv6, ipv6

ROUTERS = {p: Locator(bytes.fromhex(f"20010db8{p:04x}") + bytes(9) + b"\1") for p in range(16)}
MTU_DEFAULT = 1500


@dataclass(slots=True)
class Weather:
    """What the lines do to packets.

    Attributes:
        delay_ns: of every packet, at least.
        jitter_ns: at most so much more; more than the gap between packets reorders them.
        loss: share that vanishes.
        duplication: share that arrives twice.
        corruption: share in which one bit changes.
        mtu: longer packets vanish, and their sender is told.
        rewriting: share of rewritable packets that a border sends by another provider.
        tells: routers say "destination unreachable".
    """

    delay_ns: int = 10 * MILLISECOND
    jitter_ns: int = 2 * MILLISECOND
    loss: float = 0.0
    duplication: float = 0.0
    corruption: float = 0.0
    mtu: int = MTU_DEFAULT
    rewriting: float = 0.0
    tells: bool = False


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
        down: providers that pass nothing.
        cuts: pairs (provider of the source, provider of the destination) that pass nothing.
        filtered: providers whose firewall drops the M6 next headers.
        borders: nodes whose border rewrites; all their locators.
        present: the addresses that exist now, and whose.
    """

    def __init__(self, source: random.Random, injected: Counter[str], weather: Weather) -> None:
        self.random = source
        self.injected = injected
        self.weather = weather
        self.down: set[int] = set()
        self.cuts: set[tuple[int, int]] = set()
        self.filtered: set[int] = set()
        self.borders: dict[str, tuple[Locator, ...]] = {}
        self.present: dict[Locator, str] = {}
        self.listeners: list[Callable[[Parcel], None]] = []

    def heal(self) -> None:
        """Everything passes, nothing is lost."""
        self.weather = Weather(self.weather.delay_ns)
        self.down.clear()
        self.cuts.clear()
        self.filtered.clear()

    def passes(self, source: Locator, destination: Locator) -> bool:
        """Whether anything gets from one locator to the other."""
        there, here = provider_of(source), provider_of(destination)
        if there in self.down or here in self.down or (there, here) in self.cuts:
            return False
        return destination in self.present

    def carry(self, parcel: Parcel) -> tuple[Parcel, list[int], str]:
        """What becomes of a packet.

        Returns:
            The packet as it arrives, after which delays (none: it is lost), and what happened.
        """
        weather = self.weather
        parcel = self._at_border(parcel)
        octets = parcel.octets
        source, destination = Locator(octets[8:24]), Locator(octets[24:40])
        if not parcel.forged and source not in self.present and provider_of(source):
            self.injected["address gone"] += 1
            return parcel, [], "x source gone"
        if not self.passes(source, destination):
            self.injected["unreachable"] += 1
            return parcel, [], "x unreachable"
        if {provider_of(source), provider_of(destination)} & self.filtered and is_m6(octets):
            self.injected["filtered"] += 1
            return parcel, [], "x filtered"
        if len(octets) > weather.mtu:
            self.injected["too big"] += 1
            return parcel, [], "x too big"
        if weather.loss and self.random.random() < weather.loss:
            self.injected["lost"] += 1
            return parcel, [], "x lost"
        delays = [self._delay()]
        fate = ""
        if weather.duplication and self.random.random() < weather.duplication:
            self.injected["duplicated"] += 1
            delays.append(self._delay())
            fate = "twice"
        if weather.corruption and self.random.random() < weather.corruption:
            self.injected["corrupted"] += 1
            parcel = self._corrupted(parcel)
            fate += " corrupted"
        return parcel, delays, fate

    def error_about(self, parcel: Parcel, fate: str) -> bytes | None:
        """What a router says about a packet it did not pass, if it says anything."""
        octets = parcel.octets
        if parcel.forged or (octets[6] == ipv6.ICMPV6 and octets[40] < 128):
            return None
        if fate == "x too big":
            kind, value = icmpv6.PACKET_TOO_BIG, self.weather.mtu
        elif fate == "x unreachable" and self.weather.tells:
            kind, value = icmpv6.DESTINATION_UNREACHABLE, 0
        else:
            return None
        source = Locator(octets[8:24])
        error = icmpv6.ErrorMessage(type=kind, code=0, value=value, quote=octets)
        return error.encode_packet(ROUTERS[provider_of(source) & 15], source)

    def _delay(self) -> int:
        jitter = self.weather.jitter_ns
        return self.weather.delay_ns + (self.random.randrange(jitter) if jitter else 0)

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
