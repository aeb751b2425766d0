# SPDX-License-Identifier: MIT
"""Keeps for the next daemon what the engine knows of its contexts, and restores it [D36]."""

import asyncio
import gc
import logging
import time
from collections.abc import Callable, Iterable
from itertools import islice

from noid.engine.events import ContextRestored, InstallFlow, StateChanged, WatchPeer
from noid.engine.records import ContextRecord
from noid.flows.clock import FlowClock
from noid.flows.flow import Flow
from noid.host.notify import notify
from noid.identifiers import Label
from noid.locators import Locator
from noid.roles.driver import EngineDriver
from noid.state.contexts import ContextStore
from noid.state.restore import PAGE, Found, Takeover

WRITE_AGAIN_S = 10.0
"""How long after a disk took nothing it is tried again."""
RENEWED_S = 5.0
"""How long after a nonce of a peer it is written: there may be many in a second."""
PROGRESS_S = 5.0
"""How often it is said how far the taking up of contexts is."""

logger = logging.getLogger("noid")


class KeptContexts:
    """Writes what changes of contexts: once for all changes of one turn of the event loop.

    Args:
        store: the store.
        memory_of: what is to be kept of a context, by F(local); None where nothing is.
        every: returns F(local) of each context, for a file in the place of a damaged one.
        renewed_s: how long after a nonce of a peer it is written.
    """

    def __init__(
        self,
        store: ContextStore,
        memory_of: Callable[[Label], ContextRecord | None],
        every: Callable[[], Iterable[Label]],
        *,
        renewed_s: float = RENEWED_S,
    ) -> None:
        self._store = store
        self._memory_of = memory_of
        self._every = every
        self._replaced = store.replaced
        self._renewed_s = renewed_s
        self._changed: set[Label] = set()
        self._renewed: dict[Label, None] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Handle | None = None
        self._is_closed = False

    def close(self) -> None:
        """Writes what is left; a disk that takes nothing now is not tried again.

        If the file is found to be damaged then, every context is written to the new one.
        """
        self._is_closed = True
        for timer in (self._retry, self._renewal):
            if timer is not None:
                timer.cancel()
        self._write_left()
        if self._renewed:
            self._write_left()

    def changed(self, local_label: Label) -> None:
        """Has a context written soon."""
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._write)
        self._changed.add(local_label)

    def renewed(self, local_label: Label) -> None:
        """Has a context written before long."""
        self._renewed[local_label] = None
        if self._renewal is None and not self._is_closed:
            self._renewal = asyncio.get_running_loop().call_later(
                self._renewed_s, self._write_renewed
            )

    def keep(self, local_labels: Iterable[Label]) -> None:
        """Writes these contexts."""
        self._store.keep((label, self._memory_of(label)) for label in local_labels)
        if self._store.replaced != self._replaced:
            self._replaced = self._store.replaced
            for label in self._every():
                self.renewed(label)

    def _write_left(self) -> None:
        self._changed.update(self._renewed)
        self._renewed.clear()
        self._write()

    def _write(self) -> None:
        changed, self._changed = self._changed, set()
        self.keep(changed)
        if self._store.owes and self._retry is None and not self._is_closed:
            self._retry = asyncio.get_running_loop().call_later(WRITE_AGAIN_S, self._write_again)

    def _write_renewed(self) -> None:
        """Writes a page of them, and the rest after other events."""
        page = list(islice(self._renewed, PAGE))
        for label in page:
            del self._renewed[label]
        self.keep(page)
        loop = asyncio.get_running_loop()
        self._renewal = loop.call_soon(self._write_renewed) if self._renewed else None

    def _write_again(self) -> None:
        self._retry = None
        self._write()


async def take_up(
    takeover: Takeover, driver: EngineDriver, kept: KeptContexts, stopping: asyncio.Event
) -> None:
    """Restores the contexts an earlier daemon left, doing everything else in between.

    Args:
        takeover: the contexts.
        driver: of the engine that takes them.
        kept: where they are written again.
        stopping: ends this early.
    """
    told_s = time.monotonic()
    gc.disable()  # it would look through all of them again and again, and find no garbage
    for page in takeover.pages():
        _take_up_page(page, driver, kept)
        if time.monotonic() - told_s > PROGRESS_S:
            told_s = time.monotonic()
            so_far = f"{takeover.looked_at:,} of {takeover.total:,}"
            logger.info("taking up the contexts of an earlier daemon: %s", so_far)
            microseconds = round(2e6 * PROGRESS_S)
            notify(f"EXTEND_TIMEOUT_USEC={microseconds}\nSTATUS=taking up {so_far}")
        await asyncio.sleep(0)
        if stopping.is_set():
            break
    gc.freeze()
    gc.enable()
    logger.info("took up %d contexts of an earlier daemon", driver.host.context_count)


def _take_up_page(page: list[Found], driver: EngineDriver, kept: KeptContexts) -> None:
    flows: list[Flow] = []
    clocks: list[FlowClock] = []
    aids: list[Locator] = []
    for memory, clock, _ in page:
        for output in driver.host.handle(ContextRestored(memory), time.monotonic_ns()):
            match output:
                case InstallFlow():
                    flows.append(output.flow)
                    clocks.append(clock)
                case WatchPeer():
                    aids.append(output.aid)
                case StateChanged():
                    pass  # one line is logged for all of them
                case _:
                    driver.carry_out(output)
    driver.plane.take_up(flows, clocks, aids)
    kept.keep(one.memory.local_label for one in page)
    driver.arm()
