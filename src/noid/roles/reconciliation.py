# SPDX-License-Identifier: MIT
"""Keeps plane and engine in step with this host's network, and restores what others remove.

What the kernel says is lost is acted on at once. Everything else is one survey, shortly after the
first of several changes; there is never more than one under way, so that each is compared with what
all before it have led to. What the kernel sends no message about is looked at now and then.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from noid.counters import PlaneCounter
from noid.engine.events import Input
from noid.errors import PlatformError
from noid.host.changes import NetworkChanges
from noid.host.links import IFF_UP, LINK_CARRIES
from noid.host.netlink import HostNetwork
from noid.host.precise import until_next
from noid.host.rules import Rule, refusals_changed
from noid.host.survey import Survey
from noid.locators import Locator, format_locator
from noid.planes.base import DataPlane
from noid.planes.delayed import Delayed
from noid.planes.steering import GATEWAY
from noid.roles.former import FormerAddresses
from noid.roles.local_locators import LocalLocators
from noid.roles.patience import Patience

SURVEY_DELAY_S = 0.03
"""How long after the first of several changes the host is surveyed."""
AFTER_LOSS_S = 0.01
"""How long after a link is lost all is done that can wait until contexts have left the link."""
INSPECT_INTERVAL_S = 0.5
"""How often that is looked at of which no message tells; also until a survey that failed is tried
again."""
COMPARE_INTERVAL_S = 10.0
"""How often everything is compared though nothing is heard of a change."""
REPORT_DELAY_S = 0.5
"""How long after the first thing was restored that is said, at the least."""
REPORT_INTERVAL_S = 10.0
"""Between two lines of log about what was restored."""
RESTORED_BURST = 20
RESTORED_INTERVAL_S = 1.0
"""How often things are restored at once, and how often from then on, while others remove them."""
STALE_SURVEYS_MAX = 3
"""Surveys in a row that are not used because a link was lost while they were made."""

logger = logging.getLogger("noid")


class UplinkObserver(Protocol):
    """Who wants to know how the host's links are."""

    def surveyed(self, survey: Survey) -> None:
        """The host is now like this."""

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """A device has lost its carrier, or is down."""


