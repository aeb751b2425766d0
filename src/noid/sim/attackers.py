# SPDX-License-Identifier: MIT
"""The attackers: one that sees no packets of others, and one that sees all.

They stop no packets, and can send from any source. A correct guess of a secret is not a fault of
the protocol, so guesses are drawn until they are wrong.
"""

import random
from collections import deque

from noid.constants import FLOW_LABEL_MASK
from noid.identifiers import Label, Nonce, Token
from noid.locators import UNSPECIFIED, Locator
from noid.sim.node import Node
from noid.sim.parcel import CODEPOINTS, Parcel, is_control, is_data
from noid.sim.ulp import build
from noid.sim.world import World
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, Piggyback, encode_packet
from noid.wire.options import ContextOption, Cookie, Entries, LocatorEntry, LocatorFlag, Tokens
from noid.wire.slots import next_header_of

MALLORY = Locator(bytes.fromhex("20010db80003ffff") + bytes(6) + b"\0\1")
SEEN_MAX = 64
FORGED_NUMBER = 1 << 40
UNSOLICITED = (Code.UR, Code.UA, Code.CLOSE, Code.CLOSEACK)


def local(*locators: Locator) -> Entries:
    """Locators in the form of messages."""
    return tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in locators)


class OffPath:
    """An attacker that knows names and addresses, which are public, and sees no packets of others.

    Args:
        world: where to attack.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.random = random.Random(f"{world.seed}/off-path")
        self.forged = 0

    def attack(self) -> None:
        """One attack, of any kind."""
        kinds = (
            self.init,
            self.conf,
            self.ccr,
            self.unsolicited,
            self.unknown_context,
            self.guessed_label,
            self.piggyback,
            self.garbage,
        )
        victim, friend = self.pair()
        kind = self.random.choice(kinds)
        self.world.injected[f"off-path {kind.__name__}"] += 1
        kind(victim, friend)

    def pair(self) -> tuple[Node, Node]:
        """A victim, and a host that it communicates with."""
        talks = self.world.ledger.conversations
        nodes = self.world.nodes
        if not talks:
            one, other = self.random.sample([n for n in nodes.values() if n.honest], 2)
            return one, other
        talk = self.random.choice(talks)
        ends = [nodes[talk.client], nodes[talk.server]]
        self.random.shuffle(ends)
        return ends[0], ends[1]

    # --- what it sends ------------------------------------------------------------------------

    def send(self, octets: bytes) -> None:
        """Puts a forged packet on the network."""
        self.world.send(Parcel(octets, "mallory", self.world.now_ns, forged=True))

    def message(self, message: ControlMessage, source: Locator, destination: Locator) -> None:
        """Sends a control message."""
        rewritable = message.code is not Code.UC and self.random.random() < 0.3
        self.send(encode_packet(message, source, destination, CODEPOINTS, rewritable=rewritable))

    def label(self) -> Label:
        """A flow label that is not in use."""
        used = {one.local_label for node in self.world.nodes.values() for one in node.host.contexts}
        while True:
            label = Label(self.random.randrange(1, FLOW_LABEL_MASK + 1))
            if label not in used:
                return label

    def init(self, victim: Node, friend: Node, *, source: Locator | None = None) -> None:
        """An INIT in the name of the friend [D13]."""
        self.message(self._init(victim, friend), source or self.source(friend), victim.locators[0])

    def _init(self, victim: Node, friend: Node, packet: bytes = b"") -> ControlMessage:
        return ControlMessage(
            code=Code.INIT,
            nonce=Nonce(self.random.getrandbits(64)),
            sender_aid=friend.locators[0],
            receiver_aid=victim.locators[0],
            context=ContextOption(sender_label=self.label()),
            tokens=Tokens(Token(self.random.getrandbits(64))),
            key=self.random.randbytes(32),
            sender_locators=local(*friend.locators),
            receiver_locators=local(*victim.locators),
            piggyback=Piggyback(packet[6], packet[40:]) if packet else None,
        )

    def conf(self, victim: Node, friend: Node) -> None:
        """An unsolicited CC or CONF."""
        code = self.random.choice((Code.CC, Code.CONF))
        message = ControlMessage(
            code=code,
            nonce=Nonce(self.random.getrandbits(64)),
            sender_aid=friend.locators[0],
            receiver_aid=victim.locators[0],
            context=ContextOption(sender_label=self.label(), receiver_label=self.label()),
            tokens=Tokens(Token(1), Token(self.random.getrandbits(64))),
            key=self.random.randbytes(32),
            authentication=self.random.randbytes(16),
            sender_locators=local(MALLORY),
            receiver_locators=local(*victim.locators),
            cookie=Cookie(timestamp=0, locator=MALLORY, keyed_hash=bytes(16)),
        )
        self.message(message, self.source(friend), victim.locators[0])

    def ccr(self, victim: Node, friend: Node) -> None:
        """A CCR with a random cookie [D8]."""
        message = ControlMessage(
            code=Code.CCR,
            nonce=Nonce(self.random.getrandbits(64)),
            sender_aid=friend.locators[0],
            receiver_aid=victim.locators[0],
            context=ContextOption(sender_label=self.label()),
            tokens=Tokens(Token(1), Token(2)),
            key=self.random.randbytes(32),
            sender_locators=local(MALLORY),
            receiver_locators=local(*victim.locators),
            cookie=Cookie(
                timestamp=self.world.now_ns,
                locator=friend.locators[0],
                keyed_hash=self.random.randbytes(16),
            ),
            reset_token=bytes(16),
        )
        self.message(message, self.source(friend), victim.locators[0])

    def unsolicited(
        self, victim: Node, friend: Node, code: Code | None = None, *, sets: Entries = ()
    ) -> None:
        """UR, UA, CLOSE or CLOSEACK with guessed labels and hash."""
        message = ControlMessage(
            code=code or self.random.choice(UNSOLICITED),
            nonce=Nonce(self.random.getrandbits(63)),
            sender_aid=friend.locators[0],
            receiver_aid=victim.locators[0],
            context=ContextOption(sender_label=self.label(), receiver_label=self.label()),
            sender_locators=sets or local(MALLORY),
            receiver_locators=local(*victim.locators),
            authentication=self.random.randbytes(16),
        )
        self.message(message, self.source(friend), victim.locators[0])

    def unknown_context(self, victim: Node, friend: Node) -> None:
        """A UC that quotes a packet that the victim could have sent [D18]."""
        label = self.label()
        quote = self.data(victim.locators[0], friend.locators[0], label)
        message = ControlMessage(
            code=Code.UC,
            nonce=Nonce(self.random.getrandbits(64)),
            sender_aid=UNSPECIFIED,
            receiver_aid=UNSPECIFIED,
            context=ContextOption(receiver_label=label, sender_birthday=7),
            reset_token=self.random.randbytes(16),
            piggyback=Piggyback(ipv6.IPV6, quote),
        )
        self.message(message, friend.locators[0], victim.locators[0])

    def guessed_label(self, victim: Node, friend: Node, *, source: Locator = MALLORY) -> None:
        """Data for a context whose label is guessed."""
        self.send(self.data(source, victim.locators[0], self.label()))

    def data(self, source: Locator, destination: Locator, label: Label) -> bytes:
        """A data packet that no program sent."""
        self.forged += 1
        packet = bytearray(build(FORGED_NUMBER + self.forged, source, destination, ipv6.UDP, 40))
        packet[1:4] = label.to_bytes(3, "big")
        packet[6] = next_header_of(1, CODEPOINTS, rewritable=True)
        return bytes(packet)

    def piggyback(self, victim: Node, friend: Node) -> None:
        """An INIT with a piggyback that the answer should reflect to the friend [draft §7.3]."""
        self.forged += 1
        number = FORGED_NUMBER + self.forged
        packet = build(number, friend.locators[0], victim.locators[0], ipv6.UDP, 900)
        message = self._init(victim, friend, packet)
        self.message(message, self.source(friend), victim.locators[0])

    def garbage(self, victim: Node, friend: Node) -> None:
        """A message whose options have wrong lengths."""
        octets = bytearray(
            encode_packet(
                self._init(victim, friend), self.source(friend), victim.locators[0], CODEPOINTS
            )
        )
        kind = self.random.randrange(5)
        if kind == 0:
            del octets[self.random.randrange(48, len(octets)) :]
        elif kind == 1:
            octets[45] = self.random.randrange(256)
        elif kind == 2:
            at = self.random.choice((88, 112, 113, 114, 115))
            octets[at % len(octets)] = self.random.randrange(256)
        elif kind == 3:
            octets[90:92] = b"\0\0"  # an option of length 0, a possible endless loop
        else:
            octets += self.random.randbytes(self.random.randrange(1, 900))
        self.send(summed(bytes(octets)))

    def source(self, friend: Node) -> Locator:
        """A source address to forge."""
        return self.random.choice((*friend.locators, MALLORY))


class OnPath(OffPath):
    """An attacker that sees every packet, and sends copies, unchanged or altered.

    Args:
        world: where to attack.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.random = random.Random(f"{world.seed}/on-path")
        self.seen: deque[Parcel] = deque(maxlen=SEEN_MAX)
        self.kept: deque[Parcel] = deque(maxlen=SEEN_MAX)
        world.network.listeners.append(self.see)

    def see(self, parcel: Parcel) -> None:
        """Records a packet that passes."""
        if parcel.forged:
            return
        self.seen.append(parcel)
        if is_control(parcel.octets):
            self.kept.append(parcel)

    def attack(self) -> None:
        """One attack, of any kind."""
        if not self.kept:
            return
        kind = self.random.choice((self.replay, self.alter, self.misplace))
        self.world.injected[f"on-path {kind.__name__}"] += 1
        kind()

    def replay(self, code: Code | None = None) -> None:
        """Replays a recorded packet."""
        kept = [one for one in self.kept if code is None or one.octets[41] == code]
        if kept:
            octets = self.random.choice(kept).octets
            self.world.send(
                Parcel(octets, "mallory", self.world.now_ns, forged=True, informed=True)
            )

    def alter(self, code: Code | None = None) -> None:
        """A recorded control message with one octet changed, and a correct checksum."""
        kept = [one for one in self.kept if code is None or one.octets[41] == code]
        if not kept:
            return
        octets = bytearray(self.random.choice(kept).octets)
        at = self.random.randrange(48, len(octets))
        octets[at] ^= 1 << self.random.randrange(8)
        altered = summed(bytes(octets))
        if altered[41] == Code.CONF:
            self.world.checks.conf_altered(altered)
        self.world.send(Parcel(altered, "mallory", self.world.now_ns, forged=True, informed=True))

    def misplace(self) -> None:
        """Data with the right label from a source that belongs to no host [draft §7.11]."""
        kept = [one for one in self.seen if is_data(one.octets)]
        if kept:
            octets = self.random.choice(kept).octets
            self.send(octets[:8] + MALLORY + octets[24:])


def summed(octets: bytes) -> bytes:
    """An altered control message with correct lengths and checksum."""
    packet = bytearray(octets)
    packet[4:6] = (len(packet) - ipv6.HEADER_OCTETS).to_bytes(2, "big")
    if len(packet) < ipv6.HEADER_OCTETS + 48:
        return bytes(packet)
    packet[42:44] = bytes(2)
    at = 8 if packet[6] == ipv6.ICMPV6 else 56
    ends = Locator(bytes(packet[at : at + 16])), Locator(bytes(packet[at + 16 : at + 32]))
    total = ipv6.checksum(*ends, ipv6.ICMPV6, bytes(packet[ipv6.HEADER_OCTETS :]))
    packet[42:44] = total.to_bytes(2, "big")
    return bytes(packet)
