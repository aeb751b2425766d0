# SPDX-License-Identifier: MIT
"""Reads the addresses of a peer from an AAAA response, and reduces the response to one. Pure."""

import struct
from typing import Final, NamedTuple

import dns.flags
import dns.rcode
import dns.rdataclass
import dns.rdatatype

from noid.constants import LOCATORS_MAX
from noid.dns.answers import Chain, rdata_of, read_chain
from noid.dns.messages import COUNTS, HEADER_OCTETS, TC, message_flags, response_code
from noid.dns.names import POINTER, text_of
from noid.dns.queries import Query
from noid.dns.responses import Response
from noid.locators import LOCATOR_OCTETS, Locator, is_global_unicast

AUTHENTIC: Final = int(dns.flags.AD)
_FIXED: Final = struct.Struct("!HHHIH")
"""A record up to its RDATA: a pointer to its owner, type, class, TTL and length."""


class Peer(NamedTuple):
    """An AAAA answer that can be reduced to one address if the name supports M6.

    Attributes:
        name: the last name of the chain of aliases.
        locators: its addresses, in the order received.
        reduced: the response with one of them alone, made when it is first needed.
    """

    name: str
    locators: tuple[Locator, ...]
    reduced: dict[Locator, Response]


def read_peer(query: Query, octets: bytes) -> Peer | None:
    """The locators in a response to a query, or None if it must not be changed."""
    chain = _read(query, octets)
    if chain is None:
        return None
    locators = tuple(Locator(rdata_of(octets, one)) for one in chain.records)
    if not all(len(one) == LOCATOR_OCTETS and is_global_unicast(one) for one in locators):
        return None
    different = tuple(dict.fromkeys(locators))
    return Peer(text_of(chain.name), different[:LOCATORS_MAX], {})


def with_one(query: Query, octets: bytes, aid: Locator) -> bytes | None:
    """A response to a query with one of its addresses; None if it must not be changed.

    The chain of CNAMEs stays, and so does the TTL. A signature over the whole set would be wrong
    and goes, and with it the claim that the data are authentic (AD).
    """
    chain = _read(query, octets)
    if chain is None:
        return None
    flags = message_flags(octets) & ~AUTHENTIC
    edns = [octets[one.offset : one.end] for one in chain.others if one.kind == dns.rdatatype.OPT]
    counts = COUNTS.pack(1, len(chain.aliases) + 1, 0, len(edns))
    reduced = octets[:2] + flags.to_bytes(2) + counts + octets[HEADER_OCTETS : query.end]
    owner = HEADER_OCTETS
    for alias in chain.aliases:
        reduced += _record(owner, dns.rdatatype.CNAME, alias.ttl_seconds, alias.target)
        owner = len(reduced) - len(alias.target)
    ttl_seconds = min(one.ttl_seconds for one in chain.records)
    return b"".join([reduced, _record(owner, dns.rdatatype.AAAA, ttl_seconds, aid), *edns])


def _read(query: Query, octets: bytes) -> Chain | None:
    """What an AAAA response says, if it has addresses and may be changed."""
    if response_code(octets) != dns.rcode.NOERROR or message_flags(octets) & TC:
        return None
    chain = read_chain(query, octets)
    if chain is None or not chain.records:
        return None
    is_signed = any(one.kind == dns.rdatatype.TSIG for one in chain.others)
    return None if is_signed else chain


def _record(owner: int, kind: int, ttl_seconds: int, rdata: bytes) -> bytes:
    """A record whose owner is the name at an offset; a chain ends long before the last offset."""
    pointer = POINTER << 8 | owner
    return _FIXED.pack(pointer, kind, dns.rdataclass.IN, ttl_seconds, len(rdata)) + rdata
