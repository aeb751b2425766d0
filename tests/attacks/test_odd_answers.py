# SPDX-License-Identifier: MIT
"""Answers of the DNS with odd lifetimes.

Attacker: who owns a zone. Guaranteed: an absence without a lifetime is kept no longer than the
least time of D31, and the least TTL of an inquiry counts in any order of the answers.
"""

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from noid.dns.names import wire_of
from noid.dns.queries import make_query
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.dns.responses import TTL_MAX
from noid.dns.verification import Verification
from noid.resolver.lookup import read_answer
from tests.dns.conftest import NAME
from tests.engine.network import B1, B2

SOA = "ns. root. 1 3600 600 86400 120"
ALIAS = dns.rrset.from_text(f"{NAME}.", 60, "IN", "CNAME", "gone.example.test.")


def lifetime_s(*answers: dns.rrset.RRset, code: dns.rcode.Rcode, soa: int | None = None) -> int:
    """For how long a negative answer holds; its SOA has this TTL."""
    asked = dns.message.make_query(f"{NAME}.", "AAAA")
    message = dns.message.make_response(asked)
    message.set_rcode(code)
    message.answer = list(answers)
    if soa is not None:
        message.authority = [dns.rrset.from_text("example.test.", soa, "IN", "SOA", SOA)]
    query = make_query(wire_of(NAME) or b"", dns.rdatatype.AAAA)
    found = read_answer(query, query.name, message.to_wire())
    assert found is not None
    assert found.status is Status.ABSENT
    return found.ttl_seconds


@pytest.mark.parametrize("code", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
@pytest.mark.parametrize("answers", [(), (ALIAS,)], ids=len)
def test_an_absence_without_an_soa_has_no_lifetime(
    code: dns.rcode.Rcode, answers: tuple[dns.rrset.RRset, ...]
) -> None:
    """They "SHOULD NOT be cached" [RFC 2308 §5]."""
    assert lifetime_s(*answers, code=code) == 0


@pytest.mark.parametrize(("soa", "expected"), [(60, 60), (300, 120), (0, 0), (2**31, 0)])
def test_an_absence_holds_as_long_as_its_soa_says(soa: int, expected: int) -> None:
    assert lifetime_s(code=dns.rcode.NXDOMAIN, soa=soa) == expected


@pytest.mark.parametrize("ttls", [(0, 3600), (3600, 0), (0, TTL_MAX), (TTL_MAX, 0)])
def test_the_least_ttl_of_an_inquiry_counts_in_any_order(ttls: tuple[int, int]) -> None:
    inquiry = Verification(B1, "b.example", (B1, B2))
    inquiry.begin()
    for locator, ttl_seconds in zip((B1, B2), ttls, strict=True):
        question = Question(Kind.NAMES, reverse_name(locator))
        answer = Answer(status=Status.FOUND, names=("b.example",), ttl_seconds=ttl_seconds)
        inquiry.receive(question, answer)
    assert inquiry.settled
    assert inquiry.ttl_seconds == 0
