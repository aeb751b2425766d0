# SPDX-License-Identifier: MIT
"""What belongs to a context for a time: a set-up, an update, a search, a trial, its end.

Each is an object of its own, which goes when that is over.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from noid.constants import NEVER
from noid.engine.causes import Cause
from noid.engine.history import Pair
from noid.engine.secrets import KeyPair
from noid.flows.events import ControlMessageReceived
from noid.locators import Locator
from noid.wire.control import ControlMessage
from noid.wire.options import Cookie


@dataclass(slots=True, eq=False)
class Exchange:
    """A set-up under way: INIT, CC, CCR, CONF [draft §4.1].

    Attributes:
        nonces: of our INITs, and where each goes: what answers with it is proven to be there [D38].
        started_ns: when the first INIT went.
        sent_ns: when the message now waiting for its answer went.
        tries: INITs sent so far.
        rounds: rounds over the pairs that are over.
        tried: the pairs of this round over which an INIT went.
        ccr_tries: CCRs sent so far, those before the last INIT too.
        waiting: the latest packet of the ULP that was sent plain during the set-up, between AIDs.
        carried: the one of these that rode on the last INIT.
        keys: our key pair, the same for the whole set-up.
        peer_token: the peer's token out of its CC.
        peer_key: its public key out of that.
        secret: what is shared with the owner of that.
        crossed: the public key that an INIT or a CONF brought besides, and what is shared by that.
        reply: the CCR, for sending again, the pair it goes over, and whether first in a slot.
        held: packets that arrived from sources not proven yet, and these sources [D48].
    """

    started_ns: int
    sent_ns: int
    keys: KeyPair
    nonces: dict[int, Locator] = field(default_factory=dict)
    tries: int = 0
    rounds: int = 0
    tried: set[Pair] = field(default_factory=set)
    ccr_tries: int = 0
    waiting: bytes = b""
    carried: bytes = b""
    peer_token: int = 0
    peer_key: bytes = b""
    secret: bytes = b""
    crossed: tuple[bytes, bytes] = (b"", b"")
    reply: tuple[ControlMessage, Pair, bool] | None = None
    held: list[tuple[Locator, bytes]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Update:
    """An Update Request with new sets that waits for its acknowledgement [draft §7.7]."""

    nonce: int
    started_ns: int
    sent_ns: int
    tries: int = 1


class Probe(NamedTuple):
    """A UR that asks whether a pair works: which pair, and when it went."""

    pair: Pair
    sent_ns: int


class Finding(NamedTuple):
    """A pair that works, from here to there.

    Attributes:
        pair: which.
        source: of the message that says so.
        by: the pair by which a UR of the peer's came that says so; None for a UA.
    """

    pair: Pair
    source: Locator
    by: Pair | None = None


@dataclass(slots=True, eq=False)
class Search:
    """What belongs to a context whose ``path`` is not STEADY [D20, D43].

    Attributes:
        why: what started it.
        started_ns: when.
        packet: the unanswered packet of the ULP; may be empty.
        silent_ns: the silence that started it, where one did.
        told_by_peer: the peer hears nothing from us, so what we hear proves nothing.
        probes: by nonce, those not answered yet, the oldest first.
        asks: URs sent over the pair in use.
        ask_at_ns: when the next of these go, or the verdict falls.
        asked_ns: when the last of them went; 0 before.
        found: another pair that has answered.
        untried: pairs that have yet to be probed in this cycle.
        tried: how many have been.
        count: how many the cycle has.
        cycles: cycles begun.
        cycle_ns: when this one began; 0 before the first.
        batch_ns: when pairs were last probed.
        batch_at_ns: when they are next.
        backoff: by how many doublings cycles have slowed down.
        wanted_ns: when a program or the peer last wanted a pair.
        until_ns: when LEAVING is given up.
        plain_nonce: of the last UR in the plain form.
        plain_sent_ns: when that went.
        plain_ns: when one was last answered.
        names_newest: its probes name a UR of the peer's that came since it began.
        rejected_ns: when a host last said that it does not know the form of data of a probe.
        asides: how often the context was set aside.
        is_aside: no pair passes the form of data, and data travels plain for a while [D47].
        knew_round_trip: that of the pair in use had been measured when it was suspected.
        is_question: nothing speaks against the pair in use: an answer is no false alarm.
        is_routine: it is asked for a proof, and stays if no pair answers [D41].
        is_silent: the pair in use has left all asks unanswered, or an end of it is said to be
            broken: the first other that answers is used.
        left: in FOLLOWING, the pair that was in use when it began.
        followed: in FOLLOWING, that of Lp(local) and the locator that data comes from.
    """

    why: Cause
    started_ns: int
    packet: bytes
    silent_ns: int
    told_by_peer: bool
    probes: dict[int, Probe] = field(default_factory=dict)
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
    plain_nonce: int = 0
    plain_sent_ns: int = 0
    plain_ns: int = 0
    names_newest: bool = False
    is_aside: bool = False
    knew_round_trip: bool = False
    is_question: bool = False
    is_routine: bool = False
    is_silent: bool = False
    left: Pair | None = None
    followed: Pair | None = None


@dataclass(slots=True)
class Trial:
    """A test of whether the peer still has the context [D39].

    Attributes:
        until_ns: when silence is enough.
        rounds: rounds of Update Requests so far.
    """

    until_ns: int
    rounds: int = 0


class OwnCcr(NamedTuple):
    """A CCR that brings our own state back.

    Attributes:
        event: how it came.
        message: what it says.
        cookie: its cookie, which is good.
        keys: our key pair of its CC.
    """

    event: ControlMessageReceived
    message: ControlMessage
    cookie: Cookie
    keys: KeyPair


@dataclass(slots=True, eq=False)
class Closing:
    """A context that is going away [draft App. A]."""

    nonce: int
    started_ns: int
    tries: int = 0


@dataclass(slots=True, eq=False)
class Probation:
    """A context that the DNS has yet to prove [D37].

    Attributes:
        locator: where the CC went, which must turn out to belong to the AID's name.
        held: packets that arrived before the proof and are not delivered yet, between AIDs.
    """

    locator: Locator
    held: list[bytes] = field(default_factory=list)
