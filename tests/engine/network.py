# SPDX-License-Identifier: MIT
"""Two real engines and the network between them, for scenarios that read as prose.

Time is virtual and moves only when a test says so. The DNS is a small table, always right.
"""

import random
from collections import deque
from dataclasses import dataclass, field, replace

from noid.constants import CONTEXT_IDLE_TIME, EMPTY_OCTETS, Codepoints
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.engine.context import Context
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
    LocatorsChanged,
    NoteHeard,
    Output,
    PeerResolved,
    RemoveFlow,
    SendAgain,
    SendControl,
    TimePassed,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.engine.secrets import KeyPair
from noid.engine.state import State
from noid.engine.update import authenticated, labels, request
from noid.flows.events import ControlMessageReceived, UnknownLabelSeen
from noid.flows.rewrite import Rewriter
from noid.flows.software import Deliver, Effect, SoftwareDatapath, Transmit
from noid.identifiers import Nonce
from noid.locators import Locator, parse_locator
from noid.wire import ipv6
from noid.wire.control import ControlMessage, encode_packet
from noid.wire.ipv6 import HEADER_OCTETS
from noid.wire.slots import SLOT_ICMPV6, slot_of

CODEPOINTS = Codepoints()
A1, A2 = parse_locator("2001:db8:1:a::a"), parse_locator("2001:db8:2:a::a")
B1, B2 = parse_locator("2001:db8:1:b::b"), parse_locator("2001:db8:2:b::b")
X1 = parse_locator("2001:db8:3:c::c")
STRANGER = KeyPair(b"the key of a stranger, 32 octets")
DELAY_NS = 10_000_000
DNS_DELAY_NS = 3_000_000
START_NS = 1_000_000_000_000_000
"""Since the host has started: what has not happened yet is long ago."""


@dataclass(eq=False)
class Station:
    """One engine, its data plane's tables, and what came out of it."""

    name: str
    locators: tuple[Locator, ...]
    seed: int
    outputs: list[Output] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)
    in_use: bool = False
    unknown: int = 0
    measure_after_ns: int = CONTEXT_IDLE_TIME
    birthday: int = 0
    """0: the seed."""
    reset_key: bytes = bytes(32)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        options = HostOptions(
            codepoints=CODEPOINTS,
            birthday=self.birthday or self.seed,
            reset_key=self.reset_key,
            measure_after_ns=self.measure_after_ns,
        )
        self.host = Host(options, self.random.randbytes)
        self.datapath = SoftwareDatapath(CODEPOINTS)

    @property
    def rewriter(self) -> Rewriter:
        """The flows of its data plane."""
        return self.datapath.rewriter

    @property
    def context(self) -> Context:
        """The one context of this station."""
        (only,) = self.host.contexts
        return only

    def request(self, nonce: int, packet: bytes = b"") -> bytes:
        """An authentic Update Request of its one context, with the sets as they stand."""
        return request(self.host.core, self.context, Nonce(nonce), packet=packet)

    def sealed(self, message: ControlMessage) -> bytes:
        """A message without authentication, as one of its one context and authentic."""
        named = replace(message, context=labels(self.host.core, self.context))
        return authenticated(self.host.core, self.context.agreed_key, named)


