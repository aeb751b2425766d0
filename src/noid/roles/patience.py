# SPDX-License-Identifier: MIT
"""How often something is done again that others undo. Pure."""


class Patience:
    """Lets something be done a few times at once, and at a rate from then on.

    Args:
        burst: how often at once.
        interval_s: time in which it may be done once more, in seconds.
    """

    def __init__(self, burst: int, interval_s: float) -> None:
        self.burst = burst
        self.interval_s = interval_s
        self._left = float(burst)
        self._at_s = 0.0

    def wait_s(self, now_s: float) -> float:
        """How long to wait until it may be done, in seconds; 0 if it may be done now."""
        return max(0.0, 1.0 - self._left_at(now_s)) * self.interval_s

    def use(self, now_s: float) -> None:
        """Notes that it is done now."""
        self._left, self._at_s = max(0.0, self._left_at(now_s) - 1.0), now_s

    def _left_at(self, now_s: float) -> float:
        return min(float(self.burst), self._left + (now_s - self._at_s) / self.interval_s)
