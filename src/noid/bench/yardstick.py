# SPDX-License-Identifier: MIT
"""The present speed of this machine, so that figures of different machines can be compared.

The yardstick is the processor time of two fixed loops, one of the interpreter and one of a hash.
A rate divided by the machine's speed is how many there are in one yardstick; a time is how many
yardsticks it takes. Either way the number does not depend on how fast the machine is, for work of
the same kind.
"""

import hashlib
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

ROUNDS: Final = 7
"""Of each loop, before a bench and again after it."""
LOOP_STEPS: Final = 100_000
HASHES: Final = 10_000
HASHED: Final = bytes(range(64))
TIMES_S: Final = {
    "_seconds": 1.0,
    "_milliseconds": 1e-3,
    "_microseconds": 1e-6,
    "_nanoseconds": 1e-9,
}
RATE: Final = "_per_second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """The processor time of each loop, in seconds, once for each round."""

    loops_s: tuple[float, ...]
    hashes_s: tuple[float, ...]

    @classmethod
    def measure(cls) -> "Yardstick":
        """Runs both loops in alternation."""
        rounds = [(_seconds(_loop), _seconds(_hash)) for _ in range(ROUNDS)]
        loops, hashes = zip(*rounds, strict=True)
        return cls(loops_s=loops, hashes_s=hashes)

    def __add__(self, other: "Yardstick") -> "Yardstick":
        """Both measurements as one."""
        return Yardstick(
            loops_s=self.loops_s + other.loops_s, hashes_s=self.hashes_s + other.hashes_s
        )

    @property
    def seconds(self) -> float:
        """The yardstick: the median of one loop and one hash together."""
        pairs = zip(self.loops_s, self.hashes_s, strict=True)
        return statistics.median(loop + hashing for loop, hashing in pairs)

    def as_json(self) -> dict[str, float]:
        """For programs."""
        return {
            "milliseconds": round(self.seconds * 1000, 3),
            "loop_milliseconds": round(statistics.median(self.loops_s) * 1000, 3),
            "hash_milliseconds": round(statistics.median(self.hashes_s) * 1000, 3),
        }

    def ratios(self, figures: Mapping[str, float]) -> dict[str, float]:
        """The figures that depend on how fast the machine is, divided by that.

        Args:
            figures: by their names, which say the unit: ``..._per_second`` is a rate, and
                ``..._seconds`` or a part of a second a time. Others are left out.
        """
        found = {}
        for name, value in figures.items():
            if name.endswith(RATE):
                found[name] = value * self.seconds
            else:
                for unit, unit_s in TIMES_S.items():
                    if name.endswith(unit):
                        found[name] = value * unit_s / self.seconds
        return found


def _seconds(function: Callable[[], object]) -> float:
    began_ns = time.process_time_ns()
    function()
    return (time.process_time_ns() - began_ns) / 1e9


def _loop() -> int:
    """Integers, a dictionary and a branch: typical work of the interpreter."""
    total, table = 0, {number: number * 7 for number in range(64)}
    for step in range(LOOP_STEPS):
        value = table[step & 63]
        if value & 1:
            total += value ^ step
        else:
            total -= step
    return total


def _hash() -> bytes:
    """SHA-256 of short strings, each of which holds the hash before it."""
    digest = b""
    for _ in range(HASHES):
        digest = hashlib.sha256(HASHED + digest).digest()
    return digest
