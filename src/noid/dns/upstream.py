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
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import dns.exception
import dns.flags
import dns.name
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.AAAA

from noid.constants import Codepoints
from noid.dns import resolvers
from noid.dns.messages import (
    BELIEVED_RCODES,
    REFUSALS,
    follow_aliases,
    message_flags,
    read_message,
    response_code,
)
from noid.dns.port import SOCKETS_MAX, Server
from noid.dns.queries import Query, make_query
from noid.dns.records import Answer, Kind, Question, Status, canonical_name
from noid.dns.resolvers import HEDGE_S, REPEAT_S, TOTAL_S, Resolvers
from noid.dns.responses import (
    LIFETIME_MAX_S,
    NEGATIVE_TTL_MAX,
    TTL_MAX,
    Response,
    Responses,
    absence_s,
)
from noid.dns.turns import Sites, Turns, site_asked, site_of
from noid.locators import Locator, parse_locator

QUESTIONS_AT_ONCE_MAX: Final = 512
"""Queries of ours on the way at one time that are not slow."""
QUESTION_SLOW_S: Final = 0.1
"""After this long a query of ours is slow: most are answered much sooner, those of a dead name
server never, and the others need not wait to find that out."""
QUESTIONS_WAITING_MAX: Final = 4_096
"""Different questions of ours not yet answered; one more is answered "unreachable" [D31]."""
FORWARDS_AT_ONCE_MAX: Final = 128
"""Queries of the host's programs on the way at one time that are not slow; others wait."""
RECORDS_MAX: Final = 64
"""Records of one answer that are looked at and kept."""
ANSWERS_MAX: Final = 16_384
"""Answers to questions of ours kept; the oldest goes first."""
ANSWER_FLOOR_S: Final = 30
"""Such an answer is kept at least this long, whatever its TTL [D31]."""
CAPABILITY_FAILURE_S: Final = 10
"""A failed capability question is not asked again so soon [RFC 9520]: a DNS host that drops types
it does not know would delay every lookup of its names. Verification has its own backoff [D30]."""
RECORD_UNANSWERED_MAX: Final = 3
"""So many names in a row whose M6 record has no answer although their text has one show that the
resolvers drop the type; no name waits for the record then."""
RECORD_WAIT_S: Final = 1.0
"""How much later than the text the record may come before it counts as unanswered."""
RECORD_AGAIN_S: Final = 60.0
"""Then the record of one name in this time is asked for nevertheless, without waiting."""

M6_TEXT_LABEL: Final = "_m6"
M6_TEXT_VALUE: Final = b"v=m6"
"""The TXT record that stands in for the M6 record [D3]."""

ROOT: Final = b"\x00"
NO_ANSWER: Final = Answer(status=Status.UNREACHABLE)
RECORD_TYPES: Final = {Kind.LOCATORS: dns.rdatatype.AAAA, Kind.NAMES: dns.rdatatype.PTR}

COUNTED: Final = resolvers.COUNTED | {
    "unauthentic": "answers refused because no resolver vouched for their signatures",
    "coalesced": "questions that joined an equal one on its way",
    "cache_hits": "questions answered from memory",
    "overflow": "questions turned away because too many were waiting",
    "record_unanswered": "names whose M6 record had no answer although their text had one",
}
"""The counters, for ``noid status``."""


