# SPDX-License-Identifier: MIT
"""Peers that doubt a pair: one end notices alone that one direction of a path has failed.

To a peer that did not doubt, requests over all pairs look like doubt, too. If a host asked all its
peers because of one, these would ask others in turn, and among many hosts that would never end.
Therefore the peer that doubts is asked alone, and others only if an uplink of this host is silent.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

from noid.engine.context import Context
from noid.engine.host import Host
from noid.identifiers import Label
from noid.locators import Locator
from noid.roles.measuring import Measuring

DOUBTERS_MAX: Final = 4
"""Peers that are asked at a time; of more, the latest."""
ASKS_APART_S: Final = 0.1
"""Between two times that peers are asked, each because of a new suspicion or doubt."""
ASK_AFTER_S: Final = 0.02
"""How long after a suspicion they are asked: contexts that look for another pair come first."""
DOUBT_AGAIN_S: Final = 1.0
"""A peer that doubts a pair is not asked again so soon, as our requests make it doubt, too."""


class Doubters:
    """The peers of one host that doubt a pair.

    Attributes:
        asked_s: when peers were asked last, about doubts or suspicions.
    """

    def __init__(self) -> None:
        self.labels: deque[Label] = deque(maxlen=DOUBTERS_MAX)
        self._asked: frozenset[Label] = frozenset()
        self.asked_s = 0.0

    @property
    def wait_s(self) -> float:
        """How long after a suspicion peers are asked."""
        return max(ASK_AFTER_S, self.asked_s + ASKS_APART_S - time.monotonic())

    def add(self, label: Label) -> bool:
        """Takes a peer by the label of its context, unless our requests make it doubt.

        Returns:
            Whether it is to be asked.
        """
        if label in self._asked and time.monotonic() < self.asked_s + DOUBT_AGAIN_S:
            return False
        if label not in self.labels:
            self.labels.append(label)
        return True

    def note_asked(self, contexts: Iterable[Context]) -> None:
        """The peers of these contexts are asked over all pairs now, those that doubt or others."""
        self.labels.clear()
        self._asked = frozenset(one.local_label for one in contexts)
        self.asked_s = time.monotonic()

    async def ask(
        self, host: Host, measuring: Measuring
    ) -> list[tuple[Context, frozenset[Locator]]]:
        """Asks them once over all pairs, in both ways, unless something is suspected.

        Returns:
            Their contexts, and our locators of which no request was answered in one of the ways.
        """
        found = [host.context(label) for label in self.labels]
        contexts = [one for one in found if one is not None and one.is_settled]
        self.note_asked(contexts)
        there, back = await asyncio.gather(
            measuring.measure(contexts, times=1, gives_way=True),
            measuring.measure(contexts, times=1, here=True, gives_way=True),
        )
        unanswered = [
            one.asked.unanswered | other.asked.unanswered
            for one, other in zip(there, back, strict=True)
        ]
        return list(zip(contexts, unanswered, strict=True))