class Network:
    """Stations a and b, a wire of 10 ms, and a DNS.

    The round trip is measured after a set-up only where that is asked for.
    """

    def __init__(self, seed: int = 1, *, measure_after_ns: int = CONTEXT_IDLE_TIME) -> None:
        self.now_ns = START_NS
        self.delay_ns = DELAY_NS
        after_ns = measure_after_ns
        self.a = Station("a.example", (A1, A2), seed * 2, measure_after_ns=after_ns)
        self.b = Station("b.example", (B1, B2), seed * 2 + 1, measure_after_ns=after_ns)
        self.stations = [self.a, self.b]
        self.wire: deque[tuple[int, bytes]] = deque()
        self.inquiries: deque[tuple[int, Station, Question]] = deque()
        self.checks: list[tuple[int, Station, CheckData]] = []
        self.dead: set[tuple[Locator, Locator]] = set()
        self.trace: list[bytes] = []
        self.names = {self.a.name: list(self.a.locators), self.b.name: list(self.b.locators)}
        self.reverse = {one: name for name, all_ in self.names.items() for one in all_}
        self.without_m6: set[str] = set()
        self.dns_works = True
        self.blind: set[str] = set()
        self.ttl_seconds = 0
        self.drops_m6 = False
        self.mtu = 1500
        """Longer packets do not arrive."""
        self.drops_data: set[tuple[Locator, Locator]] = set()
        """Pairs over which messages pass in the form of data, and data does not."""
        for station in self.stations:
            self.give(station, LocatorsChanged(station.locators))

    def resolve(self, station: Station, peer: Station) -> None:
        """A program of ``station`` looks the peer up."""
        locators = tuple(self.names[peer.name])
        self.give(station, PeerResolved(peer.name, locators[0], locators))

    def give(self, station: Station, event: Input) -> list[Output]:
        """Hands one event to an engine, and carries out what it says."""
        outputs = station.host.handle(event, self.now_ns)
        station.outputs += outputs
        for output in outputs:
            self.carry_out(station, output)
        return outputs

    def carry_out(self, station: Station, output: Output) -> None:
        """Does what an engine says."""
        match output:
            case SendControl():
                self.put(output.packet)
            case DeliverToUlp():
                station.delivered.append(output.packet)
            case InstallFlow():
                station.datapath.install(output.flow)
            case RemoveFlow():
                station.datapath.remove(output.local_label)
            case NoteHeard():
                station.datapath.heard(output.local_label, self.now_ns, unasked=output.unasked)
            case CheckIdle():
                label = output.local_label
                received_ns = station.datapath.received_ns(label)
                self.give(station, IdleChecked(label, received_ns, station.in_use))
            case CheckData():
                self.checks.append((self.now_ns + output.wait_ns, station, output))
            case SendAgain():
                self.follow(station, station.datapath.again(output.local_label, output.packet))
            case AskDns():
                self.inquiries.append((self.now_ns + DNS_DELAY_NS, station, output.question))
            case _:
                pass

    def answer(self, station: Station, question: Question) -> Answer:
        """What the DNS says to a station, which may not reach it."""
        if not self.dns_works or station.name in self.blind:
            return Answer(status=Status.UNREACHABLE)
        names: tuple[str, ...] = ()
        locators: tuple[Locator, ...] = ()
        found = question.name in self.names and question.name not in self.without_m6
        if question.kind is Kind.NAMES:
            names = tuple(
                n for one, n in self.reverse.items() if reverse_name(one) == question.name
            )
            found = bool(names)
        elif question.kind is Kind.LOCATORS:
            locators = tuple(self.names.get(question.name, ()))
            found = bool(locators)
        status = Status.FOUND if found else Status.ABSENT
        return Answer(status=status, names=names, locators=locators, ttl_seconds=self.ttl_seconds)

    def put(self, packet: bytes) -> None:
        """A packet onto the wire."""
        self.wire.append((self.now_ns + self.delay_ns, packet))

    def ulp_sends(self, station: Station, packet: bytes) -> None:
        """A program sends a packet between AIDs."""
        self.follow(station, station.datapath.from_host(packet, self.now_ns))

    def follow(self, station: Station, effects: list[Effect]) -> None:
        """Carries out what the packet path of a station says."""
        for effect in effects:
            match effect:
                case Transmit():
                    self.put(effect.packet)
                case Deliver():
                    if effect.packet[HEADER_OCTETS:] != bytes(EMPTY_OCTETS):  # a ULP takes it
                        station.delivered.append(effect.packet)
                case _:
                    station.unknown += isinstance(effect, UnknownLabelSeen)
                    self.give(station, effect)

    def run(self, duration_ns: int) -> None:
        """Lets time pass: packets arrive, deadlines come."""
        until_ns = self.now_ns + duration_ns
        while True:
            moments = [self.wire[0][0]] if self.wire else []
            moments += [self.inquiries[0][0]] if self.inquiries else []
            moments += [at_ns for at_ns, *_ in self.checks]
            for station in self.stations:
                deadline = station.host.deadline()
                if deadline is not None:
                    moments.append(max(deadline.at_ns, self.now_ns))
            if not moments or min(moments) > until_ns:
                break
            self.now_ns = min(moments)
            while self.wire and self.wire[0][0] <= self.now_ns:
                self.arrive(self.wire.popleft()[1])
            while self.inquiries and self.inquiries[0][0] <= self.now_ns:
                _, station, question = self.inquiries.popleft()
                self.give(station, AnswerArrived(question, self.answer(station, question)))
            self.check_data()
            for station in self.stations:
                deadline = station.host.deadline()
                if deadline is not None and deadline.at_ns <= self.now_ns:
                    self.give(station, TimePassed())
        self.now_ns = until_ns

    def check_data(self) -> None:
        """Answers the engines that have asked, as far as it is time, whether data has come."""
        due = [one for one in self.checks if one[0] <= self.now_ns]
        self.checks = [one for one in self.checks if one not in due]
        for _, station, check in due:
            if station.datapath.received_ns(check.local_label) > check.since_ns:
                self.give(station, DataHasCome(check.local_label, check.since_ns, check.by_peer))

    def arrive(self, packet: bytes) -> None:
        """A packet reaches the host that has its destination, if its pair works."""
        header = ipv6.Header.decode(packet)
        self.trace.append(packet)
        is_too_long = len(packet) > self.mtu
        if (header.source, header.destination) in self.dead or is_too_long:
            return
        slot = slot_of(header.next_header, CODEPOINTS)
        if self.drops_m6 and slot is not None:
            return
        is_data = slot is not None and slot.number != SLOT_ICMPV6
        if is_data and (header.source, header.destination) in self.drops_data:
            return
        for station in self.stations:
            if header.destination in station.locators:
                self.follow(station, station.datapath.from_network(packet, self.now_ns))

    def kill_provider(self, number: int) -> None:
        """Nothing that touches an address of this provider arrives any more."""
        gone = [(A1, B1), (A2, B2)][number - 1]
        for one in (*self.a.locators, *self.b.locators):
            for other in (*self.a.locators, *self.b.locators):
                if one in gone or other in gone:
                    self.dead.add((one, other))


