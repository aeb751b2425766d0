# SPDX-License-Identifier: MIT
"""The inputs and outputs of the engine: its whole interface, as data.

Inputs are facts in the past tense, outputs are orders. The shell passes one input at a time with
its time, and executes the outputs in their order. Events are not changed after their creation; the
classes are not frozen, because frozen ones are slow to create.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from noid.constants import NO_USER
from noid.counters import Drop
from noid.dns.records import Answer, Question
from noid.engine.causes import Cause
from noid.engine.options import Pin, Policy
from noid.engine.records import ContextRecord
from noid.engine.state import State
from noid.flows.events import DatapathEvent
from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import Locator

# --- inputs ---------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class PeerResolved:
    """A program of this host resolved an M6 capable name [draft §4.1 step 1].

    Attributes:
        name: FQDN(peer), canonical.
        aid: the locator that the program got, AID(peer).
        locators: every AAAA record of the name, Lsr(peer).
        user: whose program it was.
    """

    name: str
    aid: Locator
    locators: tuple[Locator, ...]
    user: int = NO_USER


@dataclass(slots=True, unsafe_hash=True)
class AnswerArrived:
    """The answer to a question of the engine."""

    question: Question
    answer: Answer


@dataclass(slots=True, unsafe_hash=True)
class LocatorsChanged:
    """This host's own locators are now these, the preferred one first [draft §4.5].

    Attributes:
        locators: all of them.
        deprecated: those that contexts leave, although they still work [D25].
        broken: those whose link or route does not work now [D20].
        backup: those that are used only if no other works [D22].
        weights: the weights for new connections that are not 1: 2 to 8.
        pins: peers that use the locators of one uplink, with all others as backups.
        is_spread: whether each context prefers its AID, to be spread again after a failure.
    """

    locators: tuple[Locator, ...]
    deprecated: frozenset[Locator] = frozenset()
    broken: frozenset[Locator] = frozenset()
    backup: frozenset[Locator] = frozenset()
    weights: Mapping[Locator, int] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    is_spread: bool = False

    @property
    def is_unmarked(self) -> bool:
        """Whether no locator is treated in another way than the rest."""
        marked = self.deprecated or self.broken or self.backup or self.weights or self.pins
        return not marked and not self.is_spread


@dataclass(slots=True, unsafe_hash=True)
class PolicyChanged:
    """The operator wants to reach these peers as without M6; existing contexts continue."""

    policy: Policy


@dataclass(slots=True, unsafe_hash=True)
class IdleChecked:
    """The answer to CheckIdle.

    Attributes:
        local_label: F(local) of the context.
        received_ns: when the data plane last received something on it; 0 if never.
        in_use: whether the stack has a connection open between its AIDs, or was not asked [D19].
    """

    local_label: Label
    received_ns: int
    in_use: bool


@dataclass(slots=True, unsafe_hash=True)
class DataHasCome:
    """The answer to CheckData, if data has come on this context.

    Attributes:
        local_label: F(local) of the context.
        since_ns: since when, as the order says.
        by_peer: the peer has asked, as the order says.
    """

    local_label: Label
    since_ns: int
    by_peer: bool = False


@dataclass(slots=True, unsafe_hash=True)
class ContextRestored:
    """The data plane still has a context of an earlier daemon [D36]."""

    memory: ContextRecord


@dataclass(slots=True, unsafe_hash=True)
class MeasurePairs:
    """The host measures pairs of a context by one Update Request over each, in the form of data.

    Its answer is no sign of life, changes no pair, and does not prevent the end of an idle context.

    Attributes:
        local_label: F(local) of the context.
        pairs: locators of ours and of the peer; pairs that may not be used are left out.
        here: whether each answer is to use the pair of its request.
        suspects: whether the context asks the pair in use, as answers were missed.
    """

    local_label: Label
    pairs: tuple[tuple[Locator, Locator], ...]
    here: bool = False
    suspects: bool = False


@dataclass(slots=True, unsafe_hash=True)
class TimePassed:
    """The deadline has come, or may have; without a due timer it does nothing."""


Input = (
    DatapathEvent
    | PeerResolved
    | AnswerArrived
    | LocatorsChanged
    | PolicyChanged
    | IdleChecked
    | DataHasCome
    | ContextRestored
    | MeasurePairs
    | TimePassed
)

# --- outputs --------------------------------------------------------------------------------------


@dataclass(slots=True, unsafe_hash=True)
class SendControl:
    """Send this whole packet unchanged through the uplink of its source locator."""

    packet: bytes


@dataclass(slots=True, unsafe_hash=True)
class DeliverToUlp:
    """Give this packet between AIDs to the host's own stack."""

    packet: bytes


@dataclass(slots=True, unsafe_hash=True)
class WatchPeer:
    """Watch this AID: packets of the host to it pass through the shim."""

    aid: Locator


@dataclass(slots=True, unsafe_hash=True)
class UnwatchPeer:
    """Stop watching this AID."""

    aid: Locator


@dataclass(slots=True, unsafe_hash=True)
class InstallFlow:
    """Install this flow; it replaces one with the same AIDs or the same label."""

    flow: Flow


@dataclass(slots=True, unsafe_hash=True)
class RemoveFlow:
    """Remove this flow; its packets are plain from now on, and its label is unknown."""

    local_label: Label


