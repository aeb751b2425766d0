"""Questions to the configured resolvers, asked over whichever path answers.

The shim does not protect the host's own DNS: a resolver is plain IPv6 to it, and the provider that
just died may be the one its questions leave through. So a question is tried over the resolvers
*and* over the host's own locators as sources, each next try beginning before the last one is given
up (as RFC 8305 does for connections), and the path that answered goes first the next time.

Nothing that arrives here is believed further than it answers the question, and nothing that arrives
raises: what is malformed is counted and, to the caller, not there [D30]. Every table, queue, retry
and wait has its limit below [D31]. What an answer means for a peer is not known in this room.
"""

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.TXT
import dns.rdtypes.IN.AAAA

from noid.constants import Codepoints
from noid.dns.records import Answer, Kind, Question, Status, canonical_name
from noid.errors import UsageError
from noid.locators import Locator, format_locator, is_global_unicast, parse_locator

TRIES_MAX: Final = 6
"""Tries of one query, over all resolvers and sources together."""
HEDGE_S: Final = 0.3
"""Wait before the next path is tried too, without giving up on the last."""
REPEAT_S: Final = 1.0
"""The same where every path has been tried and the first is taken again."""
TOTAL_S: Final = 4.5
"""Wait for one query, all tries and the queue included: less than the 5 s after which the resolver
libraries of programs ask again, so that they hear a failure rather than nothing."""
QUESTIONS_AT_ONCE_MAX: Final = 64
"""Queries of ours on the way at one time."""
QUESTIONS_WAITING_MAX: Final = 1_024
"""Different questions of ours not yet answered; one more is answered "unreachable" [D31]."""
FORWARDS_AT_ONCE_MAX: Final = 128
"""Queries of the host's programs on the way at one time; others wait, at most ``TOTAL_S``."""
STRAYS_MAX: Final = 16
"""Messages on one socket that answer something else, before the try is given up."""
RECORDS_MAX: Final = 64
"""Records of one answer that are looked at and kept."""
CACHE_ENTRIES_MAX: Final = 4_096
"""Answers kept; the oldest goes first."""
CACHE_FLOOR_S: Final = 30
"""An answer is kept at least this long, whatever its TTL [D31]."""
CACHE_CEILING_S: Final = 86_400
"""An answer is asked for again after a day, whatever its TTL."""
CAPABILITY_FAILURE_S: Final = 10
"""A failed capability question is not asked again so soon [RFC 9520]: a DNS host that drops types
it does not know would delay every lookup of its names. Verification has its own backoff [D30]."""
NEGATIVE_TTL_MAX: Final = 10_800
"""Cap on the TTL of what is absent: 3 hours [RFC 2308 §5]; also where no SOA says one."""
TTL_MAX: Final = 2**31 - 1
"""The largest TTL there is [RFC 2181 §8]."""
EDNS_OCTETS: Final = 1_232
"""UDP answers to our own questions: what fits IPv6's minimum MTU without fragments."""
MESSAGE_OCTETS_MAX: Final = 65_535
HEADER_OCTETS: Final = 12

M6_TEXT_LABEL: Final = "_m6"
M6_TEXT_VALUE: Final = b"v=m6"
"""The TXT record that stands in for the M6 record [D3]."""

LENGTH: Final = struct.Struct("!H")
"""Before each message on a stream [RFC 1035 §4.2.2]."""

Server = tuple[str, int]
"""A resolver: address text, port."""
Asked = list[tuple[dns.name.Name, int, int]]
"""A question section: name, type and class of each entry."""

NO_ANSWER: Final = Answer(status=Status.UNREACHABLE)
BELIEVED_RCODES: Final = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
REFUSALS: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})
"""A resolver that says one of these is not asked again; another may know better."""
BARE_RCODES: Final = REFUSALS | {dns.rcode.FORMERR}
"""What a server that could not even read the question may say without repeating it."""

COUNTED: Final = {
    "asked": "queries begun, those passed through for programs included",
    "answered": "queries that ended with a usable response",
    "timed_out": "queries that ended with none in time",
    "refused": "responses that say SERVFAIL, NOTIMP or REFUSED",
    "failed": "tries that the network or the system refused",
    "malformed": "messages that were not DNS or answered something else",
    "coalesced": "questions that joined an equal one on its way",
    "cache_hits": "questions answered from memory",
    "overflow": "questions turned away because too many were waiting",
}
"""The counters, for ``noid status``."""


@dataclass(frozen=True, slots=True)
class _Path:
    """One way to ask: a resolver, and the source to ask it from (None: the kernel's choice)."""

    server: Server
    source: Locator | None


class _Found(NamedTuple):
    """One answer section, reduced to what was asked.

    ``end`` is where the CNAME chain ends; ``records`` stand there, in the order received.
    """

    status: Status
    end: dns.name.Name
    records: tuple[dns.rdata.Rdata, ...] = ()
    ttl_seconds: int = 0


