# SPDX-License-Identifier: MIT
"""What must hold at every step, and what must hold when the network is quiet. Sees every node.

A check that fails raises ``Violation`` at that step. The checks know what the protocol cannot know:
the real owner of a locator, and the packets that were really sent.
"""

from collections.abc import Callable
from typing import Protocol

from noid.constants import CC_AMPLIFICATION_MAX, CONTROL_OCTETS_MAX
from noid.engine.context import Context
from noid.engine.events import (
    DeliverToUlp,
    Input,
    InstallFlow,
    Output,
    RemoveFlow,
    SendControl,
    StateChanged,
    TimePassed,
)
from noid.engine.state import State
from noid.flows.events import (
    ControlMessageReceived,
    DatapathEvent,
    PacketHeld,
    UlpPacketSeen,
    UnknownLabelSeen,
)
from noid.flows.flow import Flow
from noid.locators import Locator
from noid.sim.node import Node
from noid.sim.parcel import SLOTS, Parcel, label_of
from noid.sim.trace import Trace
from noid.sim.ulp import Ledger, number_of, number_said
from noid.sim.violation import Violation
from noid.wire import ipv6
from noid.wire.control import Code
from noid.wire.ipv6 import ADDRESSES_AT, NEXT_HEADER_AT

UC_OVERHEAD_MAX = 160
"""Octets of a UC without its quote: IPv6 header, message, options."""
INIT = bytes((Code.INIT,))
LIMITED = frozenset({Code.INIT, Code.UC, Code.CLOSEACK})
"""Messages whose answers have a limited rate."""
CODE_AT = ipv6.HEADER_OCTETS + 1
CARRIED_AT = ipv6.HEADER_OCTETS + 4
ENDS_AT = ipv6.HEADER_OCTETS + 16
"""The offset of the two AIDs in a control message."""
QUOTE_AT = ipv6.HEADER_OCTETS + 8
"""The offset of the quoted packet in an ICMPv6 error."""
LOOK_EVERY = 16
"""After so many events without outputs that change tables, the tables are checked."""
CHANGING = frozenset({InstallFlow, RemoveFlow, StateChanged})
"""Outputs that change the tables."""
Sizes = tuple[int, int, int, int, int]


class Scene(Protocol):
    """What the checks look at; see ``noid.sim.world.World``."""

    now_ns: int
    nodes: dict[str, Node]
    holder: dict[Locator, str]
    trace: Trace
    ledger: Ledger


