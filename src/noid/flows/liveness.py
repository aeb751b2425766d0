# SPDX-License-Identifier: MIT
"""Whether an uplink works, by several signs that come at their own times. Pure."""

from noid.constants import NEVER


class Liveness:
    """The signs of one uplink: it fails with the first bad one, and works when all are good again.

    A return is believed after all signs have been good for a time, so that an uplink that comes
    and goes is not switched to each time.

    Args:
        hold_ns: that time.
    """

    def __init__(self, hold_ns: int) -> None:
        self.hold_ns = hold_ns
        self.bad: dict[str, str] = {}
        self._good_since_ns = -NEVER

    def take(self, sign: str, why: str, now_ns: int) -> None:
        """Takes what one sign says now.

        Args:
            sign: its name.
            why: what is wrong; empty if nothing is.
            now_ns: the time.
        """
        was_bad = bool(self.bad)
        if why:
            self.bad[sign] = why
        else:
            self.bad.pop(sign, None)
        if was_bad and not self.bad:
            self._good_since_ns = now_ns

    def works(self, now_ns: int) -> bool:
        """Whether packets may leave by it."""
        return not self.bad and now_ns - self._good_since_ns >= self.hold_ns

    def deadline_ns(self) -> int:
        """When it works at the earliest, if nothing becomes bad; NEVER while a sign is bad."""
        return NEVER if self.bad else self._good_since_ns + self.hold_ns

    def why(self, now_ns: int) -> str:
        """What is wrong with it; empty if it works."""
        if self.bad:
            return "; ".join(self.bad.values())
        return "" if self.works(now_ns) else "works again, but not for long enough"
