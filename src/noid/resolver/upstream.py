# SPDX-License-Identifier: MIT
"""Questions to the configured resolvers, and what of their answers is remembered.

The protocol asks ``Question``s and gets ``Answer``s; the host's programs ask whatever they like and
get the response as it is. Equal ones on the way at one time are asked once, and what was answered
is not asked again before its time [D31].

Nothing that arrives here is believed further than it answers the question, and nothing that arrives
raises: what is malformed is counted and, to the caller, not there [D30]. Every table, queue and
wait has its limit below. What an answer means for a peer is not known in this room.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

import dns.exception
import dns.flags
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.AAAA

from noid.constants import Codepoints
from noid.counters import UpstreamCounter
from noid.dns.messages import REFUSALS, response_code
from noid.dns.queries import Query, make_query
from noid.dns.records import Answer, Kind, Question, Status
from noid.dns.responses import (
    LIFETIME_MAX_S,
    Response,
    Responses,
)
from noid.dns.zones import zone_in_wire, zone_of
from noid.locators import Locator
from noid.resolver.budget import Budget, Silence
from noid.resolver.lookup import NO_ANSWER, RECORD_WAIT_S, Lookup
from noid.resolver.port import SOCKETS_MAX, Server
from noid.resolver.resolvers import HEDGE_S, REPEAT_S, TOTAL_S, Resolvers
from noid.resolver.turns import OWN, PEERS, PROGRAMS, Claim, Turns

ANSWERS_MAX: Final = 16_384
"""Answers to questions of ours kept; the oldest goes first."""
ANSWER_FLOOR_S: Final = 30
"""Such an answer is kept at least this long, whatever its TTL [D31]."""
CAPABILITY_FAILURE_S: Final = 10
"""A failed capability question is not asked again so soon [RFC 9520]: a DNS host that drops types
it does not know would delay every lookup of its names. Verification has its own backoff [D30]."""
ROOT: Final = b"\x00"


class Upstream:
    """What the protocol and the host's programs ask, answered by the resolvers or from memory.

    Args:
        servers: the resolvers, in the order of preference.
        codepoints: tells the number of the M6 record.
        sources: the host's locators of this moment.
        mark: firewall mark of the sockets, which keeps them out of the shim; 0 for none.
        trusted: where given, the protocol believes only what these resolvers say is authentic,
            and asks no other [D32].
        hedge_s: wait before another path is tried too.
        repeat_s: wait before the same paths are tried again.
        total_s: wait for one query in all.
        record_wait_s: how much later than the text the M6 record may come.
        sockets_max: sockets open to the resolvers at one time.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        codepoints: Codepoints,
        sources: Callable[[], Sequence[Locator]],
        mark: int,
        *,
        trusted: frozenset[Server] | None = None,
        hedge_s: float = HEDGE_S,
        repeat_s: float = REPEAT_S,
        total_s: float = TOTAL_S,
        record_wait_s: float = RECORD_WAIT_S,
        sockets_max: int = SOCKETS_MAX,
    ) -> None:
        self.codepoints = codepoints
        self.record_wait_s = record_wait_s
        self.resolvers = Resolvers(
            servers,
            sources,
            mark,
            hedge_s=hedge_s,
            repeat_s=repeat_s,
            total_s=total_s,
            sockets_max=sockets_max,
        )
        self.counters = self.resolvers.counters
        self.responses = Responses()
        self._closed = False
        self._answers: OrderedDict[tuple[Kind, str], tuple[float, float, Answer]] = OrderedDict()
        self._asking: dict[tuple[Hashable, Question], asyncio.Task[Answer]] = {}
        self._forwarding: dict[tuple[Hashable, bytes], asyncio.Task[Response | None]] = {}
        self.program_turns = Turns(PROGRAMS, self.counters)
        self.own_turns = Turns(OWN, self.counters)
        self.peer_turns = Turns(PEERS, self.counters)
        self._budget = Budget(self.peer_turns)
        self._silence = Silence()
        self.lookup = Lookup(self.resolvers, codepoints, trusted, record_wait_s)

    @property
    def trusted(self) -> frozenset[Server] | None:
        """The resolvers that alone are believed; None for all."""
        return self.lookup.trusted

    async def ask(self, question: Question, client: Hashable = None) -> Answer:
        """Asks one of the protocol's own questions, or remembers what it was answered.

        Equal questions of one client, or for peers of one prefix, on the way at one time are asked
        once [D31]. Cancelling the caller does not cancel the question: another may wait for it, and
        the next will find it remembered.

        Args:
            question: what to ask.
            client: the local client because of whose query it is asked; None if there is none.
        """
        remembered = self.remembered(question)
        if remembered is not None:
            return remembered
        key = (client, question)
        task = self._asking.get(key)
        if task is not None:
            self.counters[UpstreamCounter.COALESCED] += 1
        elif self._closed:
            return NO_ANSWER
        else:
            task = asyncio.create_task(self._resolve(question, client))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key))
        return await asyncio.shield(task)

    def remembered(self, question: Question) -> Answer | None:
        """What the question was answered before, while that may still be used."""
        key = question.kind, question.name
        if key not in self._answers:
            return None
        since_s, until_s, answer = self._answers[key]
        now_s = asyncio.get_running_loop().time()
        if now_s >= until_s:
            del self._answers[key]
            return None
        self.counters[UpstreamCounter.CACHE_HITS] += 1
        age_s = int(now_s - since_s)
        if not age_s:
            return answer
        return replace(answer, ttl_seconds=max(answer.ttl_seconds - age_s, 0))

    async def forward(self, query: Query, client: Hashable = None) -> Response | None:
        """Passes a whole query through as octets: a program may ask what no library of ours knows.

        Args:
            query: what is asked.
            client: who asks; no query of one client waits behind an equal one of another.

        Returns:
            The response, whatever it says, from memory perhaps; None if there was none.
        """
        kept = self.kept(query)
        if kept is not None:
            return kept
        if not query.plain:
            return await self._forward(query, client)
        key = (client, query.key)
        task = self._forwarding.get(key)
        if task is not None:
            self.counters[UpstreamCounter.COALESCED] += 1
        else:
            task = asyncio.create_task(self._forward(query, client))
            self._forwarding[key] = task
            task.add_done_callback(lambda _: self._forwarding.pop(key))
        return await asyncio.shield(task)

    def kept(self, query: Query) -> Response | None:
        """The response to an equal query, while it may still be used."""
        if not query.plain:
            return None
        response = self.responses.find(query, asyncio.get_running_loop().time())
        if response is not None:
            self.counters[UpstreamCounter.CACHE_HITS] += 1
        return response

    async def reachable(self) -> bool:
        """Whether any resolver says anything over any path, even if it refuses."""
        query = make_query(ROOT, dns.rdatatype.NS)
        return await self.resolvers.ask(query, Claim(self.own_turns), everywhere=True) is not None

    @property
    def drops_record(self) -> bool:
        """Whether the resolvers are known to drop queries for the M6 record."""
        return self.lookup.drops_record

    async def close(self) -> None:
        """Abandons all outstanding queries; their callers get "unreachable"."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [*self._asking.values(), *self._forwarding.values()]
        self._budget.close()
        await self.resolvers.close()
        await self.lookup.close()
        await asyncio.gather(*tasks)

    def is_silent(self, query: Query) -> bool:
        """Whether the zone of a name has answered nothing lately: one query for it is enough."""
        return self._silence.is_silent(zone_in_wire(query.name.lower()))

    async def _forward(self, query: Query, client: Hashable) -> Response | None:
        zone = zone_in_wire(query.name.lower())
        octets = await self.resolvers.ask(query, Claim(self.program_turns, client, zone))
        now_s = asyncio.get_running_loop().time()
        answered = octets is not None and response_code(octets) not in REFUSALS
        self._silence.note(zone, now_s, answered=answered)
        if octets is None:
            return None
        response = Response(query, octets, now_s)
        self.responses.keep(query, response)
        return response

    # --- what the protocol asks ---

    async def _resolve(self, question: Question, client: Hashable) -> Answer:
        """One question to its end, and into memory.

        Questions about peers that began the context are limited by peer and by zone, and those
        about a silent zone are answered at once, without an answer [D46].
        """
        deadline_s = self.resolvers.deadline_s()
        zone = zone_of(question.name)
        if client is not None:
            claim = Claim(self.program_turns, client, zone.encode(errors="replace"))
        elif question.behalf:
            return await self._ask_of_peer(question, deadline_s)
        else:
            claim = Claim(self.own_turns, None, zone)
        return await self._inquire(question, claim, deadline_s)

    async def _ask_of_peer(self, question: Question, deadline_s: float) -> Answer:
        if not await self._budget.enter(question, deadline_s):
            self.counters[UpstreamCounter.OVERFLOW] += 1
            return NO_ANSWER
        answer = NO_ANSWER
        answered = self.counters[UpstreamCounter.ANSWERED]
        try:
            if self._budget.may_ask(question):
                answer = await self._inquire(question, self._budget.claim(question), deadline_s)
                # While the resolvers answer nothing at all, no zone is to blame.
                if (
                    answer.status is not Status.UNREACHABLE
                    or self.counters[UpstreamCounter.ANSWERED] > answered
                ):
                    self._budget.note(question, answer)
            else:
                self.counters[UpstreamCounter.SILENT] += 1
            return answer
        finally:
            self._budget.leave(question, answer)

    async def _inquire(self, question: Question, claim: Claim, deadline_s: float) -> Answer:
        answer = await self.lookup.answer(question, claim, deadline_s)
        if answer.status is not Status.UNREACHABLE:
            lifetime_s = min(max(answer.ttl_seconds, ANSWER_FLOOR_S), LIFETIME_MAX_S)
            self._remember(question, answer, lifetime_s)
        elif question.kind is Kind.CAPABILITY:
            self._remember(question, answer, CAPABILITY_FAILURE_S)
        return answer

    def _remember(self, question: Question, answer: Answer, lifetime_s: int) -> None:
        now_s = asyncio.get_running_loop().time()
        self._answers[question.kind, question.name] = (now_s, now_s + lifetime_s, answer)
        if len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
