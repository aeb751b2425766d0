# SPDX-License-Identifier: MIT
"""What the modules of the engine share: tables, the time, the outputs of the current event.

The entry point (host.py) sets ``now_ns`` for each event. The modules (handshake, update,
reachability, verifying) change contexts only by the methods below and by the functions of
lifecycle.py, so that each change reaches the data plane, the timers and the operator.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from noid.constants import (
    BETTER_PAIR_FIRST,
    CONTEXTS_MAX,
    FLOW_LABEL_MASK,
    HELD_PACKETS_MAX,
    SECOND,
)
from noid.counters import Drop
from noid.dns.records import Question
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.events import (
    AskDns,
    DeliverToUlp,
    Dropped,
    InstallFlow,
    LocatorsChanged,
    Output,
    SendControl,
    StateChanged,
    UnwatchPeer,
)
from noid.engine.history import Pair
from noid.engine.known import Disowning, KnownPeer, Lookup
from noid.engine.options import HostOptions, Policy
from noid.engine.own import locators_with
from noid.engine.phases import Probe
from noid.engine.quarantine import Quarantine
from noid.engine.secrets import Entropy, HostKeys
from noid.engine.selection import better_pairs
from noid.engine.state import TIMERS_OF, Cue, Path, State, Timer, Trigger
from noid.engine.timers import Timers
from noid.identifiers import Label, Nonce, Token
from noid.locators import Locator, is_global_unicast
from noid.shares import policy
from noid.shares.policy import local_contexts, region_of_user, site_of
from noid.shares.rates import Each, Rate
from noid.shares.tables import Table
from noid.wire.control import ControlMessage, encode_packet
from noid.wire.slots import may_ride

NONCE_OCTETS = 8
NO_LOCATORS = LocatorsChanged(())
TIMERS = tuple(Timer)
TIMERS_STOPPED = {
    (old, new): tuple(TIMERS_OF[old] - TIMERS_OF[new]) for old in State for new in State
}
"""The timers that a change of state stops, by the states before and after."""


@dataclass(slots=True, eq=False)
class Core:
    """The state of one host.

    Attributes:
        options: what does not change while the host runs.
        entropy: where nonces, labels, tokens and keys come from.
        own: this host's locators, the preferred one first.
        own_sets: the sets of our locators that contexts have, each stored once.
        contexts: by <AID(local), AID(peer)>.
        labels: by F(local).
        by_peer_label: by F(peer); several peers may have allocated the same label [draft §5.1].
        peers: the peers that the resolver reported, by AID; the oldest is removed first.
        unable: peers reached plainly, and until when; the oldest is removed first [D15].
        retries: a heap of these times and peers; some entries are out of date [D45].
        lookups: unknown hosts that are being looked up [D34].
        strangers: hosts without M6, and until when that is assumed.
        questions: the contexts that wait for each DNS answer, in the order of asking.
        timers: the deadlines of every context.
        uses: how many contexts an AID of a peer has.
        drops: packets and messages from the network without effect, counted by reason.
        turns: changes of the belief in the pair in use, by the belief before and the cue.
        keys: the secrets of exchanges and of the stateless cookie.
        errors: the rate of UC and of CLOSEACK without a context.
        checks: the rate of CC.
        messages: the rate of each context's URs, UAs and keepalives.
        repeats: the rate of repetitions of such messages.
        agreements: the rate of each context's X25519 computations [D40].
        hints: the rate of hints that make a context ask its pair in use, or the DNS [D47].
        begun_by_peers: the shares of peers that began contexts [D46].
        begun_here: the shares of users whose programs began contexts.
        resolved: the shares of users whose programs have resolved peers.
        quarantine: labels of deleted contexts, not allocated again for a time [D19].
        outdated: labels of contexts that do not have a change of our locators yet.
        provisional: the shares of those that began provisional contexts [D37].
        uncovered: addresses of ours that are not locators and from which programs send to peers.
        measured: requests that measure a pair, by F(local) and nonce, the oldest first.
        disowning: contexts of which the hosts at the AIDs are asked.
        policy: which peers are reached as without M6.
        bypassing: addresses of names in that policy; the oldest is removed first.
    """

    options: HostOptions
    entropy: Entropy
    own: LocatorsChanged = NO_LOCATORS
    now_ns: int = 0
    outputs: list[Output] = field(default_factory=list)
    own_sets: dict[tuple[Locator, ...], tuple[Locator, ...]] = field(default_factory=dict)
    contexts: dict[bytes, Context] = field(default_factory=dict)
    labels: dict[Label, Context] = field(default_factory=dict)
    by_peer_label: dict[Label, tuple[Context, ...]] = field(default_factory=dict)
    peers: dict[Locator, KnownPeer] = field(default_factory=dict)
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
    hints: Each = field(default_factory=lambda: Each(policy.HINTS))
    begun_by_peers: Table[Label] = field(init=False)
    begun_here: Table[Label] = field(init=False)
    resolved: Table[int] = field(default_factory=lambda: Table(policy.RESOLVED))
    provisional: Table[Label] = field(init=False)
    quarantine: Quarantine = field(default_factory=Quarantine)
    outdated: dict[Label, None] = field(default_factory=dict)
    uncovered: dict[Locator, None] = field(default_factory=dict)
    measured: OrderedDict[tuple[Label, Nonce], Probe] = field(default_factory=OrderedDict)
    disowning: Disowning = field(default_factory=Disowning)
    policy: Policy = field(init=False)
    bypassing: OrderedDict[Locator, None] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.policy = self.options.policy
        self.keys = HostKeys(self.entropy)
        key = int.from_bytes(self.entropy(NONCE_OCTETS), "big") | 1
        self.errors = Rate(policy.ERRORS, key)
        self.checks = Rate(policy.CHECKS, key)
        self.begun_by_peers = Table(policy.CONTEXTS, self.options.contexts_max)
        self.begun_here = Table(policy.LOCAL_CONTEXTS, local_contexts(self.options.contexts_max))
        self.provisional = Table(policy.PROVISIONAL)

    @property
    def locators(self) -> tuple[Locator, ...]:
        """This host's locators, the preferred one first."""
        return self.own.locators

    # --- outputs ----------------------------------------------------------------------------------

    def emit(self, output: Output) -> None:
        """Adds an output to those of the current event."""
        self.outputs.append(output)

    def drop(self, reason: Drop, text: str = "") -> None:
        """Counts and reports a packet or message without effect; see ``Dropped``."""
        self.drops[reason] += 1
        self.emit(Dropped(reason, text))

    def is_another_host(self, source: Locator) -> bool:
        """Whether another host can have an address, so that answers may be sent there [D9]."""
        return is_global_unicast(source) and source not in self.locators

    def may_answer(self, source: Locator, rate: Rate) -> bool:
        """Whether an unsolicited message may be sent to ``source`` now [D9, D46]."""
        return rate.take(site_of(source), self.now_ns)

    def deliver(self, context: Context, packet: bytes) -> None:
        """Delivers a packet of a context to the ULP; a provisional context keeps it [D37]."""
        if not may_ride(packet, self.options.codepoints):
            self.drop(Drop.PACKET_OF_NO_ULP)
        elif context.probation is None:
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
        """Sends a message of a context; to the AID if the peer's locator is not proven.

        Only answers are sent to a locator that the DNS has not tied to the AID's name [D38].
        """
        local, peer = pair
        if peer != context.peer_aid and peer not in context.peer_verified:
            peer = context.peer_aid
        self.answer_on(context, message, (local, peer), in_slot=in_slot)

    def answer_on(
        self, context: Context, message: ControlMessage | bytes, pair: Pair, *, in_slot: bool
    ) -> None:
        """Sends a message of a context; rewritable in a slot if Ls(local) allows [D4, D6]."""
        rewritable = in_slot and len(context.own_set) > 1
        self.send(message, pair, rewritable=rewritable, in_slot=in_slot)

    def ask(self, context: Context, questions: list[Question]) -> None:
        """Asks the DNS for a context; equal questions in progress are asked once [D31].

        Contexts that local programs began share questions, and contexts that peers of one site
        began, so that no peer waits behind the questions of another site [D46].
        """
        for question in questions:
            question = context.asked(question)
            waiting = self.questions.setdefault(question, {})
            if not waiting:
                self.emit(AskDns(question))
            waiting[context] = None

    # --- entropy ----------------------------------------------------------------------------------

    def nonce(self) -> Nonce:
        """A random nonce; never 0, which stands for none."""
        return Nonce(self._number())

    def token(self) -> Token:
        """A random token; never 0."""
        return Token(self._number())

    def _number(self) -> int:
        return int.from_bytes(self.entropy(NONCE_OCTETS), "big") or 1

    def jittered(self, delay_ns: int) -> int:
        """A delay times a random factor 0.5 to 1.5 [D16]."""
        return delay_ns // 2 + delay_ns * int.from_bytes(self.entropy(2), "big") // 0xFFFF

    def free_label(self) -> Label:
        """A flow label that no context of ours has, from the cryptographic source [D19].

        Labels leave the quarantine early if needed, so that a free one is found soon.
        """
        while self.quarantine and len(self.labels) + len(self.quarantine) >= CONTEXTS_MAX:
            self.quarantine.release_oldest()
        while True:
            label = Label(int.from_bytes(self.entropy(3), "big") & FLOW_LABEL_MASK)
            if label and label not in self.labels and label not in self.quarantine:
                return label

    # --- contexts ---------------------------------------------------------------------------------

    def shares_of(self, context: Context) -> tuple[Table[Label], int]:
        """The table of shares that has a context, and the site there."""
        if context.began is None:
            return self.begun_here, region_of_user(context.user)
        table = self.provisional if context.is_provisional else self.begun_by_peers
        return table, site_of(context.began)

    def used(self, context: Context) -> None:
        """Notes that data of a context was received or sent [D46]."""
        if context.used_ns // SECOND != self.now_ns // SECOND:
            context.used_ns = self.now_ns
            self.rank_again(context)

    def rank_again(self, context: Context) -> None:
        """Tells the table of shares that a context is used or proven."""
        if context.closing is None:
            table, site = self.shares_of(context)
            is_proven = bool(context.verification.proven)
            table.use(site, context.local_label, is_proven=is_proven)

    def locators_with(self, aid: Locator) -> tuple[Locator, ...]:
        """Lsl of a context of ours."""
        return locators_with(self.own, aid, is_verifiable=self.options.is_verifiable)

    def shared(self, own_local: tuple[Locator, ...]) -> tuple[Locator, ...]:
        """The same locators as one tuple, which all contexts with this set share."""
        return self.own_sets.setdefault(own_local, own_local)

    def enter(self, context: Context, state: State, trigger: Trigger, why: Cause) -> None:
        """Changes the state of a context, and stops the timers that the new state does not have."""
        old = context.enter(state, trigger)
        if old is state:
            return
        for timer in TIMERS_STOPPED[old, state]:
            self.stop_timer(context, timer)
        if state is not State.UR_SENT:
            context.update = None
        if not context.is_settled:
            context.trial = context.search = context.late = context.rival = None
            context.contested_until_ns = 0
            context.path = Path.STEADY
        if state not in (State.INIT_SENT, State.CCR_SENT):
            context.exchange = None
        if state is not State.CLOSING:
            context.closing = None
        self.emit(StateChanged(context.local_aid, context.peer_aid, old, state, why))

    def turn(self, context: Context, path: Path, cue: Cue) -> None:
        """Changes the belief in the pair in use of a context, and counts the change."""
        self.turns[context.path, cue] += 1
        context.turn(path, cue)

    def install(self, context: Context) -> None:
        """Gives the data plane the present flow of a context, if the peer may use it."""
        context.settle_pair()
        if context.is_known_to_peer or context.announced:
            self.emit(InstallFlow(context.flow(on_switch=self.options.on_switch)))
        if not context.is_settled or not better_pairs(context):
            self.stop_timer(context, Timer.BETTER)
            context.better_wait_ns = 0
        elif not self.is_timer_set(context, Timer.BETTER):
            self.set_timer(context, Timer.BETTER, self.jittered(BETTER_PAIR_FIRST))

    def set_timer(self, context: Context, timer: Timer, delay_ns: int) -> None:
        """Sets one of a context's timers.

        A timer that is due already and is set to expire at once keeps its place in the order.
        """
        assert timer in TIMERS_OF[context.state]
        key = _timer_key(context, timer)
        if delay_ns or not self.timers.is_due(key, self.now_ns):
            self.timers.set(key, self.now_ns + delay_ns)

    def bring_forward(self, context: Context, timer: Timer, at_ns: int) -> None:
        """Makes a timer that is set expire at this time at the latest."""
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
        return at_ns, (self.labels[Label(label)], TIMERS[number])

    # --- peers ------------------------------------------------------------------------------------

    def release(self, aid: Locator) -> None:
        """Stops watching a peer, unless it has a context or the resolver has reported it."""
        if self.uses[aid] > 0:
            return
        del self.uses[aid]
        if aid not in self.peers or self.is_unable(aid):
            self.emit(UnwatchPeer(aid))

    def bypasses(self, aid: Locator) -> bool:
        """Whether the operator wants this AID to be reached as without M6."""
        return aid in self.bypassing or self.policy.covers(aid)

    def is_unable(self, aid: Locator) -> bool:
        """Whether a peer is reached plainly now."""
        return self.unable.get(aid, 0) > self.now_ns


def _timer_key(context: Context, timer: Timer) -> int:
    return context.local_label * len(TIMERS) + timer.number