class Watching:
    """The watch over one host's network.

    Args:
        network: the host's.
        plane: is told what there is, and restores what is its own.
        own: what is known of the host's locators.
        survey: tells what there is; runs on a thread of its own.
        handle: takes events for the engine.
        told: is called after an event of a survey.
        uplinks: is told of every survey and of every link that is lost.
        in_use: the local AIDs of the contexts there are.
        patience: how often something is restored; as usual, if None.
    """

    def __init__(
        self,
        network: HostNetwork,
        plane: DataPlane,
        own: LocalLocators,
        *,
        survey: Callable[[], Survey],
        handle: Callable[[Input], None],
        told: Callable[[], None],
        uplinks: UplinkObserver,
        in_use: Callable[[], set[Locator]],
        patience: Patience | None = None,
    ) -> None:
        self.network = network
        self.plane = plane
        self.own = own
        self.survey = survey
        self.handle = handle
        self.told = told
        self.uplinks = uplinks
        self.in_use = in_use
        self.kept: frozenset[Locator] = frozenset()
        self.former = FormerAddresses(network)
        self.changes = NetworkChanges(GATEWAY)
        self._changed = asyncio.Event()
        self._rules: tuple[Rule, ...] = ()
        self._losses = self._stale = 0
        self._lost: dict[int, bool] = {}
        self._left: set[int] = set()
        self._after_loss = Delayed(self._finish_losses, AFTER_LOSS_S)
        self._is_due = self._again = False
        self._compare_at_s = 0.0
        self._report_at_s = 0.0
        self._reported_at_s = float("-inf")
        self._patience = patience or Patience(RESTORED_BURST, RESTORED_INTERVAL_S)
        self._is_fought = False
        asyncio.get_running_loop().add_reader(self.changes, self.hear)

    def close(self) -> None:
        """Ends the subscription to the kernel's messages."""
        asyncio.get_running_loop().remove_reader(self.changes)
        self.changes.close()
        self._after_loss.cancel()

    def hear(self) -> None:
        """Acts on what is lost; everything else is for the next survey."""
        found = self.changes.read()
        for index, flags in found.links.items():
            if flags & LINK_CARRIES != LINK_CARRIES:
                self._lose_link(index, is_up=bool(flags & IFF_UP))
            else:
                self._lost.pop(index, None)
        if found.deleted and not self._wait_s():
            with self._restoring():
                self.plane.routes_deleted(found.deleted)
        elif found.deleted:
            self.compare_soon()
        if found.prefixes:
            self.plane.routes_changed(found.prefixes)
        if found.unaddressed.intersection(self.own.addresses):
            self.compare_soon()
        if found.overflows:
            self.plane.counts[PlaneCounter.NETLINK_OVERFLOWS] += found.overflows
            self.compare_soon()
        if found.matters:
            self._changed.set()

    def _lose_link(self, index: int, *, is_up: bool) -> None:
        self._losses += 1
        self.plane.link_lost(index, is_up=is_up)
        if not is_up:
            self._keep_aids_of(index)
        event = self.own.lost(index)
        if event is not None:
            self.handle(event)
            self._left.add(index)
        self._lost[index] = is_up
        self._after_loss.request()

    def _finish_losses(self) -> None:
        self._after_loss.cancel()
        lost, self._lost = self._lost, {}
        left, self._left = self._left, set()
        for index in left:
            with self.plane.counted(PlaneCounter.QUEUES_REFUSED):
                self.network.drop_queued(index)
        for index, is_up in lost.items():
            self.uplinks.link_lost(index, is_up=is_up)

    def _keep_aids_of(self, index: int) -> None:
        """The kernel removes the addresses of a link that is down; packets for AIDs still come."""
        gone = self.own.links.get(index, frozenset()) & frozenset(self.in_use())
        for aid in gone - self.kept:
            self.plane.keep_address(aid, kept=True)
        self.kept |= gone

    def compare_soon(self) -> None:
        """Everything is compared as soon as may be, without a change that is heard of."""
        self._is_due = True
        self._changed.set()

    async def watch(self) -> None:
        """Watches until it is cancelled."""
        self._compare_at_s = asyncio.get_running_loop().time() + COMPARE_INTERVAL_S
        while True:
            try:
                await self._look()
            except Exception:
                # The top of a task: one odd answer of the kernel must not end the watch.
                logger.exception("the host's network could not be looked at")
                self._again = True
                await asyncio.sleep(INSPECT_INTERVAL_S)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        await self._wait()
        await self._be_patient()
        self._is_due |= loop.time() >= self._compare_at_s
        if self._again or self._is_due or self._changed.is_set() or not self.plane.is_intact():
            self._again = not await self._survey()
        if self._is_due and not self._again:
            self._is_due = False
            await self._compare_tables()
            self._compare_at_s = loop.time() + COMPARE_INTERVAL_S
        with self.plane.counted(PlaneCounter.QUERIES_REFUSED):
            gone = (self.kept | self.former.taken).difference(self.own.addresses)
            if await self.former.look(gone, self.own.links, loop.time()):
                self._changed.set()
        self._report(loop.time())

    async def _wait(self) -> None:
        """Waits for a change, and then for the rest of what is happening."""
        try:
            now_s = asyncio.get_running_loop().time()
            async with asyncio.timeout(until_next(INSPECT_INTERVAL_S, now_s)):
                await self._changed.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SURVEY_DELAY_S)

    async def _be_patient(self) -> None:
        """Puts off what restores, while others remove it again and again; losses are heard."""
        wait_s = self._wait_s()
        if wait_s and (self._again or self._is_due or self._changed.is_set()):
            self.plane.counts[PlaneCounter.RESTORATIONS_DEFERRED] += 1
            self._is_fought = True
            await asyncio.sleep(wait_s)

    def _wait_s(self) -> float:
        return self._patience.wait_s(asyncio.get_running_loop().time())

    @contextlib.contextmanager
    def _restoring(self) -> Iterator[None]:
        """Notes whether something was restored."""
        before = self.plane.counts[PlaneCounter.OBJECTS_RESTORED]
        yield
        if self.plane.counts[PlaneCounter.OBJECTS_RESTORED] > before:
            self._patience.use(asyncio.get_running_loop().time())

    async def _survey(self) -> bool:
        """Takes what there is, unless that is over before it is known; returns whether it did."""
        self._changed.clear()
        losses = self._losses
        try:
            survey = await asyncio.to_thread(self.survey)
        except PlatformError:
            self.plane.counts[PlaneCounter.SURVEYS_REFUSED] += 1
            return False
        self.hear()
        if self._losses != losses and self._stale < STALE_SURVEYS_MAX:
            self._stale += 1
            return False
        self._stale = 0
        with self._restoring():
            self.take(survey)
        return True

    async def _compare_tables(self) -> None:
        with self.plane.counted(PlaneCounter.GATEWAYS_REFUSED):
            await asyncio.to_thread(self.network.ask_for_gateways, self.own.locators)
        for table in self.plane.tables_of_routes():
            wanted = self.plane.wanted_routes(table)
            try:
                found = await asyncio.to_thread(self.network.difference, table, wanted)
            except PlatformError:
                self.plane.counts[PlaneCounter.COMPARISONS_REFUSED] += 1
            else:
                with self._restoring():
                    self.plane.correct_table(table, found)

    def take(self, survey: Survey) -> None:
        """Tells plane and engine what there is, and keeps the AIDs that have lost their link."""
        self.plane.network_changed(survey)
        if prefixes := refusals_changed(self._rules, survey.rules):
            self.plane.routes_changed(prefixes)
        self._rules = survey.rules
        self.former.note(self.own.links, self.in_use())
        before = set(self.own.locators)
        event = self.own.look(survey)
        if event is not None:
            self._is_due |= not before.issuperset(event.locators)  # routes may have lost a source
            self.handle(event)
            self.plane.locators_changed()
            self.told()
        self._finish_losses()  # what the survey says is newer
        self.uplinks.surveyed(survey)
        self._keep_aids(survey)

    def _keep_aids(self, survey: Survey) -> None:
        """AIDs of live contexts stay deliverable though their addresses are gone [D23]."""
        device = survey.ours.get(self.plane.keeping)
        there = frozenset() if device is None else device.addresses
        wanted = frozenset(self.in_use()).difference(self.own.addresses, self.former.taken)
        for aid in (wanted ^ there) | (wanted - self.kept):  # an earlier daemon may have kept it
            self.plane.keep_address(aid, kept=aid in wanted)
        lost = (wanted & self.kept) - there
        self.plane.has_restored("addresses", map(format_locator, lost))
        self.kept = wanted

    def _report(self, now_s: float) -> None:
        """Says what was restored, in one line for all of it, once there may be no more."""
        if not self.plane.restored:
            self._report_at_s = max(now_s + REPORT_DELAY_S, self._reported_at_s + REPORT_INTERVAL_S)
        elif now_s >= self._report_at_s:
            self._reported_at_s = now_s
            line = self.plane.restored.take()
            if self._is_fought:
                self._is_fought = False
                line += f"; that goes on, so it is restored once in {self._patience.interval_s:g} s"
            logger.warning("restored what others had removed or changed: %s", line)
