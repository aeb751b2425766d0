# SPDX-License-Identifier: MIT
"""Determines whether a target answers: one request per interval, with hysteresis. Pure."""

from typing import Final

SEQUENCES: Final = 1 << 16


class Probing:
    """Counts the intervals with and without an answer.

    An answer counts in the interval in which it arrives, if its request is one of the last ``down``
    ones: the round trip may be longer than an interval, and an answer of long ago says nothing.

    Args:
        down: so many intervals in a row without an answer are a failure.
        up: so many in a row with one end it.
        works: whether the target has answered so far, or nothing is known.
    """

    def __init__(self, down: int, up: int, *, works: bool = True) -> None:
        self.down = down
        self.up = up
        self.works = works
        self._sequence = 0
        self._requests = 0
        self._answered = False
        self._streak = 0
        """Intervals in a row that speak against ``works``."""

    def begin(self) -> int:
        """Ends an interval and begins the next.

        Returns:
            The sequence number of its request, of 16 bits.
        """
        if self._requests:
            self._streak = self._streak + 1 if self._answered != self.works else 0
            if self._streak >= (self.down if self.works else self.up):
                self.works, self._streak = not self.works, 0
        self._answered = False
        self._requests = min(self._requests + 1, self.down)
        self._sequence = (self._sequence + 1) % SEQUENCES
        return self._sequence

    def heard(self, sequence: int) -> None:
        """Counts an answer; an answer without a recent request is ignored."""
        if (self._sequence - sequence) % SEQUENCES < self._requests:
            self._answered = True
