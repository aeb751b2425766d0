# SPDX-License-Identifier: MIT
"""Sends the protocol's questions as queries, and reads the answers from the responses.

Only records that answer the question are used. Malformed responses are counted, and count as no
answer [D30].
"""

import asyncio
from typing import Final, NamedTuple

import dns.flags
import dns.rdatatype

from noid.constants import Codepoints
from noid.counters import UpstreamCounter
from noid.dns.answers import Chain, rdata_of, read_chain
from noid.dns.messages import BELIEVED_RCODES, TC, message_flags, response_code
from noid.dns.names import WIRE_OCTETS_MAX, text_of, wire_of
from noid.dns.queries import Query, make_query
from noid.dns.records import Answer, Kind, Question, Status
from noid.dns.responses import NEGATIVE_TTL_MAX, TTL_MAX, absence_s
from noid.locators import LOCATOR_OCTETS, Locator
from noid.resolver.port import Server
from noid.resolver.resolvers import Resolvers
from noid.resolver.turns import Claim

RECORDS_MAX: Final = 64
"""The maximum of records that are used of one answer."""
RECORD_UNANSWERED_MAX: Final = 3
"""After this many names in sequence with an answered text and an unanswered M6 record, the
resolvers drop the type; one such name is enough if the root's M6 record is unanswered too. Then no
name waits for the record."""
RECORD_WAIT_S: Final = 1.0
"""How long after the text the record may arrive before it counts as unanswered."""
RECORD_AGAIN_S: Final = 60.0
"""In that case, the record of one name is queried at this interval, without waiting."""

ROOT: Final = b"\0"
M6_TEXT_LABEL: Final = b"\x03_m6"
M6_TEXT_VALUE: Final = b"v=m6"
M6_TEXT_OCTETS_MAX: Final = 64
"""The TXT record that replaces the M6 record [D3]: its first label and its value, which may consist
of several strings."""

NO_ANSWER: Final = Answer(status=Status.UNREACHABLE)
RECORD_TYPES: Final = {Kind.LOCATORS: dns.rdatatype.AAAA, Kind.NAMES: dns.rdatatype.PTR}


class _Found(NamedTuple):
    """One answer section, reduced to what was asked.

    Attributes:
        status: found, absent or unreachable.
        end: where the chain of aliases ends, in wire form and lower case.
        ttl_seconds: the least TTL in the chain.
        locators: the AAAA records at its end, in the order received.
        names: the names in PTR records, canonical.
        is_m6_text: whether a TXT record says that the host speaks M6.
    """

    status: Status
    end: bytes
    ttl_seconds: int = 0
    locators: tuple[Locator, ...] = ()
    names: tuple[str, ...] = ()
    is_m6_text: bool = False


