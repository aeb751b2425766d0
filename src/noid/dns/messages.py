"""DNS messages as octets, read as far as a query and its response need on their way. Pure.

A response passes through as it stands. What has to be known of it is where the question ends, where
the times to live stand and how long it may be used; that much is read here, straight from the
octets, since it is read of every message. Whatever needs more is read by dnspython.

Nothing here raises, whatever the octets are.
"""

import enum
import struct
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype

HEADER_OCTETS: Final = 12
MESSAGE_OCTETS_MAX: Final = 65_535
NAME_OCTETS_MAX: Final = 255
LABEL_OCTETS_MAX: Final = 63
DATAGRAM_OCTETS_MIN: Final = 512
DATAGRAM_OCTETS_MAX: Final = 4_096
"""Sizes of a UDP response: what every client can take [RFC 1035 §4.2.1], and the longest."""
EDNS_OCTETS: Final = 1_232
"""UDP messages we take ourselves: what fits IPv6's minimum MTU without fragments."""
TTL_MAX: Final = 2**31 - 1
"""The largest TTL there is; one with the top bit set is taken as 0 [RFC 2181 §8]."""
NEGATIVE_TTL_MAX: Final = 10_800
"""Cap on the TTL of what is absent: 3 hours [RFC 2308 §5]."""
LIFETIME_MAX_S: Final = 86_400
"""No response is used longer than a day, whatever its TTL."""

COOKIE, TCP_KEEPALIVE, PADDING = 10, 11, 12
HOP_BY_HOP: Final = frozenset({COOKIE, TCP_KEEPALIVE, PADDING})
"""EDNS options between a client and its own server [RFC 7873, 7828, 7830]; not for the next one."""
OF_ONE_MESSAGE: Final = frozenset({dns.rdatatype.SIG, dns.rdatatype.TKEY, dns.rdatatype.TSIG})
"""Records that say something about the message they are in: it is not given out again."""

BELIEVED_RCODES: Final = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})
REFUSALS: Final = frozenset({dns.rcode.SERVFAIL, dns.rcode.NOTIMP, dns.rcode.REFUSED})
"""A resolver that says one of these is not asked again; another may know better."""
BARE_RCODES: Final = REFUSALS | {dns.rcode.FORMERR}
"""What a server that could not even read the question may say without repeating it."""

CASE_BITS: Final = bytes(0x20 * (bytes([octet]).isalpha()) for octet in range(256))
"""For each octet of a name the bit that is its case. The length of a label is never a letter."""

QR, TC, RD, RA, CD = (
    int(flag) for flag in (dns.flags.QR, dns.flags.TC, dns.flags.RD, dns.flags.RA, dns.flags.CD)
)
"""As plain integers: an operation on an enumeration costs twenty times as much."""
OPCODE_MASK: Final = 0x7800
RCODE_MASK: Final = 0x000F
DNSSEC_OK: Final = 0x8000

_KIND_CLASS: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_COUNTS: Final = struct.Struct("!4H")
_TTL: Final = struct.Struct("!I")
_OPTION: Final = struct.Struct("!HH")
_OPT: Final = struct.Struct("!BHHBBHH")


class Query(NamedTuple):
    """What a program or the protocol asks.

    Attributes:
        octets: the whole message, but for EDNS options that are not for the next server.
        name: the name as it stands in the question, its case kept.
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
        """Where the name in the question ends."""
        return HEADER_OCTETS + len(self.name)

    @property
    def end(self) -> int:
        """Where the question section ends."""
        return HEADER_OCTETS + len(self.name) + _KIND_CLASS.size

    @property
    def key(self) -> bytes:
        """Equal for queries that may have the same response: all but the id and the name's case."""
        return self.octets[2:HEADER_OCTETS] + self.name.lower() + self.octets[self.name_end :]

    @property
    def response_octets_max(self) -> int:
        """How long a UDP response to it may be."""
        return min(max(self.payload_octets, DATAGRAM_OCTETS_MIN), DATAGRAM_OCTETS_MAX)


class Record(NamedTuple):
    """A record of a message: its type and TTL, where the TTL stands and where it ends."""

    kind: int
    ttl_seconds: int
    ttl_offset: int
    end: int


