# SPDX-License-Identifier: MIT
"""Guesses from a name which names have the same name servers. Pure.

A zone is represented by its assumed name: the last two labels of a host name, the 48 bits of a
reverse name.
"""

from typing import Final

from noid.dns.records import REVERSE_ZONE, Question

ZONE_LABELS: Final = 2
SITE_LABELS: Final = 12
"""Digits of a /48 in a reverse name."""
REVERSE_WIRE: Final = b"\x03ip6\x04arpa\x00"


def zone_of(name: str) -> str:
    """The zone of a canonical name: the /48 of a reverse name, else the last two labels."""
    labels = ZONE_LABELS
    if name.endswith(REVERSE_ZONE):
        labels += SITE_LABELS
    return ".".join(name.rsplit(".", labels)[-labels:])


def parent_of(question: Question) -> str:
    """The unit that is silent together: the /48 of a reverse name, else the parent name."""
    if question.name.endswith(REVERSE_ZONE):
        return zone_of(question.name)
    return question.name.partition(".")[2]


def zone_in_wire(name: bytes) -> bytes:
    """See ``zone_of``, for a name in wire form and lower case."""
    starts = []
    offset = 0
    while offset < len(name) and name[offset]:
        starts.append(offset)
        offset += 1 + name[offset]
    labels = ZONE_LABELS
    if name.endswith(REVERSE_WIRE):
        labels += SITE_LABELS
    return name[starts[-labels] :] if len(starts) >= labels else name
