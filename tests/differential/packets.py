# SPDX-License-Identifier: MIT
"""Packets from the network, generated from a seed, with structure: what parsers could disagree on.

Header chains, hop-by-hop options, fragments, nesting, truncation at every length, padding behind
the end, jumbo options, VLAN tags, control messages, and every source and destination that matters.
"""

import random
from dataclasses import dataclass, replace

from noid.constants import Codepoints
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import Locator
from noid.wire import ipv6

CODEPOINTS = Codepoints()
ETHERNET = bytes(12) + b"\x86\xdd"
TAG = b"\x81\x00\x00\x07"
HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
CHAINED = (HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION)
PROTOCOLS = (6, 17, 132, 50, 44, 58, 41, 59, 253)
OWN = [Locator(bytes.fromhex("20010db8000100aa") + bytes(7) + bytes([n])) for n in range(1, 7)]
PEERS = [Locator(bytes.fromhex("20010db8000200bb") + bytes(7) + bytes([n])) for n in range(1, 7)]
NOT_OURS = Locator(bytes.fromhex("20010db8000100aa") + bytes(7) + b"\x99")
ODD_SOURCES = [
    Locator(bytes.fromhex(text))
    for text in (
        "20010db8000900cc0000000000000001",
        "ff020000000000000000000000000001",
        "fe800000000000000000000000000001",
        "00000000000000000000000000000000",
        "00000000000000000000000000000001",
        "00000000000000000000ffffc0000201",
        "00000000000000010000ffffc0000201",
    )
]
CONTROL = bytes((CODEPOINTS.icmpv6_type,))


@dataclass(slots=True)
class Frame:
    """A packet as it comes.

    Attributes:
        packet: from the IPv6 header on.
        is_tagged: whether its frame has a VLAN tag.
    """

    packet: bytes
    is_tagged: bool = False

    @property
    def octets(self) -> bytes:
        """With its link-layer header."""
        return ETHERNET[:12] + TAG * self.is_tagged + ETHERNET[12:] + self.packet

    @classmethod
    def of(cls, octets: bytes) -> "Frame":
        """The frame that ``octets`` are."""
        is_tagged = octets[12:14] == TAG[:2]
        return cls(octets[len(ETHERNET) + len(TAG) * is_tagged :], is_tagged)


def flows() -> list[Flow]:
    """The contexts of the host: ordinary, with many locators, holding, aside."""
    ordinary = Flow(
        local_aid=OWN[0],
        peer_aid=PEERS[0],
        local_label=Label(0x11111),
        peer_label=Label(0x22222),
        local_locator=OWN[0],
        peer_locator=PEERS[0],
        local_locators=frozenset(OWN[:2]),
        peer_locators=frozenset(PEERS[:2]),
        verified_locators=frozenset(PEERS[:2]),
        rewritable=True,
        transmits=True,
        silence_ns=10**9,
    )
    many = replace(
        ordinary,
        peer_aid=PEERS[1],
        peer_locator=PEERS[1],
        local_label=Label(0x33333),
        local_locators=frozenset(OWN),
        peer_locators=frozenset(PEERS),
        verified_locators=frozenset(PEERS),
    )
    holding = replace(ordinary, local_label=Label(0x44444), transmits=False, aside=True, holds=True)
    aside = replace(ordinary, local_label=Label(0x55555), transmits=False, aside=True)
    return [ordinary, many, holding, aside]


LABELS = [flow.local_label for flow in flows()]


