# SPDX-License-Identifier: MIT
"""Temporary parts of a context: a set-up, an update, a search, a trial, its end.

Each is an object, which is removed when it is over.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from noid.constants import NEVER
from noid.engine.causes import Cause
from noid.engine.history import Pair
from noid.engine.secrets import KeyPair, Side
from noid.flows.events import ControlMessageReceived
from noid.identifiers import NO_TOKEN, Nonce, Token
from noid.locators import Locator
from noid.wire.control import ControlMessage
from noid.wire.options import Cookie


@dataclass(slots=True, eq=False)
class Exchange:
    """A set-up in progress: INIT, CC, CCR, CONF [draft §4.1].

    Attributes:
        nonces: the nonces of our INITs and their destinations; an answer with a nonce proves its
            destination [D38].
        started_ns: when the first INIT was sent.
        sent_ns: when the message that waits for its answer was sent.
        tries: INITs sent so far.
        rounds: completed rounds over all pairs.
        tried: the pairs of this round over which an INIT was sent.
        again: the pairs by which an INIT of the peer came; each is tried again once for that.
        ccr_tries: CCRs sent so far, including those before the last INIT.
        waiting: the latest packet of the ULP that was sent plain during the set-up, between AIDs.
        carried: the packet that was piggybacked on the last INIT.
        keys: our key pair, the same for the whole set-up.
        peer_token: the peer's token in its CC.
        peer_key: the peer's public key in its CC.
        secret: the secret shared with the owner of that key.
        crossed: another public key, from an INIT or a CONF, and the secret shared by it.
        reply: the CCR for repetitions, its pair, and whether the first was sent in a slot.
        held: packets from sources that are not proven yet, and these sources [D48].
    """

    started_ns: int
    sent_ns: int
    keys: KeyPair
    nonces: dict[Nonce, Locator] = field(default_factory=dict)
    tries: int = 0
    rounds: int = 0
    tried: set[Pair] = field(default_factory=set)
    again: set[Pair] = field(default_factory=set)
    ccr_tries: int = 0
    waiting: bytes = b""
    carried: bytes = b""
    peer_token: Token = NO_TOKEN
    peer_key: bytes = b""
    secret: bytes = b""
    crossed: tuple[bytes, bytes] = (b"", b"")
    reply: tuple[ControlMessage, Pair, bool] | None = None
    held: list[tuple[Locator, bytes]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Update:
    """An Update Request with new sets that waits for its acknowledgement [draft §7.7]."""

    nonce: Nonce
    started_ns: int
    sent_ns: int
    tries: int = 1


class Probe(NamedTuple):
    """A UR that asks whether a pair works.

    Attributes:
        pair: the pair.
        sent_ns: when it was sent.
        here: whether the answer is to use that pair.
        is_plain: whether it went in the plain form.
    """

    pair: Pair
    sent_ns: int
    here: bool = False
    is_plain: bool = False


class Finding(NamedTuple):
    """A pair that works from here to the peer.

    Attributes:
        pair: the pair.
        source: the source of the message that says so.
        by: the pair of the peer's UR that says so; None for a UA.
    """

    pair: Pair
    source: Locator
    by: Pair | None = None


@dataclass(slots=True, eq=False)
class Search:
    """The search of a context whose ``path`` is not STEADY [D20, D43].

    Attributes:
        why: what started it.
        started_ns: when it began.
        packet: the unanswered packet of the ULP; may be empty.
        silent_ns: the silence that started it; 0 if the cause is another.
        told_by_peer: the peer hears nothing from us, so what we hear does not prove the pair.
        probes: unanswered probes by nonce, the oldest first.
        lost_before_ns: how long it had lasted when it last began anew.
        asks: URs sent over the pair in use.
        ask_at_ns: when the next of these are sent, or the pair is judged.
        asked_ns: when the last burst of them was sent; 0 before.
        found: another pair that has answered.
        untried: pairs that are not probed yet in this cycle.
        tried: the number of pairs probed in this cycle.
        count: the number of pairs in this cycle.
        cycles: the number of cycles begun.
        cycle_ns: when this cycle began; 0 before the first.
        batch_ns: when pairs were last probed.
        batch_at_ns: when pairs are probed next.
        backoff: how often the interval between cycles has doubled.
        wanted_ns: when a program or the peer last needed a pair.
        until_ns: when LEAVING is given up.
        plain_sent_ns: when the last UR in the plain form was sent.
        plain_asked_ns: when the first of those was sent that check whether that form passes.
        plain_ns: when a plain UR was last answered.
        names_newest: its probes name a UR that the peer sent after the search began.
        rejected_ns: when a host last rejected the form of data of a probe.
        asides: how often the context was set aside.
        loses_all: data is lost over all pairs although probes are answered, so data is plain.
        empties: the number of empty packets sent, to find whether data passes again.
        retried: the pair over which they are sent.
        doubtful: an answer over a pair that lost data; that pair is used if a cycle finds no other,
            and plain packets do not pass.
        knew_round_trip: the round trip of the pair in use was measured before it was suspected.
        usual: the pair over which the peer was last heard before the pair in use was suspected,
            apart from its measurements; None if that was not suspected.
        is_question: there is no evidence against the pair in use; an answer is no false alarm.
        is_routine: the pair in use is only asked for a proof, and kept if no pair answers [D41].
        is_silent: all requests over the pair in use are unanswered, or one of its ends is marked
            broken; the first other pair that answers is used.
        is_checked: they are unanswered, and it is checked whether data has come.
        left: in FOLLOWING, the pair that was in use before.
        followed: in FOLLOWING, the pair of Lp(local) and the new source of data.
    """

    why: Cause
    started_ns: int
    packet: bytes
    silent_ns: int
    told_by_peer: bool
    probes: dict[Nonce, Probe] = field(default_factory=dict)
    lost_before_ns: int = 0
    asks: int = 0
    ask_at_ns: int = NEVER
    asked_ns: int = 0
    found: Finding | None = None
    untried: list[Pair] = field(default_factory=list)
    tried: int = 0
    count: int = 0
    cycles: int = 0
    cycle_ns: int = 0
    batch_ns: int = 0
    batch_at_ns: int = NEVER
    backoff: int = 0
    wanted_ns: int = 0
    rejected_ns: int = 0
    asides: int = 0
    until_ns: int = NEVER
    plain_sent_ns: int = 0
    plain_asked_ns: int = 0
    plain_ns: int = 0
    names_newest: bool = False
    loses_all: bool = False
    empties: int = 0
    retried: Pair | None = None
    doubtful: Finding | None = None
    knew_round_trip: bool = False
    usual: Pair | None = None
    is_question: bool = False
    is_routine: bool = False
    is_silent: bool = False
    is_checked: bool = False
    left: Pair | None = None
    followed: Pair | None = None

    def lost_ns(self, now_ns: int) -> int:
        """How long packets have been lost; 0 if the pair carries data, or plain packets passed."""
        if self.until_ns < NEVER or self.asides or self.loses_all:
            return 0
        return self.lost_before_ns + self.silent_ns + now_ns - self.started_ns


@dataclass(slots=True)
class Trial:
    """A test of whether the peer still has the context [D39].

    Attributes:
        until_ns: the end of the test.
        rounds: rounds of Update Requests so far.
        is_refused: a host on the path of one of these has answered with UC.
    """

    until_ns: int
    rounds: int = 0
    is_refused: bool = False


class OwnCcr(NamedTuple):
    """A CCR with a valid cookie of ours.

    Attributes:
        event: the event, with the addresses.
        message: the message.
        peer: what its sender says of itself.
        cookie: its cookie.
        keys: our key pair in its CC.
        made_ns: when that was made.
    """

    event: ControlMessageReceived
    message: ControlMessage
    peer: Side
    cookie: Cookie
    keys: KeyPair
    made_ns: int


@dataclass(slots=True, eq=False)
class Closing:
    """The close exchange of a context [draft App. A]."""

    nonce: Nonce
    started_ns: int
    tries: int = 0


@dataclass(slots=True, eq=False)
class Probation:
    """What makes a context provisional: the DNS has not proven it yet [D37].

    Attributes:
        locator: the destination of the CC; the DNS must prove that it belongs to the AID's name.
        held: packets that wait for that proof, between AIDs.
    """

    locator: Locator
    held: list[bytes] = field(default_factory=list)