class _Query:
    """A query on its way, and every usable or refusing thing heard about it.

    Args:
        octets: the whole message; its id is replaced in each try.
    """

    def __init__(self, octets: bytes, asked: Asked) -> None:
        self.octets = octets
        self.asked = asked
        self.refusal: bytes | None = None
        self.refusing: set[Server] = set()
        self.failed: set[_Path] = set()

    def given_up(self, path: _Path) -> bool:
        """Whether there is no sense in trying this path once more."""
        return path in self.failed or path.server in self.refusing

    def answered_by(self, octets: bytes, identifier: bytes) -> bool:
        """Whether a message is a response to this query, sent with this id."""
        if octets[:2] != identifier:
            return False
        message = read_message(octets, question_only=True)
        if message is None or not message.flags & dns.flags.QR:
            return False
        if not message.question:
            return response_code(octets) in BARE_RCODES
        return question_section(message) == self.asked


class Upstream:
    """The client of the configured resolvers.

    Args:
        servers: the resolvers, in the order of preference.
        codepoints: tells the number of the M6 record.
        sources: the host's locators of this moment.
        mark: firewall mark of the sockets, which keeps them out of the shim; 0 for none.
        hedge_s: wait before another path is tried too.
        repeat_s: wait before the same paths are tried again.
        total_s: wait for one query in all.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        codepoints: Codepoints,
        sources: Callable[[], Sequence[Locator]],
        mark: int,
        *,
        hedge_s: float = HEDGE_S,
        repeat_s: float = REPEAT_S,
        total_s: float = TOTAL_S,
    ) -> None:
        self.servers = tuple(servers)
        self.codepoints = codepoints
        self.sources = sources
        self.mark = mark
        self.hedge_s = hedge_s
        self.repeat_s = repeat_s
        self.total_s = total_s
        self.counters = dict.fromkeys(COUNTED, 0)
        self._closed = False
        self._last_good: _Path | None = None
        self._cache: dict[Question, tuple[float, float, Answer]] = {}
        self._asking: dict[Question, asyncio.Task[Answer]] = {}
        self._tries: set[asyncio.Task[bytes | None]] = set()
        self._question_turns = asyncio.Semaphore(QUESTIONS_AT_ONCE_MAX)
        self._forward_turns = asyncio.Semaphore(FORWARDS_AT_ONCE_MAX)

    async def ask(self, question: Question) -> Answer:
        """Asks one of the protocol's own questions, or remembers what it was answered.

        Equal questions on the way at one time are asked once [D31]. Cancelling the caller does not
        cancel the question: another may be waiting for it, and the next will find it remembered.
        """
        remembered = self._remembered(question)
        if remembered is not None:
            self.counters["cache_hits"] += 1
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
        await asyncio.wait({task})
        return NO_ANSWER if task.cancelled() else task.result()

    async def forward(self, query: bytes) -> bytes | None:
        """Passes a whole query through as octets: a program may ask what no library of ours knows.

        Returns:
            The response with the query's own id, whatever it says; None if there was none.
        """
        message = read_message(query, question_only=True)
        if message is None:
            return None
        response = await self._exchange(
            _Query(query, question_section(message)), self._forward_turns
        )
        return None if response is None else query[:2] + response[2:]

    async def reachable(self) -> bool:
        """Whether any resolver says anything at all, be it that it refuses."""
        query = dns.message.make_query(dns.name.root, dns.rdatatype.NS)
        return await self.forward(query.to_wire()) is not None

    async def close(self) -> None:
        """Gives up everything on the way; whoever waits hears "unreachable"."""
        self._closed = True
        tasks = [*self._asking.values(), *self._tries]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what the protocol asks ---

    async def _resolve(self, question: Question) -> Answer:
        """One question to its end, and into the cache."""
        name = _parse_name(question.name)
        if name is None:
            answer = Answer(status=Status.ABSENT, ttl_seconds=NEGATIVE_TTL_MAX)
        elif question.kind is Kind.CAPABILITY:
            answer = await self._capability(name)
        else:
            answer = _answer(
                await self._look_up(name, dns.rdatatype.from_text(question.kind.value))
            )
        if answer.status is not Status.UNREACHABLE:
            lifetime_s = min(max(answer.ttl_seconds, CACHE_FLOOR_S), CACHE_CEILING_S)
            self._remember(question, answer, lifetime_s)
        elif question.kind is Kind.CAPABILITY:
            self._remember(question, answer, CAPABILITY_FAILURE_S)
        return answer

    async def _capability(self, name: dns.name.Name) -> Answer:
        """Whether the host at the end of the CNAME chain of ``name`` speaks M6 [D3].

        The record and the text that may stand in for it are asked for at the same time: most of the
        world has neither, and none of it should wait for us twice.
        """
        async with asyncio.TaskGroup() as group:
            text_task = group.create_task(self._text_capability(name))
            record = await self._look_up(name, self.codepoints.m6_rrtype)
            if record.status is Status.FOUND:
                text_task.cancel()
                return _answer(record)
            text = await text_task
        if record.status is Status.ABSENT and record.end != name:
            text = await self._text_capability(record.end)
        if text.status is Status.FOUND or record.status is not Status.UNREACHABLE:
            ttl_seconds = text.ttl_seconds
            if text.status is Status.ABSENT:
                ttl_seconds = min(ttl_seconds, record.ttl_seconds)
            return Answer(status=text.status, ttl_seconds=ttl_seconds)
        return NO_ANSWER

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

    async def _look_up(self, name: dns.name.Name, record_type: int) -> _Found:
        message = dns.message.make_query(name, dns.rdatatype.RdataType.make(record_type))
        message.use_edns(0, payload=EDNS_OCTETS)
        query = _Query(message.to_wire(), question_section(message))
        octets = await self._exchange(query, self._question_turns)
        if octets is None or response_code(octets) not in BELIEVED_RCODES:
            return _Found(Status.UNREACHABLE, name)
        found = _read_answer(octets)
        if found is None:
            self.counters["malformed"] += 1
            return _Found(Status.UNREACHABLE, name)
        return found

    # --- the cache ---

    def _remembered(self, question: Question) -> Answer | None:
        if question not in self._cache:
            return None
        since, until, answer = self._cache[question]
        now = asyncio.get_running_loop().time()
        if now >= until:
            del self._cache[question]
            return None
        return replace(answer, ttl_seconds=max(answer.ttl_seconds - int(now - since), 0))

    def _remember(self, question: Question, answer: Answer, lifetime_s: int) -> None:
        if len(self._cache) >= CACHE_ENTRIES_MAX:
            del self._cache[next(iter(self._cache))]
        now = asyncio.get_running_loop().time()
        self._cache[question] = (now, now + lifetime_s, answer)

    # --- tries ---

    async def _exchange(self, query: _Query, turns: asyncio.Semaphore) -> bytes | None:
        """One query over all paths; where every resolver refuses, what the last one said."""
        self.counters["asked"] += 1
        try:
            async with asyncio.timeout(self.total_s), turns:
                response = await self._race(query)
        except TimeoutError:
            self.counters["timed_out"] += 1
            return query.refusal
        if response is None:
            return query.refusal
        self.counters["answered"] += 1
        return response

    async def _race(self, query: _Query) -> bytes | None:
        """Starts one try after the other; the first usable response ends them all."""
        running: dict[asyncio.Task[bytes | None], _Path] = {}
        try:
            for path, patience_s in self._schedule():
                if self._closed:
                    return None
                if query.given_up(path):
                    continue
                task = asyncio.create_task(self._try(path, query))
                self._tries.add(task)
                task.add_done_callback(self._tries.discard)
                running[task] = path
                response = await self._first(query, running, patience_s)
                if response is not None:
                    return response
            response = None
            while response is None and running and not self._closed:
                response = await self._first(query, running, None)
            return response
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _first(
        self,
        query: _Query,
        running: dict[asyncio.Task[bytes | None], _Path],
        patience_s: float | None,
    ) -> bytes | None:
        """Waits until a try ends or patience does; None says that the next may begin."""
        done, _ = await asyncio.wait(
            running, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            path = running.pop(task)
            response = None if task.cancelled() else task.result()
            if response is None:
                query.failed.add(path)
            elif response_code(response) in REFUSALS:
                self.counters["refused"] += 1
                query.refusing.add(path.server)
                query.refusal = response
            else:
                self._last_good = path
                return response
        return None

    def _schedule(self) -> Iterator[tuple[_Path, float]]:
        """Paths in the order to try them, and how long to wait before the next."""
        paths = self._paths()
        for index in range(TRIES_MAX if paths else 0):
            last_of_round = index % len(paths) == len(paths) - 1
            yield paths[index % len(paths)], self.repeat_s if last_of_round else self.hedge_s

    def _paths(self) -> list[_Path]:
        """The kernel's choice of source for every resolver, then our own choices.

        Resolvers take turns over the sources, so that every source gets a try before any resolver
        gets all of them.
        """
        paths = [_Path(server, None) for server in self.servers]
        distant = [server for server in self.servers if _is_distant(server)]
        sources = self.sources() if distant else ()
        for turn in range(len(distant)):
            for index, source in enumerate(sources):
                paths.append(_Path(distant[(index + turn) % len(distant)], source))
        if self._last_good in paths:
            paths.remove(self._last_good)
            paths.insert(0, self._last_good)
        return paths[:TRIES_MAX]

    async def _try(self, path: _Path, query: _Query) -> bytes | None:
        """One try; None if it failed before its time was up."""
        try:
            response = await self._over_datagrams(path, query)
            if response is not None and response_flags(response) & dns.flags.TC:
                response = await self._over_stream(path, query)
        except OSError:
            self.counters["failed"] += 1
            return None
        return response

    async def _over_datagrams(self, path: _Path, query: _Query) -> bytes | None:
        loop = asyncio.get_running_loop()
        with self._socket(path, socket.SOCK_DGRAM) as (connection, address):
            # Connected: the kernel lets nothing in that is not from the resolver's address.
            connection.connect(address)
            identifier = secrets.token_bytes(2)
            await loop.sock_sendall(connection, identifier + query.octets[2:])
            for _ in range(STRAYS_MAX):
                response = await loop.sock_recv(connection, MESSAGE_OCTETS_MAX)
                if query.answered_by(response, identifier):
                    return response
                self.counters["malformed"] += 1
        return None

    async def _over_stream(self, path: _Path, query: _Query) -> bytes | None:
        loop = asyncio.get_running_loop()
        with self._socket(path, socket.SOCK_STREAM) as (connection, address):
            await loop.sock_connect(connection, address)
            identifier = secrets.token_bytes(2)
            message = identifier + query.octets[2:]
            await loop.sock_sendall(connection, LENGTH.pack(len(message)) + message)
            (octets,) = LENGTH.unpack(await _receive_exactly(connection, LENGTH.size))
            response = await _receive_exactly(connection, octets)
            if query.answered_by(response, identifier):
                return response
            self.counters["malformed"] += 1
        return None

    @contextlib.contextmanager
    def _socket(
        self, path: _Path, kind: socket.SocketKind
    ) -> Iterator[tuple[socket.socket, tuple[str | int | bytes, ...]]]:
        """A socket for one try and the resolver's address as it wants it.

        Raises:
            OSError: the address, the source or the mark cannot be had.
        """
        host, port = path.server
        family, *_, address = socket.getaddrinfo(
            host, port, type=kind, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind) as connection:
            connection.setblocking(False)
            if self.mark:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self.mark)
            if path.source is not None:
                connection.bind((format_locator(path.source), 0))
            yield connection, address


# --- messages ---


def read_message(octets: bytes, *, question_only: bool = False) -> dns.message.QueryMessage | None:
    """A message of the opcode QUERY with at most one question; None if the octets are not one.

    Args:
        octets: the whole message; a signature on it (TSIG) is for its ends to check, not for us.
        question_only: reads no further than the question section.
    """
    if len(octets) < HEADER_OCTETS or octets[4:6] > b"\x00\x01":
        return None
    try:
        message = dns.message.from_wire(octets, keyring=False, question_only=question_only)
    except (dns.exception.DNSException, ValueError):
        return None
    return message if isinstance(message, dns.message.QueryMessage) else None


def question_section(message: dns.message.Message) -> Asked:
    """What a message asks, such that equal questions are equal."""
    return [(entry.name, entry.rdtype, entry.rdclass) for entry in message.question]


def response_flags(octets: bytes) -> int:
    """The 16 bits after the id of a message that has a whole header."""
    return int.from_bytes(octets[2:4], "big")


def response_code(octets: bytes) -> dns.rcode.Rcode:
    """RCODE of a message that has a whole header, without EDNS's extension of it."""
    return dns.rcode.from_flags(response_flags(octets), 0)