def packet(
    source: Locator,
    destination: Locator,
    payload: bytes = b"twenty octets of TCP",
    *,
    protocol: int = ipv6.TCP,
) -> bytes:
    """A packet of the ULP."""
    header = ipv6.Header(
        source=source,
        destination=destination,
        next_header=protocol,
        payload_octets=len(payload),
    )
    return header.encode() + payload


def receive(
    network: Network,
    station: Station,
    message: ControlMessage | bytes,
    source: Locator,
    to: Locator,
) -> list[Output]:
    """A station gets a message, encoded or not, from a source."""
    octets = encode_packet(message, source, to, CODEPOINTS)[ipv6.HEADER_OCTETS :]
    return network.give(station, ControlMessageReceived(source, to, False, octets))


def begun(seed: int = 1) -> Network:
    """A network whose a has sent INIT, which has not arrived yet."""
    network = Network(seed)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    return network


def both_begin(network: Network, *, after_ns: int = 0) -> Network:
    """Lets a program on each station send, the second one a little later."""
    network.resolve(network.a, network.b)
    network.resolve(network.b, network.a)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(after_ns)
    network.ulp_sends(network.b, packet(B1, A1))
    return network


def established(seed: int = 1) -> Network:
    """A network whose two stations have a context, and whose DNS has proven everything."""
    network = begun(seed)
    network.run(100_000_000)
    return network


def in_step() -> Network:
    """The same a second later, when the clocks of both stations stand at the same time."""
    network = established()
    network.run(1_000_000_000)
    for station in network.stations:
        network.give(station, TimePassed())
    return network


def unproven() -> Network:
    """A network whose second station has a provisional context: the DNS tells it nothing [D37]."""
    network = Network()
    network.kill_provider(1)
    network.blind.add(network.b.name)
    network.resolve(network.a, network.b)
    network.ulp_sends(network.a, packet(A1, B1))
    network.run(2_000_000_000)
    assert network.b.context.is_provisional
    return network


def state_of(station: Station) -> State:
    """The state of the one context of a station, as it is now."""
    return station.context.state
