# SPDX-License-Identifier: MIT
"""The clock, the queue and the nodes: one world, from one seed.

Time is virtual. Everything that happens is an entry in one queue, ordered by time and then by the
order of insertion, so that a world depends only on its seed.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable

from noid.constants import CLOSE_TIME, MILLISECOND, SECOND
from noid.engine.host import Host
from noid.engine.records import ContextRecord
from noid.locators import Locator
from noid.sim.checks import Checks
from noid.sim.coverage import Coverage
from noid.sim.laws import Change, Laws
from noid.sim.names import Names
from noid.sim.network import ROUTER, LinkConditions, Network
from noid.sim.node import MakeHost, Node
from noid.sim.parcel import Parcel
from noid.sim.trace import Trace
from noid.sim.ulp import Conversation, Ledger
from noid.sim.violation import Violation

START_NS = 1_000 * SECOND
WINDOW_NS = 9 * SECOND
GRACE_NS = 2 * SECOND
LIVE_WITHIN_NS = 240 * SECOND
"""How long after healing packets of every pair must arrive: an Update Request about lost locators
is repeated at least every 180 s [D16]."""
SELDOM_NS = 20 * SECOND
PAUSE_NS = 2 * SECOND
"""The interval at which a silent program checks whether it may send again."""
TURNAROUND_NS = 3 * MILLISECOND


class World:
    """One simulated world.

    Args:
        seed: the source of everything that is drawn.
        make_host: creates the engines; a test may use a broken one.
    """

    def __init__(self, seed: int, make_host: MakeHost = Host) -> None:
        self.seed = seed
        self.make_host = make_host
        self.now_ns = START_NS
        self.events = 0
        self.injected: Counter[str] = Counter()
        self.random = random.Random(f"{seed}/world")
        self.names = Names(random.Random(f"{seed}/names"), self.injected)
        self.network = Network(random.Random(f"{seed}/network"), self.injected, LinkConditions())
        self.ledger = Ledger()
        self.trace = Trace()
        self.coverage = Coverage()
        self.checks = Checks(self)
        self.nodes: dict[str, Node] = {}
        self.holder: dict[Locator, str] = {}
        """The node of each locator, in use or not; does not change."""
        self.on_switch = False
        """Whether hosts that are added from now on send plain until they switch [D28]."""
        self.talking = True
        self.quiet_until_ns = 0
        """Before this, no program sends."""
        self.measured_ns = 0
        """The time between two measurements of a host; 0 if there are none."""
        self.faults = ""
        """What was drawn for this run, in words."""
        self.saved: dict[str, list[ContextRecord]] = {}
        """States to which hosts may return, by their names."""
        self.laws: Laws | None = None
        """The laws for this world; see ``watch``."""
        self._queue: list[tuple[int, int, Callable[..., object], tuple[object, ...]]] = []
        self._serial = itertools.count()

    # --- building -----------------------------------------------------------------------------

    def add(
        self, name: str, locators: tuple[Locator, ...], *, mtu: int = 1500, honest: bool = True
    ) -> Node:
        """A new host, with its place in the DNS."""
        for index, locator in enumerate(locators):
            self.holder[locator] = name
            self.trace.names[locator] = f"{name}{index + 1}"
        self.names.publish(f"{name}.example", locators)
        node = Node(self, name, locators, mtu=mtu, honest=honest)
        self.nodes[name] = node
        self.place(node)
        return node

    def place(self, node: Node) -> None:
        """Adds a node's present addresses to the network, and removes its others."""
        for locator in node.locators:
            if locator in node.present:
                self.network.present[locator] = node.name
            else:
                self.network.present.pop(locator, None)

    def watch(self, laws: Laws) -> None:
        """Checks the laws from now on; each fault must call ``changed``."""
        self.laws = laws

    def changed(self, change: Change = Change.NETWORK) -> None:
        """Something is about to fail, work again, or be changed; see ``Laws.changed``."""
        if self.laws is not None:
            self.laws.changed(change)

    def converse(self, talk: Conversation) -> None:
        """Lets two programs talk from now on; the client or its shim looks up the server.

        If the plane of the client is attentive, its program has the address from elsewhere [D34].
        """
        index = len(self.ledger.conversations)
        self.ledger.conversations.append(talk)
        if not self.nodes[talk.client].attentive:
            self.nodes[talk.client].resolve(self.nodes[talk.server], talk.server_aid)
        self._speak(index)

    def _speak(self, index: int) -> None:
        talk = self.ledger.conversations[index]
        client = self.nodes[talk.client]
        if self.talking and self.now_ns >= self.quiet_until_ns and not client.asleep_ns:
            known = client.attentive or talk.server_aid in client.watched
            if not known and self.random.random() < 0.2:
                client.resolve(self.nodes[talk.server], talk.server_aid)
            for _ in range(talk.burst):
                self.say(index, by_server=False)
                if talk.server_talks and not self.nodes[talk.server].asleep_ns:
                    self.say(index, by_server=True)
        delay_ns = self.random.randrange(talk.interval_ns // 2, talk.interval_ns * 3 // 2)
        delay_ns += max(0, self.quiet_until_ns - self.now_ns) if self.talking else PAUSE_NS
        self.after(delay_ns, self._speak, index)

    def say(self, index: int, *, by_server: bool) -> bytes:
        """One packet of a conversation."""
        talk = self.ledger.conversations[index]
        packet = self.ledger.packet(talk, index, by_server=by_server, now_ns=self.now_ns)
        self.nodes[talk.server if by_server else talk.client].ulp_sends(packet)
        if self.laws is not None:
            self.laws.sent(len(self.ledger.sent))
        return packet

    # --- time ---------------------------------------------------------------------------------

    def after(self, delay_ns: int, action: Callable[..., object], *arguments: object) -> None:
        """Lets something happen later."""
        entry = (self.now_ns + delay_ns, next(self._serial), action, arguments)
        heapq.heappush(self._queue, entry)

    def measure_idle(self) -> None:
        """Has every host measure pairs that are not in use, from now on."""
        for node in self.nodes.values():
            node.measure_idle()
        self.after(self.measured_ns, self.measure_idle)

    def run(self, duration_ns: int) -> None:
        """Lets time pass."""
        until_ns = self.now_ns + duration_ns
        queue = self._queue
        while queue and queue[0][0] <= until_ns:
            self.now_ns, _, action, arguments = heapq.heappop(queue)
            self.events += 1
            action(*arguments)
        self.now_ns = until_ns

    # --- packets ------------------------------------------------------------------------------

    def send(self, parcel: Parcel) -> None:
        """Puts a packet on the network."""
        for listener in self.network.listeners:
            listener(parcel)
        parcel, delays, fate = self.network.carry(parcel, self.now_ns)
        octets = parcel.octets
        target = self.network.present.get(octets[24:40], "")
        first_ns = delays[0] if delays else -1
        self.trace.packet(self.now_ns, parcel.sender, target, octets, fate, first_ns)
        for delay_ns in delays:
            self.after(delay_ns, self._arrive, parcel)
        if not delays:
            error = self.network.error_about(parcel, fate)
            if error is not None:
                self.injected["ICMPv6 error"] += 1
                self.send(Parcel(error, ROUTER, self.now_ns))

    def _arrive(self, parcel: Parcel) -> None:
        name = self.network.present.get(parcel.octets[24:40])
        if name is not None:
            self.nodes[name].arrive(parcel)

    def delivered(self, node: Node, packet: bytes, parcel: Parcel | None) -> None:
        """A program was given a packet."""
        number = self.ledger.number_of(packet)
        if node.honest:
            self.checks.delivered(node, packet, parcel, number)
        sent = self.ledger.sent.get(number) if number is not None else None
        if sent is None:
            return
        sent.copies += 1
        if self.laws is not None:
            self.laws.delivered(sent)
        if sent.wants_reply and sent.copies == 1 and sent.receiver == node.name:
            turnaround_ns = self.ledger.conversations[sent.conversation].turnaround_ns
            self.after(turnaround_ns or TURNAROUND_NS, self._answer, sent.conversation)

    def told(self, error: bytes) -> None:
        """A program was given an ICMPv6 error."""
        self.ledger.shorten(error)

    def _answer(self, index: int) -> None:
        if not self.nodes[self.ledger.conversations[index].server].asleep_ns:
            self.say(index, by_server=True)

    def remark(self, name: str, text: str) -> None:
        """A line in the trace."""
        self.trace.remark(self.now_ns, name, text)

    # --- the end ------------------------------------------------------------------------------

    def heal(self) -> None:
        """Removes all faults."""
        self.remark("", "the network heals")
        self.changed()
        self.network.heal()
        self.names.heal()
        self.talking = True
        self.quiet_until_ns = 0
        for node in self.nodes.values():
            if (node.present != node.locators or node.marked) and node.honest:
                node.have(node.locators)

    def wait_for_idle(self) -> None:
        """Lets enough time pass for a context without inbound packets to be closed and deleted.

        During this time every program sends a packet now and then.
        """
        intervals = [talk.interval_ns for talk in self.ledger.conversations]
        for talk in self.ledger.conversations:
            talk.interval_ns = SELDOM_NS
        self.run(CLOSE_TIME + SELDOM_NS)
        for talk, interval_ns in zip(self.ledger.conversations, intervals, strict=True):
            talk.interval_ns = interval_ns
        self.run(2 * SELDOM_NS)

    def demand_liveness(self, within_ns: int = LIVE_WITHIN_NS) -> None:
        """Requires that packets of every conversation arrive in time, and that all ends agree."""
        until_ns = self.now_ns + within_ns
        while True:
            first = len(self.ledger.sent) + 1
            self.run(WINDOW_NS)
            last = len(self.ledger.sent)
            self.run(GRACE_NS)
            silent = self._silent(first, last)
            disagreement = "" if silent else self.checks.disagreement()
            if not silent and not disagreement:
                return
            if self.now_ns >= until_ns:
                raise Violation("liveness", silent or disagreement)

    def _silent(self, first: int, last: int) -> str:
        """The conversations that lost a packet of a time window."""
        for number in range(first, last + 1):
            sent = self.ledger.sent[number]
            if not sent.copies:
                return f"packet {number} from {sent.sender} does not reach {sent.receiver}"
        spoken = {self.ledger.sent[number].conversation for number in range(first, last + 1)}
        for index, talk in enumerate(self.ledger.conversations):
            if index not in spoken and talk.interval_ns <= WINDOW_NS // 2:
                return f"nothing was said in conversation {index}"
        return ""
