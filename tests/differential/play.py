# SPDX-License-Identifier: MIT
"""Plays a packet before every player, and says where they differ."""

from collections import Counter
from pathlib import Path

from noid.flows.verdict import Outcome
from tests.differential.packets import Frame
from tests.differential.players import DROPPED, NOT_M6, Kernel, Law, Result, Second, Stack
from tests.interop.octets import Packet

DELIVERED = {Outcome.RESTORED.value, Outcome.HELD.value}


class Stage:
    """The players. The stack is there in a network namespace alone."""

    def __init__(self, directory: Path, *, has_stack: bool) -> None:
        self.law, self.second = Law(), Second()
        self.kernel = Kernel(directory)
        self.stack = Stack() if has_stack else None
        self.outcomes: Counter[str] = Counter()

    def differences(self, frame: Frame) -> list[str]:
        """What differs from the law, by player."""
        law = self.law.play(frame)
        self.outcomes[law.outcome] += 1
        found = []
        kernel = self.kernel.play(frame)
        if kernel != law:
            found.append(f"kernel {kernel}")
        early = self.kernel.early(frame)
        if early not in (NOT_M6, law):
            found.append(f"early {early}")
        second = self.second.play(frame)
        if second != (law.outcome, body_of(law)):
            found.append(f"second {second}")
        if self.stack is not None:
            stack = self.stack.play(frame)
            if _delivered(stack) != _delivered(law):
                found.append(f"stack {stack}")
        return [f"{one}, law {law}" for one in found]

    def close(self) -> None:
        self.kernel.close()
        if self.stack is not None:
            self.stack.close()


def body_of(result: Result) -> tuple[int, bytes] | None:
    """Protocol and payload of what is restored or held."""
    if result.outcome not in DELIVERED:
        return None
    packet = Packet.decode(result.packet)
    return packet.next_header, packet.payload


def _delivered(result: Result) -> Result:
    """What the stack drops by itself never comes to a raw socket."""
    return NOT_M6 if result == DROPPED else result
