# SPDX-License-Identifier: MIT
"""The failure of a provider with very many hosts: its costs are counted; no law is checked.

Each host has a locator of the failing provider, which is its AID and in use, and one of another.
Its peers are behind two more providers. Engines, packet paths and programs are those of ``world``;
the lines lose nothing, and an engine needs time for its work.
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from noid.constants import MICROSECOND, MILLISECOND, SECOND
from noid.dns.records import Answer, Question, Status
from noid.engine.events import Input, Output, SendControl, Switched
from noid.engine.host import Host
from noid.flows.events import DatapathEvent
from noid.flows.flow import Flow
from noid.locators import Locator
from noid.sim.counts import (
    FAILING,
    PEERS,
    REVERSE_OF_FAILING,
    SURVIVING,
    Counts,
    Course,
    Failure,
    Peers,
    Phase,
    Plan,
    zone_of,
)
from noid.sim.coverage import Coverage
from noid.sim.names import TIMEOUT_NS, Names
from noid.sim.network import locator_of, provider_of
from noid.sim.node import MakeHost, Node
from noid.sim.observer import Observer
from noid.sim.parcel import Parcel, is_control
from noid.sim.ulp import build, number_said
from noid.wire import ipv6
from noid.wire.control import Code

HOSTS_MAX: Final = 50_000
"""The maximum of nodes: the host part of a locator has 16 bits."""
EVENT_NS: Final = 60 * MICROSECOND
MESSAGE_NS: Final = 100 * MICROSECOND
"""Processor time of an engine for an event, and in addition for each message that it sends."""
NEAR_NS: Final = 2 * MILLISECOND
FAR_NS: Final = 40 * MILLISECOND
"""Delay from a node to the middle of the network: round trips are 8 to 160 ms."""
SET_UP_NS: Final = 5 * SECOND
SET_UP_EACH_NS: Final = 5 * MILLISECOND
"""Programs begin to talk within this time, or within this time per context of a node."""
REPEAT_FIRST_NS: Final = 250 * MILLISECOND
REPEAT_MAX_NS: Final = 8 * SECOND
"""A program's transport repeats what is not answered, as TCP does."""
BUSY_NS: Final = SECOND
SELDOM_NS: Final = 60 * SECOND
"""Time from an answer to the next packet, times 0.5 to 1.5: near a change, and otherwise."""
BUSY_BEFORE_NS: Final = 3 * SECOND
BUSY_AFTER_NS: Final = 10 * SECOND
PACKET_OCTETS: Final = 100


class Unwatched:
    """Checks nothing."""

    def before(self, node: Node, event: Input) -> None:
        """Checks nothing."""

    def raised(self, node: Node, event: Input, error: Exception) -> None:
        """Lets the error propagate."""

    def after(self, node: Node, event: Input, outputs: list[Output]) -> None:
        """Checks nothing."""

    def standing(self, node: Node, outputs: list[Output]) -> None:
        """Checks nothing."""

    def reported(self, node: Node, event: DatapathEvent, parcel: Parcel | None) -> None:
        """Checks nothing."""

    def control_sent(self, node: Node, packet: bytes) -> None:
        """Checks nothing."""

    def data_sent(self, node: Node, flow: Flow, packet: bytes) -> None:
        """Checks nothing."""

    def told(self, node: Node, packet: bytes) -> None:
        """Checks nothing."""


class Working(Node):
    """A node whose engine needs time for its work; its packet path, as in the kernel, does not."""

    def __init__(
        self, world: "Outage", name: str, locators: tuple[Locator, ...], load: int
    ) -> None:
        self.crowd = world
        self.load = load
        self.free_ns = 0
        self.backlog: deque[Input] = deque()
        self.distance_ns = world.random.randrange(NEAR_NS, FAR_NS)
        super().__init__(world, name, locators, honest=False)

    def give(self, event: Input) -> list[Output]:
        """Passes an event to the engine, now or after the events before."""
        wait_ns = self.free_ns - self.crowd.now_ns
        if not self.backlog and wait_ns <= 0:
            return self._handle(event)
        if not self.backlog:
            self.crowd.after(wait_ns, self._work)
        self.backlog.append(event)
        return []

    def _work(self) -> None:
        self._handle(self.backlog.popleft())
        if self.backlog:
            self.crowd.after(self.free_ns - self.crowd.now_ns, self._work)

    def _handle(self, event: Input) -> list[Output]:
        outputs = super().give(event)
        sent = sum(isinstance(one, SendControl) for one in outputs)
        switched = sum(isinstance(one, Switched) for one in outputs)
        self.crowd.counts.switches += switched
        work_ns = (EVENT_NS + MESSAGE_NS * sent) * self.load
        self.free_ns = max(self.free_ns, self.crowd.now_ns) + work_ns
        return outputs


