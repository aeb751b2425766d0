# SPDX-License-Identifier: MIT
"""What the DNS says about a peer, asked and judged by a second implementation [§7].

Written from docs/protocol.md, with the standard library alone. ``ask`` and ``read`` are the octets
of RFC 1035. ``Inquiry`` keeps the replies that came, and derives everything from them each time.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final, NamedTuple

CNAME: Final = 5
PTR: Final = 12
TXT: Final = 16
AAAA: Final = 28
M6: Final = 65286
INTERNET: Final = 1
NO_ERROR, NAME_ERROR = 0, 3
TRUNCATED: Final = 0x0200
RECURSION_DESIRED: Final = 0x0100
POINTER: Final = 0xC0
CHAIN_MAX: Final = 8
NAMES_MAX: Final = 4
LOCATORS_MAX: Final = 16


class Question(NamedTuple):
    """A name and a record type."""

    name: str
    kind: int


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question.

    Attributes:
        certain: whether it is known now; otherwise it has to be asked again.
        values: addresses or names; what the type has in its data, in order.
        name: where the chain of aliases ends.
        ttl: the least of the records.
    """

    certain: bool
    values: tuple[str, ...] = ()
    name: str = ""
    ttl: int = 0


UNKNOWN: Final = Reply(certain=False)


# --- octets ---------------------------------------------------------------------------------------


def reverse(address: str) -> str:
    """The name of an address in the reverse tree."""
    return IPv6Address(address).reverse_pointer


def ask(number: int, question: Question) -> bytes:
    """A query with its number."""
    labels = [label.encode() for label in question.name.split(".")]
    name = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    head = struct.pack("!6H", number, RECURSION_DESIRED, 1, 0, 0, 0)
    return head + name + struct.pack("!2H", question.kind, INTERNET)


def read(octets: bytes, question: Question) -> Reply:
    """The reply that a response holds; what cannot be read is not certain."""
    try:
        return _read(octets, question)
    except (struct.error, IndexError, ValueError):
        return UNKNOWN


def _read(octets: bytes, question: Question) -> Reply:
    _, flags, questions, answers, authorities, _ = struct.unpack_from("!6H", octets)
    if flags & TRUNCATED or flags & 0xF not in (NO_ERROR, NAME_ERROR):
        return UNKNOWN
    offset = 12
    for _ in range(questions):
        _, offset = _name(octets, offset)
        offset += 4
    records: dict[tuple[str, int], list[str]] = {}
    ttls = []
    for _ in range(answers + authorities):
        owner, offset = _name(octets, offset)
        kind, _, ttl, length = struct.unpack_from("!2HIH", octets, offset)
        offset += 10
        records.setdefault((owner, kind), []).append(_value(octets, offset, length, kind))
        ttls.append(ttl)
        offset += length
    name = question.name.lower()
    for _ in range(CHAIN_MAX):
        if (name, CNAME) not in records:
            break
        name = records[name, CNAME][0]
    found = tuple(records.get((name, question.kind), ()))
    return Reply(certain=True, values=found, name=name, ttl=min(ttls, default=0))


def _value(octets: bytes, offset: int, length: int, kind: int) -> str:
    if kind == AAAA:
        return str(IPv6Address(octets[offset : offset + length]))
    if kind in (PTR, CNAME):
        return _name(octets, offset)[0]
    return octets[offset : offset + length].hex()


def _name(octets: bytes, offset: int) -> tuple[str, int]:
    """A name, and where it ends."""
    labels: list[str] = []
    end = 0
    for _ in range(128):
        length = octets[offset]
        if length >= POINTER:
            end = end or offset + 2
            offset = (length & ~POINTER) << 8 | octets[offset + 1]
        elif length:
            labels.append(octets[offset + 1 : offset + 1 + length].decode().lower())
            offset += 1 + length
        else:
            return ".".join(labels), end or offset + 1
    raise IndexError("a name without end")


# --- the inquiry ----------------------------------------------------------------------------------