@dataclass(slots=True, unsafe_hash=True)
class SendAgain:
    """Send a packet of the ULP by its flow again.

    Attributes:
        local_label: F(local) of the flow.
        packet: as the ULP sent it, between AIDs; empty for the one that the data plane stored.
        silent_ns: how long packets were lost, when this is the first time; 0 if that is not known.
    """

    local_label: Label
    packet: bytes
    silent_ns: int = field(default=0, compare=False)


@dataclass(slots=True, unsafe_hash=True)
class WidenPath:
    """Forget the size of packets to this AID that errors have said: longer ones pass."""

    aid: Locator


@dataclass(slots=True, unsafe_hash=True)
class NoteHeard:
    """An authentic message of the peer arrived: the packets of this flow are not unanswered [D42].

    Attributes:
        local_label: F(local) of the flow.
        unasked: the message is not an answer, such as a keepalive, so it shows the interval
            between signs of life of the peer.
    """

    local_label: Label
    unasked: bool = False


@dataclass(slots=True, unsafe_hash=True)
class RememberLater:
    """Store the record of this context soon: its peer has used a greater nonce [D36].

    Otherwise the next daemon would accept a replay of what an observer has recorded.
    """

    local_label: Label


@dataclass(slots=True, unsafe_hash=True)
class CheckIdle:
    """Check whether this context is idle; answer with IdleChecked."""

    local_label: Label


@dataclass(slots=True, unsafe_hash=True)
class CheckData:
    """Check whether this context has received data; answer with DataHasCome if it has.

    Attributes:
        local_label: F(local) of the context.
        since_ns: since when.
        wait_ns: how long to wait before that.
        by_peer: the peer has asked; otherwise this host needs to know.
    """

    local_label: Label
    since_ns: int
    wait_ns: int
    by_peer: bool = False


@dataclass(slots=True, unsafe_hash=True)
class AskDns:
    """Ask this; answer with AnswerArrived in every case."""

    question: Question


@dataclass(slots=True, unsafe_hash=True)
class StateChanged:
    """Report: the state of a context changed."""

    local_aid: Locator
    peer_aid: Locator
    old: State
    new: State
    why: Cause


@dataclass(slots=True, unsafe_hash=True)
class ProbeStarted:
    """Report: a context searches for a pair of locators that works."""

    local_aid: Locator
    peer_aid: Locator
    why: Cause
    pairs: tuple[tuple[Locator, Locator], ...]


@dataclass(slots=True, unsafe_hash=True)
class Switched:
    """Report: a context uses another pair of locators from now on."""

    local_aid: Locator
    peer_aid: Locator
    old: tuple[Locator, Locator]
    new: tuple[Locator, Locator]
    why: Cause


@dataclass(slots=True, unsafe_hash=True)
class PairMeasured:
    """The answer to MeasurePairs for one pair; there is none if the peer does not answer.

    Attributes:
        local_label: F(local) of the context.
        pair: the pair of the request.
        round_trip_ns: how long the answer took.
        here: whether the answer had to use this pair too; otherwise it uses the peer's pair.
        returned: whether the answer arrived at our locator of the pair.
    """

    local_label: Label
    pair: tuple[Locator, Locator]
    round_trip_ns: int
    here: bool = False
    returned: bool = False


@dataclass(slots=True, unsafe_hash=True)
class PeerDoubts:
    """The peer hears nothing over a pair, or measures one again at once: a path may have failed."""

    local_label: Label


@dataclass(slots=True, unsafe_hash=True)
class PeerUnable:
    """Report: this peer is reached as a plain IPv6 host for a while [D15]."""

    peer_aid: Locator
    why: Cause


@dataclass(slots=True, unsafe_hash=True)
class SourceNotCovered:
    """Report: a program sends to an M6 peer from an address that is no locator of this host.

    Such packets are plain, because no context can have that AID. Reported once per address, for at
    most SOURCES_MAX addresses.

    Attributes:
        source: the address.
        peer_aid: the destination of the first such packet.
    """

    source: Locator
    peer_aid: Locator


@dataclass(slots=True, unsafe_hash=True)
class LocatorsVerified:
    """Report: what the DNS proved about a peer [draft §7.13]."""

    peer_aid: Locator
    name: str
    verified: tuple[Locator, ...]


@dataclass(slots=True, unsafe_hash=True)
class Dropped:
    """Report: a packet or message from the network was dropped and counted.

    Attributes:
        reason: the reason that is counted.
        text: a description, if there is more than the reason.
    """

    reason: Drop
    text: str = ""


Output = (
    SendControl
    | DeliverToUlp
    | WatchPeer
    | UnwatchPeer
    | InstallFlow
    | RemoveFlow
    | SendAgain
    | WidenPath
    | NoteHeard
    | RememberLater
    | CheckIdle
    | CheckData
    | AskDns
    | StateChanged
    | ProbeStarted
    | Switched
    | PairMeasured
    | PeerDoubts
    | PeerUnable
    | SourceNotCovered
    | LocatorsVerified
    | Dropped
)


@dataclass(slots=True, unsafe_hash=True)
class Deadline:
    """When TimePassed is due, and for what."""

    at_ns: int
    why: str
