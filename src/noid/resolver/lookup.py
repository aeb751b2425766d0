# SPDX-License-Identifier: MIT
"""Sends the protocol's questions as queries, and reads the answers from the responses.

Nothing is believed further than it answers the question. What is malformed is counted and, to the
caller, not there [D30].
"""

import asyncio
from typing import Final, NamedTuple

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
from noid.dns.messages import (
    BELIEVED_RCODES,
    follow_aliases,
    message_flags,
    read_message,
    response_code,
)
from noid.dns.queries import Query, make_query
from noid.dns.records import Answer, Kind, Question, Status, canonical_name
from noid.dns.responses import NEGATIVE_TTL_MAX, TTL_MAX, absence_s
from noid.locators import parse_locator
from noid.resolver.port import Server
from noid.resolver.resolvers import Resolvers
from noid.resolver.turns import Claim

RECORDS_MAX: Final = 64
"""Records of one answer that are looked at and kept."""
RECORD_UNANSWERED_MAX: Final = 3
"""So many names in a row whose M6 record has no answer although their text has one show that the
resolvers drop the type, and so does one of them if the root's has none either; no name waits for
the record then."""
RECORD_WAIT_S: Final = 1.0
"""How much later than the text the record may come before it counts as unanswered."""
RECORD_AGAIN_S: Final = 60.0
"""Then the record of one name in this time is asked for nevertheless, without waiting."""

M6_TEXT_LABEL: Final = "_m6"
M6_TEXT_VALUE: Final = b"v=m6"
"""The TXT record that stands in for the M6 record [D3]."""

NO_ANSWER: Final = Answer(status=Status.UNREACHABLE)
RECORD_TYPES: Final = {Kind.LOCATORS: dns.rdatatype.AAAA, Kind.NAMES: dns.rdatatype.PTR}


class _Found(NamedTuple):
    """One answer section, reduced to what was asked.

    ``end`` is where the CNAME chain ends; ``records`` stand there, in the order received.
    """

    status: Status
    end: dns.name.Name
    records: tuple[dns.rdata.Rdata, ...] = ()
    ttl_seconds: int = 0


