# SPDX-License-Identifier: MIT
"""The parsers of the stub and of the resolver client, without sockets."""

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from noid.dns.addresses import read_peer, with_one
from noid.dns.messages import COUNTS, HEADER_OCTETS, read_message
from noid.dns.names import text_of, wire_of
from noid.dns.queries import (
    QUERY_OCTETS_MAX,
    bare_response,
    brief_response,
    disguised,
    make_query,
    read_query,
)
from noid.dns.responses import LIFETIME_MAX_S, TTL_MAX, Echo, Response, echo
from noid.resolver.lookup import RECORDS_MAX, read_answer
from tests.dns.conftest import NAME, answered
from tests.fuzz.choices import Choices, altered

QUERIES = tuple(
    dns.message.make_query(NAME, kind, use_edns=edns, want_dnssec=edns == 0 and kind == "TXT")
    for kind in ("AAAA", "TXT", "PTR")
    for edns in (-1, 0)
)
KINDS = tuple(map(dns.rdatatype.from_text, ("AAAA", "PTR", "TXT", "TYPE65286")))
RECORDS = tuple(
    dns.rrset.from_text(f"{name}.", ttl, "IN", kind, text)
    for name, ttl, kind, text in (
        (NAME, 60, "AAAA", "2001:db8::1"),
        (NAME, 2**31, "AAAA", "2001:db8::2"),
        (NAME, 60, "CNAME", "m6.example.test."),
        ("m6.example.test", 0, "AAAA", "2001:db8::3"),
        (NAME, 60, "PTR", "m6.example.test."),
        (NAME, 60, "TXT", '"v=" "m6"'),
        ("example.test", 300, "SOA", "ns. root. 1 3600 600 86400 4294967295"),
    )
)
LATER_S = 100.0


def query(octets: bytes) -> None:
    """What a program may ask: what is understood is what dnspython understands."""
    choices = Choices(octets)
    for one in (octets, altered(choices, choices.pick(QUERIES).to_wire())):
        read = read_query(one)
        if len(one) >= HEADER_OCTETS:
            assert len(bare_response(one, dns.rcode.FORMERR)) == HEADER_OCTETS
        if read is None:
            continue
        assert len(read.octets) <= len(one) <= QUERY_OCTETS_MAX
        assert read.octets[: read.end] == one[: read.end]
        assert echo(one, read.end, brief_response(read, dns.rcode.REFUSED)) is not Echo.NONE
        sent = disguised(read, octets.ljust(2 + len(read.name), b"\x55")[: 2 + len(read.name)])
        assert len(sent) == len(read.octets)
        assert not read.plain or read_query(sent) is not None
        message = read_message(one)
        if message is not None:
            (question,) = message.question
            assert (question.name.to_wire() or b"").lower() == read.name.lower()
            assert question.rdtype == read.kind
            assert bool(message.ednsflags & 0x8000) == read.dnssec_ok


def answer(octets: bytes) -> None:
    """What a resolver may answer: what is believed of it, and what a program gets."""
    choices = Choices(octets)
    asked = make_query(wire_of(NAME) or b"", choices.pick(KINDS))
    head = asked.octets[:2] + b"\x81\x80" + COUNTS.pack(1, choices.number(4), choices.number(3), 0)
    right = answered(asked.octets, *[one for one in RECORDS if choices.flag()])
    for one in (head + asked.octets[HEADER_OCTETS : asked.end] + octets, altered(choices, right)):
        if echo(asked.octets, asked.end, one) is Echo.NONE:
            continue
        kept = Response(asked, one, 0.0)
        assert 0 <= kept.lifetime_s <= LIFETIME_MAX_S
        assert kept.answer(asked, LATER_S)
        found = read_answer(asked, asked.name, one)
        if found is not None:
            assert len(found.locators) <= RECORDS_MAX
            assert len(found.names) <= RECORDS_MAX
            assert 0 <= found.ttl_seconds <= TTL_MAX
            assert text_of(found.end) or found.end == b"\0"
        peer = read_peer(asked, one)
        if peer is not None:
            reduced = with_one(asked, one, peer.locators[-1])
            assert reduced is not None
            again = read_peer(asked, reduced)
            assert again is not None
            assert again.locators == peer.locators[-1:]
            assert again.name == peer.name