def follow_aliases(message: dns.message.QueryMessage) -> dns.message.ChainingResult | None:
    """The end of the CNAME chain in a response; None if it is a circle or contradicts itself."""
    try:
        return message.resolve_chaining()
    except dns.exception.DNSException:
        return None


def _read_answer(octets: bytes) -> _Found | None:
    """What a response says to its question; None if it contradicts itself or never ends."""
    message = read_message(octets)
    if message is None or message.rcode() not in BELIEVED_RCODES:
        return None
    if message.flags & dns.flags.TC:
        return None  # even over TCP: what is missing might be what was asked
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


def _parse_name(text: str) -> dns.name.Name | None:
    """A name as ``Question`` holds it; None for a text that can be the name of nothing."""
    try:
        return dns.name.from_text(text + ".")
    except (dns.exception.DNSException, ValueError):
        return None


def _is_distant(server: Server) -> bool:
    """Whether the choice of a source can matter on the way to a resolver."""
    try:
        return is_global_unicast(parse_locator(server[0]))
    except UsageError:
        return False


async def _receive_exactly(connection: socket.socket, octets: int) -> bytes:
    """Reads from a stream.

    Raises:
        ConnectionError: it ended before.
    """
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < octets:
        part = await loop.sock_recv(connection, octets - len(received))
        if not part:
            raise ConnectionError
        received += part
    return bytes(received)
