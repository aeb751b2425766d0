# SPDX-License-Identifier: MIT
"""What goes into the engine and what comes out of it: the whole of its interface, as data.

Inputs are facts in the past tense, outputs are orders. The shell hands over one input at a time
with the time it happened, and carries the outputs out in the order they come. Nothing else passes.
"""

from dataclasses import dataclass
from typing import NamedTuple

from noid.counters import Drop
from noid.dns.records import Answer, Question
from noid.engine.causes import Cause
from noid.engine.options import Policy
from noid.engine.state import State
from noid.flows.events import DatapathEvent
from noid.flows.flow import Flow
from noid.locators import Locator
from noid.wire.options import Entries, LocatorEntry

# --- inputs ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PeerResolved:
    """A program of this host resolved an M6 capable name [draft §4.1 step 1].

    Attributes:
        name: FQDN(peer), canonical.
        aid: the locator the program was given, AID(peer).
        locators: every AAAA record of the name, Lsr(peer).
    """

    name: str
    aid: Locator
    locators: tuple[Locator, ...]


@dataclass(frozen=True, slots=True)
class AnswerArrived:
    """The end of a question the engine asked."""

    question: Question
    answer: Answer


@dataclass(frozen=True, slots=True)
class LocatorsChanged:
    """This host's own locators are now these, the preferred one first [draft §4.5].

    Attributes:
        locators: all of them.
        deprecated: those that are to be left, but still work [D25].
        broken: those whose link or route is gone for now [D20].
        backup: those to be used only where no other works [D22].
    """

    locators: tuple[Locator, ...]
    deprecated: frozenset[Locator] = frozenset()
    broken: frozenset[Locator] = frozenset()
    backup: frozenset[Locator] = frozenset()


@dataclass(frozen=True, slots=True)
class PolicyChanged:
    """The operator wants these peers to be reached as without M6; contexts there are go on."""

    policy: Policy


@dataclass(frozen=True, slots=True)
class IdleChecked:
    """The answer to CheckIdle.

    Attributes:
        local_label: which context.
        received_ns: when the data plane last received something on it; 0 if never.
        in_use: whether the host's stack has a connection open between its AIDs [D19].
    """

    local_label: int
    received_ns: int
    in_use: bool


