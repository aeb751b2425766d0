# SPDX-License-Identifier: MIT
"""What the rooms of the engine share: the tables, the time, the outputs of the event at hand.

The front door (host.py) sets ``now_ns`` and ``trigger`` for each event; the rooms (handshake,
update, reachability, verifying) change contexts through the few verbs below and nowhere else, so
that each change reaches the data plane, the timers and the operator.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from noid.constants import (
    ALIKE_MAX,
    BETTER_PAIR_FIRST,
    CONTEXT_IDLE_TIME,
    CONTEXTS_MAX,
    FLOW_LABEL_MASK,
    HELD_PACKETS_MAX,
    SECOND,
)
from noid.counters import Drop
from noid.dns.records import Question
from noid.dns.verification import Verification
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.events import (
    AskDns,
    DeliverToUlp,
    Dropped,
    InstallFlow,
    LocatorsChanged,
    Output,
    RemoveFlow,
    SendControl,
    StateChanged,
    UnwatchPeer,
    WatchPeer,
)
from noid.engine.history import Pair
from noid.engine.known import KnownPeer, Lookup
from noid.engine.options import HostOptions, Policy
from noid.engine.own import locators_with, marks
from noid.engine.phases import Probation, Probe
from noid.engine.quarantine import Quarantine
from noid.engine.secrets import Entropy, HostKeys
from noid.engine.selection import better_pairs
from noid.engine.state import TIMERS_OF, Cue, Path, State, Timer, Trigger
from noid.engine.timers import Timers
from noid.locators import Locator, is_global_unicast
from noid.shares import policy
from noid.shares.policy import site_of
from noid.shares.rates import Each, Rate
from noid.shares.tables import Table
from noid.wire.control import ControlMessage, encode_packet

NONCE_OCTETS = 8
NO_LOCATORS = LocatorsChanged(())
TIMERS = tuple(Timer)
TIMERS_STOPPED = {
    (old, new): tuple(TIMERS_OF[old] - TIMERS_OF[new]) for old in State for new in State
}
"""By the states before and after a change: those for which only the former waits."""


@dataclass(slots=True, eq=False)
class Core:
    """The state of one host.

    Attributes:
        options: what the host was born with.
        entropy: where nonces, labels, tokens and keys come from.
        own: this host's locators, the preferred one first.
        own_sets: the sets of our locators that contexts have, each kept once.
        contexts: by <AID(local), AID(peer)>.
        labels: by F(local).
        by_peer_label: by F(peer), which several peers may have chosen alike [draft §5.1].
        peers: what the resolver told us, by AID; the oldest goes first.
        unable: peers reached plainly, and until when; the oldest goes first [D15].
        retries: these moments and peers, the next one first; some no longer hold [D45].
        lookups: strangers that are being looked up [D34].
        strangers: those that turned out to speak no M6, and until when that is believed.
        questions: who waits for which DNS answer, in the order in which they asked.
        timers: the deadlines of every context.
        uses: how many contexts an AID of a peer has.
        drops: what from the network had no effect, counted by reason.
        turns: what changed the belief in the pair in use, counted by that belief.
        keys: the secrets of exchanges and of the stateless cookie.
        errors: the rate of UC and of CLOSEACK without a context.
        checks: the rate of CC.
        messages: the rate of each context's URs, UAs and keepalives.
        repeats: the same of those that came before.
        agreements: the rate of each context's X25519 computations [D40].
        begun_by_peers: the shares of those that began contexts [D46].
        quarantine: labels that are free, and may be used again later [D19].
        outdated: labels of contexts that have yet to hear of a change of our locators.
        provisional: the shares of those whose contexts are so [D37].
        uncovered: addresses of ours that programs send to M6 peers from and that are no locators.
        measured: by F(local) and nonce, requests that measure a pair, the oldest first.
        policy: which peers are reached as without M6.
        bypassing: addresses of names of that policy; the oldest goes first.
    """

    options: HostOptions
    entropy: Entropy
    own: LocatorsChanged = NO_LOCATORS
    now_ns: int = 0
    trigger: Trigger = Trigger.ULP_PACKET
    outputs: list[Output] = field(default_factory=list)
    own_sets: dict[tuple[Locator, ...], tuple[Locator, ...]] = field(default_factory=dict)
    contexts: dict[bytes, Context] = field(default_factory=dict)
    labels: dict[int, Context] = field(default_factory=dict)
    by_peer_label: dict[int, tuple[Context, ...]] = field(default_factory=dict)
    peers: OrderedDict[Locator, KnownPeer] = field(default_factory=OrderedDict)
    unable: OrderedDict[Locator, int] = field(default_factory=OrderedDict)
    retries: list[tuple[int, Locator]] = field(default_factory=list)
    lookups: dict[Locator, Lookup] = field(default_factory=dict)
    strangers: OrderedDict[Locator, int] = field(default_factory=OrderedDict)
    questions: dict[Question, dict[Context, None]] = field(default_factory=dict)
    timers: Timers = field(default_factory=Timers)
    uses: Counter[Locator] = field(default_factory=Counter)
    drops: Counter[Drop] = field(default_factory=Counter)
    turns: Counter[tuple[Path, Cue]] = field(default_factory=Counter)
    keys: HostKeys = field(init=False)
    errors: Rate = field(init=False)
    checks: Rate = field(init=False)
    messages: Each = field(default_factory=lambda: Each(policy.MESSAGES))
    repeats: Each = field(default_factory=lambda: Each(policy.REPEATS))
    agreements: Each = field(default_factory=lambda: Each(policy.AGREEMENTS))
    begun_by_peers: Table = field(init=False)
    provisional: Table = field(init=False)
    quarantine: Quarantine = field(default_factory=Quarantine)
    outdated: dict[int, None] = field(default_factory=dict)
    uncovered: dict[Locator, None] = field(default_factory=dict)
    measured: OrderedDict[tuple[int, int], Probe] = field(default_factory=OrderedDict)
    policy: Policy = field(init=False)
    bypassing: OrderedDict[Locator, None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.policy = self.options.policy
        self.keys = HostKeys(self.entropy)
        key = int.from_bytes(self.entropy(NONCE_OCTETS), "big") | 1
        self.errors = Rate(policy.ERRORS, key)
        self.checks = Rate(policy.CHECKS, key)
        limit = self.options.contexts_max
        self.begun_by_peers = Table(policy.CONTEXTS, limit)
        self.provisional = Table(policy.PROVISIONAL)

    @property
    def locators(self) -> tuple[Locator, ...]:
        """This host's locators, the preferred one first."""
        return self.own.locators

    # --- outputs ----------------------------------------------------------------------------------

    def emit(self, output: Output) -> None:
        """Adds an output to those of the event at hand."""
        self.outputs.append(output)

    def drop(self, reason: Drop, text: str = "") -> None:
        """Counts and reports something from the network that has no effect; see ``Dropped``."""
        self.drops[reason] += 1
        self.emit(Dropped(reason, text))

    def is_another_host(self, source: Locator) -> bool:
        """Whether another host can have an address, so that answers may be sent there [D9]."""
        return is_global_unicast(source) and source not in self.locators

    def may_answer(self, source: Locator, rate: Rate) -> bool:
        """Whether an unsolicited message may be sent to ``source`` now [D9, D46]."""
        return rate.take(site_of(source), self.now_ns)

    def deliver(self, context: Context, packet: bytes) -> None:
        """Gives the ULP a packet that came on a context, or keeps it until that is proven [D37]."""
        if context.probation is None:
            self.emit(DeliverToUlp(packet))
        elif len(context.probation.held) < HELD_PACKETS_MAX:
            context.probation.held.append(packet)
            self.used(context)
        else:
            self.drop(Drop.TOO_MANY_PACKETS_HELD)

    def send(
        self,
        message: ControlMessage | bytes,
        pair: Pair,
        *,
        rewritable: bool = False,
        in_slot: bool = False,
    ) -> None:
        """Sends a control message, encoded or not, over a pair of locators."""
        packet = encode_packet(
            message, *pair, self.options.codepoints, rewritable=rewritable, in_slot=in_slot
        )
        self.emit(SendControl(packet))

    def send_on(
        self, context: Context, message: ControlMessage | bytes, pair: Pair, *, in_slot: bool
    ) -> None:
        """Sends a message of a context, to the AID where the other end of the pair is not proven.

        Nothing but an answer goes to a locator that the DNS has not tied to the AID's name [D38].
        """
        local, peer = pair
        if peer != context.peer_aid and peer not in context.peer_verified:
            peer = context.peer_aid
        self.answer_on(context, message, (local, peer), in_slot=in_slot)

    def answer_on(
        self, context: Context, message: ControlMessage | bytes, pair: Pair, *, in_slot: bool
    ) -> None:
        """Sends a message of a context; in the slot rewritable if Ls(local) has others [D4, D6]."""
        rewritable = in_slot and len(context.own_set) > 1
        self.send(message, pair, rewritable=rewritable, in_slot=in_slot)

    def ask(self, context: Context, questions: list[Question]) -> None:
        """Asks the DNS on behalf of a context; a question already under way is shared [D31].

        It is shared by contexts that local programs began, or that peers of one site did: no peer
        waits behind the questions of another site [D46].
        """
        for question in questions:
            question = context.asked(question)
            waiting = self.questions.setdefault(question, {})
            if not waiting:
                self.emit(AskDns(question))
            waiting[context] = None

    # --- entropy ----------------------------------------------------------------------------------

    def nonce(self) -> int:
        """A random 64-bit nonce; never 0, which stands for none."""
        return int.from_bytes(self.entropy(NONCE_OCTETS), "big") or 1

    def jittered(self, delay_ns: int) -> int:
        """A delay times a random factor 0.5 to 1.5 [D16]."""
        return delay_ns // 2 + delay_ns * int.from_bytes(self.entropy(2), "big") // 0xFFFF

    def free_label(self) -> int:
        """A flow label that no context of ours has, from the cryptographic source [D19].

        So many are always free that one is found soon, whatever must be let out of quarantine.
        """
        while self.quarantine and len(self.labels) + len(self.quarantine) >= CONTEXTS_MAX:
            self.quarantine.release_oldest()
        while True:
            label = int.from_bytes(self.entropy(3), "big") & FLOW_LABEL_MASK
            if label and label not in self.labels and label not in self.quarantine:
                return label

    def quarantine_label(self, label: int, key: bytes = b"", began: Locator | None = None) -> None:
        """Keeps a label from being used again while packets with it may be about [D19, D46]."""
        self.quarantine.put(label, self.now_ns, key, began)

    # --- contexts ---------------------------------------------------------------------------------

    def create(
        self,
        local_aid: Locator,
        peer_aid: Locator,
        verification: Verification,
        own_local: tuple[Locator, ...],
        probation: Probation | None = None,
        *,
        label: int = 0,
        began: Locator | None = None,
    ) -> Context | None:
        """Creates a context in IDLE, in both tables; None if the tables are full.

        A provisional context is not found by its AIDs, so that it blocks no other [D37].

        Args:
            local_aid: AID(local).
            peer_aid: AID(peer).
            verification: what is known of the peer.
            own_local: our locators.
            probation: the missing proof that makes it provisional; None if it is not provisional.
            label: F(local); 0 for a fresh one.
            began: the locator of the peer whose share it takes; None if a local program began.
        """
        if len(self.labels) >= self.options.contexts_max:
            self.drop(Drop.TOO_MANY_CONTEXTS)
            return None
        if probation is not None and self.provisional.is_full:
            self.drop(Drop.TOO_MANY_PROVISIONAL_CONTEXTS)
            return None
        if local_aid not in own_local:
            own_local = (local_aid, *own_local)
        own_local = self.shared(own_local)
        local_aid = own_local[own_local.index(local_aid)]
        context = Context(
            local_aid=local_aid,
            peer_aid=peer_aid,
            local_label=label or self.free_label(),
            own_local=own_local,
            local_token=self.nonce(),
            local_locator=local_aid,
            peer_locator=peer_aid,
            verification=verification,
            probation=probation,
            began=peer_aid if began == peer_aid else began,
        )
        context.own_marks = marks(self.own, context.own_local)
        self.labels[context.local_label] = context
        if began is not None:
            self._shares_of(context).add(site_of(began), context.local_label)
        if probation is None:
            self._take_pair(context)
        return context

    def _shares_of(self, context: Context) -> Table:
        return self.provisional if context.is_provisional else self.begun_by_peers

    def used(self, context: Context) -> None:
        """Notes that data of a context has come or gone [D46]."""
        if context.used_ns // SECOND != self.now_ns // SECOND:
            context.used_ns = self.now_ns
            self.rank_again(context)

    def rank_again(self, context: Context) -> None:
        """A context that a peer began is worth more than before."""
        if context.began is not None and context.closing is None:
            is_proven = bool(context.verification.proven)
            site = site_of(context.began)
            self._shares_of(context).use(site, context.local_label, is_proven=is_proven)

    def locators_with(self, aid: Locator) -> tuple[Locator, ...]:
        """Lsl of a context of ours."""
        return locators_with(self.own, aid, is_verifiable=self.options.is_verifiable)

    def shared(self, own_local: tuple[Locator, ...]) -> tuple[Locator, ...]:
        """The same locators of ours, as one tuple for all contexts that have these."""
        return self.own_sets.setdefault(own_local, own_local)

    def _take_pair(self, context: Context) -> None:
        """Lets a context be found by its AIDs, by which packets of the ULP find it."""
        assert context.key not in self.contexts
        self.contexts[context.key] = context
        self.uses[context.peer_aid] += 1
        self.emit(WatchPeer(context.peer_aid))

    def _leave_pair(self, context: Context) -> None:
        if self.contexts.get(context.key) is context:
            del self.contexts[context.key]
            self.uses[context.peer_aid] -= 1
            self.release(context.peer_aid)

    def set_aside(self, context: Context) -> None:
        """Leaves the AID pair to a context to come; this one only receives [draft App. A]."""
        self._leave_pair(context)
        if context.began is not None:
            self.begun_by_peers.end(site_of(context.began), context.local_label)
        self.emit(InstallFlow(context.flow()))

    def prove(self, context: Context) -> None:
        """Makes a provisional context one like any other; what it held is delivered [D37]."""
        assert context.probation is not None
        held = context.probation.held
        # The locator that got the CC is the one known to work.
        context.peer_locator = context.probation.locator
        if context.began is not None:
            self.provisional.remove(site_of(context.began), context.local_label)
            self.begun_by_peers.add(site_of(context.began), context.local_label)
        context.probation = None
        self.stop_timer(context, Timer.PROVISIONAL)
        self._take_pair(context)
        self.set_timer(context, Timer.IDLE, CONTEXT_IDLE_TIME)
        self.install(context)
        for packet in held:
            self.emit(DeliverToUlp(packet))

    def enter(self, context: Context, state: State, why: Cause) -> None:
        """Takes a context to another state, and stops what that state does not wait for."""
        old = context.enter(state, self.trigger)
        if old is state:
            return
        for timer in TIMERS_STOPPED[old, state]:
            self.stop_timer(context, timer)
        if state is not State.UR_SENT:
            context.update = None
        if not context.is_settled:
            context.trial = context.search = context.late = context.rival = None
            context.path = Path.STEADY
        if state not in (State.INIT_SENT, State.CCR_SENT):
            context.exchange = None
        if state is not State.CLOSING:
            context.closing = None
        self.emit(StateChanged(context.local_aid, context.peer_aid, old, state, why))

    def turn(self, context: Context, path: Path, cue: Cue) -> None:
        """Takes another view of the pair in use of a context, and counts that."""
        self.turns[context.path, cue] += 1
        context.turn(path, cue)

    def discard(self, context: Context, why: Cause) -> None:
        """Removes a context and everything that knows it."""
        self.enter(context, State.IDLE, why)
        renewing = context.renewal.open if context.renewal is not None else ()
        for question in (*context.verification.open, *renewing):
            waiting = self.questions.get(context.asked(question))
            if waiting is not None:
                waiting.pop(context, None)
        if context.began is not None:
            self._shares_of(context).remove(site_of(context.began), context.local_label)
        if context.is_known_to_peer or context.announced:
            self.quarantine_label(context.local_label, context.agreed_key, context.began)
        self.know_peer_label(context, 0)
        del self.labels[context.local_label]
        self.emit(RemoveFlow(context.local_label))
        self._leave_pair(context)

    def is_crowded(self, label: int, context: Context | None) -> bool:
        """Whether too many peers have chosen a label for one more, unless a context has it.

        Labels are random: only by intention do so many choose alike. What looks a context up by its
        peer's label looks at each of them.
        """
        alike = self.by_peer_label.get(label, ())
        return len(alike) >= ALIKE_MAX and context not in alike

    def know_peer_label(self, context: Context, label: int) -> None:
        """Records F(peer), in the context and in the table that finds it; 0 forgets it."""
        if context.peer_label:
            alike = self.by_peer_label.pop(context.peer_label)
            others = tuple(other for other in alike if other is not context)
            if others:
                self.by_peer_label[context.peer_label] = others
        if label and label != context.peer_label:
            # A peer that comes with another label has begun anew, and so have its nonces [D17].
            context.peer_update_nonce = context.peer_keepalive_nonce = 0
            context.doubted_nonce = context.unseen_nonces = 0
        context.peer_label = label
        if label:
            self.by_peer_label[label] = (*self.by_peer_label.get(label, ()), context)

    def install(self, context: Context) -> None:
        """Tells the data plane how a context stands now, if the peer may send by it."""
        context.settle_pair()
        if context.is_known_to_peer or context.announced:
            self.emit(InstallFlow(context.flow(on_switch=self.options.on_switch)))
        if context.is_settled and not context.is_provisional and better_pairs(context):
            if not self.is_timer_set(context, Timer.BETTER):
                self.set_timer(context, Timer.BETTER, self.jittered(BETTER_PAIR_FIRST))
        else:
            self.stop_timer(context, Timer.BETTER)

    def set_timer(self, context: Context, timer: Timer, delay_ns: int) -> None:
        """Sets one of a context's timers, in place of what it was set to."""
        assert timer in TIMERS_OF[context.state]
        self.timers.set(_timer_key(context, timer), self.now_ns + delay_ns)

    def bring_forward(self, context: Context, timer: Timer, at_ns: int) -> None:
        """Lets a timer that is set expire no later than this, if that is not past already."""
        self.timers.bring_forward(_timer_key(context, timer), max(at_ns, self.now_ns))

    def stop_timer(self, context: Context, timer: Timer) -> None:
        """Stops one of a context's timers, if it is set."""
        self.timers.stop(_timer_key(context, timer))

    def is_timer_set(self, context: Context, timer: Timer) -> bool:
        """Whether one of a context's timers is set."""
        return self.timers.is_set(_timer_key(context, timer))

    def next_timer(self) -> tuple[int, tuple[Context, Timer]] | None:
        """When the next timer expires, and which of which context."""
        upcoming = self.timers.next()
        if upcoming is None:
            return None
        at_ns, key = upcoming
        label, number = divmod(key, len(TIMERS))
        return at_ns, (self.labels[label], TIMERS[number])

    # --- peers ------------------------------------------------------------------------------------

    def release(self, aid: Locator) -> None:
        """Lets what goes to a peer bypass the shim, unless a context or the resolver wants it."""
        if self.uses[aid] > 0:
            return
        del self.uses[aid]
        if aid not in self.peers or self.is_unable(aid):
            self.emit(UnwatchPeer(aid))

    def bypasses(self, aid: Locator) -> bool:
        """Whether the operator wants this AID to be reached as without M6."""
        return aid in self.bypassing or self.policy.covers(aid)

    def is_unable(self, aid: Locator) -> bool:
        """Whether a peer is reached plainly just now."""
        return self.unable.get(aid, 0) > self.now_ns


def _timer_key(context: Context, timer: Timer) -> int:
    return context.local_label * len(TIMERS) + timer.number
