# SPDX-License-Identifier: MIT
"""A host of the simulated world: a real engine, the reference data plane, and its programs.

Like the TUN plane, the data plane uses ``noid.flows``, and does not change packets to an AID that
is not watched.
"""

import itertools
import random
from collections.abc import Callable
from typing import Protocol

from noid.constants import EMPTY_OCTETS, SECOND
from noid.dns.records import Question
from noid.engine.context import Context
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    CheckData,
    CheckIdle,
    ContextRestored,
    DataHasCome,
    DeliverToUlp,
    IdleChecked,
    Input,
    InstallFlow,
    LocatorsChanged,
    MeasurePairs,
    NoteHeard,
    Output,
    PeerResolved,
    PeerUnable,
    RemoveFlow,
    SendAgain,
    SendControl,
    StateChanged,
    Switched,
    TimePassed,
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.engine.records import ContextRecord
from noid.engine.secrets import Entropy
from noid.engine.state import TIMERS_OF, State, Timer, Trigger
from noid.flows.events import UnknownPeerSeen
from noid.flows.software import Deliver, Effect, SoftwareDatapath, Transmit
from noid.locators import Locator
from noid.sim.coverage import Coverage
from noid.sim.names import Names
from noid.sim.network import rejection_of
from noid.sim.observer import Observer
from noid.sim.parcel import CODEPOINTS, SLOTS, Parcel
from noid.wire import icmpv6, ipv6

MakeHost = Callable[[HostOptions, Entropy], Host]
Due = tuple[int, tuple[Context, Timer]]
"""When a timer expires, and which."""
UPTIME_NS = SECOND
"""The clock of a host after its start."""
SLEEPING_NS = SECOND
"""The interval at which an answer is offered again to a host that sleeps."""
NONE: frozenset[Locator] = frozenset()
NOT_FOR_PROGRAMS = icmpv6.ERROR_TYPES | {CODEPOINTS.icmpv6_type}
"""ICMPv6 types that a host without the shim does not deliver to programs."""


class NodeDependencies(Protocol):
    """What a node needs of the world; see ``noid.sim.world.World``."""

    seed: int
    now_ns: int
    on_switch: bool
    names: Names
    coverage: Coverage
    make_host: MakeHost

    @property
    def checks(self) -> Observer["Node"]:
        """The observer."""

    def after(self, delay_ns: int, action: Callable[..., object], *arguments: object) -> None:
        """Lets something happen later."""

    def send(self, parcel: Parcel) -> None:
        """Puts a packet on the network."""

    def delivered(self, node: "Node", packet: bytes, parcel: Parcel | None) -> None:
        """A program was given a packet."""

    def told(self, error: bytes) -> None:
        """A program was given an ICMPv6 error."""

    def place(self, node: "Node") -> None:
        """The node's addresses have changed."""

    def remark(self, name: str, text: str) -> None:
        """A line in the trace."""


