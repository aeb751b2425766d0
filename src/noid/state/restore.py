# SPDX-License-Identifier: MIT
"""Restores the contexts of an earlier daemon that the kernel still carries, in pages [D36].

There may be a million: they are read, restored and stored again in pages, between which the
daemon does other work.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from noid.engine.records import ContextRecord
from noid.flows.clock import FlowClock
from noid.flows.events import UnansweredPacket
from noid.identifiers import NO_LABEL, Label
from noid.planes.bpf.carried import Carried
from noid.state.contexts import ContextStore

PAGE = 200
"""Contexts restored at once: about twenty milliseconds."""
UNANSWERED_MAX = 1_000
"""Contexts that suspect their pair at once because of packets that were unanswered before; others
do so when they send again."""


class Found(NamedTuple):
    """A context to restore.

    Attributes:
        memory: the record of the earlier daemon, with later changes of Lp(peer) by the kernel.
        clock: its times in the kernel.
        unanswered: the report of an unanswered packet that no daemon took; None if there is none.
    """

    memory: ContextRecord
    clock: FlowClock
    unanswered: UnansweredPacket | None = None


class Takeover:
    """The contexts to restore.

    Args:
        memories: the records of the earlier daemon; others are deleted page by page.
        pins: the directory of the pinned tables.
        unanswered_max: of how many contexts ``unanswered`` has reports.

    Attributes:
        unanswered: reports that no daemon took, of the contexts found so far. They are for the
            engine once the plane sends.
    """

    def __init__(
        self, memories: ContextStore, pins: Path, *, unanswered_max: int = UNANSWERED_MAX
    ) -> None:
        self.unanswered: list[UnansweredPacket] = []
        self._unanswered_max = unanswered_max
        self.memories = memories
        self.total = memories.count()
        self.looked_at = 0
        self._carried = Carried(pins)

    def close(self) -> None:
        """Closes the tables."""
        self._carried.close()

    @property
    def progress(self) -> dict[str, int]:
        """The progress, as ``noid status`` shows it."""
        return {"done": self.looked_at, "of": self.total}

    def is_worth_it(self) -> bool:
        """Whether there is a context to restore; stops at the first one."""
        return any(found for found, _ in self._pages())

    def pages(self) -> Iterator[list[Found]]:
        """All contexts to restore, page by page; other records of each page are deleted."""
        for found, gone in self._pages():
            self.memories.keep((label, None) for label in gone)
            self.looked_at += len(found) + len(gone)
            reports = (one.unanswered for one in found if one.unanswered is not None)
            self.unanswered += islice(reports, self._unanswered_max - len(self.unanswered))
            yield found

    def _pages(self) -> Iterator[tuple[list[Found], list[Label]]]:
        """The contexts of each page, and the labels of records without context or content."""
        last = NO_LABEL
        while page := self.memories.page(last, PAGE):
            found, gone = [], []
            for label, memory in page:
                one = None if memory is None else self._found(memory)
                if one is None:
                    gone.append(label)
                else:
                    found.append(one)
            last = page[-1][0]
            yield found, gone

    def _found(self, memory: ContextRecord) -> Found | None:
        left = self._carried.find(memory.local_label, memory.local_aid + memory.peer_aid)
        if left is None:
            return None
        # The kernel has changed Lp(peer) while there was no daemon [D21].
        peer_locator = left.peer_locator or memory.peer_locator
        return Found(replace(memory, peer_locator=peer_locator), left.clock, left.unanswered)
