# SPDX-License-Identifier: MIT
"""Passes events to the engine and executes its outputs; makes no decisions."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Any

from noid.constants import NO_USER
from noid.dns.records import Answer, Question
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    CheckData,
    CheckIdle,
    DataHasCome,
    DeliverToUlp,
    IdleChecked,
    Input,
    InstallFlow,
    NoteHeard,
    Output,
    PairMeasured,
    PeerDoubts,
    PeerResolved,
    ProbeStarted,
    RememberLater,
    RemoveFlow,
    SendAgain,
    SendControl,
    Switched,
    TimePassed,
    UnwatchPeer,
    WatchPeer,
    WidenPath,
)
from noid.engine.host import Host
from noid.host.connections import Connections
from noid.identifiers import Label
from noid.locators import Locator
from noid.planes.base import DataPlane
from noid.roles.uplinks import UplinkWatch


class EngineDriver:
    """Drives the engine of one host.

    Args:
        host: the engine.
        ask: asks the DNS for the engine.
        report: takes outputs that are reports.
        changed: takes F(local) of each context of which the next daemon must know something new.
        renewed: the same; what is new are nonces alone, which may wait a little.

    Attributes:
        plane: where packets and flows go; set before the first event that causes one.
        uplinks: takes what concerns pairs of locators; set before the first event.
    """

    plane: DataPlane
    uplinks: UplinkWatch

    def __init__(
        self,
        host: Host,
        *,
        ask: Callable[[Question], Awaitable[Answer]],
        report: Callable[[Output], None],
        changed: Callable[[Label], None],
        renewed: Callable[[Label], None],
    ) -> None:
        self.host = host
        self._ask = ask
        self._report = report
        self._changed = changed
        self._renewed = renewed
        self._connections = Connections()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Cancels the started tasks."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task, which ends when this closes if not earlier."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def handle(self, event: Input) -> None:
        """Passes an event to the engine and executes its outputs, in order."""
        for output in self.host.handle(event, time.monotonic_ns()):
            self.carry_out(output)
        self.arm()

    def carry_out(self, output: Output) -> None:
        """Executes the orders of the engine, and passes its reports to the reporter."""
        match output:
            case SendControl():
                self.plane.send(output.packet)
            case DeliverToUlp():
                self.plane.deliver(output.packet)
            case InstallFlow():
                self.plane.install(output.flow)
                self._changed(output.flow.local_label)
            case RemoveFlow():
                self.plane.remove(output.local_label)
                self._changed(output.local_label)
            case WatchPeer():
                self.plane.watch(output.aid)
            case UnwatchPeer():
                self.plane.unwatch(output.aid)
            case SendAgain():
                self.plane.send_again(output.local_label, output.packet, output.silent_ns)
            case WidenPath():
                self.plane.widen(output.aid)
            case NoteHeard():
                self.plane.heard(output.local_label, unasked=output.unasked)
            case RememberLater():
                self._renewed(output.local_label)
            case CheckIdle() | CheckData():
                self.begin(self._check(output))
            case AskDns():
                self.begin(self._inquire(output.question))
            case PairMeasured() | PeerDoubts():
                self.uplinks.take(output)
            case _:
                self._report(output)
                if isinstance(output, Switched | ProbeStarted):
                    self.uplinks.take(output)

    def arm(self) -> None:
        """Sets the loop's timer to the engine's deadline, if that is earlier.

        A timer that is due stays: where events come without a pause, a new one would never expire.
        """
        deadline = self.host.deadline()
        if deadline is None:
            return
        loop = asyncio.get_running_loop()
        at_s = loop.time() + max(0, deadline.at_ns - time.monotonic_ns()) / 1e9
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at_s, self._wake)

    def _wake(self) -> None:
        """The engine's deadline, or an earlier one that it has given up since."""
        self._timer = None
        self.handle(TimePassed())

    async def _check(self, check: CheckIdle | CheckData) -> None:
        if isinstance(check, CheckIdle):
            await self._check_idle(check.local_label)
            return
        await asyncio.sleep(check.wait_ns / 1e9)
        if self.plane.received_ns(check.local_label) > check.since_ns:
            self.handle(DataHasCome(check.local_label, check.since_ns, check.by_peer))

    async def _check_idle(self, label: Label) -> None:
        """Tells when a context last received something, and whether a program needs it [D19]."""
        context = self.host.context(label)
        if context is None:
            return
        in_use = await self._connections.exist(context.local_aid, context.peer_aid)
        if self.host.context(label) is context:
            self.handle(IdleChecked(label, self.plane.received_ns(label), in_use))

    def peer_resolved(
        self, name: str, aid: Locator, locators: tuple[Locator, ...], client: Hashable
    ) -> bool:
        """The stub found a peer; returns whether programs may use its AID."""
        if self.host.belongs_to_another(name, aid):
            return False
        user = client if isinstance(client, int) else NO_USER
        self.handle(PeerResolved(name, aid, locators, user))
        return not self.host.bypasses(name, aid)

    async def _inquire(self, question: Question) -> None:
        self.handle(AnswerArrived(question, await self._ask(question)))
