"""What the failure of a provider costs a site: hosts with many contexts, and what passes its links.

Contexts of different pairs of hosts share nothing in the protocol. So some hosts of a site are
played, each with all its contexts, and stand for the others: what they send is added up. Each
context has a peer of its own with its own engine, its own delay, and a program that talks.

What is not here: the capacity of links, and the time that processors take.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from noid.constants import MILLISECOND, MINUTE, SECOND
from noid.datapath.events import DatapathEvent
from noid.datapath.flow import Flow
from noid.dns.records import Question, reverse_name
from noid.engine.events import Input, Output
from noid.engine.host import Host
from noid.locators import Locator
from noid.sim.coverage import Coverage
from noid.sim.names import Names
from noid.sim.network import locator_of
from noid.sim.node import MakeHost, Node, Observer
from noid.sim.parcel import Parcel, is_control
from noid.sim.ulp import build, number_of
from noid.wire import ipv6

OWN_PROVIDERS = (1, 2)
"""The first one fails."""
PEER_PROVIDERS = (3, 4)
DELAY_MIN = 5 * MILLISECOND
DELAY_MAX = 75 * MILLISECOND
"""One way, drawn for each peer."""
TURNAROUND = MILLISECOND
PACKET_OCTETS = 512
BIN = 10 * MILLISECOND
BEFORE = 4 * SECOND
SET_UP = 2 * SECOND
"""Programs begin within this time."""
AFTER = 10 * SECOND
QUIET = 30 * MINUTE


@dataclass(frozen=True, slots=True)
class Part:
    """One host of the site, with its contexts.

    Attributes:
        number: of the host; everything is drawn from it.
        contexts: how many it has.
        gap_ns: between two packets of a program.
        notices: whether the host notices that its link has failed.
        quiet: no provider fails and no program talks after the set-up: what does it cost then?
    """

    number: int
    contexts: int
    gap_ns: int = 200 * MILLISECOND
    notices: bool = False
    quiet: bool = False


@dataclass(slots=True)
class Toll:
    """What hosts came to, counted from the failure on.

    Attributes:
        contexts: how many they have.
        control: control messages on the links of the site, by time in units of BIN.
        control_octets: of these.
        data_octets: of data that passes.
        per_context: contexts by how many control messages they cost.
        silence: contexts by the time until an answer came, in units of BIN; -1 if none did.
        questions: questions to the DNS about the site, by time in units of BIN.
        asked: questions to the DNS about the site during set-up.
    """

    contexts: int = 0
    control: Counter[int] = field(default_factory=Counter)
    control_octets: int = 0
    data_octets: int = 0
    per_context: Counter[int] = field(default_factory=Counter)
    silence: Counter[int] = field(default_factory=Counter)
    questions: Counter[int] = field(default_factory=Counter)
    asked: int = 0

    def add(self, other: "Toll") -> None:
        """Those of other hosts."""
        self.contexts += other.contexts
        self.control += other.control
        self.control_octets += other.control_octets
        self.data_octets += other.data_octets
        self.per_context += other.per_context
        self.silence += other.silence
        self.questions += other.questions
        self.asked += other.asked


class Unobserved:
    """Sees nothing: what is right is for the other simulations to say."""

    def before(self, node: Node, event: Input) -> None:
        """Nothing."""

    def raised(self, node: Node, event: Input, error: Exception) -> None:
        """Nothing."""

    def after(self, node: Node, event: Input, outputs: list[Output]) -> None:
        """Nothing."""

    def standing(self, node: Node, outputs: list[Output]) -> None:
        """Nothing."""

    def reported(self, node: Node, event: DatapathEvent, parcel: Parcel | None) -> None:
        """Nothing."""

    def control_sent(self, node: Node, packet: bytes) -> None:
        """Nothing."""

    def data_sent(self, node: Node, flow: Flow, packet: bytes) -> None:
        """Nothing."""

    def told(self, node: Node, packet: bytes) -> None:
        """Nothing."""


class Site:
    """One host of a site, its peers, and the links between them.

    Args:
        part: which host.
        make_host: makes the engines.
    """

    on_switch = False

    def __init__(self, part: Part, make_host: MakeHost = Host) -> None:
        self.part = part
        self.seed = part.number
        self.make_host = make_host
        self.now_ns = 1_000 * SECOND
        self.random = random.Random(f"{part.number}/site")
        self.names = Names(random.Random(f"{part.number}/names"), Counter())
        self.names.listeners.append(self._asked)
        self.coverage = Coverage()
        self.checks: Observer = Unobserved()
        self.toll = Toll(part.contexts)
        self.failed_ns = 0
        self.talking = True
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._serial = itertools.count()
        self._numbers = itertools.count(1)
        self._said: dict[int, tuple[int, bool]] = {}
        self._messages: Counter[bytes] = Counter()
        self._answered: dict[int, int] = {}
        self._holder: dict[Locator, Node] = {}
        self._delay_ns: dict[str, int] = {}
        self.host = self._add("site", OWN_PROVIDERS, 0xFFFF)
        self._about_us = {self.host.name + ".example", *map(reverse_name, self.host.locators)}
        self.peers = [self._add(f"p{one}", PEER_PROVIDERS, one) for one in range(part.contexts)]

    def _add(self, name: str, providers: tuple[int, ...], number: int) -> Node:
        locators = tuple(locator_of(provider, number) for provider in providers)
        self.names.publish(f"{name}.example", locators)
        node = Node(self, name, locators, honest=False)
        self._holder.update(dict.fromkeys(locators, node))
        self._delay_ns[name] = self.random.randrange(DELAY_MIN, DELAY_MAX)
        return node

    def play(self) -> Toll:
        """Sets the contexts up, lets the provider fail, and counts."""
        for index in range(self.part.contexts):
            self.after(self.random.randrange(SET_UP), partial(self._begin, index))
        self._run(BEFORE)
        self.toll.asked = self.toll.questions.total()
        self.toll.questions.clear()
        self.failed_ns = self.now_ns
        if self.part.quiet:
            self.talking = False
            self._run(QUIET)
            return self.toll
        if self.part.notices:
            self.host.mark(deprecated=frozenset(), broken=frozenset(self.host.locators[:1]))
        self._run(AFTER)
        for index in range(self.part.contexts):
            aid = self.peers[index].locators[0]
            self.toll.per_context[self._messages[aid]] += 1
            self.toll.silence[self._answered.get(index, -1)] += 1
        return self.toll

    # --- the surroundings of the nodes ------------------------------------------------------------

    def after(self, delay_ns: int, action: Callable[[], object]) -> None:
        """Lets something happen later."""
        heapq.heappush(self._queue, (self.now_ns + delay_ns, next(self._serial), action))

    def _run(self, duration_ns: int) -> None:
        until_ns = self.now_ns + duration_ns
        queue = self._queue
        while queue and queue[0][0] <= until_ns:
            self.now_ns, _, action = heapq.heappop(queue)
            action()
        self.now_ns = until_ns

    def send(self, parcel: Parcel) -> None:
        """Puts a packet on the links: what has an address of the failed provider is lost."""
        octets = parcel.octets
        source, destination = Locator(octets[8:24]), Locator(octets[24:40])
        target = self._holder.get(destination)
        if target is None:
            return
        if self.failed_ns and not self.part.quiet:
            self._count(octets)
            if self.host.locators[0] in (source, destination):
                return
        peer = parcel.sender if target is self.host else target.name
        delay_ns = self._delay_ns[peer] + self.random.randrange(MILLISECOND)
        self.after(delay_ns, lambda: target.arrive(parcel))

    def _count(self, octets: bytes) -> None:
        if not is_control(octets):
            if self.host.locators[0] not in (octets[8:24], octets[24:40]):
                self.toll.data_octets += len(octets)
            return
        self.toll.control[self._bin()] += 1
        self.toll.control_octets += len(octets)
        first, second = octets[56:72], octets[72:88]
        self._messages[second if self._holder.get(Locator(first)) is self.host else first] += 1

    def _bin(self) -> int:
        return (self.now_ns - self.failed_ns) // BIN if self.failed_ns else 0

    def _asked(self, question: Question) -> None:
        if question.name in self._about_us:
            self.toll.questions[self._bin()] += 1

    def delivered(self, node: Node, packet: bytes, parcel: Parcel | None) -> None:
        """A program was given a packet: the peer's answers, ours notes the answer."""
        number = number_of(packet)
        said = self._said.get(number) if number is not None else None
        if said is None:
            return
        index, is_fresh = said
        if node is not self.host:
            self.after(TURNAROUND, lambda: self._say(index, by_peer=True, is_fresh=is_fresh))
        elif is_fresh:
            self._answered.setdefault(index, self._bin())

    def place(self, node: Node) -> None:
        """Addresses do not change here."""

    def remark(self, name: str, text: str) -> None:
        """Nothing is traced."""

    # --- programs ---------------------------------------------------------------------------------

    def _begin(self, index: int) -> None:
        peer = self.peers[index]
        self.host.resolve(peer, peer.locators[0])
        self._talk(index)

    def _talk(self, index: int) -> None:
        if self.talking:
            self._say(index, by_peer=False, is_fresh=bool(self.failed_ns))
            gap_ns = self.part.gap_ns
            self.after(gap_ns // 2 + self.random.randrange(gap_ns), lambda: self._talk(index))

    def _say(self, index: int, *, by_peer: bool, is_fresh: bool) -> None:
        """The next packet; a fresh one was said, or answers what was said, after the failure."""
        peer, number = self.peers[index], next(self._numbers)
        self._said[number] = index, is_fresh
        ours, theirs = self.host.locators[0], peer.locators[0]
        ends = (theirs, ours) if by_peer else (ours, theirs)
        packet = build(number, *ends, ipv6.UDP, PACKET_OCTETS)
        (peer if by_peer else self.host).ulp_sends(packet)


def play(part: Part) -> Toll:
    """What one host comes to."""
    return Site(part).play()
