# SPDX-License-Identifier: MIT
"""The host-pair context: everything one host knows about one pair of AIDs [draft §3.2].

The sets of locators are in locator_sets.py. Only ``enter`` changes the state. What belongs to one
state (an exchange, a search for a working pair) is an object that is removed with it (phases.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from noid.constants import (
    CONTEXT_IDLE_TIME,
    NEVER,
    NO_USER,
    NONCES_KEPT_MAX,
    PREFIX_OCTETS,
    SILENCE_UNMEASURED,
)
from noid.dns.records import Question
from noid.dns.verification import Verification
from noid.engine.doubt import NO_DOUBT, Doubt
from noid.engine.history import NO_HISTORY, UNKNOWN, History, Pair, silence_after, smoothed
from noid.engine.locator_sets import MARKS, LocatorSets
from noid.engine.narrowed import Narrowed
from noid.engine.phases import Closing, Exchange, OwnCcr, Probation, Probe, Search, Trial, Update
from noid.engine.records import Former
from noid.engine.state import LAW, PATH_LAW, Cue, Path, State, Trigger
from noid.flows.flow import Flow
from noid.identifiers import NO_LABEL, NO_NONCE, NO_TOKEN, Label, Nonce, Token
from noid.locators import Locator, with_aid
from noid.wire.control import ControlMessage
from noid.wire.options import Entries, LocatorFlag


@dataclass(slots=True, eq=False, kw_only=True)
class Context(LocatorSets):
    """One host-pair context.

    Attributes:
        local_label: F(local).
        local_token: our random token [D40].
        local_key: our public key in the set-up.
        local_locator: Lp(local).
        peer_locator: Lp(peer).
        began: the locator by which the peer that began it is counted; None if a local program did.
        user: the local user whose program began it; NO_USER: not known, or a peer did.
        used_ns: when data was last known to be received or sent, to the second; 0: never [D46].
        peer_label: F(peer); 0 until known.
        peer_token: the peer's random token.
        peer_key: the peer's public key.
        agreed_key: K, which authenticates messages; empty until agreed [D40].
        peer_birthday: the peer's birthday counter.
        peer_reset_hash: hash of the token that proves a UC of the peer; empty if unknown [D39].
        untold: the peer does not have our present sets.
        told_remote: Lsr(peer) as we last sent it to the peer; empty if we never did.
        renewal: the next inquiry, which replaces the first when it is over.
        settled_ns: when the last inquiry was over; 0 if there was none.
        announced: whether the peer may send by F(local), although it has not said F(peer) [D48].
        exchange: the set-up in progress; None if there is none.
        update: the Update Request that waits for its acknowledgement; None if none does.
        path: the belief in the pair in use.
        search: the search in progress; None if ``path`` is STEADY.
        trial: the test of whether the peer still has the context; None if there is none.
        next_trial_ns: no such test begins before this.
        rival: the CCR that replaces the context if the peer is silent in the test.
        former: the peer before the context was replaced; an answer of it undoes that.
        doubt: of which of our nonces an answer shows that its sender hears us [D39].
        contested_until_ns: data is plain until then, if the pair in use is the AIDs; 0: not [D49].
        closing: the close exchange in progress; None if there is none.
        probation: what makes the context provisional, until it is proven.
        established_ns: when the context was last set up.
        update_nonce: the last nonce of a UR of ours; only grows [D17].
        peer_update_nonce: the greatest nonce in a UR of the peer's.
        unseen_nonces: the missing nonces below it, as a bit mask; bit 0 is the next lower nonce.
        peer_keepalive_nonce: the greatest nonce in a keepalive of the peer's.
        first_round_trip_ns: measured in the set-up, until a pair has a history; 0: not measured.
        alive_ns: when a message of the peer last ended the silence of the pair in use.
        proven_ns: when one that was no UR last did so.
        history: what is known of pairs.
        tolerated_ns: the longest recent silence that proved harmless.
        unproven_again_ns: before this, the pair in use is not asked for a proof again [D41].
        late: probes of the last search, whose answers only measure.
        searched_ns: when the last search ended; 0 if there was none.
        peer_source: the proven source of the peer's packets, if it is not Lp(peer).
        follow_ns: before this, data does not move Lp(peer) [D41].
        follow_again_ns: before this, data from another source is ignored if it moved nothing.
        left_pair: the pair that was left because of marks; the context returns to it.
        better_wait_ns: the time between the last try of a better pair and the next, without jitter.
        repeating: the packet to send again after a switch.
        repeats: how often it was sent again.
        piggybacked: the last packet on a probe of the peer, and when it arrived.
        narrowed: why the stack sends shorter packets to the peer; None if it never was told to.
        dns_tries: how often the DNS was asked again after transient errors.
    """

    local_label: Label
    local_token: Token
    local_locator: Locator
    peer_locator: Locator
    renewal: Verification | None = None
    settled_ns: int = 0
    began: Locator | None = None
    user: int = NO_USER
    used_ns: int = 0
    state: State = State.IDLE
    peer_label: Label = NO_LABEL
    peer_token: Token = NO_TOKEN
    peer_birthday: int = 0
    local_key: bytes = b""
    peer_key: bytes = b""
    agreed_key: bytes = b""
    peer_reset_hash: bytes = b""
    untold: bool = False
    told_remote: tuple[Locator, ...] = ()
    announced: bool = False
    exchange: Exchange | None = None
    update: Update | None = None
    path: Path = Path.STEADY
    search: Search | None = None
    trial: Trial | None = None
    next_trial_ns: int = 0
    rival: OwnCcr | None = None
    former: Former | None = None
    doubt: Doubt = NO_DOUBT
    contested_until_ns: int = 0
    closing: Closing | None = None
    probation: Probation | None = None
    established_ns: int = 0
    update_nonce: Nonce = NO_NONCE
    peer_update_nonce: Nonce = NO_NONCE
    unseen_nonces: int = 0
    peer_keepalive_nonce: Nonce = NO_NONCE
    first_round_trip_ns: int = 0
    alive_ns: int = 0
    proven_ns: int = 0
    history: Mapping[Pair, History] = field(default_factory=lambda: NO_HISTORY)
    tolerated_ns: int = 0
    late: dict[Nonce, Probe] | None = None
    searched_ns: int = 0
    unproven_again_ns: int = 0
    peer_source: Locator | None = None
    follow_ns: int = 0
    follow_again_ns: int = 0
    left_pair: Pair | None = None
    better_wait_ns: int = 0
    repeating: bytes = b""
    repeats: int = 0
    piggybacked: tuple[bytes, int] = (b"", 0)
    narrowed: Narrowed | None = None
    dns_tries: int = 0

    @property
    def key(self) -> bytes:
        """What finds the context on transmit: <AID(local), AID(peer)> [draft §3.2]."""
        return self.local_aid + self.peer_aid

    @property
    def is_known_to_peer(self) -> bool:
        """Whether the peer has a context too, as far as we know."""
        return self.peer_label != 0

    @property
    def is_settled(self) -> bool:
        """Whether set-up is over and data may flow."""
        return self.state in (State.ESTABLISHED, State.UR_SENT)

    @property
    def is_complete(self) -> bool:
        """Whether set-up is over, although data may not flow while the context is provisional."""
        return self.is_settled or self.state is State.PROVISIONAL

    @property
    def is_provisional(self) -> bool:
        """Whether the DNS has yet to prove that the peer is the peer [D37]."""
        return self.probation is not None

    def asked(self, question: Question) -> Question:
        """A question with the site for which it is asked, if a peer began the context [D46]."""
        if self.began is None:
            return question
        return Question(question.kind, question.name, self.began[:PREFIX_OCTETS])

    def heard_ns(self, received_ns: int) -> int:
        """When the peer was last heard, by data (from the plane) or by an authentic message."""
        return max(received_ns, max((one.latest_ns for one in self.history.values()), default=0))

    def is_unseen(self, nonce: Nonce) -> bool:
        """Whether no UR with this nonce has arrived; very old nonces count as arrived."""
        below = self.peer_update_nonce - nonce
        return below < 0 or (below > 0 and self.unseen_nonces >> (below - 1) & 1 == 1)

    def see(self, nonce: Nonce) -> None:
        """Notes that a UR with this nonce has arrived."""
        ahead = nonce - self.peer_update_nonce
        if ahead > 0:
            skipped = (1 << min(ahead - 1, NONCES_KEPT_MAX)) - 1
            kept = self.unseen_nonces << min(ahead, NONCES_KEPT_MAX)
            self.unseen_nonces = (kept | skipped) & ((1 << NONCES_KEPT_MAX) - 1)
            self.peer_update_nonce = nonce
        elif ahead < 0:
            self.unseen_nonces &= ~(1 << min(-ahead, NONCES_KEPT_MAX + 1) - 1)

    def awaits(self, nonce: Nonce) -> bool:
        """Whether a UR of ours with this nonce is not acknowledged yet."""
        in_update = self.update is not None and self.update.nonce == nonce
        in_trial = self.trial is not None and self.doubt.covers(nonce, self.update_nonce)
        in_search = self.search is not None and nonce in self.search.probes
        return in_update or in_trial or in_search or (self.late is not None and nonce in self.late)

    def is_about(self, message: ControlMessage) -> bool:
        """Whether a message has the AIDs and both labels of this context."""
        return (
            self.local_aid == message.receiver_aid
            and self.peer_aid == message.sender_aid
            and self.local_label == message.context.receiver_label
            and self.peer_label == message.context.sender_label
        )

    @property
    def round_trip_ns(self) -> int:
        """The smoothed round-trip time of the pair in use; 0 until measured."""
        if not self.history:
            return self.first_round_trip_ns
        return self.history_of(self.pair).round_trip_ns

    @property
    def silence_ns(self) -> int:
        """T: how long a packet may stay unanswered before another pair is searched for [D20]."""
        if not self.history:
            return silence_after(self.first_round_trip_ns, self.tolerated_ns)
        return self.expected.silence_ns(self.tolerated_ns)

    @property
    def expected(self) -> History:
        """The history of the pair in use; if it was never measured, with the slowest round trip."""
        history = self.history_of(self.pair)
        if not history.round_trip_ns and (slowest_ns := self.slowest_ns) > SILENCE_UNMEASURED // 2:
            return history._replace(round_trip_ns=slowest_ns)
        return history

    def awaited(self, now_ns: int) -> History:
        """What is expected of the pair in use where requests wait for an answer.

        After a late answer over a pair that was never measured, the next may show that it is slow.
        """
        history = self.expected
        slow = history._replace(round_trip_ns=max(history.round_trip_ns, history.late_by_ns))
        is_due = not self.round_trip_ns and now_ns - history.late_ns <= slow.ask_wait_ns
        return slow if is_due and history.late_ns else history

    @property
    def slowest_ns(self) -> int:
        """The longest smoothed round-trip time of all pairs; 0 until one is measured."""
        return max((one.round_trip_ns for one in self.history.values()), default=0)

    @property
    def pair(self) -> Pair:
        """The pair in use: Lp(local), Lp(peer)."""
        return self.local_locator, self.peer_locator

    def enter(self, state: State, trigger: Trigger) -> State:
        """Changes the state, if the law allows it; returns the state before."""
        old = self.state
        allowed = LAW[old][trigger].next
        assert state in allowed, f"{old} may not become {state} by {trigger}"
        self.state = state
        return old

    def turn(self, path: Path, cue: Cue) -> None:
        """Changes the belief in the pair in use, if the law allows it."""
        assert path in PATH_LAW[self.path][cue], f"{self.path} may not become {path} by {cue}"
        self.path = path

    @property
    def is_searching(self) -> bool:
        """Whether no pair is known to pass data, so that data is plain."""
        return self.path in (Path.SEARCHING, Path.ASIDE)

    def history_of(self, pair: Pair) -> History:
        """What is known of a pair."""
        if not self.history and self.first_round_trip_ns and pair == self.pair:
            return History(round_trip_ns=self.first_round_trip_ns)
        return self.history.get(pair, UNKNOWN)

    def note(self, pair: Pair, history: History) -> None:
        """Stores what is known of a pair."""
        if not self.history and self.first_round_trip_ns:
            self.history = {self.pair: self.history_of(self.pair)}
        self.history = {**self.history, pair: history}

    def measure(self, pair: Pair, sent_ns: int, now_ns: int) -> None:
        """Takes an answer over a pair for the smoothed round-trip time."""
        round_trip_ns = now_ns - sent_ns
        if not self.history:
            # Most contexts have only the measurement of the set-up, and need no history.
            self.first_round_trip_ns = smoothed(self.first_round_trip_ns, round_trip_ns)
            return
        before = self.history_of(pair)
        if self.first_round_trip_ns and pair == self.pair:
            # The messages of a set-up take longer than others: this replaces their measurement.
            first_ns = min(self.first_round_trip_ns, round_trip_ns)
            self.first_round_trip_ns, before = 0, before._replace(round_trip_ns=first_ns)
        self.note(pair, before.measured(sent_ns, now_ns, self.slowest_ns))

    def hear(self, pair: Pair, at_ns: int, *, in_slot: bool, measures: bool = False) -> None:
        """Notes that an authentic message arrived over a pair, and in which form."""
        heard = self.history_of(pair).heard(at_ns, in_slot=in_slot, measures=measures)
        self.note(pair, heard)

    def keep_former(self, key: bytes, now_ns: int) -> None:
        """Stores what authenticates the present peer before another key replaces it [D39].

        Of several peers in sequence the first is kept, unless the last had the context for X.
        """
        if not self.is_known_to_peer or key == self.agreed_key:
            return
        if self.former is None or now_ns - self.established_ns >= CONTEXT_IDLE_TIME:
            self.former = Former(*[getattr(self, name) for name in Former._fields])
        self.peer_update_nonce = self.peer_keepalive_nonce = NO_NONCE
        self.unseen_nonces = 0

    def learn_peer_locators(self, entries: Entries) -> None:
        """Takes Lsl(peer) from a message; locators that it does not list are no longer used."""
        own = [one for one in entries if one.flags & LocatorFlag.LOCAL]
        self.peer_local = with_aid(tuple([one.locator for one in own]), self.peer_aid)
        self.peer_marks = tuple([one for one in own if one.flags & MARKS])
        self.share_sets()
        if self.history:
            # A peer that changes its sets often must not make this table grow.
            self.history = {
                pair: history
                for pair, history in self.history.items()
                if pair[0] in self.own_local and pair[1] in self.peer_local
            }

    def settle_pair(self) -> None:
        """Moves Lp(local) and Lp(peer) back into their sets if those have shrunk.

        A locator of ours that the DNS no longer lists is left only for a pair that works, because
        the peer accepts any source in Lsl [draft §7.8, D44]. Lp(peer) stays while the DNS may still
        prove it, because the set-up used it.
        """
        if self.local_locator not in self.own_local:
            self.local_locator = self.local_aid
        may_be = self.accepts(self.peer_locator) and not self.verification.settled
        if not may_be and not self.is_verified(self.peer_locator):
            verified = self.peer_verified
            found = (one for one in self.peer_set if one in verified)
            self.peer_locator = next(found, self.peer_aid)

    @property
    def is_moved(self) -> bool:
        """Whether data has changed Lp(peer), and that is not confirmed yet [D41]."""
        one = self.search
        return one is not None and self.path is Path.FOLLOWING and self.pair == one.followed

    @property
    def is_on_aids(self) -> bool:
        """Whether the locators in use are the AIDs, so that plain packets take the same path."""
        return self.pair == (self.local_aid, self.peer_aid)

    def flow(self, *, on_switch: bool = False) -> Flow:
        """The flow for the data plane; with ``on_switch``, plain while on its AIDs [D28]."""
        verified = self.peer_verified
        gone = {one.locator for one in self.peer_marks if one.flags & LocatorFlag.BROKEN}
        # During a test, data is plain if the pair is the AIDs: then it arrives in any case [D39].
        doubtful = (self.trial is not None or self.contested_until_ns > 0) and self.is_on_aids
        # A context that is being set up again still receives, but its packets are plain [D18].
        incomplete = not self.is_known_to_peer
        # But plain packets from a broken AID do not arrive.
        is_plain = self.is_searching and self.local_aid in self.own_usable
        return Flow(
            local_aid=self.local_aid,
            peer_aid=self.peer_aid,
            local_label=self.local_label,
            peer_label=self.peer_label,
            local_locator=self.local_locator,
            peer_locator=self.peer_locator,
            local_locators=frozenset(self.own_local),
            # Before the peer has sent Lsl(peer), the locators in the DNS are accepted [D48].
            peer_locators=self.peer_acceptable if self.peer_local else frozenset(self.peer_set),
            verified_locators=verified - (gone - {self.peer_locator}) if gone else verified,
            rewritable=len(self.own_set) > 1,
            transmits=self.is_settled
            and not (doubtful or (on_switch and self.is_on_aids))
            and not is_plain
            and self.peer_locator in verified,
            aside=self.state is State.CLOSING or self.is_provisional or incomplete,
            holds=self.is_provisional or incomplete,
            silence_ns=self.silence_ns,
            peer_source=self.peer_source if self.peer_source in verified else self.peer_locator,
            # No other change follows one that is not confirmed yet.
            follow_ns=NEVER if self.is_moved else self.follow_ns,
            usable_locators=frozenset(self.own_set),
        )