class Node:
    """One host.

    Args:
        world: where it lives.
        name: short name, shown in the ladder; its DNS name is ``name.example``.
        locators: all locators that it can have, the preferred one first.
        mtu: the MTU of the uplinks for the engine.
        honest: whether the checks apply to it; not for attackers.

    Attributes:
        present: the locators it has now.
        incarnation: how often it started.
        running: whether the shim runs; a host without it is a plain IPv6 host.
        claimed: the locators that it announces; those of an attacker may not be its own.
        stale_alarms: whether its shell also fires alarms that were cancelled.
        deprecated, broken, backup: its addresses of that kind [D22].
        verifiable: whether its operator says that the DNS ties its addresses to one name.
        attentive: whether its plane reports packets to addresses that are not watched [D34].
        in_use: whether its stack has open connections, so that no context is idle [D19].
        behind_ns: how far its clock is behind the clock of the world.
        asleep_ns: since when it sleeps, by the clock of the world; 0 if it is awake.
        unread: events for its daemon, which stands still; None if it does not.
        has_slept: whether it has slept, so that contexts of its peers may have expired earlier.
    """

    def __init__(
        self,
        world: "NodeDependencies",
        name: str,
        locators: tuple[Locator, ...],
        *,
        mtu: int = 1500,
        honest: bool = True,
    ) -> None:
        self.world = world
        self.name = name
        self.locators = locators
        self.present = locators
        self.claimed = locators
        self.mtu = mtu
        self.honest = honest
        self.running = True
        self.incarnation = 0
        self.random = random.Random(f"{world.seed}/{name}")
        self.birthday = self.random.getrandbits(32)
        self.reset_key = self.random.randbytes(32)
        self.stale_alarms = False
        self.in_use = False
        self.behind_ns = self.asleep_ns = 0
        self.has_slept = False
        self.attentive, self.verifiable = False, True
        self.deprecated = self.broken = self.backup = NONE
        self.start()

    @property
    def marked(self) -> bool:
        """Whether one of its addresses is deprecated or broken."""
        return bool(self.deprecated or self.broken)

    @property
    def runs(self) -> bool:
        """Whether its shim runs, and it is awake."""
        return self.running and not self.asleep_ns and self.unread is None

    @property
    def now_ns(self) -> int:
        """The present by its own clock, which stops while it sleeps."""
        return (self.asleep_ns or self.world.now_ns) - self.behind_ns

    # --- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts without contexts."""
        options = HostOptions(
            codepoints=CODEPOINTS,
            birthday=self.birthday,
            reset_key=self.reset_key,
            mtu=self.mtu,
            on_switch=self.world.on_switch,
            is_verifiable=self.verifiable,
        )
        self.incarnation += 1
        self.host = self.world.make_host(options, self.random.randbytes)
        self.world.coverage.turns.append(self.host.inspection.turns)
        self.datapath = SoftwareDatapath(CODEPOINTS)
        self.watched: set[Locator] = set()
        self.armed: Due | None = None
        self.unread: list[Input] | None = None
        self.parcel: Parcel | None = None
        self._say_locators()

    def reboot(self, *, remembers: bool) -> None:
        """Loses contexts and restarts its clock; notices that by its stable storage [D35]."""
        self.behind_ns = self.world.now_ns - UPTIME_NS
        if remembers:
            self.birthday = (self.birthday + 1) % (1 << 32)
        else:
            self.birthday = self.random.getrandbits(32)
            self.reset_key = self.random.randbytes(32)
        self.world.remark(self.name, f"reboots {'with' if remembers else 'without'} its storage")
        self.start()

    def sleep(self) -> None:
        """Does nothing and hears nothing until it wakes."""
        self.asleep_ns, self.has_slept = self.world.now_ns, True
        self.world.remark(self.name, "sleeps")

    def wake(self) -> None:
        """Continues after its sleep; its clock has stopped."""
        self.behind_ns += self.world.now_ns - self.asleep_ns
        self.asleep_ns, self.armed = 0, None
        self.world.remark(self.name, "wakes")
        self._arm()
        for until_ns in self.host.inspection.retries_ns:
            self.world.after(until_ns - self.now_ns, self._retry, self.incarnation)

    def restart(self, saved: list[ContextRecord] | None = None) -> None:
        """Another daemon restores the contexts that the plane has carried, or others [D36]."""
        datapath, watched = self.datapath, self.watched
        memories = self.memories() if saved is None else saved
        self.world.remark(self.name, "its daemon is another now")
        self.start()
        self.watched |= watched
        for memory in memories:
            self.give(ContextRestored(memory))
        self._say_locators()
        for label in set(datapath.watches) & set(self.datapath.watches):
            self.datapath.watches[label] = datapath.watches[label]

    def memories(self) -> list[ContextRecord]:
        """The records of all contexts, as the shell stores them."""
        kept = [self.host.memory_of(one.local_label) for one in self.host.contexts]
        return [one for one in kept if one is not None]

    def have(self, locators: tuple[Locator, ...]) -> None:
        """Sets its addresses."""
        self.present = self.claimed = locators
        self.deprecated = self.broken = frozenset()
        self.world.remark(self.name, f"has {len(locators)} locators")
        self.world.place(self)
        self._say_locators()

    def mark(self, *, deprecated: frozenset[Locator], broken: frozenset[Locator]) -> None:
        """Sets its deprecated addresses and those whose link is lost."""
        self.deprecated, self.broken = deprecated, broken
        self._say_locators()

    def keep_back(self, locators: frozenset[Locator]) -> None:
        """Sets its backup addresses."""
        self.backup = locators
        self._say_locators()

    def _say_locators(self) -> None:
        if self.running:
            marks = self.deprecated, self.broken, self.backup
            self.give(LocatorsChanged(self.claimed, *marks))

    def measure_idle(self) -> None:
        """Measures a pair that each context does not use, as the watch over uplinks does."""
        for context in self.host.contexts if self.runs else ():
            pairs = itertools.product(context.own_set, context.peer_set)
            if idle := [pair for pair in pairs if pair != context.pair]:
                some = self.random.choice(idle)
                self.give(MeasurePairs(context.local_label, (some,), here=True))

    # --- the shell ----------------------------------------------------------------------------

    def give(self, event: Input) -> list[Output]:
        """Passes one event to the engine, and executes its outputs."""
        if self.unread is not None:
            self.unread.append(event)
            return []
        world = self.world
        if self.honest:
            world.checks.before(self, event)
            world.coverage.note(self.host.inspection, event)
        try:
            outputs = self.host.handle(event, self.now_ns)
        except Exception as error:
            world.checks.raised(self, event, error)
            raise
        if self.honest:
            world.checks.after(self, event, outputs)
        for output in outputs:
            self._carry_out(output)
        if self.honest:
            world.checks.standing(self, outputs)
        self._arm()
        return outputs

    def _carry_out(self, output: Output) -> None:
        match output:
            case SendControl():
                self._send_control(output.packet)
            case NoteHeard():
                self.datapath.heard(output.local_label, self.now_ns, unasked=output.unasked)
            case DeliverToUlp():
                self.deliver(output.packet)
            case InstallFlow():
                self.datapath.install(output.flow)
            case RemoveFlow():
                self.datapath.remove(output.local_label)
            case SendAgain():
                self._follow(self.datapath.again(output.local_label, output.packet))
            case AskDns():
                self._ask(output.question)
            case CheckIdle(label):
                received_ns = self.datapath.received_ns
                self._later(0, lambda: IdleChecked(label, received_ns(label), self.in_use))
            case CheckData():
                self.world.after(output.wait_ns, self._check_data, self.incarnation, output)
            case WatchPeer():
                self.watched.add(output.aid)
            case UnwatchPeer():
                self.watched.discard(output.aid)
            case StateChanged():
                text = f"{output.old.value} -> {output.new.value}: {output.why}"
                self.world.remark(self.name, text)
            case Switched():
                self.world.remark(self.name, f"{type(output).__name__}: {output.why}")
            case PeerUnable():
                self.world.remark(self.name, f"{type(output).__name__}: {output.why}")
                until_ns = self.host.inspection.unable.get(output.peer_aid, self.now_ns)
                self.world.after(until_ns - self.now_ns, self._retry, self.incarnation)
            case _:
                pass

    def _send_control(self, packet: bytes) -> None:
        if self.honest:
            self.world.checks.control_sent(self, packet)
        self.world.send(self._parcel(packet))

    def _parcel(self, packet: bytes) -> Parcel:
        return Parcel(packet, self.name, self.world.now_ns, forged=not self.honest)

    def _ask(self, question: Question) -> None:
        delay_ns, answer = self.world.names.ask(question, self.world.now_ns)
        self._later(delay_ns, lambda: AnswerArrived(question, answer))

    def _later(self, delay_ns: int, make: Callable[[], Input]) -> None:
        if delay_ns:
            self.world.after(delay_ns, self._offer, self.incarnation, make)
        else:
            self.give(make())

    def _check_data(self, incarnation: int, check: CheckData) -> None:
        if self.datapath.received_ns(check.local_label) > check.since_ns:
            come = DataHasCome(check.local_label, check.since_ns, check.by_peer)
            self._offer(incarnation, lambda: come)

    def _offer(self, incarnation: int, make: Callable[[], Input]) -> None:
        """Gives the engine what the shell has found, once the host is awake."""
        if self.asleep_ns:
            self.world.after(SLEEPING_NS, self._offer, incarnation, make)
        elif incarnation == self.incarnation:
            self.give(make())

    def _arm(self) -> None:
        upcoming = self.host.inspection.next_timer()
        if upcoming == self.armed:
            return
        self.armed = upcoming
        if upcoming is not None:
            delay_ns = max(0, upcoming[0] - self.now_ns)
            self.world.after(delay_ns, self._alarm, self.incarnation, upcoming)

    def _alarm(self, incarnation: int, due: Due) -> None:
        is_due = self.armed == due or self.stale_alarms
        if incarnation == self.incarnation and is_due and self.runs:
            self.ring(*due[1])

    def _retry(self, incarnation: int) -> None:
        """The time of an unable peer is over."""
        if incarnation == self.incarnation and self.runs:
            self.give(TimePassed())

    def ring(self, context: Context, timer: Timer) -> None:
        """Fires the alarm of one timer, which may have been stopped."""
        known = self.host.context(context.local_label) is context
        state = context.state if known else State.IDLE
        key = (context, timer)
        upcoming = self.host.inspection.next_timer()
        due = upcoming is not None and upcoming == (min(upcoming[0], self.now_ns), key)
        if timer not in TIMERS_OF[state] or due:
            self.world.coverage.rang(state, Trigger(timer.value))
        self.armed = None
        self.give(TimePassed())

    # --- out ----------------------------------------------------------------------------------

    def resolve(self, peer: "Node", aid: Locator) -> None:
        """A program resolves a peer, and gets one of its locators."""
        if not self.running:
            return
        name = f"{peer.name}.example"
        locators = self.world.names.forward.get(name, ())
        if aid in locators:
            self.give(PeerResolved(name, aid, locators))

    def ulp_sends(self, packet: bytes) -> None:
        """A program sends a packet between AIDs."""
        world = self.world
        if not self.running or Locator(packet[24:40]) not in self.watched:
            world.send(self._parcel(packet))
            if self.running and self.attentive:
                self.give(UnknownPeerSeen(Locator(packet[24:40])))
            return
        self._follow(self.datapath.from_host(packet, self.now_ns))

    def _follow(self, effects: list[Effect]) -> None:
        """Executes the effects of the packet path, in order."""
        for effect in effects:
            match effect:
                case Transmit():
                    if self.honest and effect.flow is not None:
                        self.world.checks.data_sent(self, effect.flow, effect.packet)
                    self.world.send(self._parcel(effect.packet))
                case Deliver():
                    self.deliver(effect.packet)
                case _:
                    if self.honest:
                        self.world.checks.reported(self, effect, self.parcel)
                    self.give(effect)

    # --- in -----------------------------------------------------------------------------------

    def arrive(self, parcel: Parcel) -> None:
        """A packet arrives from the network."""
        if self.asleep_ns:
            return
        octets = parcel.octets
        self.parcel = parcel
        if self.running:
            self._follow(self.datapath.from_network(octets, self.now_ns))
        elif SLOTS[octets[6]] is not None:
            self.world.send(self._parcel(rejection_of(octets)))
        elif octets[6] != ipv6.ICMPV6 or octets[40] not in NOT_FOR_PROGRAMS:
            self.deliver(octets)
        self.parcel = None

    def deliver(self, packet: bytes) -> None:
        """A program gets a packet; the ULP drops packets with a wrong checksum."""
        if packet[6] == ipv6.ICMPV6 and packet[40] in icmpv6.ERROR_TYPES:
            self.world.checks.told(self, packet)
            self.world.told(packet)
            return
        if len(packet) > ipv6.HEADER_OCTETS + EMPTY_OCTETS:  # no ULP takes what has no content
            self.world.delivered(self, packet, self.parcel)
