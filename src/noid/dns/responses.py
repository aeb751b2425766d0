# SPDX-License-Identifier: MIT
"""Responses as octets, their lifetimes, and the cache. Pure.

A response passes through as it stands. What has to be known of it is where the times to live stand
and how long it may be used; that much is read here, straight from the octets, since it is read of
every message. An equal query gets the equal response until the least of its times to live has run
down. That holds for every response: found, not there, any type [RFC 2308]. Kept responses are
bounded in number and in octets; the oldest goes first. The time is an argument.

Nothing here raises for any octets.
"""

import enum
import struct
from array import array
from collections import OrderedDict
from typing import Final, NamedTuple

import dns.rcode
import dns.rdatatype

from noid.dns.messages import (
    BELIEVED_RCODES,
    COUNTS,
    HEADER_OCTETS,
    KIND_CLASS,
    LABEL_OCTETS_MAX,
    OPCODE_MASK,
    QR,
    RD,
    REFUSALS,
    TC,
    message_flags,
    response_code,
)
from noid.dns.queries import Query, brief_response

TTL_MAX: Final = 2**31 - 1
"""The largest TTL there is; one with the top bit set is taken as 0 [RFC 2181 §8]."""
NEGATIVE_TTL_MAX: Final = 10_800
"""Cap on the TTL of what is absent: 3 hours [RFC 2308 §5]."""
LIFETIME_MAX_S: Final = 86_400
"""No response is used longer than a day, also if its TTL is longer."""

OF_ONE_MESSAGE: Final = frozenset({dns.rdatatype.SIG, dns.rdatatype.TKEY, dns.rdatatype.TSIG})
"""Records that say something about the message they are in: it is not given out again."""

BARE_RCODES: Final = REFUSALS | {dns.rcode.FORMERR}
"""What a server that could not even read the question may say without repeating it."""

RESPONSES_MAX: Final = 10_000
"""Responses kept."""
RESPONSE_OCTETS_MAX: Final = 8 * 2**20
"""Octets of all of them together, as they came."""

RDATA_LENGTH_OCTETS: Final = 2
_RECORD: Final = struct.Struct("!HHIH")
_TTL: Final = struct.Struct("!I")


class Record(NamedTuple):
    """A record of a message: its type and TTL, and the offsets of its start, its TTL, its end."""

    kind: int
    ttl_seconds: int
    offset: int
    ttl_offset: int
    end: int

    @property
    def rdata_offset(self) -> int:
        """The offset of what it says."""
        return self.ttl_offset + _TTL.size + RDATA_LENGTH_OCTETS


class Response:
    """A cached response of a resolver.

    Args:
        query: what was asked.
        octets: the response, whose question differs from the query's in case at most.
        received_s: when it was received.
    """

    __slots__ = (
        "__weakref__",
        "_aged",
        "_aged_s",
        "_ttl_offsets",
        "found",
        "lifetime_s",
        "octets",
        "received_s",
    )

    def __init__(self, query: Query, octets: bytes, received_s: float) -> None:
        self.octets = octets
        self.received_s = received_s
        records = records_of(octets, query.end)
        self.lifetime_s = 0 if records is None else lifetime_s(query, octets, records)
        """How long an equal query may have the same response; 0 where it may not."""
        self.found = records is not None and _has_answer(query, octets, records)
        """Whether there are records of the type that was asked for."""
        offsets = [one.ttl_offset for one in records or () if one.kind != dns.rdatatype.OPT]
        self._ttl_offsets = array("H", offsets)
        self._aged = octets
        self._aged_s = 0

    def answer(self, query: Query, now_s: float) -> bytes:
        """The response to an equal query: with its id, the case of its name, and reduced TTLs."""
        octets = self._at(now_s)
        if octets[4:6] == b"\x00\x00":
            # The server did not read the question; the client gets the response nevertheless.
            return brief_response(query, response_code(octets))
        return query.octets[:2] + octets[2:HEADER_OCTETS] + query.name + octets[query.name_end :]

    def _at(self, now_s: float) -> bytes:
        age_s = int(now_s - self.received_s)
        if age_s != self._aged_s and self.lifetime_s:
            aged = bytearray(self.octets)
            for offset in self._ttl_offsets:
                (ttl_seconds,) = _TTL.unpack_from(aged, offset)
                left_s = ttl_seconds - age_s if age_s < ttl_seconds <= TTL_MAX else 0
                _TTL.pack_into(aged, offset, left_s)
            self._aged, self._aged_s = bytes(aged), age_s
        return self._aged


