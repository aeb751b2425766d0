# SPDX-License-Identifier: MIT
"""Decisions drawn from octets, so that whatever makes octets can make a story."""

from collections.abc import Sequence
from typing import TypeVar

One = TypeVar("One")


class Choices:
    """Reads decisions from the front of ``octets``; when these are used up, all are the first."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._position = 0

    @property
    def left(self) -> bool:
        """Whether anything is still to be decided by the octets."""
        return self._position < len(self._octets)

    def octets(self, count: int) -> bytes:
        """So many octets, or as many as are left."""
        start = self._position
        self._position = min(start + count, len(self._octets))
        return self._octets[start : self._position]

    def number(self, below: int) -> int:
        """A number from 0."""
        width = (below.bit_length() + 7) // 8
        return int.from_bytes(self.octets(width), "big") % below

    def flag(self) -> bool:
        """Yes or no."""
        return bool(self.number(2))

    def pick(self, sequence: Sequence[One]) -> One:
        """One of them."""
        return sequence[self.number(len(sequence))]

    def blob(self, most: int) -> bytes:
        """Any octets, no more than ``most``."""
        return self.octets(self.number(most + 1))


def altered(choices: Choices, octets: bytes) -> bytes:
    """The octets with some of them replaced, taken out or put in."""
    changed = bytearray(octets)
    for _ in range(choices.number(5)):
        start = choices.number(len(changed) + 1)
        end = start + (choices.number(5) if choices.flag() else 1)
        changed[start:end] = choices.blob(20) if choices.flag() else choices.octets(end - start)
    return bytes(changed)