class Lookup:
    """Asks the resolvers the questions of the protocol.

    Args:
        resolvers: sends the queries.
        codepoints: has the number of the M6 record.
        trusted: if given, only these resolvers are asked, and only authentic answers are used
            [D32].
        record_wait_s: how long after the text the M6 record may arrive, in seconds.
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
        name = wire_of(question.name)
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
        """Ends lookups without a waiting caller; the resolvers have been closed."""
        self._closed = True
        for test in (self._record_test, self._root_test):
            if test is not None:
                await test

    async def _capability(self, name: bytes, claim: Claim) -> Answer:
        """Whether the host at the end of the CNAME chain of ``name`` speaks M6 [D3].

        The record and the text that may replace it are queried at the same time, because most
        names have neither, and should not be delayed twice.
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
        """Whether the text of a name says so, or the record must be waited for."""
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
        """Determines whether the resolvers drop the type, or the servers of one zone [D49].

        Resolvers that answer for the root pass the type. Until they do, no name waits for its
        record, so that resolvers that drop the type cost one wait, not one per name.
        """
        if self._root_test is None and not self._closed:
            self.is_suspected = True
            self._root_test = asyncio.create_task(self._test_root(claim))

    async def _test_root(self, claim: Claim) -> None:
        query = make_query(ROOT, self.codepoints.m6_rrtype)
        try:
            answered = await self.resolvers.ask(query, claim) is not None
        finally:
            self._root_test = None
        if self.is_suspected:
            self.is_suspected = False
            self._record_unanswered = 0 if answered else RECORD_UNANSWERED_MAX

    def _test_record(self, name: bytes, claim: Claim) -> None:
        """Queries the record of a name if that is due; an answer shows that the type passes."""
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

    async def _text_capability(self, name: bytes, claim: Claim) -> _Found:
        """The TXT record of a name whose DNS host cannot serve private types [D3]."""
        text_name = M6_TEXT_LABEL + name
        if len(text_name) > WIRE_OCTETS_MAX:
            return _Found(Status.ABSENT, name, ttl_seconds=NEGATIVE_TTL_MAX)
        found = await self._look_up(text_name, dns.rdatatype.TXT, claim)
        if found.status is Status.FOUND and not found.is_m6_text:
            return found._replace(status=Status.ABSENT)
        return found

    async def _look_up(
        self,
        name: bytes,
        record_type: int,
        claim: Claim,
        deadline_s: float | None = None,
    ) -> _Found:
        # AD in a query asks whether the answer is authentic [RFC 6840 §5.7].
        flags = dns.flags.RD | (0 if self.trusted is None else dns.flags.AD)
        query = make_query(name, record_type, flags=flags)
        octets = await self.resolvers.ask(query, claim, only=self.trusted, deadline_s=deadline_s)
        if octets is None or response_code(octets) not in BELIEVED_RCODES:
            return _Found(Status.UNREACHABLE, name)
        if self.trusted is not None and not message_flags(octets) & dns.flags.AD:
            self.counters[UpstreamCounter.UNAUTHENTIC] += 1
            return _Found(Status.UNREACHABLE, name)
        found = read_answer(query, name, octets)
        if found is None:
            self.counters[UpstreamCounter.MALFORMED] += 1
            return _Found(Status.UNREACHABLE, name)
        return found


# --- messages ---


def read_answer(query: Query, name: bytes, octets: bytes) -> _Found | None:
    """The answer in a response; None if it is contradictory or has a loop of aliases."""
    if message_flags(octets) & TC:
        return None  # even over TCP: the answer might be in the missing part
    absent_s = absence_s(octets, query.end)
    if absent_s is not None:
        return _Found(Status.ABSENT, name, ttl_seconds=min(absent_s, NEGATIVE_TTL_MAX))
    chain = read_chain(query, octets)
    if chain is None:
        return None
    if not chain.records:
        return _Found(Status.ABSENT, chain.name, min(chain.ttl_seconds, NEGATIVE_TTL_MAX))
    found = _Found(Status.FOUND, chain.name, min(chain.ttl_seconds, TTL_MAX))
    try:
        return _with_records(found, query.kind, octets, chain)
    except (IndexError, ValueError):
        return None


def _with_records(found: _Found, kind: int, octets: bytes, chain: Chain) -> _Found:
    """Adds the content of the records to an answer.

    Raises:
        IndexError: a record is malformed.
        ValueError: the same.
    """
    records = chain.records[:RECORDS_MAX]
    match kind:
        case dns.rdatatype.AAAA:
            locators = [Locator(rdata_of(octets, one)) for one in records]
            if any(len(one) != LOCATOR_OCTETS for one in locators):
                raise ValueError("no address")
            return found._replace(locators=tuple(dict.fromkeys(locators)))
        case dns.rdatatype.PTR:
            names = [text_of(chain.names.at(one.rdata_offset)) for one in records]
            return found._replace(names=tuple(dict.fromkeys(names)))
        case dns.rdatatype.TXT:
            texts = (_text(rdata_of(octets, one)) for one in records)
            return found._replace(is_m6_text=M6_TEXT_VALUE in texts)
    return found


def _text(rdata: bytes) -> bytes:
    """The strings of a TXT record as one; empty if that is longer than the expected text."""
    strings, offset = [], 0
    while offset < len(rdata) <= M6_TEXT_OCTETS_MAX:
        end = offset + 1 + rdata[offset]
        strings.append(rdata[offset + 1 : end])
        offset = end
    return b"".join(strings) if offset == len(rdata) else b""


def _answer(found: _Found) -> Answer:
    return Answer(
        status=found.status,
        locators=found.locators,
        names=found.names,
        ttl_seconds=found.ttl_seconds,
    )