def canonical(name: str) -> list[bytes]:
    """What names are sorted by: their labels, the last one first (RFC 4034 §6.1)."""
    return [label.encode() for label in reversed(name.split("."))]


class Found(NamedTuple):
    """What an inquiry says: N, Lsr(peer) and the verified locators; N is empty if there is none."""

    name: str
    remote: tuple[str, ...]
    verified: tuple[str, ...]


@dataclass(slots=True)
class Inquiry:
    """One inquiry about one peer.

    Attributes:
        aid: AID(peer).
        said: Lsl(peer).
        name: N, where it was resolved or proven before; else empty.
        listed: the AAAA records of N that the initiator began with.
        later: N is proven: each locator is verified by its own records.
        replies: what came, by question.
    """

    aid: str
    said: Collection[str]
    name: str = ""
    listed: tuple[str, ...] = ()
    later: bool = False
    replies: dict[Question, Reply] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.listed:
            forward = Reply(certain=True, values=self.listed)
            self.replies[Question(self.name, AAAA)] = forward

    def reply(self, name: str, kind: int) -> Reply:
        return self.replies.get(Question(name, kind), UNKNOWN)

    def points(self, locator: str, name: str) -> bool:
        """Whether a locator's PTR records contain a name."""
        return name in self.reply(reverse(locator), PTR).values

    def refutes(self, locator: str, name: str) -> bool:
        """Whether they certainly do not."""
        return self.reply(reverse(locator), PTR).certain and not self.points(locator, name)

    @property
    def names(self) -> list[str]:
        """The first names of the AID, in canonical order."""
        found = sorted(self.reply(reverse(self.aid), PTR).values, key=canonical)
        return found[:NAMES_MAX]

    @property
    def chosen(self) -> str:
        """N, as far as is known."""
        if self.name and (self.later or not self.refutes(self.aid, self.name)):
            return self.name
        if any(Question(name, AAAA) not in self.replies for name in self.names):
            return ""  # all of them have to end, at least for now
        listing = [name for name in self.names if self.aid in self.reply(name, AAAA).values]
        return max(listing, key=self._agreement, default="")

    def _agreement(self, name: str) -> int:
        """How much of what the peer says a name lists; of equals ``max`` takes the first."""
        return len(set(self.said) & set(self.reply(name, AAAA).values))

    def remote_of(self, name: str) -> tuple[str, ...]:
        """What a name lists, the AID first."""
        return tuple(dict.fromkeys((self.aid, *self.reply(name, AAAA).values)))[:LOCATORS_MAX]

    @property
    def questions(self) -> set[Question]:
        """Everything that has to be known."""
        wanted = {Question(reverse(self.aid), PTR)}
        name = self.chosen
        if self.later:
            wanted.add(Question(self.name, AAAA))
        if name != self.name or self.refutes(self.aid, name):
            wanted |= {Question(one, AAAA) for one in self.names}
        if name:
            wanted |= {Question(reverse(one), PTR) for one in self.remote_of(name)}
        return wanted

    @property
    def missing(self) -> set[Question]:
        """Of these, what is not known yet."""
        return {one for one in self.questions if not self.replies.get(one, UNKNOWN).certain}

    @property
    def ttl(self) -> int:
        """The least of all that was said."""
        return min((reply.ttl for reply in self.replies.values() if reply.ttl), default=0)

    @property
    def another(self) -> bool:
        """Whether the AID certainly has another name, and not N [D44]."""
        if not self.later or not self.refutes(self.aid, self.name):
            return False
        return any(self.aid in self.reply(name, AAAA).values for name in self.names)

    @property
    def found(self) -> Found:
        """What is known by now."""
        name = self.chosen
        if not name:
            return Found("", (self.aid,), ())
        listed = self.remote_of(name)
        remote = tuple(one for one in listed if one == self.aid or not self.refutes(one, name))
        if not (self.later or self.points(self.aid, name)):
            return Found(name, remote, ())
        listed = self.reply(name, AAAA).values
        verified = tuple(one for one in remote if one in listed and self.points(one, name))
        return Found(name, remote, verified)
