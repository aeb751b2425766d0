# SPDX-License-Identifier: MIT
"""noid and the second implementation come to the same of the same DNS [§7 of docs/protocol.md]."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noid.dns.records import Answer, Kind, Status, locator_at
from noid.dns.verification import Verification
from noid.locators import format_locator, parse_locator
from tests.interop.names import AAAA, UNKNOWN, Inquiry, Question, Reply, ask, read, reverse

ADDRESSES = [f"2001:db8:{number}::a" for number in range(1, 5)]
AID = ADDRESSES[0]
NAMES = ["a.example", "b.example", "a.b.example", "z.org", "b.org", "m.net"]


@dataclass(frozen=True)
class Zones:
    """What the DNS has: addresses by name, and names by address."""

    forward: dict[str, tuple[str, ...]]
    backward: dict[str, tuple[str, ...]]

    def values(self, question: Question) -> tuple[str, ...]:
        if question.kind == AAAA:
            return self.forward.get(question.name, ())
        address = next(one for one in ADDRESSES if reverse(one) == question.name)
        return self.backward.get(address, ())


def some(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), unique=True).map(tuple)


zones = st.builds(
    Zones,
    forward=st.dictionaries(st.sampled_from(NAMES), some(ADDRESSES)),
    backward=st.dictionaries(st.sampled_from(ADDRESSES), some(NAMES)),
)

Outcome = tuple[str, set[str], set[str]]
"""N, Lsr and the verified locators."""


def noids(inquiry: Verification, dns: Zones, said: list[str]) -> Outcome:
    """What noid finds."""
    waiting = inquiry.begin()
    while waiting:
        question = waiting.pop()
        is_forward = question.kind is Kind.LOCATORS
        found = dns.forward.get(question.name, ()) if is_forward else ()
        locators = tuple(map(parse_locator, found))
        address = "" if is_forward else format_locator(locator_at(question.name))
        names = dns.backward.get(address, ())
        status = Status.FOUND if locators or names else Status.ABSENT
        answer = Answer(status=status, locators=locators, names=names, ttl_seconds=60)
        waiting += inquiry.receive(question, answer, [parse_locator(one) for one in said])
    assert inquiry.settled
    remote, proven = map(format_locator, inquiry.remote), map(format_locator, inquiry.proven)
    return inquiry.name, set(remote), set(proven)


def the_seconds(inquiry: Inquiry, dns: Zones) -> Outcome:
    """What the second implementation finds."""
    while inquiry.missing:
        for question in inquiry.missing:
            reply = Reply(certain=True, values=dns.values(question), name=question.name, ttl=60)
            inquiry.replies[question] = reply
    found = inquiry.found
    return found.name, set(found.remote), set(found.verified)


@given(dns=zones, said=some(ADDRESSES))
def test_a_responder_finds_the_same(dns: Zones, said: tuple[str, ...]) -> None:
    first = noids(Verification(parse_locator(AID), None), dns, list(said))
    assert the_seconds(Inquiry(AID, said), dns) == first


@given(dns=zones, said=some(ADDRESSES), name=st.sampled_from(NAMES))
def test_an_initiator_finds_the_same(dns: Zones, said: tuple[str, ...], name: str) -> None:
    listed = dns.forward.get(name, ())
    if AID not in listed:
        return  # a program uses an address that the name lists
    locators = tuple(map(parse_locator, listed))
    first = noids(Verification(parse_locator(AID), name, locators), dns, list(said))
    assert the_seconds(Inquiry(AID, said, name, listed), dns) == first


@given(before=zones, after=zones, said=some(ADDRESSES))
def test_later_inquiries_of_both_implementations_find_the_same(
    before: Zones, after: Zones, said: tuple[str, ...]
) -> None:
    inquiry = Verification(parse_locator(AID), None)
    name, _, proven = noids(inquiry, before, list(said))
    later = bool(proven - {AID})
    following = inquiry.again()
    found = noids(following, after, list(said))
    other = Inquiry(AID, said, name if later else "", later=later)
    assert the_seconds(other, after) == found
    assert other.another == bool(following.another)


# --- the octets -----------------------------------------------------------------------------------


def answered(question: Question, *records: bytes, flags: int = 0x8400) -> bytes:
    head = ask(7, question)
    return (
        head[:2]
        + flags.to_bytes(2, "big")
        + head[4:6]
        + bytes((0, len(records)))
        + (head[8:] + b"".join(records))
    )


def record(owner: bytes, kind: int, data: bytes, ttl: int = 60) -> bytes:
    fixed = kind.to_bytes(2, "big") + b"\0\1" + ttl.to_bytes(4, "big")
    return owner + fixed + len(data).to_bytes(2, "big") + data


QUESTION = Question("www.example", AAAA)
SAME = b"\xc0\x0c"
"""A pointer to the name of the question."""


def test_an_alias_is_followed_and_its_ttl_counts() -> None:
    address = parse_locator(AID)
    alias = record(SAME, 5, b"\4host\xc0\x10", ttl=30)
    octets = answered(QUESTION, alias, record(b"\4host\7example\0", AAAA, bytes(address)))
    assert read(octets, QUESTION) == Reply(certain=True, values=(AID,), name="host.example", ttl=30)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda octets: octets[:-1],
        lambda octets: octets[:2] + b"\x84\x02" + octets[4:],
        lambda octets: octets[:2] + b"\x86\x00" + octets[4:],
        lambda octets: octets[:12],
    ],
    ids=["cut short", "SERVFAIL", "truncated", "without its records"],
)
def test_what_cannot_be_read_is_not_certain(spoil: Callable[[bytes], bytes]) -> None:
    octets = answered(QUESTION, record(SAME, AAAA, bytes(parse_locator(AID))))
    assert read(octets, QUESTION).values == (AID,)
    assert read(spoil(octets), QUESTION) == UNKNOWN
