# SPDX-License-Identifier: MIT
"""DNS questions and answers as the protocol sees them. Pure.

The protocol asks three things: which locators has this name (AAAA), which names has this locator
(PTR), does this name speak M6 (the M6 record, [draft §3, D3]). An answer is found, absent for good,
or currently unavailable; [draft §7.13] depends on the difference between the last two.
"""

import enum
from dataclasses import dataclass
from typing import NamedTuple

from noid.locators import Locator

REVERSE_ZONE = ".ip6.arpa"


class Kind(enum.Enum):
    """The kind of a question."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    LOCATORS = "AAAA"
    NAMES = "PTR"
    CAPABILITY = "M6"


class Status(enum.Enum):
    """The result of a question [D30]."""

    FOUND = "found"
    ABSENT = "absent"
    """NXDOMAIN or NODATA: permanent, believed."""
    UNREACHABLE = "unreachable"
    """SERVFAIL, REFUSED, timeout, malformed: transient, asked again, believed of nothing."""


class Question(NamedTuple):
    """One question; equal questions are asked once.

    Attributes:
        kind: what is asked.
        name: absolute domain name in lower case, without the final dot.
        behalf: first octets (48 bits) of the address of the peer that began the context because of
            which it is asked; empty if a local program caused it, or no peer did [D46].
    """

    kind: Kind
    name: str
    behalf: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a question.

    Attributes:
        status: found, absent or unreachable.
        locators: AAAA records, in the order received, for ``LOCATORS``.
        names: PTR targets, canonical as in ``Question.name``, for ``NAMES``.
        ttl_seconds: the least TTL on the way to the answer (negative TTL where absent).
    """

    status: Status
    locators: tuple[Locator, ...] = ()
    names: tuple[str, ...] = ()
    ttl_seconds: int = 0


def canonical_name(name: str) -> str:
    """A domain name in the form of ``Question``: lower case, without the final dot."""
    return name.lower().rstrip(".")


def canonical_order(name: str) -> list[str]:
    """The sort key of canonical names: their labels, the last one first (RFC 4034 §6.1)."""
    return name.split(".")[::-1]


def reverse_name(locator: Locator) -> str:
    """The name under ip6.arpa of the PTR records of ``locator`` (RFC 3596 §2.5)."""
    return ".".join(locator.hex()[::-1]) + REVERSE_ZONE


def locator_at(name: str) -> Locator:
    """The locator whose ``reverse_name`` this is."""
    return Locator(bytes.fromhex(name.removesuffix(REVERSE_ZONE)[::-2]))
