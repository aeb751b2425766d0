# SPDX-License-Identifier: MIT
"""A cursor over octets from the network: every read is checked, every error has an offset.

Decoding either consumes exactly what a length field declared or raises WireError; nothing else.
"""

import struct
from typing import Any

from noid.counters import Drop
from noid.errors import WireError


class Layout:
    """A sequence of fixed fields, read and written together.

    Args:
        fields: the format of each, as ``struct`` writes it, and its name.
    """

    __slots__ = ("names", "octets", "pack", "unpack_from")

    def __init__(self, *fields: tuple[str, str]) -> None:
        whole = struct.Struct(">" + "".join(field for field, _ in fields))
        self.octets = whole.size
        self.pack = whole.pack
        self.unpack_from = whole.unpack_from
        self.names: list[tuple[int, str]] = []
        """Where each field begins, and its name."""
        start = 0
        for field, name in fields:
            self.names.append((start, name))
            start += struct.calcsize(">" + field)


class Reader:
    """Reads ``octets`` from ``position`` up to ``end``; both count from the first octet of all.

    Args:
        octets: what is read; never copied as a whole.
        position: the start.
        end: the end; that of the octets if None.
    """

    __slots__ = ("end", "octets", "position")

    def __init__(self, octets: bytes, position: int = 0, end: int | None = None) -> None:
        self.octets = octets
        self.position = position
        self.end = len(octets) if end is None else end

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` octets.

        Raises:
            WireError: fewer are left; ``what`` names the thing that is truncated.
        """
        start = self.position
        self.skip(count, what)
        return self.octets[start : self.position]

    def unpack(self, layout: Layout) -> tuple[Any, ...]:
        """The next fields of a layout.

        Raises:
            WireError: the octets end before the last field; the error names the truncated field.
        """
        start = self.position
        after = start + layout.octets
        if after > self.end:
            there = [field for field in layout.names if start + field[0] <= self.end]
            at, name = there[-1]
            raise WireError(start + at, Drop.TRUNCATED, f"truncated {name}")
        self.position = after
        return layout.unpack_from(self.octets, start)

    def rest(self) -> bytes:
        """Everything up to the end."""
        start, self.position = self.position, self.end
        return self.octets[start : self.end]

    def part(self, count: int, what: str) -> "Reader":
        """A reader of the next ``count`` octets, which this one skips."""
        start = self.position
        after = start + count
        if after > self.end:
            raise WireError(start, Drop.TRUNCATED, f"truncated {what}")
        self.position = after
        return Reader(self.octets, start, after)

    def skip(self, count: int, what: str) -> None:
        """Leaves ``count`` octets unread."""
        after = self.position + count
        if after > self.end:
            raise WireError(self.position, Drop.TRUNCATED, f"truncated {what}")
        self.position = after
