# SPDX-License-Identifier: MIT
"""Questions of every type, put to Unbound directly and through the stub: the answers are equal."""

import asyncio
import itertools
import random
from collections.abc import Iterator

import dns.asyncquery
import dns.flags
import dns.message
import dns.rdatatype
import pytest

from noid.lab.resolution import Resolution, serving
from noid.resolver.port import Server
from tests.dns.conftest import Program, addresses, as_program

QUERIES_AT_ONCE = 32
SEED = 1

RECORDS = r"""$TTL 300
@ SOA ns root 1 3600 600 86400 120
@ NS ns
ns AAAA ::1
@ MX 10 mail
mail A 192.0.2.25
mail AAAA 2001:db8::25
plain A 192.0.2.1
plain AAAA 2001:db8:1::2
plain AAAA 2001:db8:2::2
m6 AAAA 2001:db8:1::1
m6 AAAA 2001:db8:2::1
m6 TYPE65286 \# 0
alias CNAME plain
first CNAME second
second CNAME plain
nowhere CNAME gone
circle CNAME circle2
circle2 CNAME circle
text TXT "one" "two \"quoted\"" "\000\255"
svc SVCB 1 m6 alpn=h2 port=8443
@ HTTPS 1 . alpn="h2,h3" ipv6hint=2001:db8::25
web HTTPS 0 m6
srv SRV 1 2 443 m6
caa CAA 0 issue "ca.test"
naptr NAPTR 1 1 "u" "sip" "!^.*$!sip:a@b!" .
ssh SSHFP 1 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789
tlsa TLSA 3 1 1 92003ba34942dc74152e2f2c408d29eca5a520e7f2e06bb944f4dca346baf63c
loc LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m
unknown TYPE4711 \# 4 00010203
private TYPE65300 \# 0
*.wild A 192.0.2.9
hinfo HINFO "amd64" "linux"
rp RP admin text
cert CERT 1 12345 8 MIIB
uri URI 10 1 "https://names.test/"
eui EUI48 00-00-5e-00-53-2a
afsdb AFSDB 1 mail
below.empty A 192.0.2.12
dname DNAME wild
zero 0 A 192.0.2.10
long 2147483647 A 192.0.2.11
""" + "".join(f'big TXT "{index:03}{"x" * 200}"\n' for index in range(20))

NAMES = [
    "", "ns", "mail", "plain", "alias", "first", "nowhere", "circle", "text", "svc", "web", "srv",
    "caa", "naptr", "ssh", "tlsa", "loc", "unknown", "private", "any.wild", "zero", "long", "big",
    "hinfo", "rp", "cert", "uri", "eui", "afsdb", "empty", "below.empty", "dname", "any.dname",
    "gone", "m6", "PLAIN", f"{'x' * 63}.{'y' * 63}.{'z' * 63}",
]  # fmt: skip
KINDS = [
    "A", "AAAA", "NS", "SOA", "CNAME", "DNAME", "MX", "PTR", "TXT", "SRV", "SVCB", "HTTPS", "CAA",
    "NAPTR", "SSHFP", "TLSA", "LOC", "DS", "DNSKEY", "NSEC", "RRSIG", "ANY", "TYPE4711",
    "TYPE65286", "TYPE65300", "HINFO", "RP", "CERT", "URI", "EUI48", "AFSDB",
]  # fmt: skip
EDNS = [None, False, True]
"""Without, with, and with DO."""


@pytest.fixture(scope="module")
def resolution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolution]:
    with serving(tmp_path_factory.mktemp("names"), {"names.test": RECORDS}) as places:
        yield places


def queries() -> list[dns.message.QueryMessage]:
    """Every name with every type, with and without EDNS and DO; AD, CD and RD by chance."""
    chance = random.Random(SEED)
    made = []
    for name, kind, edns in itertools.product(NAMES, KINDS, EDNS):
        query = dns.message.make_query(
            f"{name}.names.test".lstrip("."), kind, want_dnssec=bool(edns)
        )
        if edns is not None:
            query.use_edns(0, 0x8000 * edns, payload=chance.choice([512, 1232, 4096]))
        query.flags |= chance.choice([0, dns.flags.AD, dns.flags.CD])
        if chance.random() < 0.05:
            query.flags &= ~dns.flags.RD
        made.append(query)
    return made


def content(message: dns.message.Message) -> tuple[object, ...]:
    """All of a message but the ids, the order of records, the run of time and the case of names.

    A server compresses names into those of the question, and the resolver asked with another
    mixture of cases each time [RFC 4343 §4.1].
    """
    sections = [
        sorted(
            (str(rrset.name).lower(), rrset.rdtype, sorted(data.to_digestable() for data in rrset))
            for rrset in section
        )
        for section in message.sections[1:]
    ]
    return (message.rcode(), message.flags, message.edns, message.ednsflags, *sections)


def is_reduced(query: dns.message.QueryMessage, direct: dns.message.Message) -> bool:
    """Whether the stub gives one address of a name that speaks M6."""
    asks_whole = query.ednsflags & 0x8000 or query.flags & dns.flags.CD
    names_m6 = query.question[0].name.labels[0] == b"m6"
    kind = query.question[0].rdtype
    return names_m6 and kind == dns.rdatatype.AAAA and not asks_whole and bool(direct.answer)


@pytest.mark.slow
def test_through_the_stub_every_answer_is_the_resolvers_own(resolution: Resolution) -> None:
    server = resolution.resolver

    async def put(query: dns.message.Message, place: Server) -> dns.message.Message:
        return await dns.asyncquery.udp(query, place[0], port=place[1], timeout=60)

    async def scenario(program: Program) -> tuple[list[str], int, int]:
        differences: list[str] = []
        reduced = answered = 0
        stub = program.stub.service.listen, program.stub.port

        async def compare(query: dns.message.QueryMessage) -> None:
            nonlocal reduced, answered
            direct = await put(query, server)
            through = await put(query, stub)
            answered += bool(direct.answer)
            if is_reduced(query, direct):
                reduced += 1
                assert len(addresses(through)) == 1
            elif content(direct) != content(through):
                differences.append(f"{query}\n--- directly\n{direct}\n--- through\n{through}")

        waiting = queries()
        assert len(waiting) > 3_000
        # Once for the answers of the resolver, once more for those the stub remembers.
        for first in range(0, 2 * len(waiting), QUERIES_AT_ONCE):
            batch = (waiting * 2)[first : first + QUERIES_AT_ONCE]
            await asyncio.gather(*map(compare, batch))
        return differences, reduced, answered

    differences, reduced, answered = as_program(scenario, server, total_s=4.5, grace_s=2)
    assert not differences, f"{len(differences)} differ; the first:\n{differences[0]}"
    assert reduced > 0
    assert answered > 500, "most names have nothing of most types, but not all"
