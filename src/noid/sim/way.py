# SPDX-License-Identifier: MIT
"""One direction of a conversation, as the laws record it."""

from collections import deque
from dataclasses import dataclass, field

from noid.locators import Locator
from noid.sim.node import Node
from noid.sim.ulp import Conversation


@dataclass(slots=True)
class Way:
    """One direction of a conversation.

    Attributes:
        conversation: its index.
        sender: its node.
        receiver: the other's.
        sent: counted packets since the last change, and when the last was sent.
        noticed_ns: when the last of the first SENT_MIN was sent.
        due: packets that must still arrive: their number, until when, and by which law.
        lost: how many in sequence did not arrive.
        premise: the law whose premise holds, or nothing; and when that was checked.
    """

    conversation: int
    sender: Node
    receiver: Node
    source: Locator
    destination: Locator
    sent: int = 0
    counted_ns: int = 0
    noticed_ns: int = 0
    due: deque[tuple[int, int, str]] = field(default_factory=deque)
    lost: int = 0
    premise: tuple[str, int] = ("", -1)

    @property
    def ends(self) -> tuple[tuple[Node, Locator, Locator], ...]:
        """Both nodes, each with its AID and that of the other."""
        aids = self.source, self.destination
        return (self.sender, *aids), (self.receiver, *aids[::-1])


def ends_of(talk: Conversation, *, by_server: bool) -> tuple[Locator, Locator]:
    """The AIDs of the sender and of the receiver in one direction."""
    ends = (talk.client_aid, talk.server_aid)
    return ends[::-1] if by_server else ends
