# SPDX-License-Identifier: MIT
"""The entries of the law that a run has reached: a trigger, for a context in a state."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import assert_never

from noid.engine.context import Context
from noid.engine.events import (
    AnswerArrived,
    ContextRestored,
    DataHasCome,
    IdleChecked,
    Input,
    LocatorsChanged,
    MeasurePairs,
    PeerResolved,
    PolicyChanged,
    TimePassed,
)
from noid.engine.inspection import Inspection
from noid.engine.state import LAW, PATH_LAW, Cue, Path, State, Trigger
from noid.flows.events import (
    ControlMessageReceived,
    IcmpErrorReceived,
    LongPacketLost,
    LongUnproven,
    OneWayDataSeen,
    PacketHeld,
    SourceMoved,
    UlpPacketSeen,
    UnansweredPacket,
    UnknownLabelSeen,
    UnknownPeerSeen,
)
from noid.identifiers import Label
from noid.locators import LOCATOR_OCTETS, Locator
from noid.sim.parcel import CONTEXT_VALUE_AT, is_data, label_of, labels_said
from noid.wire.control import Code

Entry = tuple[State, Trigger] | tuple[Path, Cue]
QUOTE_AT = 8
TRIGGERS = {code.value: Trigger(code.name) for code in Code}
BY_LABEL = frozenset({Trigger.UR, Trigger.UA, Trigger.CLOSE, Trigger.CLOSEACK, Trigger.KEEPALIVE})


class Coverage:
    """The entries reached so far, and how often."""

    def __init__(self) -> None:
        self.seen: Counter[Entry] = Counter()
        self.turns: list[Mapping[tuple[Path, Cue], int]] = []
        """The counts of each engine."""

    def total(self) -> Counter[Entry]:
        """All counts, including those of the engines about their pairs."""
        total = self.seen.copy()
        for turns in self.turns:
            total.update(turns)
        return total

    def note(self, inside: Inspection, event: Input) -> None:
        """Counts an event before the engine gets it."""
        match event:
            case ControlMessageReceived():
                self._control(inside, event.octets)
            case UlpPacketSeen():
                self._count(_of_pair(inside, event.packet[8:40]), Trigger.ULP_PACKET)
            case IcmpErrorReceived():
                self._count(_quoted(inside, event.octets[QUOTE_AT:]), Trigger.ICMP_ERROR)
            case AnswerArrived():
                waiting = inside.questions.get(event.question, ())
                self._count(list(waiting), Trigger.DNS_ANSWER)
            case LocatorsChanged():
                self._count(list(inside.labels.values()), Trigger.LOCATORS_CHANGED)
            case ContextRestored():
                self._count(_labelled(inside, event.memory.local_label), Trigger.CONTEXT_FOUND)
            case UnansweredPacket() | LongUnproven() | LongPacketLost():
                self._count(_labelled(inside, event.local_label), Trigger.UNANSWERED)
            case SourceMoved():
                self._count(_labelled(inside, event.local_label), Trigger.SOURCE_MOVED)
            case OneWayDataSeen():
                self._count(_labelled(inside, event.local_label), Trigger.ONE_WAY_DATA)
            case IdleChecked():
                self._count(_labelled(inside, event.local_label), Trigger.IDLE_CHECKED)
            case DataHasCome():
                self._count(_labelled(inside, event.local_label), Trigger.DATA_HAS_COME)
            case PacketHeld():
                self._count(_labelled(inside, event.local_label), Trigger.PACKET_HELD)
            case UnknownLabelSeen() | UnknownPeerSeen() | PeerResolved():
                pass  # of no context
            case PolicyChanged() | MeasurePairs() | TimePassed():
                pass  # no trigger
            case _:
                assert_never(event)

    def rang(self, state: State, trigger: Trigger) -> None:
        """Counts an expired timer of a context, whether it was still set or not."""
        self.seen[state, trigger] += 1

    def _control(self, inside: Inspection, octets: bytes) -> None:
        trigger = TRIGGERS.get(octets[1]) if len(octets) >= CONTEXT_VALUE_AT + 8 else None
        if trigger is None:
            return
        _, receiver_label = labels_said(octets)
        if trigger is Trigger.UC:
            contexts = [one for one in inside.labels.values() if one.peer_label == receiver_label]
        else:
            contexts = _of_pair(inside, octets[32:48] + octets[16:32])
            if trigger in BY_LABEL:
                contexts = [
                    one
                    for one in contexts
                    if one.local_label == receiver_label or not one.peer_label
                ]
        self._count(contexts, trigger)

    def _count(self, contexts: list[Context], trigger: Trigger) -> None:
        if not contexts:
            self.seen[State.IDLE, trigger] += 1
        for context in contexts:
            self.seen[context.state, trigger] += 1


def every_entry() -> list[Entry]:
    """Every entry of the law, in its order; then those of ``PATH_LAW`` that change the belief."""
    entries: list[Entry] = [(state, trigger) for state, row in LAW.items() for trigger in row]
    return [*entries, *((path, cue) for path, row in PATH_LAW.items() for cue in row if row[cue])]


def _of_pair(inside: Inspection, key: bytes) -> list[Context]:
    own, peer = key[:LOCATOR_OCTETS], key[LOCATOR_OCTETS:]
    return [one for one in inside.labels.values() if one.peer_aid == peer and one.local_aid == own]


def _labelled(inside: Inspection, label: Label) -> list[Context]:
    context = inside.labels.get(label)
    return [] if context is None else [context]


def _quoted(inside: Inspection, quote: bytes) -> list[Context]:
    if len(quote) < 40:
        return []
    label = label_of(quote)
    source, destination = Locator(quote[8:24]), Locator(quote[24:40])
    return [
        one
        for one in inside.labels.values()
        if (is_data(quote) and one.peer_label == label)
        or (source in one.own_local and destination in one.peer_set and not is_data(quote))
    ]


def states_in(seen: Iterable[Entry]) -> list[str]:
    """The states of contexts of which an entry was seen."""
    return sorted({one.value for one, _ in seen if isinstance(one, State)})


def name_of(entry: Entry) -> str:
    """An entry of the law as text; see ``entry_of``."""
    belief, cause = entry
    return f"{belief.name} {cause.name}"


def entry_of(name: str) -> Entry:
    """The entry of the law that has a name."""
    belief, cause = name.split()
    if belief in Path.__members__:
        return Path[belief], Cue[cause]
    return State[belief], Trigger[cause]