class Response:
    """What a resolver said to a query, for as long as it may be used.

    Args:
        query: what was asked.
        octets: the response, whose question differs from the query's in case at most.
        received_s: when it came.
    """

    __slots__ = (
        "__weakref__",
        "_aged",
        "_aged_s",
        "_times",
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
        self._times = [
            (record.ttl_offset, record.ttl_seconds)
            for record in records or ()
            if record.kind != dns.rdatatype.OPT
        ]
        self._aged = octets
        self._aged_s = 0

    def answer(self, query: Query, now_s: float) -> bytes:
        """The response to an equal query: under its id, its name as it wrote it, TTLs run down."""
        octets = self._at(now_s)
        if octets[4:6] == b"\x00\x00":
            # A server that did not read the question; whoever asked wants to see it all the same.
            return brief_response(query, response_code(octets))
        return query.octets[:2] + octets[2:HEADER_OCTETS] + query.name + octets[query.name_end :]

    def _at(self, now_s: float) -> bytes:
        age_s = int(now_s - self.received_s)
        if age_s != self._aged_s and self.lifetime_s:
            aged = bytearray(self.octets)
            for offset, ttl_seconds in self._times:
                _TTL.pack_into(aged, offset, max(ttl_seconds - age_s, 0))
            self._aged, self._aged_s = bytes(aged), age_s
        return self._aged


# --- queries ---


def read_query(octets: bytes) -> Query | None:
    """A query with one question; None if the octets are none."""
    name_end = _question_name_end(octets)
    if name_end is None or len(octets) < name_end + _KIND_CLASS.size:
        return None
    kind, record_class = _KIND_CLASS.unpack_from(octets, name_end)
    query = Query(
        octets=octets,
        name=octets[HEADER_OCTETS:name_end],
        kind=kind,
        record_class=record_class,
        flags=message_flags(octets),
    )
    return _plain(query) or _unusual(query)


def make_query(name: bytes, kind: int, *, flags: int = RD) -> Query:
    """A query of our own, with EDNS; its id is given on the way.

    Args:
        name: in wire form.
        kind: type of the records asked for.
        flags: the 16 bits after the id.
    """
    header = bytes(2) + flags.to_bytes(2) + _COUNTS.pack(1, 0, 0, 1)
    question = name + _KIND_CLASS.pack(kind, dns.rdataclass.IN)
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
    """The query under a random id and in random case, both of which its response has to repeat.

    Args:
        query: what to send; its case is left alone where a signature might cover it.
        entropy: 2 octets for the id and as many as the name has.
    """
    if not query.plain:
        return entropy[:2] + query.octets[2:]
    octets = len(query.name)
    flips = int.from_bytes(query.name.translate(CASE_BITS)) & int.from_bytes(entropy[2:])
    name = (int.from_bytes(query.name) ^ flips).to_bytes(octets)
    return entropy[:2] + query.octets[2:HEADER_OCTETS] + name + query.octets[query.name_end :]


def _plain(query: Query) -> Query | None:
    """A query as nearly all are: a question, perhaps EDNS, nothing else; None for any other."""
    octets, end = query.octets, query.end
    if octets[4:10] != b"\x00\x01\x00\x00\x00\x00" or query.flags & (QR | OPCODE_MASK):
        return None
    if octets[10:12] == b"\x00\x00":
        return query._replace(plain=True) if len(octets) == end else None
    if octets[10:12] != b"\x00\x01" or len(octets) < end + _OPT.size:
        return None
    root, kind, payload, _, version, edns_flags, options = _OPT.unpack_from(octets, end)
    options_offset = end + _OPT.size
    if root or kind != dns.rdatatype.OPT or version or len(octets) != options_offset + options:
        return None
    if options:
        octets = octets[:end] + _for_the_next_server(octets[end:])
    return query._replace(
        octets=octets,
        payload_octets=payload,
        dnssec_ok=bool(edns_flags & DNSSEC_OK),
        plain=True,
    )


def _unusual(query: Query) -> Query | None:
    """A query that has more to it, a signature perhaps; None if it makes no sense."""
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


# --- responses ---


class Echo(enum.Enum):
    """How far a message repeats a query that was sent."""

    EXACT = enum.auto()
    OTHER_CASE = enum.auto()
    """All but the case of the name: somebody's guess, or a resolver that changes it."""
    NONE = enum.auto()


def echo(sent: bytes, end: int, received: bytes) -> Echo:
    """Whether a message is the response to a query.

    Args:
        sent: the query as it was sent.
        end: where its question ends.
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
    name = slice(0, -_KIND_CLASS.size)
    kind_class = slice(-_KIND_CLASS.size, None)
    if question[name].lower() == asked[name].lower() and question[kind_class] == asked[kind_class]:
        return Echo.OTHER_CASE
    return Echo.NONE


def records_of(octets: bytes, question_end: int) -> list[Record] | None:
    """The records behind the question, all sections; None if they are not all of the message."""
    records: list[Record] = []
    offset = question_end
    try:
        for _ in range(sum(_COUNTS.unpack_from(octets, 4)[1:])):
            while octets[offset] and octets[offset] <= LABEL_OCTETS_MAX:
                offset += 1 + octets[offset]
            offset += 2 if octets[offset] else 1
            kind, _, ttl_seconds, rdata_octets = _RECORD.unpack_from(octets, offset)
            end = offset + _RECORD.size + rdata_octets
            ttl_seconds = ttl_seconds if ttl_seconds <= TTL_MAX else 0
            records.append(Record(kind, ttl_seconds, offset + 4, end))
            offset = end
    except (IndexError, struct.error):
        return None
    return records if offset == len(octets) else None


def lifetime_s(query: Query, octets: bytes, records: list[Record]) -> int:
    """How long an equal query may have the same response [RFC 2181 §8, RFC 2308 §5]; 0 for never.

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
        minimum = _negative_ttl(octets, records)
        if minimum is None:
            return 0
        ttls += [minimum, NEGATIVE_TTL_MAX]
    return min(LIFETIME_MAX_S, *ttls)


def absence_s(octets: bytes, question_end: int) -> int | None:
    """How long a response says there is nothing; None if it says something else, or more.

    This much is read without dnspython because nearly every question whether a name speaks M6 is
    answered so.
    """
    if octets[6:8] != b"\x00\x00":
        return None
    records = records_of(octets, question_end)
    if records is None:
        return None
    return _negative_ttl(octets, records)


def _has_answer(query: Query, octets: bytes, records: list[Record]) -> bool:
    answers = records[: int.from_bytes(octets[6:8])]
    if query.kind == dns.rdatatype.ANY:
        return bool(answers)
    return any(record.kind == query.kind for record in answers)


def _negative_ttl(octets: bytes, records: list[Record]) -> int | None:
    """What the SOA says how long something is absent; None without one [RFC 2308 §5]."""
    answers, authorities, _ = _COUNTS.unpack_from(octets, 4)[1:]
    for record in records[answers : answers + authorities]:
        if record.kind == dns.rdatatype.SOA:
            (minimum,) = _TTL.unpack_from(octets, record.end - _TTL.size)
            return min(int(minimum), record.ttl_seconds)
    return None


def brief_response(query: Query, code: int, *, flags: int = 0) -> bytes:
    """A response of ours that has the question and no answer.

    Args:
        query: what was asked.
        code: RCODE.
        flags: more than those every response has; TC for a client that has to come over TCP.
    """
    flags |= QR | RA | query.flags & (RD | CD) | code
    edns = _edns(dnssec_ok=query.dnssec_ok) if query.payload_octets else b""
    counts = _COUNTS.pack(1, 0, 0, bool(edns))
    question = query.octets[HEADER_OCTETS : query.end]
    return query.octets[:2] + flags.to_bytes(2) + counts + question + edns


def bare_response(octets: bytes, code: dns.rcode.Rcode) -> bytes:
    """A response of a header alone, to a message of which no more than that was read."""
    kept = message_flags(octets) & (OPCODE_MASK | RD)
    flags = QR | kept | RA | code
    return octets[:2] + int(flags).to_bytes(2) + bytes(HEADER_OCTETS - 4)


def message_flags(octets: bytes) -> int:
    """The 16 bits after the id of a message that has a whole header."""
    return int.from_bytes(octets[2:4])


def response_code(octets: bytes) -> int:
    """RCODE of a message that has a whole header, without EDNS's extension of it."""
    return octets[3] & RCODE_MASK


# --- whole messages, read by dnspython ---


def read_message(octets: bytes) -> dns.message.QueryMessage | None:
    """A message of the opcode QUERY with at most one question; None if the octets are not one.

    Args:
        octets: the whole message; a signature on it (TSIG) is for its ends to check, not for us.
    """
    if len(octets) < HEADER_OCTETS or octets[4:6] > b"\x00\x01":
        return None
    try:
        message = dns.message.from_wire(octets, keyring=False)
    except (dns.exception.DNSException, ValueError):
        return None
    return message if isinstance(message, dns.message.QueryMessage) else None


def follow_aliases(message: dns.message.QueryMessage) -> dns.message.ChainingResult | None:
    """The end of the CNAME chain in a response; None if it is a circle or contradicts itself."""
    try:
        return message.resolve_chaining()
    except dns.exception.DNSException:
        return None
