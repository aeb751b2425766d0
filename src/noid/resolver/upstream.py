# SPDX-License-Identifier: MIT
"""Questions to the configured resolvers, and the cache of their answers.

The protocol asks ``Question``s and gets ``Answer``s; programs of the host send any query and get
the response unchanged. Equal questions that are open at the same time are sent once, and an answer
is used again for its lifetime [D31].

Only records that answer the question are used. No input raises: malformed responses are counted,
and count as no answer [D30]. Every table, queue and wait is limited. This module does not know what
an answer means for a peer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Final

import dns.rdata
import dns.rdatatype

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
from noid.resolver.turns import OWN, PEERS, PROGRAMS, Claim, Limits, Turns

ANSWERS_MAX: Final = 16_384
"""The maximum of cached answers to our own questions; the oldest is removed first."""
ANSWER_FLOOR_S: Final = 30
"""The least lifetime of such an answer, also if its TTL is shorter [D31]."""
CAPABILITY_FAILURE_S: Final = 10
"""How long a failed capability question is not asked again [RFC 9520]: otherwise a DNS host that
drops unknown types would delay every lookup of its names. Verification has its own back-off."""
ROOT: Final = b"\x00"


class Upstream:
    """Answers questions of the protocol and queries of programs, by resolvers or from the cache.

    Args:
        servers: the resolvers, in the order of preference.
        codepoints: has the number of the M6 record.
        sources: returns the present locators of the host.
        mark: firewall mark of the sockets, which keeps them out of the shim; 0 for none.
        trusted: if given, the protocol asks only these resolvers, and uses only authentic answers
            [D32].
        hedge_s: wait before another path is tried too.
        repeat_s: wait before the same paths are tried again.
        total_s: wait for one query in all.
        record_wait_s: how long after the text the M6 record may arrive.
        sockets_max: the maximum of sockets to the resolvers.
        answers_max: the maximum of cached answers to our own questions.
        programs: the table of the queries of local programs.
        own: the table of the questions about peers that local programs talk to.
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
        answers_max: int = ANSWERS_MAX,
        programs: Limits = PROGRAMS,
        own: Limits = OWN,
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
        self._answers_max = answers_max
        self._answers: OrderedDict[tuple[Kind, str], tuple[float, float, Answer]] = OrderedDict()
        self._asking: dict[tuple[Hashable, Question], asyncio.Task[Answer]] = {}
        self._forwarding: dict[tuple[Hashable, bytes], asyncio.Task[Response | None]] = {}
        self.program_turns = Turns(programs, self.counters)
        self.own_turns = Turns(own, self.counters)
        self.peer_turns = Turns(PEERS, self.counters)
        self._budget = Budget(self.peer_turns)
        self._silence = Silence()
        self.lookup = Lookup(self.resolvers, codepoints, trusted, record_wait_s)

    @property
    def trusted(self) -> frozenset[Server] | None:
        """The only resolvers that are used; None for all."""
        return self.lookup.trusted

    async def ask(self, question: Question, client: Hashable = None) -> Answer:
        """Answers a question of the protocol, by the resolvers or from the cache.

        Equal open questions of one client, or for peers of one prefix, are asked once [D31].
        Cancelling the caller does not cancel the question: others may wait for it, and its answer
        is cached.

        Args:
            question: the question.
            client: the local client whose query caused it; None if there is none.
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
        """The cached answer to a question, during its lifetime."""
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
        """Forwards a whole query as octets, because our library may not know its type.

        Args:
            query: the query.
            client: the client; its queries do not wait for equal ones of other clients.

        Returns:
            The response, perhaps from the cache; None if there was none.
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
        """The cached response to an equal query, during its lifetime."""
        if not query.plain:
            return None
        response = self.responses.find(query, asyncio.get_running_loop().time())
        if response is not None:
            self.counters[UpstreamCounter.CACHE_HITS] += 1
        return response

    async def reachable(self) -> bool:
        """Whether any resolver answers over any path, even with a refusal."""
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
        """Whether the zone of a name has not answered lately, so that one query is enough."""
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
        """Asks one question, and caches the answer.

        Questions about peers that began the context are limited by peer and by zone; questions
        about a silent zone fail at once [D46].
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
        if len(self._answers) > self._answers_max:
            self._answers.popitem(last=False)
