# SPDX-License-Identifier: MIT
"""One end of a small world: an engine and its data plane, and every step of it computed once.

An end depends only on its own state and on what happens to it. ``Ends`` numbers the states and
stores the steps between them, so that the walk over both ends and the network (explore.py) consists
of lookups. Two states are equal if they serialize to the same octets; what depends only on how a
state was reached is removed first.

Only its own timers move the clock of an end. The DNS answers correctly at once, and rates of
unsolicited messages are ignored.
"""

import hashlib
import io
import pickle
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from noid.constants import SECOND, Codepoints
from noid.dns.records import Answer, Kind, Question, Status, reverse_name
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    CheckIdle,
    DeliverToUlp,
    IdleChecked,
    Input,
    InstallFlow,
    LocatorsChanged,
    Output,
    PeerResolved,
    RemoveFlow,
    SendAgain,
    SendControl,
    TimePassed,
)
from noid.engine.host import Host
from noid.engine.options import HostOptions
from noid.flows.software import Deliver, Effect, SoftwareDatapath, Transmit
from noid.locators import parse_locator
from noid.wire import ipv6
from noid.wire.control import Code
from noid.wire.slots import SLOT_ICMPV6, slot_of

CODEPOINTS: Final = Codepoints()
NAMES: Final = ("a.example", "b.example")
LOCATORS: Final = (
    (parse_locator("2001:db8:1:a::a"), parse_locator("2001:db8:2:a::a")),
    (parse_locator("2001:db8:1:b::b"), parse_locator("2001:db8:2:b::b")),
)
START_NS: Final = SECOND
JITTER_OCTETS: Final = 2
"""The entropy that means a delay without jitter."""


@dataclass(slots=True)
class Entropy:
    """Octets that depend on a seed and on the number drawn so far; delays have no jitter."""

    seed: int
    drawn: int = 0

    def __call__(self, octets: int) -> bytes:
        """The next octets."""
        if octets == JITTER_OCTETS:
            return b"\x80\0"
        self.drawn += 1
        material = self.seed.to_bytes(4, "big") + self.drawn.to_bytes(8, "big")
        return hashlib.blake2b(material, digest_size=octets).digest()


