# SPDX-License-Identifier: MIT
"""An observer that sends before the genuine host answers, and so becomes its half of a context.

Attacker: sees every packet of the set-up and of the conversation, has any source, stops nothing.
The key agreement is not authenticated [D40], so who answers first is the peer. Guaranteed: data is
sent to locators of the genuine peer alone, and arrives there: what two hosts answer to one test is
contested, and data is plain. What else such an observer can do: docs/security.md.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from noid.constants import CONTESTED_TIME, MILLISECOND, MINUTE, SECOND
from noid.engine.secrets import KeyPair, Side, context_key, keyed_hash
from noid.errors import WireError
from noid.identifiers import NO_LABEL, NO_TOKEN, Label, Nonce, Token
from noid.locators import Locator
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message, encode_packet
from noid.wire.options import (
    HASH_OCTETS,
    ContextOption,
    LocatorEntry,
    LocatorFlag,
    Tokens,
)
from noid.wire.peek import blank_authentication
from noid.wire.slots import SLOT_ICMPV6, slot_of
from tests.engine.network import A1, A2, B1, B2, CODEPOINTS, Network, packet

MALLORY = KeyPair(b"the key pair of an observer, 32 ")
LABEL, TOKEN, NONCE = Label(0x77777), Token(0x7777777777777777), Nonce(99)
NO_HASH = bytes(HASH_OCTETS)
INTERVAL_NS = 20 * MILLISECOND
ATTACK_NS = 20 * SECOND
LEAVING_NS = 3 * SECOND
RECOVERY_MAX_NS = 10 * SECOND
KEY_MAX_NS = 15 * MINUTE


def entries(*locators: Locator) -> tuple[LocatorEntry, ...]:
    return tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in locators)


class Observed(Network):
    """Stations a and b, whose packets the observer sees when they are sent.

    Args:
        code: what it sends first: CONF to a as b, or CCR to b as a.
        answers: whether it acknowledges the URs of its victim.
        keeps_alive: whether it sends keepalives too, which it can do without seeing anything.
    """

    def __init__(self, code: Code, *, answers: bool = False, keeps_alive: bool = False) -> None:
        self.code, self.answers, self.keeps_alive = code, answers, keeps_alive
        self.is_there = True
        self.key = b""
        self.mine = self.victim = Side(A1, NO_LABEL, NO_TOKEN, b"")
        self.nonce = 1000
        self.arrived_ns: list[int] = []
        super().__init__()

    def put(self, packet: bytes) -> None:
        super().put(packet)
        header = ipv6.Header.decode(packet)
        slot = slot_of(header.next_header, CODEPOINTS)
        in_slot = slot is not None and slot.number == SLOT_ICMPV6 and not header.flow_label
        if self.is_there and (in_slot or header.next_header == ipv6.ICMPV6):
            ends = header.source, header.destination
            try:
                message = decode_message(packet[ipv6.HEADER_OCTETS :], *ends, in_slot=in_slot)
            except WireError:
                return
            for reply in self.replies(message):
                self.say(reply, header.destination, header.source, in_slot=in_slot)

    def say(
        self, message: ControlMessage, source: Locator, to: Locator, *, in_slot: bool = False
    ) -> None:
        """The observer's message overtakes those of the hosts."""
        if message.authentication:
            octets = blank_authentication(message.encode(CODEPOINTS.icmpv6_type))
            message = replace(message, authentication=keyed_hash(self.key, octets))
        octets = encode_packet(message, source, to, CODEPOINTS, in_slot=in_slot)
        self.wire.appendleft((self.now_ns, octets))

    def replies(self, message: ControlMessage) -> Iterator[ControlMessage]:
        """What the observer sends because of a message, back to where that comes from."""
        match self.code, message.code:
            case Code.CONF, Code.INIT if message.sender_aid == A1:
                yield self.conf(message)
            case Code.CCR, Code.INIT if message.sender_aid == A1 and not self.key:
                self.say(self.init(message), A1, B1)
            case Code.CCR, Code.CC if message.nonce == NONCE:
                yield self.ccr(message)
            case Code.CCR, Code.CONF if message.nonce == NONCE:
                assert message.tokens is not None
                self.agree(
                    Side(B1, message.context.sender_label, message.tokens.sender, message.key)
                )
        if message.code is Code.UR and self.answers and message.sender_aid == self.victim.aid:
            yield self.short(Code.UA, message.nonce)

    def agree(self, victim: Side) -> None:
        """The observer and its victim have a key."""
        other = A1 if victim.aid == B1 else B1
        self.victim, self.mine = victim, Side(other, LABEL, TOKEN, MALLORY.public)
        self.key = context_key(MALLORY.agree(victim.key), self.mine, victim)

    def conf(self, init: ControlMessage) -> ControlMessage:
        assert init.tokens is not None
        self.agree(Side(A1, init.context.sender_label, init.tokens.sender, init.key))
        return ControlMessage(
            code=Code.CONF,
            nonce=init.nonce,
            sender_aid=B1,
            receiver_aid=A1,
            context=ContextOption(sender_label=LABEL, receiver_label=self.victim.label),
            tokens=Tokens(TOKEN, self.victim.token),
            sender_locators=entries(B1, B2),
            authentication=NO_HASH,
            key=MALLORY.public,
        )

    def init(self, init: ControlMessage) -> ControlMessage:
        context = ContextOption(sender_label=LABEL)
        tokens = Tokens(sender=TOKEN)
        return replace(init, nonce=NONCE, context=context, tokens=tokens, key=MALLORY.public)

    def ccr(self, cc: ControlMessage) -> ControlMessage:
        assert cc.tokens is not None
        said = cc.context
        return ControlMessage(
            code=Code.CCR,
            nonce=NONCE,
            sender_aid=A1,
            receiver_aid=B1,
            context=ContextOption(LABEL, NO_LABEL, said.receiver_birthday, said.sender_birthday),
            tokens=Tokens(TOKEN, cc.tokens.sender),
            sender_locators=cc.receiver_locators,
            receiver_locators=cc.sender_locators,
            cookie=cc.cookie,
            key=MALLORY.public,
        )

    def short(self, code: Code, nonce: int) -> ControlMessage:
        return ControlMessage(
            code=code,
            nonce=Nonce(nonce),
            sender_aid=self.mine.aid,
            receiver_aid=self.victim.aid,
            context=ContextOption(sender_label=LABEL, receiver_label=self.victim.label),
            authentication=NO_HASH,
        )

    def arrive(self, octets: bytes) -> None:
        """Notes when data of the victim arrives at the other host."""
        station = self.b if self.code is Code.CONF else self.a
        before = len(station.delivered)
        super().arrive(octets)
        if len(station.delivered) > before:
            self.arrived_ns.append(self.now_ns)

    def talk(self, duration_ns: int) -> int:
        """Programs on both hosts send datagrams; the longest time in which none arrived."""
        times = [self.now_ns]
        self.arrived_ns = times
        for number in range(duration_ns // INTERVAL_NS):
            if self.keeps_alive and self.key:
                self.nonce += 1
                ends = self.mine.aid, self.victim.aid
                self.say(self.short(Code.KEEPALIVE, self.nonce), *ends, in_slot=True)
            self.ulp_sends(self.a, packet(A1, B1, b"to b %d" % number, protocol=ipv6.UDP))
            self.ulp_sends(self.b, packet(B1, A1, b"to a %d" % number, protocol=ipv6.UDP))
            self.run(INTERVAL_NS)
        return max(after - before for before, after in pairwise([*times, self.now_ns]))


@pytest.mark.parametrize("code", [Code.CONF, Code.CCR])
@pytest.mark.parametrize(
    ("answers", "keeps_alive"),
    [
        pytest.param(False, False, id="once"),
        pytest.param(True, False, id="and answers"),
        pytest.param(False, True, id="and keeps alive"),
        pytest.param(True, True, id="and does both"),
    ],
)
def test_an_observer_that_answers_first_stops_no_data_and_is_forgotten(
    code: Code, answers: bool, keeps_alive: bool
) -> None:
    network = Observed(code, answers=answers, keeps_alive=keeps_alive)
    network.resolve(network.a, network.b)
    interrupted_ns = network.talk(ATTACK_NS)
    assert network.key, "the victim has agreed on a key with it"
    assert interrupted_ns <= 10 * INTERVAL_NS
    assert len(network.arrived_ns) >= ATTACK_NS // INTERVAL_NS * 95 // 100
    network.is_there = network.keeps_alive = False
    assert_recovers(network)
    assert {octets[24:40] for octets in network.trace} <= {A1, A2, B1, B2}


def assert_recovers(network: Observed) -> None:
    """Data arrives, plainly at first perhaps, and the two hosts agree on a key of their own."""
    network.talk(RECOVERY_MAX_NS)
    assert network.talk(SECOND) < 100 * MILLISECOND
    until_ns = network.now_ns + KEY_MAX_NS
    while network.now_ns < until_ns and not has_own_key(network):
        network.talk(SECOND)
    assert has_own_key(network)


def has_own_key(network: Observed) -> bool:
    """Whether each host has one context, and both have the same key, which the observer lacks."""
    keys = [[one.agreed_key for one in station.host.contexts] for station in network.stations]
    return len(keys[0]) == 1 and keys[0] == keys[1] and keys[0] not in ([b""], [network.key])


@pytest.mark.parametrize("code", [Code.CONF, Code.CCR])
@pytest.mark.parametrize("answers", [False, True])
def test_an_observer_that_has_left_the_path_stops_no_data(code: Code, answers: bool) -> None:
    """It knows the key, and neither sees nor guesses the nonces that it would have to answer."""
    network = Observed(code, answers=answers)
    network.resolve(network.a, network.b)
    network.talk(SECOND)
    assert network.key, "it is the peer of its victim"
    network.is_there, network.keeps_alive = False, True
    assert network.talk(ATTACK_NS) <= LEAVING_NS
    assert network.talk(ATTACK_NS) < 100 * MILLISECOND
    assert network.talk(CONTESTED_TIME) <= LEAVING_NS
    assert has_own_key(network)


@pytest.mark.parametrize("code", [Code.CONF, Code.CCR])
def test_who_was_the_peer_once_stops_no_data_by_messages_alone(code: Code) -> None:
    """Its key is kept as that of a genuine peer that was replaced [D39]."""
    network = Observed(code)
    network.resolve(network.a, network.b)
    network.talk(SECOND)
    network.is_there = False
    assert_recovers(network)
    network.keeps_alive = True
    assert network.talk(ATTACK_NS) < 100 * MILLISECOND
    assert has_own_key(network)
