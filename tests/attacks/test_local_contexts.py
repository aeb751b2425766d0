# SPDX-License-Identifier: MIT
"""An unprivileged local user takes every context, by connections to very many M6 peers [D46].

The names and addresses are those of an accomplice, whose servers answer everything.
"""

from noid.constants import MILLISECOND, NO_USER
from noid.control.reports import shares_report
from noid.counters import Drop
from noid.engine.events import AskDns, Output, PeerResolved
from noid.flows.events import OneWayDataSeen, UlpPacketSeen, UnknownPeerSeen
from noid.locators import Locator
from noid.shares.policy import LOOKUPS, RESOLVED, SHARES
from noid.wire.control import Code
from tests.attacks.test_one_prefix import EVIL, LIMIT, Victim, codes
from tests.engine.network import B1, packet

MALLORY, ALICE = 1_001, 1_002
LOCAL = LIMIT - LIMIT // SHARES
SITES = [0x3FFF_0000_0000 + number * 0x1_0001 for number in range(1_000)]


def connect(victim: Victim, user: int, site: int) -> list[Output]:
    """A program of a user resolves a name of a peer, and sends to it."""
    victim.now_ns += MILLISECOND
    aid = victim.peer_of(site)
    victim.host.handle(PeerResolved(f"{aid.hex()}.example", aid, (aid,)), victim.now_ns)
    return victim.host.handle(UlpPacketSeen(packet(B1, aid), user), victim.now_ns)


def contexts_of(victim: Victim, user: int) -> int:
    return sum(one.user == user for one in victim.host.contexts)


def flooded(user: int = MALLORY) -> Victim:
    """A host one of whose users has begun as many contexts as the table has."""
    victim = Victim()
    for number in range(LIMIT):
        assert Code.INIT in codes(connect(victim, user, SITES[number]))
    return victim


def test_one_user_leaves_contexts_to_peers() -> None:
    victim = flooded()
    for site in SITES[: LIMIT // SHARES]:
        assert Code.CONF in codes(victim.meet(site))
    assert not victim.drops(Drop.TOO_MANY_CONTEXTS)
    assert len(victim.host.contexts) == LIMIT


def test_one_user_leaves_contexts_to_others() -> None:
    victim = flooded()
    for number in range(LIMIT // 2):
        victim.meet(SITES[number])
        assert Code.INIT in codes(connect(victim, ALICE + number, SITES[number]))
        assert contexts_of(victim, ALICE + number) == 1
        connect(victim, MALLORY, SITES[-1])
    assert contexts_of(victim, MALLORY) <= LOCAL - LIMIT // 2 + 1
    assert not victim.drops(Drop.TOO_MANY_CONTEXTS)


def test_one_user_takes_none_of_those_that_others_use() -> None:
    victim = Victim()
    for number in range(LIMIT // SHARES):
        victim.meet(SITES[number])
        connect(victim, ALICE, SITES[number])
    for context in victim.host.contexts:
        victim.host.handle(OneWayDataSeen(context.local_label), victim.now_ns)
    kept = {one.local_label for one in victim.host.contexts}
    for number in range(2 * LIMIT):
        connect(victim, MALLORY, SITES[number % len(SITES)])
    assert kept <= {one.local_label for one in victim.host.contexts}
    assert contexts_of(victim, MALLORY) == LOCAL - LIMIT // SHARES


def test_a_user_above_its_share_gives_way_where_peers_use_the_rest() -> None:
    victim = flooded()
    for site in SITES[:LIMIT]:
        victim.meet(site)
        for context in victim.host.contexts_from(LOCAL, LIMIT):
            victim.host.handle(OneWayDataSeen(context.local_label), victim.now_ns)
    assert Code.INIT in codes(connect(victim, ALICE, SITES[0]))
    assert contexts_of(victim, ALICE) == 1


def test_peers_take_no_context_of_a_local_program() -> None:
    victim = flooded()
    for _ in range(2 * LIMIT):
        victim.meet(EVIL)
    assert contexts_of(victim, MALLORY) == LOCAL


def test_where_the_user_is_not_known_an_eighth_is_left_to_peers_too() -> None:
    victim = flooded(NO_USER)
    assert Code.CONF in codes(victim.meet(EVIL))
    assert Code.INIT in codes(connect(victim, NO_USER, EVIL))


def test_the_status_names_the_largest_users() -> None:
    victim = Victim()
    for user in (MALLORY, MALLORY, MALLORY, ALICE, ALICE, NO_USER):
        connect(victim, user, EVIL)
    assert shares_report(victim.host.shares)["contexts_of_local_programs"] == {
        "limit": LOCAL,
        "used": 6,
        "largest": {f"user {MALLORY}": 3, f"user {ALICE}": 2, "unknown user": 1},
    }


def test_a_peer_that_users_resolve_counts_for_one_that_has_fewer() -> None:
    """So no user can let a peer be forgotten that it has resolved before others did."""
    victim = Victim()
    peers = [victim.peer_of(site) for site in SITES[:3]]
    for user, aid in [(MALLORY, one) for one in peers] + [(ALICE, peers[0]), (MALLORY, peers[0])]:
        victim.host.handle(PeerResolved("c.example", aid, (aid,), user), victim.now_ns)
    assert shares_report(victim.host.shares)["resolved_peers"] == {
        "limit": RESOLVED.limit,
        "used": 3,
        "largest": {f"user {MALLORY}": 2, f"user {ALICE}": 1},
    }


def test_the_packets_of_one_user_cause_half_of_the_lookups() -> None:
    victim = Victim()
    host = victim.host
    for site in SITES:
        aid = Locator(site.to_bytes(6) + bytes((1,) * 10))
        host.handle(UnknownPeerSeen(aid, MALLORY), victim.now_ns)
    assert host.inspection.sizes["lookups"] == LOOKUPS.limit // 2
    for number, user in enumerate((ALICE, NO_USER)):
        other = Locator(SITES[number].to_bytes(6) + bytes((2,) * 10))
        asked = host.handle(UnknownPeerSeen(other, user), victim.now_ns)
        assert any(isinstance(one, AskDns) for one in asked)