@dataclass(slots=True, eq=False)
class End:
    """An engine and its data plane's tables."""

    side: int
    host: Host
    datapath: SoftwareDatapath
    lives: int = 1
    now_ns: int = START_NS
    sent: list[bytes] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)

    def give(self, event: Input) -> None:
        """Passes an event to the engine, and executes its outputs, including answers of the DNS."""
        events = deque([event])
        while events:
            for output in self.host.handle(events.popleft(), self.now_ns):
                following = self._carry_out(output)
                if following is not None:
                    events.append(following)

    def _carry_out(self, output: Output) -> Input | None:
        match output:
            case SendControl():
                self.sent.append(output.packet)
            case DeliverToUlp():
                self.delivered.append(output.packet)
            case InstallFlow():
                self.datapath.install(output.flow)
            case RemoveFlow():
                self.datapath.remove(output.local_label)
            case SendAgain():
                self._follow(self.datapath.again(output.local_label, output.packet))
            case AskDns():
                return AnswerArrived(output.question, truth(output.question))
            case CheckIdle():
                return IdleChecked(output.local_label, 0, False)
            case _:
                pass
        return None

    def ulp_sends(self) -> None:
        """A program sends to the AID of the other end. Plain packets are ignored."""
        self._follow(self.datapath.from_host(ulp_packet(self.side), self.now_ns))

    def arrive(self, packet: bytes) -> None:
        """A packet arrives from the network."""
        self._follow(self.datapath.from_network(packet, self.now_ns))

    def _follow(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit():
                    if effect.flow is not None:
                        self.sent.append(effect.packet)
                case Deliver():
                    self.delivered.append(effect.packet)
                case _:
                    self.give(effect)

    def fire(self) -> None:
        """The next timer fires; the clock jumps there."""
        deadline = self.host.deadline()
        assert deadline is not None
        self.now_ns = max(self.now_ns, deadline.at_ns)
        self.give(TimePassed())

    def wait(self, duration_ns: int) -> None:
        """Time passes, and due timers expire."""
        self.now_ns += duration_ns
        self.give(TimePassed())

    def reboot(self) -> None:
        """The host loses everything except stable storage."""
        self.lives += 1
        fresh = new_end(self.side, self.lives, type(self.host))
        self.host, self.datapath = fresh.host, fresh.datapath
        self.host.handle(TimePassed(), self.now_ns)

    def change_sets(self) -> None:
        """The second locator becomes deprecated [D25]."""
        own = LOCATORS[self.side]
        self.give(LocatorsChanged(own, frozenset(own[1:])))

    def tidy(self) -> None:
        """Removes what depends only on how the state was reached."""
        self.datapath.counts.clear()
        self.datapath.unknown.forget()
        self.datapath.control.forget()
        self.host.inspection.forget()


def new_end(side: int, life: int = 1, engine: type[Host] = Host) -> End:
    """A host that has just started, and has resolved the other."""
    own, other = LOCATORS[side], LOCATORS[1 - side]
    options = HostOptions(codepoints=CODEPOINTS, birthday=life, reset_key=bytes((side + 1,)) * 32)
    end = End(side, engine(options, Entropy(side + 2 * life)), SoftwareDatapath(CODEPOINTS), life)
    end.give(LocatorsChanged(own))
    end.give(PeerResolved(NAMES[1 - side], other[0], other))
    return end


def ulp_packet(side: int) -> bytes:
    """What a program at one end sends to the other."""
    payload = f"a packet from {NAMES[side]}".encode()
    header = ipv6.Header(
        source=LOCATORS[side][0],
        destination=LOCATORS[1 - side][0],
        next_header=ipv6.TCP,
        payload_octets=len(payload),
    )
    return header.encode() + payload


def truth(question: Question) -> Answer:
    """What the DNS says."""
    for name, own in zip(NAMES, LOCATORS, strict=True):
        if question.kind is Kind.NAMES and question.name in map(reverse_name, own):
            return Answer(status=Status.FOUND, names=(name,))
        if question.kind is Kind.LOCATORS and question.name == name:
            return Answer(status=Status.FOUND, locators=own)
    return Answer(status=Status.ABSENT)


def is_control(packet: bytes) -> bool:
    """Whether a packet is a control message, plain or in the slot [D6]."""
    header = ipv6.Header.decode_unchecked(packet)
    slot = slot_of(header.next_header, CODEPOINTS)
    in_slot = slot is not None and slot.number == SLOT_ICMPV6 and header.flow_label == 0
    return in_slot or header.next_header == ipv6.ICMPV6


def is_init(packet: object) -> bool:
    """Whether a packet is an INIT."""
    if not isinstance(packet, bytes) or not is_control(packet):
        return False
    return packet[ipv6.HEADER_OCTETS + 1] == Code.INIT


def name_of(packet: bytes) -> str:
    """A packet, for people."""
    header = ipv6.Header.decode_unchecked(packet)
    ends = {one: f"{'ab'[side]}{at}" for side in (0, 1) for at, one in enumerate(LOCATORS[side], 1)}
    way = f"{ends[header.source]} to {ends[header.destination]}"
    if is_control(packet):
        return f"{Code(packet[ipv6.HEADER_OCTETS + 1]).name} {way}"
    return f"data {header.flow_label:05x} {way}"


# --- both ends, each step computed once -----------------------------------------------------------

Do = tuple[str, bytes | int | None]
"""What happens to an end: the name of a method of End, and its argument where it has one."""
View = tuple[bool, int, int, bytes]
"""A context: whether it is settled, its two labels, local first, and its key."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the laws look at in a state of one end."""

    delay_ns: int
    """The time to the next timer; -1 if there is none."""
    now_ns: int
    contexts: tuple[View, ...]
    proven: tuple[View, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """The result of a step of one end; ``fault`` is the violated law, and how."""

    end: int
    sent: tuple[bytes, ...]
    fault: tuple[str, str] | None = None


class Ends:
    """The states of ends and the steps between them, each computed once."""

    def __init__(self) -> None:
        self.facts: list[Facts] = []
        self.steps: dict[tuple[int, Do], Step] = {}
        self._kept: list[bytes] = []
        self._number: dict[bytes, int] = {}

    def put(self, end: End) -> int:
        """The number of an end's state."""
        end.tidy()
        end.sent, end.delivered = [], []
        stream = io.BytesIO()
        # Without a memo, pickle writes equal objects as equal octets.
        plainly = pickle.Pickler(stream, protocol=5)
        plainly.fast = True
        plainly.dump(end)
        key = hashlib.blake2b(stream.getvalue(), digest_size=16).digest()
        number = self._number.setdefault(key, len(self._kept))
        if number == len(self._kept):
            self._kept.append(pickle.dumps(end, protocol=5))
            self.facts.append(facts_of(end))
        return number

    def take(self, number: int) -> End:
        """A copy of an end in a state."""
        end = pickle.loads(self._kept[number])
        assert isinstance(end, End)
        return end

    def step(self, number: int, do: Do) -> Step:
        """The result of an event at an end in a state."""
        known = self.steps.get((number, do))
        if known is None:
            known = self.steps[number, do] = self._compute(number, do)
        return known

    def _compute(self, number: int, do: Do) -> Step:
        end = self.take(number)
        method, argument = do
        try:
            getattr(end, method)(*(() if argument is None else (argument,)))
        except Exception as error:  # any exception is a counterexample
            return Step(number, (), ("no exception", repr(error)))
        fault = None
        expected = ulp_packet(1 - end.side)[8:]
        if any(one[8:] != expected for one in end.delivered):
            fault = "what is delivered is what was sent", f"{end.delivered[-1][8:].hex()}"
        contexts = len(end.host.contexts)
        if is_init(argument) and contexts > len(self.facts[number].contexts):
            fault = "no state from INIT alone", f"{contexts} contexts"
        sent = tuple(end.sent)
        return Step(self.put(end), sent, fault)


def facts_of(end: End) -> Facts:
    """What the laws look at."""
    deadline = end.host.deadline()
    views = {
        context.local_label: (
            context.is_settled,
            context.local_label,
            context.peer_label,
            context.agreed_key,
        )
        for context in end.host.contexts
    }
    return Facts(
        -1 if deadline is None else max(0, deadline.at_ns - end.now_ns),
        end.now_ns,
        tuple(views.values()),
        tuple(view for view in views.values() if view[0]),
    )


def agree(one: Facts, other: Facts) -> bool:
    """Whether two ends have the same contexts, and no others."""
    if len(one.proven) != len(one.contexts) or len(other.proven) != len(other.contexts):
        return False
    turned = {(True, theirs, ours, key) for _, ours, theirs, key in one.proven}
    return turned == set(other.proven)