class Checks:
    """The checks of one world."""

    def __init__(self, world: "Scene") -> None:
        self.world = world
        self.closed_ns: dict[tuple[str, int], int] = {}
        """(node, label) -> when both ends agreed to close its context [App. A]."""
        self.removed: set[tuple[str, int]] = set()
        self.sizes: Sizes = (0, 0, 0, 0, 0)
        self.tainted: set[bytes] = set()
        """Packets between AIDs that were altered or forged, and held for a later delivery."""
        self.due = False
        self.looked = 0
        self.beguiled: set[frozenset[bytes]] = set()
        """Pairs of AIDs whose CONF an attacker on the path has altered."""
        self.listeners: list[Callable[[Node], None]] = []
        """What else looks at a node whose tables have changed."""

    def conf_altered(self, packet: bytes) -> None:
        """An altered CONF is on the network: if it arrives first, its receiver has other tokens.

        Tokens are not encrypted, so an attacker on the path can do that. Data is still exchanged,
        but authenticated messages are rejected until the context is idle.
        """
        ends = packet[ENDS_AT : ENDS_AT + 16], packet[ENDS_AT + 16 : ENDS_AT + 32]
        self.beguiled.add(frozenset(ends))

    def require(self, holds: bool, check: str, what: str) -> None:
        """Raises unless it holds."""
        if not holds:
            raise Violation(check, what)

    def reported(self, node: Node, event: DatapathEvent, parcel: Parcel | None) -> None:
        """The packet path reports something to the engine, because of a parcel or by itself."""
        if parcel is None:
            return
        match event:
            case PacketHeld() if parcel.corrupted or parcel.forged:
                # The later delivery does not know the parcel [D37].
                self.tainted.add(event.packet)
            case UnknownLabelSeen():
                self.unknown_label(node, parcel)
            case _:
                pass

    # --- around one event -----------------------------------------------------------------------

    def before(self, node: Node, event: Input) -> None:
        """Stores what ``after`` compares."""
        if isinstance(event, ControlMessageReceived):
            if event.octets[1:2] == INIT:
                self.sizes = _sizes(node)
        elif isinstance(event, TimePassed):
            deadline = node.host.deadline()
            self.due = deadline is not None and deadline.at_ns <= node.now_ns

    def raised(self, node: Node, event: Input, error: Exception) -> None:
        """The engine raised an exception, which is always a violation."""
        if isinstance(error, Violation):
            return
        reason = str(error).partition("\n")[0]
        text = f"{node.name}: {type(error).__name__}: {reason} at {type(event).__name__}"
        raise Violation("handle() never raises", text) from error

    def after(self, node: Node, event: Input, outputs: list[Output]) -> None:
        """Checks one event and its outputs."""
        if not outputs and not isinstance(event, ControlMessageReceived):
            return
        match event:
            case ControlMessageReceived():
                self._control_received(node, event, outputs)
            case UnknownLabelSeen():
                self._answer_bounded(event.packet, outputs)
            case TimePassed():
                self.require(self.due, "a needless alarm does nothing", f"{node.name}")
            case UlpPacketSeen():
                delivered = any(isinstance(one, DeliverToUlp) for one in outputs)
                self.require(not delivered, "what is sent is not delivered here", node.name)
            case _:
                pass
        for output in outputs:
            if isinstance(output, StateChanged) and output.new is State.IDLE:
                self._note_removal(node, output, outputs)

    def _control_received(
        self, node: Node, event: ControlMessageReceived, outputs: list[Output]
    ) -> None:
        code = event.octets[1] if len(event.octets) > 1 else 0
        if code not in LIMITED:
            return
        answers = [one.packet for one in outputs if isinstance(one, SendControl)]
        octets = sum(len(packet) - ipv6.HEADER_OCTETS for packet in answers)
        if code == Code.INIT:
            self.require(
                _sizes(node) == self.sizes, "no state from INIT", f"{node.name} keeps something"
            )
            self.require(
                octets <= CC_AMPLIFICATION_MAX * len(event.octets),
                "no amplification",
                f"{node.name} answers INIT of {len(event.octets)} octets with {octets}",
            )
            for packet in answers:
                carries = packet[CARRIED_AT] != ipv6.NO_NEXT_HEADER
                self.require(not carries, "no piggyback is reflected", node.name)
        else:
            errors = any(packet[CODE_AT] == Code.UC for packet in answers)
            self.require(not errors, "errors cause no errors", node.name)

    def _answer_bounded(self, packet: bytes, outputs: list[Output]) -> None:
        octets = sum(len(one.packet) for one in outputs if isinstance(one, SendControl))
        limit = min(len(packet) + UC_OVERHEAD_MAX, CONTROL_OCTETS_MAX)
        self.require(octets <= limit, "no amplification", f"UC of {octets} for {len(packet)}")

    def _note_removal(self, node: Node, output: StateChanged, outputs: list[Output]) -> None:
        for one in outputs:
            if isinstance(one, RemoveFlow) and output.old is State.CLOSING:
                self.closed_ns[node.name, one.local_label] = self.world.now_ns

    # --- tables ---------------------------------------------------------------------------------

    def standing(self, node: Node, outputs: list[Output]) -> None:
        """Checks the tables of one node after its outputs were executed.

        Tables change only with outputs about flows or states. Without these, they are checked at
        intervals.
        """
        self.looked = (self.looked + 1) % LOOK_EVERY
        has_changed = not CHANGING.isdisjoint(map(type, outputs))
        if has_changed or not self.looked:
            self._tables(node)
        if has_changed:
            for listener in self.listeners:
                listener(node)

    def _tables(self, node: Node) -> None:
        inside, flows = node.host.inspection, node.datapath.rewriter.by_label
        labels, contexts = inside.labels, inside.contexts
        for label, context in labels.items():
            aside = context.state is State.CLOSING or context.is_provisional
            found = contexts.get(context.key) is context
            if label != context.local_label or not label or found is aside:
                raise Violation("tables agree", f"{node.name} label {label:05x}")
            fault = self._context(context, flows.get(label))
            if fault:
                raise Violation(fault, f"{node.name} label {label:05x}")
        for key, context in contexts.items():
            if context.key != key or labels.get(context.local_label) is not context:
                raise Violation("tables agree", f"{node.name} by AIDs")
        for label, some in inside.by_peer_label.items():
            fits = [one.peer_label == label and labels.get(one.local_label) is one for one in some]
            if not fits or not all(fits):
                raise Violation("tables agree", f"{node.name} by peer's label")
        if not flows.keys() <= labels.keys():
            raise Violation("no flow without a context", node.name)
        for waiting in inside.questions.values():
            if any(labels.get(one.local_label) is not one for one in waiting):
                raise Violation("no question without a context", node.name)
        upcoming = inside.next_timer()
        if upcoming is not None and labels.get(upcoming[1][0].local_label) is not upcoming[1][0]:
            raise Violation("no timer without a context", node.name)

    def _context(self, context: Context, flow: Flow | None) -> str:
        """The check that a context or its flow violates; empty if there is none."""
        if context.is_complete and context.exchange is not None:
            return "no exchange once settled"
        if flow is None:
            has_one = context.is_complete or context.state is State.CCR_SENT
            return "what the peer may send by has its flow" if has_one else ""
        if flow.peer_label != context.peer_label:
            return "flow and context agree"
        if flow.transmits and not context.is_settled:
            return "only settled contexts transmit"
        if not context.is_complete:
            return ""
        verified = context.peer_verified
        if not flow.verified_locators <= verified:
            return "destinations are verified"
        if flow.transmits and flow.peer_locator not in verified:
            return "destinations are verified"
        if not flow.peer_locators <= context.peer_acceptable:
            return "sources are what the peer said"
        return ""

    # --- packets --------------------------------------------------------------------------------

    def data_sent(self, node: Node, flow: Flow, packet: bytes) -> None:
        """A data packet leaves by a flow."""
        destination = Locator(packet[24:40])
        context = node.host.context(flow.local_label)
        holder = self.world.holder.get
        if context is None:
            check = "data needs a context"
        elif not context.is_verified(destination):
            check = "destinations are in Lsv"
        elif context.state is State.CLOSING:
            check = "no data while CLOSING"
        elif holder(destination) != holder(flow.peer_aid):
            check = "nothing goes to a third party"
        else:
            return
        where = self.world.trace.names.get(destination, "?")
        raise Violation(check, f"{node.name} sends to {where}")

    def control_sent(self, node: Node, packet: bytes) -> None:
        """A control message leaves; a piggyback on a probe must have a proven destination."""
        if packet[CODE_AT] != Code.UR or packet[CARRIED_AT] == ipv6.NO_NEXT_HEADER:
            return
        destination = Locator(packet[24:40])
        peer_aid = Locator(packet[ipv6.HEADER_OCTETS + 32 : ipv6.HEADER_OCTETS + 48])
        holder = self.world.holder
        self.require(
            holder.get(destination) == holder.get(peer_aid),
            "nothing goes to a third party",
            f"{node.name}, piggybacked",
        )

    def told(self, node: Node, packet: bytes) -> None:
        """A program gets an error about its packet, which must be between AIDs [D26]."""
        quote = packet[QUOTE_AT:]
        self.require(
            quote[8:24] in node.locators and SLOTS[quote[6]] is None and label_of(quote) == 0,
            "an error is about a packet as it was sent",
            f"{node.name}, {quote[:48].hex()}",
        )

    def delivered(
        self, node: Node, packet: bytes, parcel: Parcel | None, number: int | None
    ) -> None:
        """A program gets a packet; the number is None if it is not whole."""
        if parcel is None and packet in self.tainted:
            return
        if parcel is not None and parcel.forged:
            self._forged(node, packet, parcel)
            return
        if number is None:
            corrupted = parcel is not None and parcel.corrupted
            self.require(
                corrupted,
                "a packet arrives with the AIDs it was sent with",
                f"{node.name}, packet {number_said(packet)}",
            )
            return
        sent = self.world.ledger.sent.get(number)
        if sent is None:
            raise Violation("only what was sent arrives", f"{node.name}, {number}")
        if sent.receiver != node.name:
            text = f"packet {number} for {sent.receiver} at {node.name}"
            raise Violation("a packet arrives where it was sent to", text)
        same = packet[ADDRESSES_AT:] == sent.packet[ADDRESSES_AT:]
        same = same and packet[NEXT_HEADER_AT] == sent.packet[NEXT_HEADER_AT]
        if not (same or (parcel is not None and parcel.corrupted)):
            raise Violation("a packet arrives as it was sent", f"{node.name}, packet {number}")

    def _forged(self, node: Node, packet: bytes, parcel: Parcel) -> None:
        """An attacker's packet has no more effect than a plain one with a forged source."""
        if parcel.informed or number_of(packet) in self.world.ledger.sent:
            return
        plain = packet[8:24] == parcel.octets[8:24]
        self.require(
            plain,
            "forgeries reach no program",
            f"{node.name} got one as from {self.world.trace.names.get(Locator(packet[8:24]))}",
        )

    def unknown_label(self, node: Node, parcel: Parcel) -> None:
        """Data arrives without a context; after a CLOSE that must not happen [App. A].

        A host that has slept still has contexts that its peers have closed.
        """
        if parcel.forged or parcel.corrupted or self.world.nodes[parcel.sender].has_slept:
            return
        closed_ns = self.closed_ns.get((node.name, label_of(parcel.octets)))
        self.require(
            closed_ns is None or parcel.sent_ns <= closed_ns,
            "after CLOSE no data arrives without a context",
            f"{node.name}, label {label_of(parcel.octets):05x}",
        )

    # --- when all is quiet ----------------------------------------------------------------------

    def disagreement(self) -> str:
        """What the ends of a context disagree about; empty if nothing."""
        for node in self.world.nodes.values():
            if not node.honest or not node.running:
                continue
            for context in node.host.inspection.contexts.values():
                text = self._disagreement(node, context)
                if text:
                    return text
        return ""

    def _disagreement(self, node: Node, context: Context) -> str:
        peer = self.world.nodes.get(self.world.holder.get(context.peer_aid, ""))
        if peer is None or not peer.honest or not peer.running:
            return ""
        where = f"{node.name} and {peer.name}"
        other = peer.host.context_between(context.peer_aid, context.local_aid)
        if not context.is_settled:
            return f"{where}: {context.state.value}"
        if other is None:
            # Data on it would cause a UC [D18]; without data the hosts communicate plainly.
            return ""
        if (context.local_label, context.peer_label) != (other.peer_label, other.local_label):
            return f"{where}: labels"
        if context.agreed_key != other.agreed_key:
            beguiled = frozenset({context.local_aid, context.peer_aid}) in self.beguiled
            return "" if beguiled else f"{where}: keys"
        if set(context.own_local) != set(other.peer_acceptable):
            return f"{where}: Lsl"
        if other.peer_reset_hash and other.peer_birthday != node.birthday:
            return f"{where}: birthday"
        return ""


def _sizes(node: Node) -> Sizes:
    inside = node.host.inspection
    tables = (inside.contexts, inside.labels, inside.peers, inside.unable, inside.questions)
    return (len(tables[0]), len(tables[1]), len(tables[2]), len(tables[3]), len(tables[4]))
