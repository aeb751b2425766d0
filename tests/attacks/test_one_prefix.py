# SPDX-License-Identifier: MIT
"""One /48 with real handshakes: it fills no table for others [D46]."""

from random import Random

import pytest

from noid.constants import (
    ALIKE_MAX,
    IN_USE_TIME,
    MILLISECOND,
    PROVISIONAL_CONTEXTS_MAX,
    SECOND,
    VERIFY_AGAIN_WAITING,
)
from noid.control.reports import shares_report
from noid.counters import Drop
from noid.dns.records import Answer, Status
from noid.engine.events import (
    AnswerArrived,
    CheckIdle,
    IdleChecked,
    LocatorsChanged,
    Output,
    PeerResolved,
    SendControl,
    TimePassed,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.flows.events import ControlMessageReceived, OneWayDataSeen, UlpPacketSeen
from noid.identifiers import NO_LABEL, Label, Nonce, Token
from noid.locators import Locator
from noid.shares.policy import CHECKS, INQUIRIES, SHARES, site_of
from noid.wire import ipv6
from noid.wire.control import Code, ControlMessage, decode_message, encode_packet
from noid.wire.options import ContextOption, LocatorEntry, LocatorFlag, Tokens
from tests.engine.network import B1, B2, CODEPOINTS, STRANGER, packet

LIMIT = 800
SHARE = LIMIT // SHARES
EVIL = 0x20010DB8AAAA


class Victim:
    """A responder, and peers that complete the exchange with it."""

    def __init__(self, limit: int = LIMIT) -> None:
        options = HostOptions(
            codepoints=CODEPOINTS, birthday=1, reset_key=bytes(32), contexts_max=limit
        )
        self.chance = Random(1)
        self.host = Host(options, self.chance.randbytes)
        self.now_ns = SECOND
        self.host.handle(LocatorsChanged((B1, B2)), self.now_ns)
        self.peers = 0

    def peer_of(self, site: int) -> Locator:
        self.peers += 1
        return Locator(site.to_bytes(6, "big") + self.peers.to_bytes(10, "big"))

    def receive(self, message: ControlMessage, source: Locator) -> list[Output]:
        octets = encode_packet(message, source, B1, CODEPOINTS)[ipv6.HEADER_OCTETS :]
        return self.host.handle(ControlMessageReceived(source, B1, False, octets), self.now_ns)

    def meet(
        self, site: int, *, aid: Locator | None = None, more: int = 0, label: Label = NO_LABEL
    ) -> list[Output]:
        """A host of a site begins a context.

        Args:
            site: where it is.
            aid: its AID, if that is another address than the one it sends from.
            more: how many locators it says it has besides.
            label: the one that it chooses; 0 for a random one.

        Returns:
            What its CCR led to.
        """
        self.now_ns += 10 * MILLISECOND
        source = self.peer_of(site)
        label = Label(label or self.chance.randrange(1, 1 << 20))
        token = self.chance.getrandbits(64)
        named = (aid or source, *(self.peer_of(site) for _ in range(more)))
        locators = tuple(LocatorEntry(one, LocatorFlag.LOCAL) for one in named)
        init = ControlMessage(
            code=Code.INIT,
            nonce=Nonce(1),
            sender_aid=aid or source,
            receiver_aid=B1,
            context=ContextOption(sender_label=label),
            tokens=Tokens(sender=Token(token)),
            key=STRANGER.public,
            sender_locators=locators,
            receiver_locators=(LocatorEntry(B1, LocatorFlag.REMOTE),),
        )
        (sent,) = [one for one in self.receive(init, source) if isinstance(one, SendControl)]
        cc = decode_message(sent.packet[ipv6.HEADER_OCTETS :], B1, source, in_slot=False)
        assert cc.tokens is not None
        ccr = ControlMessage(
            code=Code.CCR,
            nonce=Nonce(1),
            sender_aid=aid or source,
            receiver_aid=B1,
            context=ContextOption(
                sender_label=label,
                sender_birthday=cc.context.receiver_birthday,
                receiver_birthday=cc.context.sender_birthday,
            ),
            tokens=Tokens(sender=Token(token), receiver=cc.tokens.sender),
            key=STRANGER.public,
            sender_locators=cc.receiver_locators,
            receiver_locators=cc.sender_locators,
            cookie=cc.cookie,
        )
        return self.receive(ccr, source)

    def pass_time(self) -> set[int]:
        """The labels of contexts of which the engine asks whether they are in use."""
        found: set[int] = set()
        deadline = self.host.deadline()
        while deadline is not None and deadline.at_ns <= self.now_ns:
            outputs = self.host.handle(TimePassed(), self.now_ns)
            found |= {one.local_label for one in outputs if isinstance(one, CheckIdle)}
            deadline = self.host.deadline()
        return found

    def count(self, site: int) -> int:
        return sum(
            one.began is not None and site_of(one.began) == site for one in self.host.contexts
        )

    def drops(self, reason: Drop) -> int:
        return self.host.drops.get(reason, 0)


def codes(outputs: list[Output]) -> list[int]:
    return [one.packet[41] for one in outputs if isinstance(one, SendControl)]


def test_one_48_has_an_eighth_of_the_contexts_while_a_thousand_are_served() -> None:
    victim = Victim(limit=2_400)
    for _ in range(2_400):
        victim.meet(EVIL)
    assert victim.count(EVIL) == 2_400, "no other source needs them"
    for number in range(1_000):
        site = 0x3FFF_0000_0000 + number * 0x1_0001
        assert Code.CONF in codes(victim.meet(site))
        victim.meet(EVIL)
        assert victim.count(site) == 1
    assert victim.count(EVIL) <= 2_400 // SHARES
    assert len(victim.host.contexts) <= 2_400
    assert not victim.drops(Drop.TOO_MANY_CONTEXTS)


def test_few_peers_can_share_one_label_so_that_an_error_about_it_costs_little() -> None:
    victim = Victim()
    for _ in range(2 * ALIKE_MAX):
        victim.meet(EVIL, label=Label(5))
    assert len(victim.host.inspection.by_peer_label[Label(5)]) == ALIKE_MAX
    assert victim.drops(Drop.LABEL_OF_TOO_MANY_PEERS) == ALIKE_MAX
    assert Code.CONF in codes(victim.meet(EVIL, label=Label(6)))


def test_many_48s_of_one_32_get_an_eighth_together() -> None:
    victim = Victim()
    for number in range(LIMIT):
        victim.meet(EVIL + number)
    for number in range(LIMIT - SHARE):
        victim.meet(0x3FFF_0000_0000 + number * 0x1_0001)
        victim.meet(EVIL + LIMIT + number)
    assert sum(victim.count(EVIL + number) for number in range(2 * LIMIT)) <= SHARE
    assert not victim.drops(Drop.TOO_MANY_CONTEXTS)


def test_one_that_goes_for_another_is_told_by_close() -> None:
    victim = Victim()
    for _ in range(LIMIT):
        victim.meet(EVIL)
    assert Code.CLOSE in codes(victim.meet(0x3FFF_0000_0000))


def test_a_program_of_this_host_always_gets_its_context() -> None:
    victim = Victim()
    for _ in range(LIMIT):
        victim.meet(EVIL)
    for context in victim.host.contexts:
        victim.host.handle(OneWayDataSeen(context.local_label), victim.now_ns)
    aid = victim.peer_of(0x3FFF_0000_0000)
    victim.host.handle(PeerResolved("c.example", aid, (aid,)), victim.now_ns)
    outputs = victim.host.handle(UlpPacketSeen(packet(B1, aid)), victim.now_ns)
    assert Code.INIT in codes(outputs)
    for _ in range(2 * LIMIT):
        victim.meet(EVIL)
    assert any(one.peer_aid == aid for one in victim.host.contexts), "exempt"


@pytest.mark.parametrize("age_ns", [0, 2 * IN_USE_TIME])
def test_contexts_in_use_of_many_regions_are_not_taken_for_newcomers(age_ns: int) -> None:
    victim = Victim()
    for number in range(LIMIT):
        victim.meet(0x3FFF_0000_0000 + number * 0x1_0001)
    for context in victim.host.contexts:
        victim.host.handle(OneWayDataSeen(context.local_label), victim.now_ns)
    victim.now_ns += age_ns
    outputs = victim.meet(EVIL)
    assert (Code.CONF in codes(outputs)) is bool(age_ns)
    assert victim.drops(Drop.TOO_MANY_CONTEXTS) == (0 if age_ns else 1)


def test_the_first_questions_of_a_region_wait_while_many_are_on_their_way() -> None:
    victim = Victim()
    for _ in range(INQUIRIES.limit):
        victim.meet(EVIL, more=1)
    assert len(victim.host.inspection.questions) == INQUIRIES.limit // 2
    victim.meet(0x3FFF_0000_0000, more=1)
    assert len(victim.host.inspection.questions) == INQUIRIES.limit // 2 + 1, (
        "another region is asked"
    )
    waiting = victim.host.contexts[INQUIRIES.limit - 1]
    for question in list(victim.host.inspection.questions):
        answer = Answer(status=Status.ABSENT, ttl_seconds=3_600)
        victim.host.handle(AnswerArrived(question, answer), victim.now_ns)
    victim.now_ns += 2 * VERIFY_AGAIN_WAITING
    checked = victim.pass_time()
    assert waiting.local_label in checked
    assert not victim.host.inspection.questions
    victim.host.handle(IdleChecked(waiting.local_label, 0, in_use=False), victim.now_ns)
    assert len(victim.host.inspection.questions) == 1, "the queue permits it now"


