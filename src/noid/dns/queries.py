# SPDX-License-Identifier: MIT
"""Queries as octets, and the responses that depend only on the query. Pure.

A query is forwarded to the next server unchanged, except its id, the case of its name and the EDNS
options that are not for that server. Nothing here raises, for any octets.
"""

import struct
from typing import Final, NamedTuple

import dns.rcode
import dns.rdataclass
import dns.rdatatype

from noid.dns.messages import (
    CD,
    COUNTS,
    HEADER_OCTETS,
    KIND_CLASS,
    LABEL_OCTETS_MAX,
    OPCODE_MASK,
    QR,
    RA,
    RD,
    message_flags,
    read_message,
)

NAME_OCTETS_MAX: Final = 255
QUERY_OCTETS_MAX: Final = 2_048
RECORDS_MAX: Final = 4
"""Of a query, and of the records behind its question (EDNS, a signature): what has more is refused
unread. A program that sends such queries would otherwise keep noid from its other work."""
DATAGRAM_OCTETS_MIN: Final = 512
DATAGRAM_OCTETS_MAX: Final = 4_096
"""Sizes of a UDP response: what every client can take [RFC 1035 §4.2.1], and the longest."""
EDNS_OCTETS: Final = 1_232
"""UDP messages we take ourselves: what fits IPv6's minimum MTU without fragments."""
COOKIE, TCP_KEEPALIVE, PADDING = 10, 11, 12
HOP_BY_HOP: Final = frozenset({COOKIE, TCP_KEEPALIVE, PADDING})
"""EDNS options between a client and its own server [RFC 7873, 7828, 7830]; not for the next one."""
CASE_BITS: Final = bytes(0x20 * (bytes([octet]).isalpha()) for octet in range(256))
"""For each octet of a name the bit that is its case. The length of a label is never a letter."""

DNSSEC_OK: Final = 0x8000

_OPTION: Final = struct.Struct("!HH")
_OPT: Final = struct.Struct("!BHHBBHH")


class Query(NamedTuple):
    """A query of a program or of the protocol.

    Attributes:
        octets: the complete message, without EDNS options that are not for the next server.
        name: the name in the question, with its case.
        kind: type of the records asked for.
        record_class: class of them.
        flags: the 16 bits after the id.
        payload_octets: what the client takes over UDP by its own word; 0 without EDNS.
        dnssec_ok: whether the client wants signatures (DO).
        plain: nothing but a question and EDNS, so that an equal query may have the same response.
    """

    octets: bytes
    name: bytes
    kind: int
    record_class: int
    flags: int
    payload_octets: int = 0
    dnssec_ok: bool = False
    plain: bool = False

    @property
    def name_end(self) -> int:
        """The offset of the end of the name in the question."""
        return HEADER_OCTETS + len(self.name)

    @property
    def end(self) -> int:
        """The offset of the end of the question section."""
        return HEADER_OCTETS + len(self.name) + KIND_CLASS.size

    @property
    def key(self) -> bytes:
        """Equal for queries that can have the same response: without the id and the name's case."""
        return self.octets[2:HEADER_OCTETS] + self.name.lower() + self.octets[self.name_end :]

    @property
    def response_octets_max(self) -> int:
        """The maximum length of a UDP response, in octets."""
        return min(max(self.payload_octets, DATAGRAM_OCTETS_MIN), DATAGRAM_OCTETS_MAX)


def read_query(octets: bytes) -> Query | None:
    """A query with one question; None if the octets are not a query, or too many."""
    name_end = _question_name_end(octets)
    if name_end is None or not name_end + KIND_CLASS.size <= len(octets) <= QUERY_OCTETS_MAX:
        return None
    kind, record_class = KIND_CLASS.unpack_from(octets, name_end)
    name, flags = octets[HEADER_OCTETS:name_end], message_flags(octets)
    edns = _plain_edns(octets, name_end + KIND_CLASS.size, flags)
    if edns is None:
        return _unusual(Query(octets, name, kind, record_class, flags))
    return Query(edns.octets, name, kind, record_class, flags, edns.payload, edns.dnssec_ok, True)


def make_query(name: bytes, kind: int, *, flags: int = RD) -> Query:
    """A query of noid, with EDNS; its id is set when it is sent.

    Args:
        name: in wire form.
        kind: type of the records asked for.
        flags: the 16 bits after the id.
    """
    header = bytes(2) + flags.to_bytes(2) + COUNTS.pack(1, 0, 0, 1)
    question = name + KIND_CLASS.pack(kind, dns.rdataclass.IN)
    return Query(
        octets=header + question + _edns(dnssec_ok=False),
        name=name,
        kind=kind,
        record_class=dns.rdataclass.IN,
        flags=flags,
        payload_octets=EDNS_OCTETS,
        plain=True,
    )