class _Found(NamedTuple):
    """One answer section, reduced to what was asked.

    ``end`` is where the CNAME chain ends; ``records`` stand there, in the order received.
    """

    status: Status
    end: dns.name.Name
    records: tuple[dns.rdata.Rdata, ...] = ()
    ttl_seconds: int = 0


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
        self.trusted = trusted
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
        self.counters.update({name: 0 for name in COUNTED if name not in self.counters})
        self.responses = Responses()
        self._closed = False
        self._answers: OrderedDict[Question, tuple[float, float, Answer]] = OrderedDict()
        self._asking: dict[Question, asyncio.Task[Answer]] = {}
        self._forwarding: dict[bytes, asyncio.Task[Response | None]] = {}
        self._question_turns = Turns(QUESTIONS_AT_ONCE_MAX, QUESTION_SLOW_S)
        self._sites = Sites()
        self._forward_turns = Turns(FORWARDS_AT_ONCE_MAX)
        self._record_unanswered = 0
        self._record_again_s = 0.0
        self._record_test: asyncio.Task[_Found] | None = None

    async def ask(self, question: Question) -> Answer:
        """Asks one of the protocol's own questions, or remembers what it was answered.

        Equal questions on the way at one time are asked once [D31]. Cancelling the caller does not
        cancel the question: another may be waiting for it, and the next will find it remembered.
        """
        remembered = self.remembered(question)
        if remembered is not None:
            return remembered
        task = self._asking.get(question)
        if task is not None:
            self.counters["coalesced"] += 1
        elif self._closed or len(self._asking) >= QUESTIONS_WAITING_MAX:
            self.counters["overflow"] += 1
            return NO_ANSWER
        else:
            task = asyncio.create_task(self._resolve(question))
            self._asking[question] = task
            task.add_done_callback(lambda _: self._asking.pop(question))
        return await asyncio.shield(task)

    def remembered(self, question: Question) -> Answer | None:
        """What the question was answered before, while that may still be used."""
        if question not in self._answers:
            return None
        since_s, until_s, answer = self._answers[question]
        now_s = asyncio.get_running_loop().time()
        if now_s >= until_s:
            del self._answers[question]
            return None
        self.counters["cache_hits"] += 1
        age_s = int(now_s - since_s)
        if not age_s:
            return answer
        return replace(answer, ttl_seconds=max(answer.ttl_seconds - age_s, 0))

    async def forward(self, query: Query) -> Response | None:
        """Passes a whole query through as octets: a program may ask what no library of ours knows.

        Returns:
            The response, whatever it says, from memory perhaps; None if there was none.
        """
        kept = self.kept(query)
        if kept is not None:
            return kept
        if not query.plain:
            return await self._forward(query)
        key = query.key
        task = self._forwarding.get(key)
        if task is not None:
            self.counters["coalesced"] += 1
        else:
            task = asyncio.create_task(self._forward(query))
            self._forwarding[key] = task
            task.add_done_callback(lambda _: self._forwarding.pop(key))
        return await asyncio.shield(task)

    def kept(self, query: Query) -> Response | None:
        """The response to an equal query, while it may still be used."""
        if not query.plain:
            return None
        response = self.responses.find(query, asyncio.get_running_loop().time())
        if response is not None:
            self.counters["cache_hits"] += 1
        return response

    async def reachable(self) -> bool:
        """Whether any resolver says anything over any path, even if it refuses."""
        query = make_query(ROOT, dns.rdatatype.NS)
        return await self.resolvers.ask(query, self._forward_turns, everywhere=True) is not None

    @property
    def drops_record(self) -> bool:
        """Whether the resolvers are known to drop queries for the M6 record."""
        return self._record_unanswered >= RECORD_UNANSWERED_MAX

    async def close(self) -> None:
        """Gives up everything on the way; whoever waits hears "unreachable"."""
        self._closed = True
        tasks: list[asyncio.Task[Any]] = [*self._asking.values(), *self._forwarding.values()]
        if self._record_test is not None:
            tasks.append(self._record_test)
        self._sites.close()
        await self.resolvers.close()
        await asyncio.gather(*tasks)

    async def _forward(self, query: Query) -> Response | None:
        site = site_of(query)
        deadline_s = self.resolvers.deadline_s()
        if site is not None and not await self._sites.enter(site, deadline_s):
            self.counters["timed_out"] += 1
            return None
        octets = None
        try:
            octets = await self.resolvers.ask(query, self._forward_turns, deadline_s=deadline_s)
        finally:
            if site is not None:
                answered = octets is not None and response_code(octets) not in REFUSALS
                self._sites.leave(site, answered=answered)
        if octets is None:
            return None
        response = Response(query, octets, asyncio.get_running_loop().time())
        self.responses.keep(query, response)
        return response

    # --- what the protocol asks ---

    async def _resolve(self, question: Question) -> Answer:
        """One question to its end, and into memory; first of all it waits for its site's turn."""
        site = site_asked(question)
        deadline_s = self.resolvers.deadline_s()
        if site is None:
            return await self._inquire(question, deadline_s)
        if not await self._sites.enter(site, deadline_s):
            self.counters["timed_out"] += 1
            return NO_ANSWER
        answer = NO_ANSWER
        try:
            answer = await self._inquire(question, deadline_s)
            return answer
        finally:
            self._sites.leave(site, answered=answer.status is not Status.UNREACHABLE)

    async def _inquire(self, question: Question, deadline_s: float) -> Answer:
        name = _parse_name(question.name)
        if name is None:
            answer = Answer(status=Status.ABSENT, ttl_seconds=NEGATIVE_TTL_MAX)
        elif question.kind is Kind.CAPABILITY:
            answer = await self._capability(name)
        else:
            found = await self._look_up(name, RECORD_TYPES[question.kind], deadline_s)
            answer = _answer(found)
        if answer.status is not Status.UNREACHABLE:
            lifetime_s = min(max(answer.ttl_seconds, ANSWER_FLOOR_S), LIFETIME_MAX_S)
            self._remember(question, answer, lifetime_s)
        elif question.kind is Kind.CAPABILITY:
            self._remember(question, answer, CAPABILITY_FAILURE_S)
        return answer

    def _remember(self, question: Question, answer: Answer, lifetime_s: int) -> None:
        now_s = asyncio.get_running_loop().time()
        self._answers[question] = (now_s, now_s + lifetime_s, answer)
        if len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)

    async def _capability(self, name: dns.name.Name) -> Answer:
        """Whether the host at the end of the CNAME chain of ``name`` speaks M6 [D3].

        The record and the text that may stand in for it are asked for at the same time: most of the
        world has neither, and none of it should wait for us twice.
        """
        if self.drops_record:
            self._test_record(name)
            return _answer(await self._text_capability(name))
        text_task = asyncio.create_task(self._text_capability(name))
        record_task = asyncio.create_task(self._look_up(name, self.codepoints.m6_rrtype))
        try:
            await asyncio.wait({record_task, text_task}, return_when=asyncio.FIRST_COMPLETED)
            if text_task.done() and await self._is_enough(text_task.result(), record_task):
                return _answer(text_task.result())
            record = await record_task
            if record.status is Status.FOUND:
                return _answer(record)
            text = await text_task
        finally:
            text_task.cancel()
            record_task.cancel()
        if record.status is Status.ABSENT and record.end != name:
            text = await self._text_capability(record.end)
        if text.status is Status.FOUND or record.status is not Status.UNREACHABLE:
            ttl_seconds = text.ttl_seconds
            if text.status is Status.ABSENT:
                ttl_seconds = min(ttl_seconds, record.ttl_seconds)
            return Answer(status=text.status, ttl_seconds=ttl_seconds)
        return NO_ANSWER

    async def _is_enough(self, text: _Found, record_task: "asyncio.Task[_Found]") -> bool:
        """Whether the text of a name does, or the record is worth waiting for."""
        if text.status is not Status.ABSENT:
            return text.status is Status.FOUND
        await asyncio.wait({record_task}, timeout=self.record_wait_s)
        if record_task.done():
            self._record_unanswered = 0
            return False
        self.counters["record_unanswered"] += 1
        self._record_unanswered += 1
        self._record_again_s = asyncio.get_running_loop().time() + RECORD_AGAIN_S
        return self.drops_record

    def _test_record(self, name: dns.name.Name) -> None:
        """Asks for the record of a name, if it is time; an answer shows that the type passes."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._record_again_s or self._closed:
            return
        self._record_again_s = now_s + RECORD_AGAIN_S
        self._record_test = asyncio.create_task(self._look_up(name, self.codepoints.m6_rrtype))
        self._record_test.add_done_callback(self._record_tested)

    def _record_tested(self, task: "asyncio.Task[_Found]") -> None:
        self._record_test = None
        if not task.cancelled() and task.result().status is not Status.UNREACHABLE:
            self._record_unanswered = 0

    async def _text_capability(self, name: dns.name.Name) -> _Found:
        """The TXT record of a name whose DNS host cannot serve private types [D3]."""
        try:
            text_name = dns.name.Name((M6_TEXT_LABEL, *name.labels))
        except dns.name.NameTooLong:
            return _Found(Status.ABSENT, name, ttl_seconds=NEGATIVE_TTL_MAX)
        found = await self._look_up(text_name, dns.rdatatype.TXT)
        if found.status is not Status.FOUND:
            return found
        for record in found.records:
            if (
                isinstance(record, dns.rdtypes.ANY.TXT.TXT)
                and b"".join(record.strings) == M6_TEXT_VALUE
            ):
                return found
        return found._replace(status=Status.ABSENT, records=())

    async def _look_up(
        self, name: dns.name.Name, record_type: int, deadline_s: float | None = None
    ) -> _Found:
        # AD in a query asks to be told whether the answer is authentic [RFC 6840 §5.7].
        flags = dns.flags.RD | (0 if self.trusted is None else dns.flags.AD)
        query = make_query(_wire_name(name), record_type, flags=flags)
        octets = await self.resolvers.ask(
            query, self._question_turns, only=self.trusted, deadline_s=deadline_s
        )
        if octets is None or response_code(octets) not in BELIEVED_RCODES:
            return _Found(Status.UNREACHABLE, name)
        if self.trusted is not None and not message_flags(octets) & dns.flags.AD:
            self.counters["unauthentic"] += 1
            return _Found(Status.UNREACHABLE, name)
        found = _read_answer(query, name, octets)
        if found is None:
            self.counters["malformed"] += 1
            return _Found(Status.UNREACHABLE, name)
        return found


# --- messages ---


def _read_answer(query: Query, name: dns.name.Name, octets: bytes) -> _Found | None:
    """What a response says to its question; None if it contradicts itself or never ends."""
    if message_flags(octets) & dns.flags.TC:
        return None  # even over TCP: what is missing might be what was asked
    absent_s = absence_s(octets, query.end)
    if absent_s is not None:
        return _Found(Status.ABSENT, name, ttl_seconds=min(absent_s, NEGATIVE_TTL_MAX))
    message = read_message(octets)
    if message is None or message.rcode() not in BELIEVED_RCODES:
        return None
    result = follow_aliases(message)
    if result is None:
        return None
    if result.answer is None:
        ttl_seconds = min(result.minimum_ttl, NEGATIVE_TTL_MAX)
        return _Found(Status.ABSENT, result.canonical_name, ttl_seconds=ttl_seconds)
    records = tuple(result.answer)[:RECORDS_MAX]
    ttl_seconds = min(result.minimum_ttl, TTL_MAX)
    return _Found(Status.FOUND, result.canonical_name, records, ttl_seconds)


def _answer(found: _Found) -> Answer:
    locators = (
        parse_locator(record.address)
        for record in found.records
        if isinstance(record, dns.rdtypes.IN.AAAA.AAAA)
    )
    names = (
        canonical_name(record.target.to_text())
        for record in found.records
        if isinstance(record, dns.rdtypes.ANY.PTR.PTR)
    )
    return Answer(
        status=found.status,
        locators=tuple(locators),
        names=tuple(names),
        ttl_seconds=found.ttl_seconds,
    )


def _wire_name(name: dns.name.Name) -> bytes:
    octets = name.to_wire()
    assert octets is not None, "it is None only where a file to write to is given"
    return octets


def _parse_name(text: str) -> dns.name.Name | None:
    """A name as ``Question`` holds it; None for a text that can be the name of nothing."""
    try:
        return dns.name.from_text(text + ".")
    except (dns.exception.DNSException, ValueError):
        return None