class Responses:
    """The cache of responses.

    Args:
        count_max: how many are kept.
        octets_max: how many octets they may have together, as they came.
    """

    def __init__(
        self, count_max: int = RESPONSES_MAX, octets_max: int = RESPONSE_OCTETS_MAX
    ) -> None:
        self.octets = 0
        self._count_max = count_max
        self._octets_max = octets_max
        self._kept: OrderedDict[bytes, Response] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, query: Query, now_s: float) -> Response | None:
        """The cached response to an equal query, if it has not expired."""
        key = query.key
        response = self._kept.get(key)
        if response is None:
            return None
        if now_s - response.received_s >= response.lifetime_s:
            self._drop(key)
            return None
        return response

    def keep(self, query: Query, response: Response) -> None:
        """Caches a response, if its lifetime is not 0."""
        if not response.lifetime_s:
            return
        key = query.key
        self._drop(key)
        self._kept[key] = response
        self.octets += len(key) + len(response.octets)
        while len(self._kept) > self._count_max or self.octets > self._octets_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: bytes) -> None:
        response = self._kept.pop(key, None)
        if response is not None:
            self.octets -= len(key) + len(response.octets)


class Echo(enum.Enum):
    """How far a received message matches a query that was sent."""

    EXACT = enum.auto()
    OTHER_CASE = enum.auto()
    """Matches except for the case of the name: a guess, or a resolver that changes the case."""
    NONE = enum.auto()


def echo(sent: bytes, end: int, received: bytes) -> Echo:
    """Whether a message is the response to a query.

    Args:
        sent: the query as it was sent.
        end: the offset of the end of its question.
        received: any octets.
    """
    if len(received) < HEADER_OCTETS or received[:2] != sent[:2]:
        return Echo.NONE
    if message_flags(received) & (QR | OPCODE_MASK) != QR:
        return Echo.NONE
    if received[4:6] == b"\x00\x00":
        return Echo.EXACT if response_code(received) in BARE_RCODES else Echo.NONE
    if received[4:6] != b"\x00\x01":
        return Echo.NONE
    question = received[HEADER_OCTETS:end]
    asked = sent[HEADER_OCTETS:end]
    if question == asked:
        return Echo.EXACT
    name = slice(0, -KIND_CLASS.size)
    kind_class = slice(-KIND_CLASS.size, None)
    if question[name].lower() == asked[name].lower() and question[kind_class] == asked[kind_class]:
        return Echo.OTHER_CASE
    return Echo.NONE


def records_of(octets: bytes, question_end: int) -> list[Record] | None:
    """The records of all sections after the question; None if other octets follow them."""
    records: list[Record] = []
    offset = question_end
    try:
        for _ in range(sum(COUNTS.unpack_from(octets, 4)[1:])):
            start = offset
            while octets[offset] and octets[offset] <= LABEL_OCTETS_MAX:
                offset += 1 + octets[offset]
            offset += 2 if octets[offset] else 1
            kind, _, ttl_seconds, rdata_octets = _RECORD.unpack_from(octets, offset)
            end = offset + _RECORD.size + rdata_octets
            ttl_seconds = ttl_seconds if ttl_seconds <= TTL_MAX else 0
            records.append(Record(kind, ttl_seconds, start, offset + 4, end))
            offset = end
    except (IndexError, struct.error):
        return None
    return records if offset == len(octets) else None


def lifetime_s(query: Query, octets: bytes, records: list[Record]) -> int:
    """The lifetime of a cached response [RFC 2181 §8, RFC 2308 §5]; 0 if it is not cached.

    Args:
        query: what was asked.
        octets: the response.
        records: of it, all sections.
    """
    flags = message_flags(octets)
    if not query.plain or not flags & RD or flags & TC:
        return 0
    code = response_code(octets)
    if code not in BELIEVED_RCODES or any(record.kind in OF_ONE_MESSAGE for record in records):
        return 0
    ttls = [record.ttl_seconds for record in records if record.kind != dns.rdatatype.OPT]
    if code == dns.rcode.NXDOMAIN or not _has_answer(query, octets, records):
        minimum = negative_ttl(octets, records)
        if minimum is None:
            return 0
        ttls += [minimum, NEGATIVE_TTL_MAX]
    return min(LIFETIME_MAX_S, *ttls)


def absence_s(octets: bytes, question_end: int) -> int | None:
    """The lifetime of a negative response; None if the response is not a plain negative one.

    This much is read without dnspython because nearly every question whether a name speaks M6 is
    answered so.
    """
    if octets[6:8] != b"\x00\x00":
        return None
    records = records_of(octets, question_end)
    if records is None:
        return None
    return negative_ttl(octets, records)


def _has_answer(query: Query, octets: bytes, records: list[Record]) -> bool:
    answers = records[: int.from_bytes(octets[6:8])]
    if query.kind == dns.rdatatype.ANY:
        return bool(answers)
    return any(record.kind == query.kind for record in answers)


def negative_ttl(octets: bytes, records: list[Record]) -> int | None:
    """What the SOA says how long something is absent; None without one [RFC 2308 §5]."""
    answers, authorities, _ = COUNTS.unpack_from(octets, 4)[1:]
    for record in records[answers : answers + authorities]:
        if record.kind == dns.rdatatype.SOA:
            (minimum,) = _TTL.unpack_from(octets, record.end - _TTL.size)
            return min(int(minimum), record.ttl_seconds)
    return None