class Generator:
    """Packets without end.

    Args:
        seed: two generators with one seed make the same packets.
    """

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def frame(self) -> Frame:
        """The next one."""
        chance = self.chance
        frame = Frame(self._packet())
        while chance.random() < 0.35:
            self._spoil(frame)
        frame.is_tagged = chance.random() < 0.01
        return frame

    # --- sound packets ----------------------------------------------------------------------------

    def _packet(self) -> bytes:
        chance = self.chance
        first, body = self._chain(chance.choice((0, 0, 0, 1, 1, 2, 3)))
        source = chance.choice((*PEERS[:2] * 3, *PEERS, *ODD_SOURCES))
        destination = chance.choice((*OWN[:2] * 6, *OWN, NOT_OURS))
        label = chance.choice((LABELS[0],) * 6 + (*LABELS, 0, 0, 0, chance.randrange(1 << 20)))
        word = 6 << 28 | chance.choice((0, 0, chance.randrange(256))) << 20 | label
        return (
            word.to_bytes(4, "big")
            + (len(body) & 0xFFFF).to_bytes(2, "big")
            + bytes((first, chance.choice((64, 64, 1, 0, 255))))
            + source
            + destination
            + body
        )

    def _chain(self, depth: int) -> tuple[int, bytes]:
        """A next header and what it announces."""
        chance = self.chance
        if depth == 0:
            return self._upper()
        kind = chance.choice(CHAINED[:1] * 4 + CHAINED)
        following, body = self._chain(depth - 1)
        if kind == FRAGMENT:
            offset = chance.choice((0, 0, 1, 0x9C8, chance.randrange(0x10000)))
            head = bytes((following, 0)) + offset.to_bytes(2, "big") + chance.randbytes(4)
        elif kind == AH:
            head = bytes((following, 4)) + bytes(2) + chance.randbytes(20)
        elif kind == ROUTING:
            left = chance.choice((0, 0, 1))
            head = bytes((following, 2, chance.choice((0, 2, 4, 253)), left)) + bytes(20)
        else:
            options = self._options()
            head = bytes((following, (2 + len(options)) // 8 - 1)) + options
        return kind, head + body

    def _options(self) -> bytes:
        """The options of a header: hop-by-hop or destination."""
        chance = self.chance
        options = b""
        for _ in range(chance.choice((0, 0, 1, 1, 2, 9))):
            kind = chance.choice((0x05, 0x05, 0x1E, 0x3E, 0x5E, 0x9E, 0xC2, 0xDE, 0x01, 0x00))
            value = bytes(chance.choice((0, 2, 2, 4, 6)))
            options += b"\0" if not kind else bytes((kind, len(value))) + value
        missing = -(2 + len(options)) % 8
        if missing == 1:
            options += b"\0"
        elif missing:
            options += bytes((1, missing - 2)) + bytes(missing - 2)
        return options

    def _upper(self) -> tuple[int, bytes]:
        """M6 mostly, in any slot, perhaps with M6 inside; or a protocol as it is."""
        chance = self.chance
        if chance.random() < 0.15:
            return chance.choice(PROTOCOLS), self._payload()
        number = chance.randrange(222, 242)
        body = self._payload()
        if number % 8 == 7 and chance.random() < 0.9:
            inner = chance.choice((*PROTOCOLS, *CHAINED, chance.randrange(222, 242), 253, 253))
            body = bytes((inner, chance.choice((0, 0, 0, 1)), 1, 4)) + bytes(4) + body
        elif number % 8 == 5 and chance.random() < 0.9:
            inner, body = self._chain(chance.choice((0, 0, 1)))
            body = bytes((inner, 0)) + chance.choice((b"\0\0", b"\0\1")) + bytes(4) + body
        elif number % 8 == 6 and chance.random() < 0.5:
            body = CONTROL + body
        return number, body

    def _payload(self) -> bytes:
        return self.chance.randbytes(self.chance.choice((0, 0, 1, 7, 8, 20, 20, 64, 200)))

    # --- what is wrong with them ------------------------------------------------------------------

    def _spoil(self, frame: Frame) -> None:
        chance = self.chance
        packet = bytearray(frame.packet)
        match chance.randrange(7):
            case 0:
                del packet[chance.randrange(1, len(packet) + 1) :]
            case 1:
                packet += bytes(chance.choice((1, 6, 20)))
            case 2 if len(packet) > 5:
                packet[4:6] = chance.choice((b"\0\0", b"\0\x08", b"\xff\xff", packet[4:6]))
            case 3 if packet:
                packet[chance.randrange(len(packet))] = chance.randrange(256)
            case 4 if len(packet) > 41:
                packet[41] = chance.choice((0, 1, 0xFF))
            case 5:
                del packet[chance.randrange(38, 49) :]
            case 6 if len(packet) >= 40:
                end = chance.randrange(len(packet) + 1)
                del packet[max(end, 40) :]
                packet[4:6] = (len(packet) - ipv6.HEADER_OCTETS).to_bytes(2, "big")
        frame.packet = bytes(packet)