class Zones(Names):
    """The DNS; the reverse zone of the failing provider is served behind it."""

    is_down = False

    def ask(self, question: Question, now_ns: int) -> tuple[int, Answer]:
        """How long an answer takes, and the answer."""
        delay_ns, answer = super().ask(question, now_ns)
        if self.is_down and zone_of(question.name) == REVERSE_OF_FAILING:
            return TIMEOUT_NS, Answer(status=Status.UNREACHABLE)
        return delay_ns, answer


@dataclass(slots=True)
class Talk:
    """Two programs: one sends a packet, the other answers it, and so on.

    Attributes:
        client: the node that sends.
        server: the node that answers.
        number: the number of the packet that waits for its answer; 0 if none does.
        packet: that packet.
        asked_ns: when it was first sent.
        tries: how often it was repeated.
        is_recovered: whether something sent after the failure was answered.
    """

    client: Working
    server: Working
    number: int = 0
    packet: bytes = b""
    asked_ns: int = 0
    tries: int = 0
    is_recovered: bool = False


class Outage:
    """The world of one run.

    Args:
        plan: what is simulated.
        make_host: makes the engines.
    """

    def __init__(self, plan: Plan, make_host: MakeHost = Host) -> None:
        assert plan.hosts + plan.peer_count <= HOSTS_MAX
        self.plan = plan
        self.seed = plan.seed
        self.make_host = make_host
        self.now_ns = 1_000 * SECOND
        self.on_switch = False
        self.coverage = Coverage()
        self.checks: Observer[Node] = Unwatched()
        self.random = random.Random(f"{plan.seed}/outage")
        self.zones = Zones(random.Random(f"{plan.seed}/names"), Counter())
        self.zones.listeners.append(self._asked)
        self.names: Names = self.zones
        self.counts = Counts(0.0)
        self.talks: list[Talk] = []
        self.waited_ns: list[int] = []
        self.recovered_ns: list[int] = []
        self._at: dict[Locator, Working] = {}
        self._asking: dict[int, Talk] = {}
        self._numbers = itertools.count(1)
        self._queue: list[tuple[int, int, Callable[..., object], tuple[object, ...]]] = []
        self._serial = itertools.count()
        self._events = 0
        set_up_ns = max(SET_UP_NS, SET_UP_EACH_NS * plan.most_contexts)
        self.failure_ns = self.now_ns + set_up_ns + plan.calm_ns
        self.return_ns = self.failure_ns + plan.outage_ns
        self._populate(set_up_ns)

    def _populate(self, set_up_ns: int) -> None:
        plan = self.plan
        ours = (FAILING, SURVIVING)
        hosts = [self._add(f"h{one}.hosts", ours, one, 1) for one in range(plan.hosts)]
        peers = [
            self._add(f"p{one}.peers", PEERS, one, plan.load) for one in range(plan.peer_count)
        ]
        for index, host in enumerate(hosts):
            first = index * plan.contexts if plan.peers is Peers.OWN else 0
            for peer in peers[first : first + plan.contexts]:
                talk = Talk(host, peer)
                self.talks.append(talk)
                self.after(self.random.randrange(set_up_ns), self._beginning(talk))

    def _add(self, name: str, providers: tuple[int, ...], number: int, load: int) -> Working:
        locators = tuple(locator_of(provider, number + 1) for provider in providers)
        self.names.publish(f"{name}.example", locators)
        node = Working(self, name, locators, load)
        self.place(node)
        self._at.update(dict.fromkeys(locators, node))
        return node

    # --- time ---------------------------------------------------------------------------------

    def play(self) -> Course:
        """Lets the provider fail and return."""
        plan = self.plan
        counts = {}
        self.run(self.failure_ns - plan.calm_ns // 2)
        counts[Phase.BEFORE] = self._enter(plan.calm_ns // 2)
        self.run(self.failure_ns)
        counts[Phase.OUTAGE] = self._enter(plan.outage_ns)
        established = sum(len(one.client.host.inspection.contexts) for one in self.talks)
        established //= plan.contexts
        if plan.fails:
            self._fail()
        self.run(self.return_ns)
        lost = sum(not one.is_recovered for one in self.talks)
        counts[Phase.AFTER] = self._enter(plan.after_ns)
        if plan.fails:
            self._return()
        self.run(self.return_ns + plan.after_ns)
        return Course(established, counts, self.waited_ns, self.recovered_ns, lost, self._events)

    def _enter(self, duration_ns: int) -> Counts:
        self.counts = Counts(duration_ns / SECOND)
        return self.counts

    def _fail(self) -> None:
        self.zones.is_down = True
        self._mark(is_broken=True)

    def _return(self) -> None:
        self.zones.is_down = False
        self._mark(is_broken=False)

    def _mark(self, *, is_broken: bool) -> None:
        """Tells the hosts about their links, if they detect the failure."""
        if self.plan.failure is Failure.CARRIER:
            for node in dict.fromkeys(talk.client for talk in self.talks):
                broken = node.locators[:1] if is_broken else ()
                node.mark(deprecated=frozenset(), broken=frozenset(broken))

    def after(self, delay_ns: int, action: Callable[..., object], *arguments: object) -> None:
        """Lets something happen later."""
        entry = (self.now_ns + delay_ns, next(self._serial), action, arguments)
        heapq.heappush(self._queue, entry)

    def run(self, until_ns: int) -> None:
        """Lets time pass."""
        queue = self._queue
        while queue and queue[0][0] <= until_ns:
            self.now_ns, _, action, arguments = heapq.heappop(queue)
            self._events += 1
            action(*arguments)
        self.now_ns = until_ns

    def remark(self, name: str, text: str) -> None:
        """Does nothing: this run keeps no trace."""

    # --- the network --------------------------------------------------------------------------

    def place(self, node: Node) -> None:
        """Does nothing: addresses do not move in this run."""

    def send(self, parcel: Parcel) -> None:
        """Carries a packet, unless it would pass the failed provider."""
        octets = parcel.octets
        source, destination = Locator(octets[8:24]), Locator(octets[24:40])
        if is_control(octets):
            self._count(octets, source, destination)
        if self.zones.is_down and FAILING in (provider_of(source), provider_of(destination)):
            return
        target = self._at.get(destination)
        if target is not None:
            delay_ns = self._at[source].distance_ns + target.distance_ns
            self.after(delay_ns, target.arrive, parcel)

    def _count(self, octets: bytes, source: Locator, destination: Locator) -> None:
        counts, second = self.counts, self.now_ns // SECOND
        counts.messages[Code(octets[ipv6.HEADER_OCTETS + 1]).name] += 1
        counts.octets += len(octets)
        counts.contexts[b"".join(sorted((octets[56:72], octets[72:88])))] += 1
        counts.links[source, second] += 1
        counts.links[destination, second] += 1
        if SURVIVING in (provider_of(source), provider_of(destination)):
            counts.provider[second] += 1

    def _asked(self, question: Question) -> None:
        self.counts.zones[zone_of(question.name), self.now_ns // SECOND] += 1

    # --- the programs -------------------------------------------------------------------------

    def _beginning(self, talk: Talk) -> Callable[[], None]:
        def begin() -> None:
            talk.client.resolve(talk.server, talk.server.locators[0])
            self._say(talk)

        return begin

    def _say(self, talk: Talk) -> None:
        """The next packet of a conversation."""
        number = next(self._numbers)
        ends = talk.client.locators[0], talk.server.locators[0]
        talk.number, talk.asked_ns, talk.tries = number, self.now_ns, 0
        talk.packet = build(number, *ends, ipv6.TCP, PACKET_OCTETS)
        self._asking[number] = talk
        self._transmit(talk, number)

    def _transmit(self, talk: Talk, number: int) -> None:
        """Sends the waiting packet, and repeats it until its answer arrives."""
        if talk.number == number:
            delay_ns = min(REPEAT_FIRST_NS << min(talk.tries, 16), REPEAT_MAX_NS)
            self.after(delay_ns, self._repeat, talk, number)
            talk.client.ulp_sends(talk.packet)

    def _repeat(self, talk: Talk, number: int) -> None:
        talk.tries += 1
        self._transmit(talk, number)

    def told(self, error: bytes) -> None:
        """A program was given an ICMPv6 error; no packet here is too long."""

    def delivered(self, node: Node, packet: bytes, parcel: Parcel | None) -> None:
        """A program was given a packet: the server answers it, or it is the answer."""
        number = number_said(packet)
        talk = self._asking.get(number)
        if talk is None:
            return
        if node is talk.server:
            ends = talk.server.locators[0], talk.client.locators[0]
            talk.server.ulp_sends(build(number, *ends, ipv6.TCP, PACKET_OCTETS))
            return
        del self._asking[number]
        talk.number = 0
        self._recover(talk)
        self.after(self._pause_ns(), self._say, talk)

    def _recover(self, talk: Talk) -> None:
        """Notes the first answer to a packet that was sent during the outage."""
        was_hit = talk.asked_ns >= self.failure_ns or talk.tries > 0
        if self.failure_ns <= self.now_ns < self.return_ns and was_hit and not talk.is_recovered:
            talk.is_recovered = True
            self.waited_ns.append(self.now_ns - talk.asked_ns)
            self.recovered_ns.append(self.now_ns - self.failure_ns)

    def _pause_ns(self) -> int:
        """The time until a program sends again: short near a change, so that all meet it."""
        pause_ns = self.random.randrange(SELDOM_NS // 2, SELDOM_NS * 3 // 2)
        for change_ns in (self.failure_ns, self.return_ns):
            ahead_ns = change_ns - BUSY_BEFORE_NS - self.now_ns
            if -BUSY_BEFORE_NS - BUSY_AFTER_NS < ahead_ns < 0:
                return self.random.randrange(BUSY_NS // 2, BUSY_NS * 3 // 2)
            if 0 <= ahead_ns <= pause_ns:
                return ahead_ns + self.random.randrange(BUSY_NS)
        return pause_ns
