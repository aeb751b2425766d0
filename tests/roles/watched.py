# SPDX-License-Identifier: MIT
"""Two hosts that watch their uplinks, a ping between them, and faults, in virtual time."""

import asyncio
import contextlib
import random
import time
from typing import Final

from noid.config import HostSection
from noid.constants import SECOND
from noid.control.uplinks import Change, Sighting, Uplink
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    CheckData,
    DataHasCome,
    Input,
    LocatorsChanged,
    MeasurePairs,
    Output,
    PairMeasured,
    PeerDoubts,
    ProbeStarted,
    SendControl,
    Switched,
    TimePassed,
)
from noid.flows.software import Deliver, Effect
from noid.locators import Locator, parse_locator
from noid.roles.gateway_search import GatewaySearch
from noid.roles.local_locators import LocalLocators
from noid.roles.uplinks import UplinkWatch
from noid.wire.ipv6 import HEADER_OCTETS, ICMPV6
from tests.engine.network import A1, B1, DNS_DELAY_NS, Network, Station, packet

ECHO_REQUEST, ECHO_REPLY = b"\x80", b"\x81"
ECHO_OCTETS: Final = 64
APART_S: Final = 1e-6
"""Between two packets on the wire."""


class Hosts(Network):
    """Hosts a and b.

    Args:
        seed: what is lost.
        delay_ns: of each packet.
        uplinks: of a and of b.

    Attributes:
        watches: by host.
        changes: of the uplinks of a, and when.
        requests: of the measurements of both hosts.
        messages: of both hosts.
        busy_until_ns: when the daemon of b, which does nothing until then, goes on.
        waiting: the packets that b takes then.
        loss: the share of packets that are lost.
    """

    def __init__(self, seed: int, delay_ns: int, uplinks: tuple[int, int] = (2, 2)) -> None:
        self.watches: dict[Station, UplinkWatch] = {}
        self.changes: list[tuple[int, Change]] = []
        self.requests = self.messages = 0
        self.busy_until_ns = 0
        self._arrives_s = 0.0
        self.waiting: list[bytes] = []
        self.loss = 0.0
        self._random = random.Random(seed)
        self._timers: dict[Station, asyncio.TimerHandle] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loop = asyncio.get_running_loop()
        super().__init__(seed + 1)
        self.delay_ns = delay_ns
        for station, count in zip(self.stations, uplinks, strict=True):
            end = station.name[0]
            texts = (f"2001:db8:{number}:{end}::{end}" for number in range(1, count + 1))
            station.locators = tuple(map(parse_locator, texts))
            self.names[station.name] = list(station.locators)
            self.reverse |= dict.fromkeys(station.locators, station.name)
            self.give(station, LocatorsChanged(station.locators))

    async def begin(self, interval_s: float, later_s: float) -> None:
        """Establishes a context by a ping of a, and watches; b begins later."""
        self.resolve(self.a, self.b)
        self._tasks.append(self._loop.create_task(self._ping(interval_s)))
        await asyncio.sleep(0.2)
        for station in self.stations:
            watch = self.watches[station] = self._watch_of(station)
            self._tasks.append(self._loop.create_task(watch.watch()))
            await asyncio.sleep(later_s)

    async def end(self) -> None:
        """Cancels everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for timer in self._timers.values():
            timer.cancel()

    def uplink(self, *, is_used: bool) -> Uplink:
        """The uplink of a that the context uses, or another one."""
        used = self.a.context.local_locator
        locator = next(one for one in self.a.locators if (one == used) is is_used)
        uplink = self.watches[self.a].uplinks.of(locator)
        assert uplink is not None
        return uplink

    def cut(self, locator: Locator, fault: str) -> None:
        """The provider of a locator of a fails: in both directions, or to a, or from a."""
        is_to_a, is_from_a = fault != "one-way-up", fault != "one-way"
        for peer in self.b.locators:
            self.dead |= {(peer, locator)} if is_to_a else set()
            self.dead |= {(locator, peer)} if is_from_a else set()

    def _watch_of(self, station: Station) -> UplinkWatch:
        def changed(change: Change) -> None:
            if station is self.a:
                self.changes.append((time.monotonic_ns(), change))

        watch = UplinkWatch(
            station.host,
            LocalLocators(HostSection()),
            handle=lambda event: self._handle(station, event),
            compare=lambda: None,
            heard_ns=station.datapath.heard_ns,
            changed=changed,
            switched=lambda switch: None,
            gateways=GatewaySearch(contextlib.nullcontext, ask=lambda *_: None),
        )
        seen = [
            Sighting(f"up{number}", is_up=True, carries=True, locators=(one,))
            for number, one in enumerate(station.locators, 1)
        ]
        watch.uplinks.see(seen, time.time())
        return watch

    async def _ping(self, interval_s: float) -> None:
        while True:
            echo = ECHO_REQUEST + bytes(ECHO_OCTETS - 1)
            self.ulp_sends(self.a, packet(A1, B1, echo, protocol=ICMPV6))
            await asyncio.sleep(interval_s)

    def _handle(self, station: Station, event: Input) -> None:
        if isinstance(event, MeasurePairs):
            self.requests += len(event.pairs)
        self.give(station, event)

    # --- what the network does later in virtual time -------------------------------------------

    def give(self, station: Station, event: Input) -> list[Output]:
        """Passes an event to an engine, and its reports to the watch of that host."""
        self.now_ns = time.monotonic_ns()
        outputs = super().give(station, event)
        station.outputs.clear()
        watch = self.watches.get(station)
        for output in outputs:
            if watch and isinstance(output, PairMeasured | PeerDoubts | ProbeStarted | Switched):
                watch.take(output)
        self._arm(station)
        return outputs

    def _arm(self, station: Station) -> None:
        if (timer := self._timers.pop(station, None)) is not None:
            timer.cancel()
        deadline = station.host.deadline()
        if deadline is not None:
            self._timers[station] = self._loop.call_at(
                deadline.at_ns / SECOND, self.give, station, TimePassed()
            )

    def carry_out(self, station: Station, output: Output) -> None:
        """Does what an engine says, and answers later what it asks."""
        match output:
            case SendControl():
                self.messages += 1
                self.put(output.packet)
            case AskDns():
                answer = AnswerArrived(output.question, self.answer(station, output.question))
                self._loop.call_later(DNS_DELAY_NS / SECOND, self.give, station, answer)
            case CheckData():
                self._loop.call_later(output.wait_ns / SECOND, self._check_data, station, output)
            case _:
                super().carry_out(station, output)

    def _check_data(self, station: Station, check: CheckData) -> None:
        if station.datapath.received_ns(check.local_label) > check.since_ns:
            self.give(station, DataHasCome(check.local_label, check.since_ns, check.by_peer))

    def put(self, packet: bytes) -> None:
        """A packet onto the wire, unless it is lost; none overtakes another one."""
        if self._random.random() >= self.loss:
            arrives_s = self._loop.time() + self.delay_ns / SECOND
            self._arrives_s = max(arrives_s, self._arrives_s + APART_S)
            self._loop.call_at(self._arrives_s, self.arrive, packet)

    def arrive(self, packet: bytes) -> None:
        """A packet reaches a host, if its pair works, and a daemon that has time."""
        self.now_ns = time.monotonic_ns()
        if self.now_ns < self.busy_until_ns and Locator(packet[24:40]) in self.b.locators:
            self.waiting.append(packet)
            if len(self.waiting) == 1:
                self._loop.call_at(self.busy_until_ns / SECOND, self._go_on)
            return
        self.trace.clear()
        super().arrive(packet)

    def _go_on(self) -> None:
        """The daemon of b takes what waits, in its order."""
        waiting, self.waiting = self.waiting, []
        for one in waiting:
            self.arrive(one)

    def ulp_sends(self, station: Station, packet: bytes) -> None:
        """A program sends a packet."""
        self.now_ns = time.monotonic_ns()
        super().ulp_sends(station, packet)

    def follow(self, station: Station, effects: list[Effect]) -> None:
        """Carries out what the packet path says, and answers echo requests."""
        super().follow(station, effects)
        for effect in effects:
            if isinstance(effect, Deliver) and effect.packet[HEADER_OCTETS:][:1] == ECHO_REQUEST:
                reply = ECHO_REPLY + bytes(ECHO_OCTETS - 1)
                ends = Locator(effect.packet[24:40]), Locator(effect.packet[8:24])
                self._loop.call_soon(self.ulp_sends, station, packet(*ends, reply, protocol=ICMPV6))
