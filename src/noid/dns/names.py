# SPDX-License-Identifier: MIT
"""Names in wire form and as text. Pure.

Nearly all names are letters, digits, hyphens and underscores, and are converted here; dnspython
converts the others, whose text has escapes.
"""

import re
from typing import Final

import dns.exception
import dns.name

from noid.dns.messages import LABEL_OCTETS_MAX
from noid.dns.records import canonical_name

WIRE_OCTETS_MAX: Final = 255
POINTER: Final = 0xC0
_PLAIN: Final = re.compile(r"(?:[0-9a-z_-]{1,63}\.)*[0-9a-z_-]{1,63}")
_PLAIN_LABEL: Final = re.compile(rb"[0-9a-z_-]+")


def wire_of(text: str) -> bytes | None:
    """A name as ``Question`` has it, in wire form; None for a text that is no name."""
    if _PLAIN.fullmatch(text):
        wire = b"".join(bytes((len(one),)) + one.encode() for one in text.split(".")) + b"\0"
        return wire if len(wire) <= WIRE_OCTETS_MAX else None
    try:
        return dns.name.from_text(text + ".").to_wire()
    except (dns.exception.DNSException, ValueError):
        return None


def text_of(wire: bytes) -> str:
    """A name in wire form, without pointers, as ``Question`` has it."""
    labels = []
    offset = 0
    while wire[offset]:
        labels.append(wire[offset + 1 : offset + 1 + wire[offset]].lower())
        offset += 1 + wire[offset]
    if all(map(_PLAIN_LABEL.fullmatch, labels)):
        return b".".join(labels).decode()
    return canonical_name(dns.name.from_wire(wire, 0)[0].to_text())


class Names:
    """The names in a message, in lower case and without pointers.

    What pointers point to is read once, so that all names together take no longer than their octets
    say.

    Args:
        octets: the message.
    """

    __slots__ = ("_octets", "_pointed_to")

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._pointed_to: dict[int, bytes] = {}

    def at(self, offset: int) -> bytes:
        """The name that begins at an offset.

        Raises:
            IndexError: it does not end in the message.
            ValueError: it is too long, or a pointer does not point back.
        """
        octets = self._octets
        parts: list[bytes] = []
        targets: list[tuple[int, int]] = []
        left, limit = WIRE_OCTETS_MAX - 1, offset
        while length := octets[offset]:
            if length <= LABEL_OCTETS_MAX:
                left -= 1 + length
                if left < 0:
                    raise ValueError("too long")
                parts.append(octets[offset : offset + 1 + length].lower())
                offset += 1 + length
                continue
            target = int.from_bytes(octets[offset : offset + 2]) & 0x3FFF
            if length < POINTER or target >= limit:
                raise ValueError("no pointer back")
            known = self._pointed_to.get(target)
            if known is not None:
                parts.append(known)
                break
            targets.append((len(parts), target))
            offset = limit = target
        else:
            parts.append(b"\0")
        for count, target in targets:
            self._pointed_to[target] = b"".join(parts[count:])
        name = b"".join(parts)
        if len(name) > WIRE_OCTETS_MAX:
            raise ValueError("too long")
        return name
