# SPDX-License-Identifier: MIT
"""Messages of the DNS that take long to read, while failures and other programs wait.

Attacker: a local user with queries, or who owns a zone and has its names asked for. Guaranteed:
nothing of that length is read record by record, and programs get answers as without noid.
"""

import struct
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import pytest

from noid.dns.messages import COUNTS, HEADER_OCTETS, MESSAGE_OCTETS_MAX
from noid.dns.names import POINTER, wire_of
from noid.dns.queries import QUERY_OCTETS_MAX, Query, make_query, read_query
from noid.dns.queries import RECORDS_MAX as QUERY_RECORDS_MAX
from noid.resolver.lookup import RECORDS_MAX, read_answer
from tests.dns.conftest import (
    NAME,
    Pretend,
    Program,
    aaaa,
    as_program,
    m6_host,
)

EMPTY_RECORD = bytes((0, 0, dns.rdatatype.NULL, 0, 1)) + bytes(6)
"""A record of the root with nothing in it."""
OF_QUESTION = b"\xc0\x0c"
"""A pointer to the name in the question."""
POINTER_OCTETS = 2
POINTED_TO_MAX = 1 << 14
"""Offsets below this can be pointed to."""
UNKNOWN_KIND = 65_280
LINES_PER_OCTET = 10
LINES_OF_RECORDS = 100_000
"""Lines of Python that run: for each octet of a message, and for the records that are looked at."""


def with_records(count: int) -> bytes:
    """A query with so many records behind its question."""
    query = aaaa("host").to_wire()
    return query[:10] + count.to_bytes(2) + query[12:] + EMPTY_RECORD * count


@pytest.mark.parametrize("count", [QUERY_RECORDS_MAX + 1, 100, 4_000])
def test_a_query_with_many_records_is_refused_unread(pretend: Pretend, count: int) -> None:
    async def scenario(program: Program) -> bytes | None:
        return await program.stub.answer(with_records(count))

    refusal = as_program(scenario, pretend(m6_host()))
    assert refusal is not None
    assert dns.message.from_wire(refusal).rcode() == dns.rcode.FORMERR


def test_a_query_with_many_options_is_refused_unread() -> None:
    query = aaaa("host")
    query.use_edns(
        options=[
            dns.edns.GenericOption(dns.edns.OptionType.make(65_001), b"")
            for _ in range(QUERY_OCTETS_MAX)
        ]
    )
    assert read_query(query.to_wire(max_size=MESSAGE_OCTETS_MAX)) is None


def test_a_query_with_edns_and_a_signature_is_a_query() -> None:
    query = aaaa("host", want_dnssec=True)
    key = dns.tsig.Key(dns.name.from_text("key."), b"secret", dns.tsig.HMAC_SHA256)
    query.use_tsig(key)
    read = read_query(query.to_wire())
    assert read is not None
    assert not read.plain


def response(name: str, kind: str, *records: dns.rrset.RRset) -> tuple[Query, bytes]:
    """A query, and a response with so many records."""
    message = dns.message.make_response(dns.message.make_query(f"{name}.", kind))
    message.answer = list(records)
    query = make_query(wire_of(name) or b"", dns.rdatatype.from_text(kind))
    return query, message.to_wire(max_size=MESSAGE_OCTETS_MAX)


def rrset(name: str, kind: str, *texts: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(f"{name}.", 60, "IN", kind, *texts)


if TYPE_CHECKING:
    from _typeshed import TraceFunction

LONG_NAME = ".".join(["n", *["a"] * 120])


def pointing(count: int, *, owners: bool) -> tuple[Query, bytes]:
    """PTR records, each with a name of many labels, which is written once and pointed to.

    Args:
        count: how many.
        owners: whether that is their owner, rather than what they say.
    """
    query = make_query(wire_of(NAME) or b"", dns.rdatatype.PTR)
    flags, counts = b"\x81\x80", COUNTS.pack(1, count + 1, 0, 0)
    octets = query.octets[:2] + flags + counts + query.octets[HEADER_OCTETS : query.end]
    octets += record(OF_QUESTION, wire_of(LONG_NAME) or b"")
    long_name = len(octets) - len(LONG_NAME) - 2
    others = bytearray()
    for number in range(count):
        name = b"\x04%04d" % number + (POINTER << 8 | long_name).to_bytes(2)
        others += record(name, b"\0") if owners else record(OF_QUESTION, name)
    return query, octets + others


def pointing_to_pointers() -> tuple[Query, bytes]:
    """A PTR record whose name is a chain of as many pointers as there can be, and then labels.

    The chain is in a record of an unknown type, which servers pass on as it is.
    """
    query = make_query(wire_of(NAME) or b"", dns.rdatatype.PTR)
    chain = bytearray(wire_of(LONG_NAME) or b"")
    at = last = query.end + len(record(OF_QUESTION, b""))
    at += len(chain)
    while at < POINTED_TO_MAX - POINTER_OCTETS:
        chain += (POINTER << 8 | last).to_bytes(POINTER_OCTETS)
        last, at = at, at + POINTER_OCTETS
    flags, counts = b"\x81\x80", COUNTS.pack(1, 2, 0, 0)
    octets = query.octets[:2] + flags + counts + query.octets[HEADER_OCTETS : query.end]
    octets += record(OF_QUESTION, bytes(chain), UNKNOWN_KIND)
    return query, octets + record(OF_QUESTION, (POINTER << 8 | last).to_bytes(POINTER_OCTETS))


def record(owner: bytes, rdata: bytes, kind: int = dns.rdatatype.PTR) -> bytes:
    head = struct.pack("!HHIH", kind, dns.rdataclass.IN, 60, len(rdata))
    return owner + head + rdata


LONG: dict[str, Callable[[], tuple[Query, bytes]]] = {
    "addresses": lambda: response(
        NAME, "AAAA", rrset(NAME, "AAAA", *(f"2001:db8::{one:x}" for one in range(1, 2_301)))
    ),
    "names of many labels": lambda: pointing(3_000, owners=False),
    "owners of many labels": lambda: pointing(3_000, owners=True),
    "pointers to pointers": pointing_to_pointers,
    "strings": lambda: response(NAME, "TXT", rrset(NAME, "TXT", " ".join(['""'] * 60_000))),
    "aliases": lambda: response(
        NAME,
        "AAAA",
        *(rrset(NAME if not one else f"c{one}", "CNAME", f"c{one + 1}.") for one in range(15)),
        *(rrset(f"z{one}", "CNAME", "c1.") for one in range(3_000)),
    ),
}
"""Queries, and responses that a zone's owner can let a resolver give."""


@pytest.mark.parametrize("name", LONG)
def test_the_time_to_read_an_answer_grows_with_its_octets_alone(name: str) -> None:
    query, octets = LONG[name]()
    lines = 0

    def count(frame: FrameType, event: str, argument: object) -> "TraceFunction":
        nonlocal lines
        lines += 1
        return count

    sys.settrace(count)
    try:
        found = read_answer(query, query.name, octets)
    finally:
        sys.settrace(None)
    assert found is not None
    assert lines <= LINES_PER_OCTET * len(octets) + LINES_OF_RECORDS


def test_of_thousands_of_names_some_are_read() -> None:
    """As many as are looked at."""
    query, octets = LONG["names of many labels"]()
    found = read_answer(query, query.name, octets)
    assert found is not None
    assert len(found.names) == RECORDS_MAX
    assert found.names[1] == f"0000.{LONG_NAME}"
