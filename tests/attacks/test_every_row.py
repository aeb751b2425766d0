# SPDX-License-Identifier: MIT
"""Each row of the shares' policy: one /48 gets an eighth, while 1,000 other /48s are served [D46].

Attacker: a /48 that takes as much of a row as it can, all the time. A row without a contest here
makes a test fail.
"""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from noid.constants import SECOND
from noid.counters import UpstreamCounter
from noid.dns.records import Answer, Kind, Question, Status
from noid.engine.events import AnswerArrived, AskDns, PeerResolved
from noid.engine.quarantine import Quarantine
from noid.flows.events import UlpPacketSeen, UnknownPeerSeen
from noid.flows.software import SoftwareDatapath
from noid.identifiers import Label
from noid.locators import Locator
from noid.resolver.budget import Budget
from noid.resolver.turns import PEERS, Turns
from noid.shares import policy
from noid.shares.policy import POLICY, SHARES, Row
from noid.shares.rates import Each, Rate
from noid.wire.control import Code
from tests.attacks.test_one_prefix import EVIL, Victim, codes
from tests.engine.network import B1, CODEPOINTS, packet

OTHERS = [0x3FFF_0000_0000 + number * 0x1_0001 for number in range(1_000)]
"""Each in a /32 of its own."""
LIMIT = 1_200
TRIES = 20
"""Seconds that a flood lasts at least, and for which the last of the others tries again."""
PATIENCE_S = 60.0
ANSWERED = Answer(status=Status.ABSENT, ttl_seconds=60)


class Contest(NamedTuple):
    """What came of it.

    Attributes:
        of_evil: what the attacker got: entries, or events in each second.
        limit: how much there was.
        served: how many of the others got what they wanted.
    """

    of_evil: float
    limit: int
    served: int


def tries() -> Iterator[int]:
    """The others, and now and then the attacker."""
    for number, site in enumerate(OTHERS):
        if number % 4 == 0:
            yield EVIL
        yield site