def disguised(query: Query, entropy: bytes) -> bytes:
    """The query with a random id and random case; the response has to repeat both.

    Args:
        query: what to send; its case is not changed where a signature might cover it.
        entropy: 2 octets for the id and as many as the name has.
    """
    if not query.plain:
        return entropy[:2] + query.octets[2:]
    octets = len(query.name)
    flips = int.from_bytes(query.name.translate(CASE_BITS)) & int.from_bytes(entropy[2:])
    name = (int.from_bytes(query.name) ^ flips).to_bytes(octets)
    return entropy[:2] + query.octets[2:HEADER_OCTETS] + name + query.octets[query.name_end :]


class _Edns(NamedTuple):
    """The message for the next server, and what its EDNS says; as in ``Query``."""

    octets: bytes
    payload: int = 0
    dnssec_ok: bool = False


def _plain_edns(octets: bytes, end: int, flags: int) -> _Edns | None:
    """What a query says as nearly all do: a question, perhaps EDNS, nothing else; None for others.

    Args:
        octets: the message.
        end: the offset of the end of its question.
        flags: the 16 bits after its id.
    """
    if octets[4:10] != b"\x00\x01\x00\x00\x00\x00" or flags & (QR | OPCODE_MASK):
        return None
    if octets[10:12] == b"\x00\x00":
        return _Edns(octets) if len(octets) == end else None
    if octets[10:12] != b"\x00\x01" or len(octets) < end + _OPT.size:
        return None
    root, kind, payload, _, version, edns_flags, options = _OPT.unpack_from(octets, end)
    options_offset = end + _OPT.size
    if root or kind != dns.rdatatype.OPT or version or len(octets) != options_offset + options:
        return None
    if options:
        octets = octets[:end] + _for_the_next_server(octets[end:])
    return _Edns(octets, payload, bool(edns_flags & DNSSEC_OK))


def _unusual(query: Query) -> Query | None:
    """A query that has more to it, a signature perhaps; None if it makes no sense."""
    if sum(COUNTS.unpack_from(query.octets, 4)[1:]) > RECORDS_MAX:
        return None
    message = read_message(query.octets)
    if message is None or len(message.question) != 1:
        return None
    return query._replace(
        payload_octets=message.payload,
        dnssec_ok=bool(message.ednsflags & DNSSEC_OK),
    )


def _for_the_next_server(opt: bytes) -> bytes:
    """An OPT record without its hop-by-hop options; as it is where they cannot be told apart."""
    kept = b""
    offset = _OPT.size
    while offset + _OPTION.size <= len(opt):
        code, octets = _OPTION.unpack_from(opt, offset)
        end = offset + _OPTION.size + octets
        if code not in HOP_BY_HOP:
            kept += opt[offset:end]
        offset = end
    if offset != len(opt):
        return opt
    return opt[: _OPT.size - 2] + len(kept).to_bytes(2) + kept


def _question_name_end(octets: bytes) -> int | None:
    """Where the name of the first question ends; None without one, or if it is not plain labels."""
    offset = HEADER_OCTETS
    while offset < len(octets) and offset < HEADER_OCTETS + NAME_OCTETS_MAX:
        label = octets[offset]
        offset += 1 + label
        if label == 0:
            return offset
        if label > LABEL_OCTETS_MAX:
            return None
    return None


def _edns(*, dnssec_ok: bool) -> bytes:
    return _OPT.pack(0, dns.rdatatype.OPT, EDNS_OCTETS, 0, 0, DNSSEC_OK * dnssec_ok, 0)


def brief_response(query: Query, code: int, *, flags: int = 0) -> bytes:
    """A response with the question and without an answer.

    Args:
        query: what was asked.
        code: RCODE.
        flags: additional flags; TC makes the client retry over TCP.
    """
    flags |= QR | RA | query.flags & (RD | CD) | code
    edns = _edns(dnssec_ok=query.dnssec_ok) if query.payload_octets else b""
    counts = COUNTS.pack(1, 0, 0, bool(edns))
    question = query.octets[HEADER_OCTETS : query.end]
    return query.octets[:2] + flags.to_bytes(2) + counts + question + edns


def bare_response(octets: bytes, code: dns.rcode.Rcode) -> bytes:
    """A response that is only a header, to a message of which only the header was read."""
    kept = message_flags(octets) & (OPCODE_MASK | RD)
    flags = QR | kept | RA | code
    return octets[:2] + int(flags).to_bytes(2) + bytes(HEADER_OCTETS - 4)
