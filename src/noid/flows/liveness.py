# SPDX-License-Identifier: MIT
"""Determines from several independent signs whether an uplink works. Pure."""

from typing import Self

from noid.constants import NEVER


class Liveness:
    """The signs of one uplink: it fails with the first bad sign, and works again when all are good.

    It works again after all signs have been good for a time, so that there is no switch to a
    flapping uplink each time.

    Args:
        hold_ns: that time.
    """

    def __init__(self, hold_ns: int) -> None:
        self.hold_ns = hold_ns
        self.bad: dict[str, str] = {}
        self._good_since_ns = -NEVER

    def take(self, sign: str, why: str, now_ns: int) -> None:
        """Sets the current value of a sign.

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

    def go_on(self, before: Self, now_ns: int) -> None:
        """Goes on with the time for which the uplink has been good, as another has it.

        An uplink that works stays in use, also if the time is longer now.

        Args:
            before: that one.
            now_ns: the time.
        """
        if not before.works(now_ns):
            self._good_since_ns = now_ns if before.bad else before._good_since_ns

    def wait(self, now_ns: int) -> None:
        """Begins the time anew, as after a failure whose end is not known."""
        self._good_since_ns = now_ns

    def trust(self) -> None:
        """Ends the time: it works while no sign is bad, and after a failure there is a new one."""
        self._good_since_ns = -NEVER

    def works(self, now_ns: int) -> bool:
        """Whether packets may leave through it."""
        return not self.bad and now_ns - self._good_since_ns >= self.hold_ns

    def deadline_ns(self) -> int:
        """The earliest time at which it works, if no sign becomes bad; NEVER while one is bad."""
        return NEVER if self.bad else self._good_since_ns + self.hold_ns

    def why(self, now_ns: int) -> str:
        """What is wrong with it; empty if it works."""
        if self.bad:
            return "; ".join(self.bad.values())
        return "" if self.works(now_ns) else "works again, but not for long enough"
