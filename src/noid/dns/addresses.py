# SPDX-License-Identifier: MIT
"""Reads the addresses of a peer from an AAAA response, and reduces the response to one. Pure."""

import copy
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rdtypes.IN.AAAA
import dns.rrset

from noid.constants import LOCATORS_MAX
from noid.dns.messages import MESSAGE_OCTETS_MAX, follow_aliases, read_message
from noid.dns.records import canonical_name
from noid.dns.responses import Response
from noid.locators import Locator, is_global_unicast, parse_locator


class Peer(NamedTuple):
    """An AAAA answer that can be reduced to one address if the name supports M6.

    Attributes:
        name: the last name of the chain of aliases.
        message: the response.
        rrset: of it, the addresses.
        locators: these, in the order received.
        reduced: the response with one of them alone, made when it is first needed.
    """

    name: str
    message: dns.message.QueryMessage
    rrset: dns.rrset.RRset
    locators: tuple[Locator, ...]
    reduced: dict[Locator, Response]


def read_peer(octets: bytes) -> Peer | None:
    """The locators in a response, or None if it must not be changed."""
    message = read_message(octets)
    if message is None or message.rcode() != dns.rcode.NOERROR or message.had_tsig:
        return None
    if message.flags & dns.flags.TC:
        return None
    result = follow_aliases(message)
    if result is None or result.answer is None:
        return None
    locators = tuple(
        parse_locator(record.address)
        for record in result.answer
        if isinstance(record, dns.rdtypes.IN.AAAA.AAAA)
    )
    if not all(is_global_unicast(locator) for locator in locators):
        return None
    name = canonical_name(result.canonical_name.to_text())
    return Peer(name, message, result.answer, locators[:LOCATORS_MAX], {})


def with_one(peer: Peer, aid: Locator) -> bytes | None:
    """The response with one address of the final name; None if it cannot be encoded.

    The chain of CNAMEs stays, and so does the TTL. A signature over the whole set would be wrong
    and goes, and with it the claim that the data are authentic (AD).
    """
    whole = peer.rrset
    one = dns.rrset.from_rdata(whole.name, whole.ttl, whole[peer.locators.index(aid)])
    response = copy.copy(peer.message)
    response.sections = list(peer.message.sections)
    response.answer = [
        one if rrset is whole else rrset
        for rrset in peer.message.answer
        if (rrset.rdtype, rrset.covers, rrset.name)
        != (dns.rdatatype.RRSIG, dns.rdatatype.AAAA, whole.name)
    ]
    response.flags &= ~dns.flags.AD
    try:
        return response.to_wire(max_size=MESSAGE_OCTETS_MAX, want_shuffle=False)
    except dns.exception.DNSException:
        return None