def contexts() -> Contest:
    victim = Victim(LIMIT)
    for _ in range(LIMIT // 3):
        victim.meet(EVIL)
    assert victim.count(EVIL) == LIMIT // 3, "no other source needs them"
    for site in tries():
        assert Code.CONF in codes(victim.meet(site))
    return Contest(victim.count(EVIL), LIMIT, sum(victim.count(site) for site in OTHERS))


def local_contexts() -> Contest:
    """Users of this host, of which one begins very many."""
    victim = Victim(LIMIT)

    def connect(user: int) -> None:
        aid = victim.peer_of(EVIL)
        victim.host.handle(PeerResolved("evil.test", aid, (aid,)), victim.now_ns)
        victim.host.handle(UlpPacketSeen(packet(B1, aid), user), victim.now_ns)

    for _ in range(2 * LIMIT):
        connect(1)
    users = range(2, 2 + len(OTHERS))
    for user in users:
        connect(user)
        connect(1)
    having = Counter(one.user for one in victim.host.contexts)
    return Contest(having[1], LIMIT, sum(having[user] == 1 for user in users))


def resolved() -> Contest:
    """Users of this host, of which one resolves very many names of peers."""
    victim, limit = Victim(), policy.RESOLVED.limit

    def resolve(user: int) -> Locator:
        aid = victim.peer_of(EVIL)
        victim.host.handle(PeerResolved("evil.test", aid, (aid,), user), victim.now_ns)
        return aid

    for _ in range(limit + 1):
        resolve(1)
    known = victim.host.inspection.peers
    assert len(known) == limit, "no other user needs them"
    of_others = []
    for user in range(2, 2 + len(OTHERS)):
        of_others += [resolve(user) for _ in range(limit // len(OTHERS))]
        resolve(1)
    having = sum(one.user == 1 for one in known.values())
    return Contest(having, limit, len({known[one].user for one in of_others if one in known}))


def provisional() -> Contest:
    limit = policy.PROVISIONAL.limit
    victim = Victim(4 * limit)
    for _ in range(limit // 3):
        victim.meet(EVIL, aid=victim.peer_of(0x2A00_0000_0000))
    served = 0
    for number, site in enumerate(tries()):
        answered = victim.meet(site, aid=victim.peer_of(0x2A01_0000_0000 + number))
        served += site != EVIL and Code.CONF in codes(answered) and victim.count(site) == 1
    return Contest(victim.count(EVIL), limit, served)


def questions(row: Row, evil: Callable[[int], Question]) -> Contest:
    """Those of the attacker are never answered, those of others at once."""

    async def run() -> Contest:
        budget = Budget(Turns(PEERS, Counter[UpstreamCounter]()))
        until_s = asyncio.get_running_loop().time() + PATIENCE_S
        greedy = [
            asyncio.create_task(budget.enter(evil(number), until_s))
            for number in range(4 * row.limit)
        ]
        served = 0
        for _ in range(4):
            await asyncio.sleep(0)
        for site in OTHERS:
            one = Question(Kind.LOCATORS, f"www.n{site:x}.test", site.to_bytes(6))
            if await budget.enter(one, until_s):
                served += 1
                budget.leave(one, ANSWERED)
        begun = sum(task.done() and task.result() for task in greedy)
        assert begun, "what no other source needs is used"
        budget.close()
        await asyncio.gather(*greedy)
        return Contest(begun, row.limit, served)

    return asyncio.run(run())


def of_a_site(number: int) -> Question:
    return Question(Kind.LOCATORS, f"www.evil{number}.test", EVIL.to_bytes(6))


def of_a_zone(number: int) -> Question:
    return Question(Kind.LOCATORS, f"n{number}.evil.test", (0x2A00_0000_0000 + number).to_bytes(6))


def lookups() -> Contest:
    """A local program sends to a site whose name servers are silent, and to the others."""
    host = Victim().host
    evil = [Locator(EVIL.to_bytes(6) + number.to_bytes(10)) for number in range(1, 1_000)]
    for one in evil:
        host.handle(UnknownPeerSeen(one), SECOND)
    served = 0
    for site in OTHERS:
        asked = host.handle(UnknownPeerSeen(Locator(site.to_bytes(6) + bytes((1,) * 10))), SECOND)
        for question in [one.question for one in asked if isinstance(one, AskDns)]:
            host.handle(AnswerArrived(question, ANSWERED), SECOND)
            served += 1
    count = host.inspection.sizes["lookups"]
    assert count, "what nobody else needs is used"
    return Contest(count, policy.LOOKUPS.limit, served)


def quarantine() -> Contest:
    """A site closes contexts that it began."""
    labels = Quarantine(LIMIT)
    numbers = itertools.count(1)

    def put(site: int) -> Label:
        label = Label(next(numbers))
        labels.put(label, SECOND, b"", Locator(site.to_bytes(6) + bytes(10)))
        return label

    for _ in range(LIMIT):
        put(EVIL)
    of_others = [put(site) for site in tries() if site != EVIL or not put(EVIL)]
    return Contest(
        labels.shares.regions[EVIL >> policy.REGION_SHIFT].count(EVIL),
        LIMIT,
        sum(one in labels for one in of_others),
    )


def of_victim(row: Row) -> Contest:
    """A rate of a host."""
    taken = Victim().host.inspection.rates[row]
    return rate(taken) if isinstance(taken, Rate) else each(taken, label)


def rate(taken: Rate) -> Contest:
    """The others come one after the other, and again after a second; evil never stops."""
    row = taken.row
    seconds = max(TRIES, len(OTHERS) * SHARES // row.limit)
    due = [(number * seconds * SECOND // len(OTHERS), site) for number, site in enumerate(OTHERS)]
    heapq.heapify(due)
    end_ns = (seconds + TRIES) * SECOND
    got = served = 0
    for now_ns in range(0, end_ns, SECOND // (4 * row.each)):
        got += taken.take(EVIL, now_ns)
        while due and due[0][0] <= now_ns:
            _, site = heapq.heappop(due)
            if taken.take(site, now_ns):
                served += 1
            else:
                heapq.heappush(due, (now_ns + SECOND, site))
    return Contest((got - row.each_at_once) * SECOND / end_ns, row.limit, served)


def each(taken: Each, user: Callable[[int], object]) -> Contest:
    """A user that takes its whole share leaves the other users theirs."""
    row = taken.row
    got = sum(taken.take(user(0), 0) for _ in range(10 * row.each_at_once))
    served = sum(taken.take(user(1 + number), 0) for number in range(len(OTHERS)))
    return Contest(got / row.burst, SHARES * row.each, served)


def label(number: int) -> object:
    return number, Code.UR, Locator(bytes(16))


CONTESTS: dict[Row, Callable[[], Contest]] = {
    policy.CONTEXTS: contexts,
    policy.LOCAL_CONTEXTS: local_contexts,
    policy.RESOLVED: resolved,
    policy.PROVISIONAL: provisional,
    policy.INQUIRIES: lambda: questions(policy.INQUIRIES, of_a_site),
    policy.ZONE_QUESTIONS: lambda: questions(policy.ZONE_QUESTIONS, of_a_zone),
    policy.LOOKUPS: lookups,
    policy.QUARANTINE: quarantine,
    policy.CHECKS: lambda: of_victim(policy.CHECKS),
    policy.ERRORS: lambda: of_victim(policy.ERRORS),
    policy.MESSAGES: lambda: of_victim(policy.MESSAGES),
    policy.REPEATS: lambda: of_victim(policy.REPEATS),
    policy.AGREEMENTS: lambda: of_victim(policy.AGREEMENTS),
    policy.HINTS: lambda: of_victim(policy.HINTS),
    policy.CONTROL: lambda: rate(SoftwareDatapath(CODEPOINTS).control),
    policy.NAMED: lambda: each(SoftwareDatapath(CODEPOINTS).named, label),
    policy.UNKNOWN: lambda: rate(SoftwareDatapath(CODEPOINTS).unknown),
}


@pytest.mark.parametrize("row", POLICY, ids=lambda row: row.name)
def test_one_48_gets_an_eighth_of_every_row_while_a_thousand_others_are_served(row: Row) -> None:
    contest = CONTESTS[row]()
    assert contest.of_evil * SHARES <= contest.limit
    assert contest.served == len(OTHERS)
