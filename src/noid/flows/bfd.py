# SPDX-License-Identifier: MIT
"""A session of Bidirectional Forwarding Detection: asynchronous mode, no authentication. Pure.

[RFC 5880]. Times are of one monotonic clock in ns; intervals on the wire are in microseconds.
"""

import struct
from enum import IntEnum
from typing import Final, NamedTuple, Self

from noid.constants import NEVER

PACKET: Final = struct.Struct(">BBBBIIIII")
VERSION: Final = 1
POLL, FINAL, AUTHENTICATED, MULTIPOINT = 0x20, 0x10, 0x04, 0x01
SLOW_US: Final = 1_000_000
"""No more often is sent while the session is not up [§6.8.3]."""
DIAGNOSTIC_EXPIRED, DIAGNOSTIC_NEIGHBOUR = 1, 3
NS_IN_US: Final = 1000


class State(IntEnum):
    """The state of a session, with its values on the wire."""

    ADMIN_DOWN = 0
    DOWN = 1
    INIT = 2
    UP = 3


class Packet(NamedTuple):
    """A control packet without authentication [§4.1]."""

    diagnostic: int
    state: State
    flags: int
    multiplier: int
    mine: int
    yours: int
    desired_us: int
    required_us: int

    def encode(self) -> bytes:
        """The 24 octets of the packet."""
        first, second = VERSION << 5 | self.diagnostic, self.state << 6 | self.flags
        head = (first, second, self.multiplier, PACKET.size, self.mine, self.yours)
        return PACKET.pack(*head, self.desired_us, self.required_us, 0)

    @classmethod
    def decode(cls, octets: bytes) -> Self | None:
        """A packet from its octets; None if it must be discarded [§6.8.6]."""
        if len(octets) < PACKET.size:
            return None
        first, second, multiplier, length, mine, yours, desired, required, _ = PACKET.unpack_from(
            octets
        )
        is_sound = first >> 5 == VERSION and PACKET.size <= length <= len(octets)
        if not is_sound or not multiplier or not mine or second & (AUTHENTICATED | MULTIPOINT):
            return None
        state = State(second >> 6)
        if not yours and state not in (State.DOWN, State.ADMIN_DOWN):
            return None
        return cls(first & 31, state, second & 63, multiplier, mine, yours, desired, required)


class Session:
    """One session, in the active role.

    Args:
        discriminator: ours, not 0.
        interval_us: our send interval, and the least interval at which we can receive.
        multiplier: the other end declares us down after this number of intervals without a packet.
        was_up: whether an earlier session has been up.
        has_forgers: whether hosts beyond the link can send packets in the name of the other end.
            Then one that does not name our discriminator does not end the session [deviates from
            RFC 5880 §6.8.6]: if the other end hears nothing, or began anew, and so does not know
            it, the session expires after the detection time.
    """

    def __init__(
        self,
        discriminator: int,
        interval_us: int,
        multiplier: int,
        *,
        was_up: bool = False,
        has_forgers: bool = False,
    ) -> None:
        self._has_forgers = has_forgers
        self.state = State.DOWN
        self.was_up = was_up
        """Whether it has ever been up: before that, silence may be a router without BFD."""
        self.administrative = False
        """Whether the other end says that it is down by its operator's will."""
        self._mine = discriminator
        self._interval_us = interval_us
        self._multiplier = multiplier
        self._diagnostic = 0
        self._yours = 0
        self._required_us = 1
        self._polling = False
        self._send_ns = 0
        self._expires_ns = NEVER

    @property
    def deadline_ns(self) -> int:
        """The latest time of the next call of ``due``."""
        return min(self._send_ns, self._expires_ns)

    def due(self, now_ns: int, jitter: float) -> bytes | None:
        """Does the work that is due.

        Args:
            now_ns: the time.
            jitter: from 0 to 1: the part of the jitter to subtract from the interval [§6.8.7].

        Returns:
            A packet to send, if one is due.
        """
        if now_ns >= self._expires_ns:
            # The next session may be with a router that began anew and wants packets again.
            self._expires_ns, self._yours, self._required_us = NEVER, 0, 1
            self._send_ns = min(self._send_ns, now_ns + SLOW_US * NS_IN_US)
            if self.state in (State.INIT, State.UP):
                self._go_down(DIAGNOSTIC_EXPIRED)
        if now_ns < self._send_ns:
            return None
        if not self._required_us:
            self._send_ns = NEVER
            return None
        interval_us = max(self._desired_us, self._required_us)
        most, span = (0.90, 0.15) if self._multiplier == 1 else (1.0, 0.25)
        self._send_ns = now_ns + round(interval_us * NS_IN_US * (most - span * jitter))
        return self._packet(POLL if self._polling else 0)

    def hear(self, packet: Packet, now_ns: int) -> bytes | None:
        """Processes a packet of the other end; returns a packet to send immediately, if any."""
        is_guarded = self._has_forgers and self.state is State.UP
        if packet.yours != self._mine and (packet.yours or is_guarded):
            return None
        required_us, self._yours = self._required_us, packet.mine
        self._required_us = packet.required_us
        self._polling &= not packet.flags & FINAL
        detection_us = packet.multiplier * max(self._interval_us, packet.desired_us)
        self._expires_ns = now_ns + detection_us * NS_IN_US
        self.administrative = packet.state is State.ADMIN_DOWN
        before = self.state
        self._follow(packet.state)
        if self.state is not before or required_us != packet.required_us:
            self._send_ns = min(self._send_ns, now_ns)
        return self._packet(FINAL) if packet.flags & POLL else None

    @property
    def _desired_us(self) -> int:
        return self._interval_us if self.state is State.UP else max(SLOW_US, self._interval_us)

    def _follow(self, theirs: State) -> None:
        """The state machine [§6.2]."""
        match self.state, theirs:
            case (State.INIT | State.UP, State.ADMIN_DOWN) | (State.UP, State.DOWN):
                self._go_down(DIAGNOSTIC_NEIGHBOUR)
            case State.DOWN, State.DOWN:
                self.state = State.INIT
            case (State.DOWN, State.INIT) | (State.INIT, State.INIT | State.UP):
                self.state, self._diagnostic, self.was_up = State.UP, 0, True
                self._polling = True  # the interval is another one now [§6.8.3]
            case _:
                pass

    def _go_down(self, diagnostic: int) -> None:
        self.state, self._diagnostic, self._polling = State.DOWN, diagnostic, False
        self._send_ns = 0

    def _packet(self, flags: int) -> bytes:
        return Packet(
            self._diagnostic,
            self.state,
            flags,
            self._multiplier,
            self._mine,
            self._yours,
            self._desired_us,
            self._interval_us,
        ).encode()
