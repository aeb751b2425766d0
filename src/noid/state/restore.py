# SPDX-License-Identifier: MIT
"""The contexts of an earlier daemon, a page at a time, as long as the kernel carries them [D36].

There may be a million: they are read, taken up and written down again in pages, between which the
daemon does whatever else there is to do.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from noid.engine.events import ContextRecord
from noid.flows.clock import FlowClock
from noid.planes.bpf.carried import Carried
from noid.state.contexts import ContextStore

PAGE = 200
"""Contexts taken up at once: some twenty milliseconds."""


class Found(NamedTuple):
    """A context to take up.

    Attributes:
        memory: what the earlier daemon knew, and where the kernel has followed the peer since.
        clock: when the kernel last had to do with it.
    """

    memory: ContextRecord
    clock: FlowClock


class Takeover:
    """What is to be taken up.

    Args:
        memories: what the earlier daemon wrote down; what is gone is forgotten page by page.
        pins: where the tables are pinned.
    """

    def __init__(self, memories: ContextStore, pins: Path) -> None:
        self.memories = memories
        self.total = memories.count()
        self.looked_at = 0
        self._carried = Carried(pins)

    def close(self) -> None:
        """Lets go of the tables."""
        self._carried.close()

    @property
    def progress(self) -> dict[str, int]:
        """How far it has come, as ``noid status`` shows it."""
        return {"done": self.looked_at, "of": self.total}

    def is_worth_it(self) -> bool:
        """Whether there is anything to take up; looks no further than that takes."""
        return any(found for found, _ in self._pages())

    def pages(self) -> Iterator[list[Found]]:
        """Everything there is, page by page; the rest of each page is forgotten."""
        for found, gone in self._pages():
            self.memories.keep((label, None) for label in gone)
            self.looked_at += len(found) + len(gone)
            yield found

    def _pages(self) -> Iterator[tuple[list[Found], list[int]]]:
        """What there is on each page, and the labels of what is gone or cannot be read."""
        last = 0
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
        # The kernel has followed the peer while there was no daemon [D21].
        peer_locator = left.peer_locator or memory.peer_locator
        return Found(replace(memory, peer_locator=peer_locator), left.clock)
