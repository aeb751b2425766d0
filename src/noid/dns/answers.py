# SPDX-License-Identifier: MIT
"""Reads the answer to a question at the end of its chain of aliases, from the octets. Pure.

The time that this takes grows with the octets of the message alone: who owns a zone could otherwise
keep the host from other work, by a few records with long names.
"""

from typing import Final, NamedTuple

import dns.rcode
import dns.rdatatype

from noid.dns.messages import BELIEVED_RCODES, response_code
from noid.dns.names import Names
from noid.dns.queries import Query
from noid.dns.responses import TTL_MAX, Record, negative_ttl, records_of

ALIASES_MAX: Final = 16
CLASS_OCTETS: Final = 2
"""Before the TTL of a record."""


class Alias(NamedTuple):
    """A CNAME on the way: its TTL, and its target, in wire form and lower case."""

    ttl_seconds: int
    target: bytes


class Chain(NamedTuple):
    """What a response says to its question.

    Attributes:
        name: where the chain of aliases ends, in wire form and lower case.
        aliases: those on the way.
        records: of the type that was asked for, at the end; empty if there are none.
        ttl_seconds: the least TTL on the way; where there are no records, the negative TTL, which
            is 0 without an SOA.
        others: the records of the other sections.
        names: those of the response.
    """

    name: bytes
    aliases: list[Alias]
    records: list[Record]
    ttl_seconds: int
    others: list[Record]
    names: Names


def read_chain(query: Query, octets: bytes) -> Chain | None:
    """What a response says to its question; None if it is malformed, contradicts itself or loops.

    Args:
        query: what was asked.
        octets: a response to it, whose question is that of the query.
    """
    try:
        return _read(query, octets)
    except (IndexError, ValueError):
        return None


def rdata_of(octets: bytes, record: Record) -> bytes:
    """What a record says, as it is written."""
    return octets[record.rdata_offset : record.end]


def _read(query: Query, octets: bytes) -> Chain | None:
    records = records_of(octets, query.end)
    if records is None or response_code(octets) not in BELIEVED_RCODES:
        return None
    count = int.from_bytes(octets[6:8])
    others = records[count:]
    if any(one.kind == dns.rdatatype.OPT and octets[one.ttl_offset] for one in others):
        return None  # the rest of the RCODE, which is another then
    name, names = query.name.lower(), Names(octets)
    at_names = _by_name(query, octets, records[:count], names)
    aliases: list[Alias] = []
    ttl_seconds = TTL_MAX
    while True:
        found = at_names.get((name, query.kind), [])
        targets = at_names.get((name, dns.rdatatype.CNAME), [])
        ttl_seconds = min([ttl_seconds, *(one.ttl_seconds for one in found or targets)])
        if found or not targets:
            break
        if len(aliases) == ALIASES_MAX:
            return None
        name = names.at(targets[0].rdata_offset)
        aliases.append(Alias(targets[0].ttl_seconds, name))
    if not found:
        # Without an SOA nothing says for how long [RFC 2308 §5].
        ttl_seconds = min(ttl_seconds, negative_ttl(octets, records) or 0)
    elif response_code(octets) == dns.rcode.NXDOMAIN:
        return None
    return Chain(name, aliases, found, ttl_seconds, others, names)


def _by_name(
    query: Query, octets: bytes, answers: list[Record], names: Names
) -> dict[tuple[bytes, int], list[Record]]:
    """The records of the type that was asked for, and aliases, by name and type."""
    wanted = query.record_class.to_bytes(CLASS_OCTETS)
    found: dict[tuple[bytes, int], list[Record]] = {}
    for one in answers:
        record_class = octets[one.ttl_offset - CLASS_OCTETS : one.ttl_offset]
        if one.kind in (query.kind, dns.rdatatype.CNAME) and record_class == wanted:
            found.setdefault((names.at(one.offset), one.kind), []).append(one)
    return found