class Former(NamedTuple):
    """What authenticates the peer that a context had before it was replaced [D39].

    The names are those of ``Context``.
    """

    peer_label: int
    peer_token: int
    peer_key: bytes
    local_token: int
    local_key: bytes
    agreed_key: bytes
    peer_birthday: int
    peer_reset_hash: bytes
    peer_update_nonce: int
    peer_keepalive_nonce: int
    peer_local: tuple[Locator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRecord:
    """What is kept of a context while no daemon runs; the names are those of ``Context`` [D36].

    Attributes:
        peer_marks: those of Lsl(peer) with flags, and the flags.
        name: FQDN(peer), or empty.
        remote: Lsr(peer).
        proven: those of them that the DNS proved.
        is_plain: no pair passed the form of data, so that data travelled plain [D47].
        former: the peer before the context was replaced.
    """

    local_aid: Locator
    peer_aid: Locator
    local_label: int
    peer_label: int
    agreed_key: bytes
    peer_birthday: int
    peer_reset_hash: bytes
    local_locator: Locator
    peer_locator: Locator
    own_local: tuple[Locator, ...]
    own_remote: tuple[Locator, ...] | None
    told_remote: tuple[Locator, ...]
    peer_local: tuple[Locator, ...]
    peer_marks: tuple[tuple[Locator, int], ...]
    aid_proven: bool
    name: str
    remote: tuple[Locator, ...]
    proven: tuple[Locator, ...]
    update_nonce: int
    peer_update_nonce: int
    peer_keepalive_nonce: int
    round_trip_ns: int
    began: Locator | None = None
    is_plain: bool = False
    former: Former | None = None

    @property
    def peer_entries(self) -> Entries:
        """The marks as messages say them."""
        return tuple(LocatorEntry(locator, flags) for locator, flags in self.peer_marks)


@dataclass(frozen=True, slots=True)
class ContextRestored:
    """The data plane still carries a context of an earlier daemon's [D36]."""

    memory: ContextRecord


@dataclass(frozen=True, slots=True)
class MeasurePairs:
    """The host wants to know how long an answer takes over pairs of a context.

    One Update Request goes over each, in the form of data. It changes nothing: its answer is no
    sign of life, moves no pair in use, and keeps no context from being closed.

    Attributes:
        local_label: which context.
        pairs: a locator of ours and one of the peer's; those that may not be used are left out.
    """

    local_label: int
    pairs: tuple[tuple[Locator, Locator], ...]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline came, or may have; early or needless ones do nothing."""


Input = (
    DatapathEvent
    | PeerResolved
    | AnswerArrived
    | LocatorsChanged
    | PolicyChanged
    | IdleChecked
    | ContextRestored
    | MeasurePairs
    | TimePassed
)

# --- outputs --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendControl:
    """Send this whole packet, as it is, out by the uplink of its source locator."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class DeliverToUlp:
    """Give this packet between AIDs to the host's own stack."""

    packet: bytes


@dataclass(frozen=True, slots=True)
class WatchPeer:
    """Lead what the host sends to this AID through the shim."""

    aid: Locator


@dataclass(frozen=True, slots=True)
class UnwatchPeer:
    """Stop doing so."""

    aid: Locator


@dataclass(frozen=True, slots=True)
class InstallFlow:
    """Use this flow, in place of the one with the same AIDs or the same label."""

    flow: Flow


@dataclass(frozen=True, slots=True)
class RemoveFlow:
    """Forget this flow; what it carried goes plainly, what arrives on it is unknown."""

    local_label: int


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Send a packet of the ULP by its flow once more.

    Attributes:
        local_label: which flow.
        packet: as the ULP sent it, between AIDs; empty for what the data plane has kept, if any.
    """

    local_label: int
    packet: bytes


@dataclass(frozen=True, slots=True)
class NoteHeard:
    """The peer said something authentic: what this flow has sent is not unanswered [D42].

    Attributes:
        local_label: which flow.
        unasked: it came of itself, as keepalives do, and so shows how long the peer is silent
            between two signs of life; an answer shows when it was asked.
    """

    local_label: int
    unasked: bool = False


@dataclass(frozen=True, slots=True)
class CheckIdle:
    """Find out whether this context is idle, and say IdleChecked."""

    local_label: int


@dataclass(frozen=True, slots=True)
class AskDns:
    """Ask this, and say AnswerArrived in the end, whatever the end is."""

    question: Question


@dataclass(frozen=True, slots=True)
class StateChanged:
    """Report: a context went from one state to another."""

    local_aid: Locator
    peer_aid: Locator
    old: State
    new: State
    why: Cause


@dataclass(frozen=True, slots=True)
class ProbeStarted:
    """Report: a context looks for a pair of locators that works."""

    local_aid: Locator
    peer_aid: Locator
    why: Cause
    pairs: tuple[tuple[Locator, Locator], ...]


@dataclass(frozen=True, slots=True)
class Switched:
    """Report: a context uses another pair of locators from now on."""

    local_aid: Locator
    peer_aid: Locator
    old: tuple[Locator, Locator]
    new: tuple[Locator, Locator]
    why: Cause


@dataclass(frozen=True, slots=True)
class PairMeasured:
    """The answer to MeasurePairs for one pair; one that is not answered has none.

    Attributes:
        local_label: which context.
        pair: over which the request went; the answer comes by the pair that the peer uses.
        round_trip_ns: how long the answer took.
    """

    local_label: int
    pair: tuple[Locator, Locator]
    round_trip_ns: int


@dataclass(frozen=True, slots=True)
class PeerUnable:
    """Report: this peer is reached as a plain IPv6 host for a while [D15]."""

    peer_aid: Locator
    why: Cause


@dataclass(frozen=True, slots=True)
class SourceNotCovered:
    """Report: a program sends to an M6 peer from an address that is no locator of this host.

    Such packets stay plain: no context has them. Reported once per address, for at most
    SOURCES_MAX addresses.

    Attributes:
        source: the address.
        peer_aid: where the first such packet went.
    """

    source: Locator
    peer_aid: Locator


@dataclass(frozen=True, slots=True)
class LocatorsVerified:
    """Report: what the DNS proved about a peer [draft §7.13]."""

    peer_aid: Locator
    name: str
    verified: tuple[Locator, ...]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Report: something from the network was dropped, and counted under this reason.

    Attributes:
        reason: what counts it.
        text: what is wrong, where more is known than the reason says.
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
    | NoteHeard
    | CheckIdle
    | AskDns
    | StateChanged
    | ProbeStarted
    | Switched
    | PairMeasured
    | PeerUnable
    | SourceNotCovered
    | LocatorsVerified
    | Dropped
)


@dataclass(frozen=True, slots=True)
class Deadline:
    """When to say TimePassed, and what for."""

    at_ns: int
    why: str