class Lookup:
    """Asks the resolvers the questions of the protocol.

    Args:
        resolvers: the way to them.
        codepoints: tells the number of the M6 record.
        trusted: where given, only what these resolvers say is authentic is believed, and no other
            is asked [D32].
        record_wait_s: how much later than the text the M6 record may come, in seconds.
    """

    def __init__(
        self,
        resolvers: Resolvers,
        codepoints: Codepoints,
        trusted: frozenset[Server] | None,
        record_wait_s: float,
    ) -> None:
        self.resolvers = resolvers
        self.codepoints = codepoints
        self.trusted = trusted
        self.record_wait_s = record_wait_s
        self.counters = resolvers.counters
        self._closed = False
        self._record_unanswered = 0
        self._record_again_s = 0.0
        self.is_suspected = False
        self._record_test: asyncio.Task[_Found] | None = None
        self._root_test: asyncio.Task[None] | None = None

    async def answer(self, question: Question, claim: Claim, deadline_s: float) -> Answer:
        """The answer of the resolvers to a question."""
        name = _parse_name(question.name)
        if name is None:
            return Answer(status=Status.ABSENT, ttl_seconds=NEGATIVE_TTL_MAX)
        if question.kind is Kind.CAPABILITY:
            return await self._capability(name, claim)
        return _answer(await self._look_up(name, RECORD_TYPES[question.kind], claim, deadline_s))

    @property
    def drops_record(self) -> bool:
        """Whether the resolvers are known to drop queries for the M6 record."""
        return self.is_suspected or self._record_unanswered >= RECORD_UNANSWERED_MAX

    async def close(self) -> None:
        """Ends look-ups without a waiting caller; the resolvers have been closed."""
        self._closed = True
        for test in (self._record_test, self._root_test):
            if test is not None:
                await test

    async def _capability(self, name: dns.name.Name, claim: Claim) -> Answer:
        """Whether the host at the end of the CNAME chain of ``name`` speaks M6 [D3].

        The record and the text that may stand in for it are asked for at the same time: most of the
        world has neither, and none of it should wait for us twice.
        """
        if self.drops_record:
            self._test_record(name, claim)
            text = await self._text_capability(name, claim)
            is_unsure = self._record_unanswered < RECORD_UNANSWERED_MAX
            is_unsure &= text.status is Status.ABSENT
            return NO_ANSWER if is_unsure else _answer(text)
        text_task = asyncio.create_task(self._text_capability(name, claim))
        record_task = asyncio.create_task(self._look_up(name, self.codepoints.m6_rrtype, claim))
        try:
            await asyncio.wait({record_task, text_task}, return_when=asyncio.FIRST_COMPLETED)
            if text_task.done() and await self._is_enough(text_task.result(), record_task, claim):
                return _answer(text_task.result())
            record = await record_task
            if record.status is Status.FOUND:
                return _answer(record)
            text = await text_task
        finally:
            text_task.cancel()
            record_task.cancel()
        if record.status is Status.ABSENT and record.end != name:
            text = await self._text_capability(record.end, claim)
        if text.status is Status.FOUND or record.status is not Status.UNREACHABLE:
            ttl_seconds = text.ttl_seconds
            if text.status is Status.ABSENT:
                ttl_seconds = min(ttl_seconds, record.ttl_seconds)
            return Answer(status=text.status, ttl_seconds=ttl_seconds)
        return NO_ANSWER

    async def _is_enough(
        self, text: _Found, record_task: "asyncio.Task[_Found]", claim: Claim
    ) -> bool:
        """Whether the text of a name does, or the record is worth waiting for."""
        if text.status is not Status.ABSENT:
            return text.status is Status.FOUND
        await asyncio.wait({record_task}, timeout=self.record_wait_s)
        if record_task.done():
            self._record_unanswered = 0
            return False
        self.counters[UpstreamCounter.RECORD_UNANSWERED] += 1
        self._record_unanswered += 1
        self._record_again_s = asyncio.get_running_loop().time() + RECORD_AGAIN_S
        if self.drops_record:
            return True
        self._suspect(claim)
        return False

    def _suspect(self, claim: Claim) -> None:
        """Finds out who drops the type: the resolvers, or the servers of one zone [D49].

        The root is no zone of a peer: resolvers that answer for it pass the type. Until they do no
        name waits for its record, so that resolvers that drop it cost one wait, not one a name.
        """
        if self._root_test is None and not self._closed:
            self.is_suspected = True
            self._root_test = asyncio.create_task(self._test_root(claim))

    async def _test_root(self, claim: Claim) -> None:
        query = make_query(_wire_name(dns.name.root), self.codepoints.m6_rrtype)
        try:
            answered = await self.resolvers.ask(query, claim) is not None
        finally:
            self._root_test = None
        if self.is_suspected:
            self.is_suspected = False
            self._record_unanswered = 0 if answered else RECORD_UNANSWERED_MAX

    def _test_record(self, name: dns.name.Name, claim: Claim) -> None:
        """Asks for the record of a name, if it is time; an answer shows that the type passes."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._record_again_s or self._closed:
            return
        self._record_again_s = now_s + RECORD_AGAIN_S
        self._record_test = asyncio.create_task(
            self._look_up(name, self.codepoints.m6_rrtype, claim)
        )
        self._record_test.add_done_callback(self._record_tested)

    def _record_tested(self, task: "asyncio.Task[_Found]") -> None:
        self._record_test = None
        if not task.cancelled() and task.result().status is not Status.UNREACHABLE:
            self._record_unanswered = 0
            self.is_suspected = False

    async def _text_capability(self, name: dns.name.Name, claim: Claim) -> _Found:
        """The TXT record of a name whose DNS host cannot serve private types [D3]."""
        try:
            text_name = dns.name.Name((M6_TEXT_LABEL, *name.labels))
        except dns.name.NameTooLong:
            return _Found(Status.ABSENT, name, ttl_seconds=NEGATIVE_TTL_MAX)
        found = await self._look_up(text_name, dns.rdatatype.TXT, claim)
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
        self,
        name: dns.name.Name,
        record_type: int,
        claim: Claim,
        deadline_s: float | None = None,
    ) -> _Found:
        # AD in a query asks to be told whether the answer is authentic [RFC 6840 §5.7].
        flags = dns.flags.RD | (0 if self.trusted is None else dns.flags.AD)
        query = make_query(_wire_name(name), record_type, flags=flags)
        octets = await self.resolvers.ask(query, claim, only=self.trusted, deadline_s=deadline_s)
        if octets is None or response_code(octets) not in BELIEVED_RCODES:
            return _Found(Status.UNREACHABLE, name)
        if self.trusted is not None and not message_flags(octets) & dns.flags.AD:
            self.counters[UpstreamCounter.UNAUTHENTIC] += 1
            return _Found(Status.UNREACHABLE, name)
        found = _read_answer(query, name, octets)
        if found is None:
            self.counters[UpstreamCounter.MALFORMED] += 1
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
