"""Rates of what a host sends to those that it has no context with [D9]."""

from dataclasses import dataclass

from noid.constants import SECOND


@dataclass(slots=True)
class TokenBucket:
    """A rate with a burst: whether one more may go now [D9].

    Args:
        per_second: how many come back each second.
        burst: how many there are at most.
    """

    per_second: int
    burst: int
    level_ns: int = -1
    at_ns: int = 0

    def take(self, now_ns: int) -> bool:
        """Takes one, if there is one."""
        cost = SECOND // self.per_second
        full = self.burst * cost
        if self.level_ns < 0:
            self.level_ns = full
        self.level_ns = min(full, self.level_ns + now_ns - self.at_ns)
        self.at_ns = now_ns
        if self.level_ns < cost:
            return False
        self.level_ns -= cost
        return True
