"""A cursor over octets from the network: every read is checked, every error says where.

Decoding either consumes exactly what a length field declared or raises WireError; nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from noid.errors import WireError
from noid.locators import LOCATOR_OCTETS, Locator


class Reader:
    """Reads ``octets`` from the front; ``position`` counts from the first octet of all."""

    __slots__ = ("end", "octets", "position")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.position = 0
        self.end = len(octets)

    @property
    def remaining(self) -> int:
        """Octets left before the end of the innermost restriction."""
        return self.end - self.position

    def take(self, count: int, what: str) -> bytes:
        """The next ``count`` octets.

        Raises:
            WireError: fewer are left; ``what`` names the thing that is truncated.
        """
        if count > self.remaining:
            raise WireError(self.position, f"truncated {what}")
        start = self.position
        self.position = start + count
        return self.octets[start : self.position]

    def integer(self, count: int, what: str) -> int:
        """An unsigned integer of ``count`` octets in network order."""
        return int.from_bytes(self.take(count, what), "big")

    def locator(self, what: str) -> Locator:
        """The next 16 octets as a locator."""
        return Locator(self.take(LOCATOR_OCTETS, what))

    def rest(self) -> bytes:
        """Everything up to the end."""
        return self.take(self.remaining, "rest")

    @contextmanager
    def restricted(self, count: int, what: str) -> Iterator[None]:
        """Confines the reads of a ``with`` block to ``count`` octets, all of which it must take.

        Raises:
            WireError: fewer are left than ``count``, or the block left some unread.
        """
        if count > self.remaining:
            raise WireError(self.position, f"truncated {what}")
        outer = self.end
        self.end = self.position + count
        yield
        if self.position != self.end:
            raise WireError(self.position, f"overlong {what}")
        self.end = outer