def test_provisional_contexts_of_one_48_make_room_for_others() -> None:
    victim = Victim(limit=4_000)
    for _ in range(2 * PROVISIONAL_CONTEXTS_MAX):
        victim.meet(EVIL, aid=victim.peer_of(0x2A00_0000_0000))
    assert victim.count(EVIL) == PROVISIONAL_CONTEXTS_MAX
    for number in range(200):
        site = 0x3FFF_0000_0000 + number * 0x1_0001
        aid = victim.peer_of(0x2A01_0000_0000 + number)
        assert Code.CONF in codes(victim.meet(site, aid=aid))
        assert victim.count(site) == 1
        victim.meet(EVIL, aid=victim.peer_of(0x2A00_0000_0000))
    assert victim.count(EVIL) <= PROVISIONAL_CONTEXTS_MAX // SHARES
    assert victim.host.inspection.provisional_count <= PROVISIONAL_CONTEXTS_MAX


def test_the_status_names_the_largest_users() -> None:
    victim = Victim()
    for _ in range(5):
        victim.meet(EVIL)
    for number in range(4):
        victim.meet(EVIL + 1 + number)
    victim.meet(EVIL, aid=victim.peer_of(0x2A00_0000_0000))
    report = shares_report(victim.host.shares)
    assert report["contexts"] == {
        "limit": LIMIT,
        "used": 9,
        "largest": {"2001:db8:aaaa::/48": 5, "2001:db8::/32": 9},
    }
    assert report["provisional_contexts"]["largest"]["2001:db8:aaaa::/48"] == 1
    for _ in range(3 * CHECKS.each_at_once):
        source = victim.peer_of(EVIL)
        victim.host.inspection.rates[CHECKS].take(site_of(source), victim.now_ns)
    report = shares_report(victim.host.shares)
    assert report["cc"]["largest"]["2001:db8:aaaa::/48"] > CHECKS.each_at_once
