# SPDX-License-Identifier: MIT
"""The state machine of a host-pair context: its law, as data [draft §7.1, D11].

``LAW[state][trigger]`` has the states in which a context may be after a trigger, and the source of
the rule. The table is total: that nothing changes is an entry too. Only ``Context.enter`` changes a
state; it checks this table first.

This module knows messages and timers only by name.
"""

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """The state of a context; IDLE means that there is no context."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    IDLE = "idle"
    INIT_SENT = "init-sent"
    CCR_SENT = "ccr-sent"
    PROVISIONAL = "provisional"
    """Set up, but the DNS has not proven the peer yet: the context only receives [D37]."""
    ESTABLISHED = "established"
    UR_SENT = "ur-sent"
    CLOSING = "closing"


class Timer(enum.Enum):
    """What a context may wait for.

    Attributes:
        number: its position among all.
    """

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    def __init__(self, why: str) -> None:
        self.number: int = len(type(self).__members__)

    RETRANSMIT = "retransmission"
    """The answer to INIT, CCR or an Update Request that changes sets is overdue [draft §7.10]."""
    PROBE = "next probes"
    """The pair in use is in doubt, or no pair has answered yet [D20]."""
    BETTER = "time for a better pair"
    """A pair with better marks than the pair in use may work now [D20, D22]."""
    REPEAT = "packet after a switch"
    """The peer has had time to switch; an unanswered packet is sent again [D20]."""
    LONGER = "time for longer packets"
    """Long packets, which were lost or refused, may pass now (RFC 8899)."""
    DNS_RETRY = "dns retry"
    """A question that met a transient error is asked again [draft §7.13, D30]."""
    VERIFY_AGAIN = "verification again"
    """What the DNS said of the peer may have changed [draft §4.5, D31]."""
    TOLERANCE = "time of tolerance"
    """The effect of false alarms is reduced [D43]."""
    IDLE = "idle time"
    """The context may have been idle for X [draft App. A]."""
    CLOSE = "close retransmission"
    """CLOSE is not acknowledged yet [draft App. A]."""
    TRIAL = "test of the context"
    """The peer has not proven yet that it still has the context [D39]."""
    PROVISIONAL = "provisional lifetime"
    """The DNS has not proven the context in time [D37]."""
    AID = "question to the AID"
    """The peer has proven only another locator than its AID, which is asked again [D37]."""


class Trigger(enum.Enum):
    """What can happen to a context."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    ULP_PACKET = "ULP packet"
    UNANSWERED = "unanswered packet"
    SOURCE_MOVED = "source moved"
    INIT = "INIT"
    CC = "CC"
    CCR = "CCR"
    CONF = "CONF"
    UR = "UR"
    UA = "UA"
    UC = "UC"
    CLOSE_MESSAGE = "CLOSE"
    CLOSEACK = "CLOSEACK"
    KEEPALIVE = "KEEPALIVE"
    ONE_WAY_DATA = "one-way data"
    IDLE_CHECKED = "idle for X"
    DATA_HAS_COME = "data has come"
    PACKET_HELD = "packet held"
    NO_ROOM = "no room for another"
    ICMP_ERROR = "ICMPv6 error"
    DNS_ANSWER = "DNS answer"
    LOCATORS_CHANGED = "own locators changed"
    CONTEXT_FOUND = "context of an earlier daemon"
    RETRANSMIT = Timer.RETRANSMIT.value
    PROBE = Timer.PROBE.value
    BETTER = Timer.BETTER.value
    REPEAT = Timer.REPEAT.value
    LONGER = Timer.LONGER.value
    DNS_RETRY = Timer.DNS_RETRY.value
    VERIFY_AGAIN = Timer.VERIFY_AGAIN.value
    TOLERANCE = Timer.TOLERANCE.value
    IDLE = Timer.IDLE.value
    CLOSE = Timer.CLOSE.value
    TRIAL = Timer.TRIAL.value
    PROVISIONAL = Timer.PROVISIONAL.value
    AID = Timer.AID.value


@dataclass(frozen=True, slots=True)
class Rule:
    """What one trigger may do in one state.

    Attributes:
        next: the possible states afterwards.
        reference: the source of the rule.
    """

    next: frozenset[State]
    reference: str


_IDLE, _INIT, _CCR, _PROVISIONAL, _ESTABLISHED, _UR, _CLOSING = State

STAYS: dict[Trigger, str] = {
    Trigger.ULP_PACKET: "kept for a piggyback [D7]; goes plainly [D15]; silence [D28]",
    Trigger.UNANSWERED: "a search, where data is sent by the flow [draft §4.4, D20]",
    Trigger.SOURCE_MOVED: "received, and followed once settled [draft §7.11 3b, 3c, D21]",
    Trigger.INIT: "answered with CC or CONF, or not at all [draft §4.3, §7.3, D13, D39]",
    Trigger.CC: "not in INIT-SENT, or of another exchange [draft §7.4]",
    Trigger.CCR: "CONF again [D12]; not in INIT-SENT [draft §7.5]; of another context",
    Trigger.CONF: "silently discarded [draft §7.6]",
    Trigger.UR: "answered with UC [D17]; acknowledged [draft §7.8]",
    Trigger.UA: "silently dropped [draft §7.9]; answers a probe [D43]",
    Trigger.UC: "silently discarded [draft §7.12]; already starting over [D18]",
    Trigger.CLOSE_MESSAGE: "acknowledged all the same [draft App. A 3]; starting over [D18]",
    Trigger.CLOSEACK: "not in CLOSING [draft App. A 5]",
    Trigger.KEEPALIVE: "the peer is alive; silently dropped without a context [D42]",
    Trigger.ONE_WAY_DATA: "answered with KEEPALIVE where data is sent by the flow [D42]",
    Trigger.IDLE_CHECKED: "in use, or too late [draft App. A 1, D19]",
    Trigger.DATA_HAS_COME: "the peer, which has asked, gets KEEPALIVE [D42, D47]",
    Trigger.PACKET_HELD: "delivered, or kept for a while [D37, D48]",
    Trigger.NO_ROOM: "evicts nothing",
    Trigger.ICMP_ERROR: "a hint that starts a search [D47]",
    Trigger.DNS_ANSWER: "[draft §7.13]",
    Trigger.LOCATORS_CHANGED: "said in the next INIT or UR [draft §4.5]",
    Trigger.CONTEXT_FOUND: "it is there already [D36]",
    Trigger.RETRANSMIT: "[draft §7.10, D16]",
    Trigger.PROBE: "next probes, or the end of the search [D20]",
    Trigger.BETTER: "[D20, D22]",
    Trigger.REPEAT: "[D20]",
    Trigger.LONGER: "[D27]",
    Trigger.DNS_RETRY: "[draft §7.13, D30]",
    Trigger.VERIFY_AGAIN: "[draft §4.5, D31]",
    Trigger.TOLERANCE: "[D43]",
    Trigger.IDLE: "asks whether it is [D19]",
    Trigger.CLOSE: "again [draft App. A 4, D19]",
    Trigger.TRIAL: "again [D39]",
    Trigger.PROVISIONAL: "proven by now [D37]",
    Trigger.AID: "asked again, up to a limit [D37]",
}
"""Why a context may stay in its state after a trigger, which is always allowed; a timer that the
state does not have is spurious."""

CHANGES: dict[State, dict[Trigger, tuple[str, *tuple[State, ...]]]] = {
    State.IDLE: {
        Trigger.ULP_PACKET: ("[draft §7.2, D15]", _INIT),
        Trigger.CCR: ("[draft §7.5, D8]; provisional [D37]", _ESTABLISHED, _PROVISIONAL),
        Trigger.CONTEXT_FOUND: ("taken up again [D36]", _ESTABLISHED),
    },
    State.INIT_SENT: {
        Trigger.CC: ("[draft §7.4]", _CCR),
        Trigger.CCR: ("[draft §4.3.2, §7.5]", _ESTABLISHED),
        Trigger.CONF: ("[draft §4.3.1, §7.6]", _ESTABLISHED),
        Trigger.UR: ("no peer label to match [draft §7.8]; restored [D39]", _UR),
        Trigger.UA: ("silently dropped [draft §7.9]; restored [D39]", _UR),
        Trigger.DNS_ANSWER: ("[draft §7.13]; the AID is another's [D44]", _IDLE),
        Trigger.RETRANSMIT: ("[draft §7.10, D16]; restored [D18]", _IDLE, _UR),
        Trigger.KEEPALIVE: ("silently dropped [D42]; restored [D39]", _UR),
        Trigger.NO_ROOM: ("evicted for another [D46]", _IDLE),
    },
    State.CCR_SENT: {
        Trigger.CONF: ("[draft §7.6]", _ESTABLISHED),
        Trigger.UR: ("as CONF [D48]; restored [D39]", _ESTABLISHED, _UR),
        Trigger.UA: ("silently dropped [draft §7.9]; restored [D39]", _UR),
        Trigger.DNS_ANSWER: ("[draft §7.13]; the AID is another's [D44]", _IDLE),
        Trigger.RETRANSMIT: (
            "[draft §7.10]; back to INIT, or given up [D16]; restored [D18]",
            *(_IDLE, _INIT, _UR),
        ),
        Trigger.KEEPALIVE: ("silently dropped [D42]; restored [D39]", _UR),
        Trigger.NO_ROOM: ("evicted for another [D46]", _IDLE),
    },
    State.PROVISIONAL: {
        Trigger.DNS_ANSWER: ("proven, or refuted [D37]", _IDLE, _ESTABLISHED),
        Trigger.CLOSE_MESSAGE: ("[draft App. A 2]", _IDLE),
        Trigger.NO_ROOM: ("evicted for another [D46]", _IDLE),
        Trigger.PROVISIONAL: ("[D37]", _IDLE),
    },
    State.ESTABLISHED: {
        Trigger.CCR: (
            "CONF again [D12]; replaces a silent peer [D39]; sets that changed [draft §7.7]",
            *(_IDLE, _UR),
        ),
        Trigger.CONF: ("discarded [draft §7.6]; the one just taken [§7.7]", _UR),
        Trigger.UR: ("[draft §7.8, D17]; told again [D45]", _UR),
        Trigger.UA: ("answers a probe [D43]; told again [D45]", _UR),
        Trigger.UC: ("[draft §7.12, D18]; not the context of the AID [D37]", _IDLE, _INIT),
        Trigger.ICMP_ERROR: ("a hint [D47]; no M6 at the AID [D37]", _IDLE),
        Trigger.DNS_ANSWER: (
            "[draft §7.7, §7.13]; the AID is another's [D44]",
            *(_UR, _CLOSING),
        ),
        Trigger.LOCATORS_CHANGED: ("[draft §4.5, §7.7]", _UR),
        Trigger.CLOSE_MESSAGE: ("[draft App. A 2]", _IDLE),
        Trigger.KEEPALIVE: ("the peer is alive [D42]; told again [D45]", _UR),
        Trigger.IDLE_CHECKED: ("[draft App. A 1, D19]; told again [D45]", _UR, _CLOSING),
        Trigger.NO_ROOM: ("evicted for another [D46]", _IDLE),
        Trigger.TRIAL: ("again, or set aside [D39]", _INIT),
    },
    State.UR_SENT: {
        Trigger.CCR: ("CONF again [D12]; replaces a silent peer [D39]", _IDLE),
        Trigger.UR: ("[draft §7.8, D17, D20]; names ours [D43]", _ESTABLISHED),
        Trigger.UA: ("[draft §7.9]", _ESTABLISHED),
        Trigger.UC: ("[draft §7.12, D18]; not the context of the AID [D37]", _IDLE, _INIT),
        Trigger.ICMP_ERROR: ("a hint [D47]; no M6 at the AID [D37]", _IDLE),
        Trigger.DNS_ANSWER: ("[draft §7.7, D17]; the AID is another's [D44]", _CLOSING),
        Trigger.RETRANSMIT: ("[draft §7.10, D16]", _ESTABLISHED),
        Trigger.CLOSE_MESSAGE: ("[draft App. A 2]", _IDLE),
        Trigger.IDLE_CHECKED: ("[draft App. A 1, D19]", _CLOSING),
        Trigger.NO_ROOM: ("evicted for another [D46]", _IDLE),
        Trigger.TRIAL: ("again, or set aside [D39]", _INIT),
    },
    State.CLOSING: {
        Trigger.UC: ("the peer has nothing to close [draft §7.12]", _IDLE),
        Trigger.CLOSE_MESSAGE: ("crossing [draft App. A 2]", _IDLE),
        Trigger.CLOSEACK: ("[draft App. A 4, 5]", _IDLE),
        Trigger.NO_ROOM: ("evicted for another [D46]", _IDLE),
        Trigger.CLOSE: ("again, or given up [draft App. A 4, D19]", _IDLE),
    },
}
"""The other states that may follow, and the source of the rule."""


def _rule(state: State, trigger: Trigger) -> Rule:
    reference, *others = CHANGES[state].get(trigger, (STAYS[trigger],))
    return Rule(frozenset({state, *others}), reference)


LAW = {state: {trigger: _rule(state, trigger) for trigger in Trigger} for state in State}

_ASKING = frozenset({Timer.DNS_RETRY, Timer.VERIFY_AGAIN})
_STARTING = _ASKING | {Timer.RETRANSMIT, Timer.LONGER}
_SETTLED = _ASKING | {
    *(Timer.PROBE, Timer.BETTER, Timer.REPEAT, Timer.TOLERANCE, Timer.TRIAL, Timer.IDLE),
    *(Timer.AID, Timer.LONGER),
}

TIMERS_OF: dict[State, frozenset[Timer]] = {
    State.IDLE: frozenset(),
    State.INIT_SENT: _STARTING,
    State.CCR_SENT: _STARTING,
    State.PROVISIONAL: _ASKING | {Timer.PROVISIONAL},
    State.ESTABLISHED: _SETTLED,
    State.UR_SENT: _SETTLED | {Timer.RETRANSMIT},
    State.CLOSING: frozenset({Timer.CLOSE}),
}
"""The timers that a context may have in each state; entering a state stops all others."""


class Path(enum.Enum):
    """What a settled context believes of its pair of locators [D43]; in other states STEADY."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    STEADY = "steady"
    """The pair in use works, as far as is known."""
    ASKING = "asking"
    """It is suspected, and one UR asks it."""
    DOUBTING = "doubting"
    """It has not answered in time; it is asked again, and other pairs are probed."""
    SEARCHING = "searching"
    """It is silent, and no other pair answers: data is plain, and all pairs are probed in turn."""
    ASIDE = "aside"
    """No pair passes the form of data: data is plain, and no pair is probed, for a time [D47]."""
    LEAVING = "leaving"
    """Other pairs have better marks; the first of them that answers is used."""
    FOLLOWING = "following"
    """Data arrives from another locator of the peer; both pairs are asked [D41]."""


class Cue(enum.Enum):
    """What changes that belief."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    SUSPICION = "suspicion"
    """Data is unanswered, the peer hears nothing, or an error came."""
    SOURCE = "source moved"
    """Data arrives from a locator from which the peer was not known to send."""
    MARKS = "better pair"
    """Another pair has better marks."""
    THIS_ANSWERS = "pair in use answers"
    OTHER_ANSWERS = "other pair answers"
    CHANGE = "change"
    """Plain packets fail, the peer is heard in the form of data, or sets or records change."""
    TIME = "time"
    """An answer is overdue, or the time for the attempt is over."""


_PATHS: dict[Path, dict[Cue, set[Path]]] = {
    Path.STEADY: {
        Cue.SUSPICION: {Path.ASKING},
        Cue.SOURCE: {Path.FOLLOWING},
        Cue.MARKS: {Path.LEAVING},
    },
    Path.ASKING: {
        Cue.SOURCE: {Path.FOLLOWING},
        Cue.MARKS: {Path.LEAVING},
        Cue.THIS_ANSWERS: {Path.STEADY},
        Cue.OTHER_ANSWERS: {Path.STEADY},
        Cue.TIME: {Path.DOUBTING},
    },
    Path.DOUBTING: {
        Cue.SOURCE: {Path.FOLLOWING},
        Cue.THIS_ANSWERS: {Path.STEADY},
        Cue.OTHER_ANSWERS: {Path.STEADY},
        Cue.TIME: {Path.STEADY, Path.SEARCHING},
    },
    Path.SEARCHING: {
        Cue.THIS_ANSWERS: {Path.STEADY},
        Cue.OTHER_ANSWERS: {Path.STEADY},
        Cue.TIME: {Path.ASIDE},
    },
    Path.ASIDE: {
        Cue.THIS_ANSWERS: {Path.STEADY},
        Cue.OTHER_ANSWERS: {Path.STEADY},
        Cue.CHANGE: {Path.SEARCHING},
        Cue.TIME: {Path.SEARCHING, Path.ASIDE},
    },
    Path.LEAVING: {
        Cue.SUSPICION: {Path.ASKING},
        Cue.SOURCE: {Path.FOLLOWING},
        Cue.MARKS: {Path.LEAVING},
        Cue.OTHER_ANSWERS: {Path.STEADY},
        Cue.TIME: {Path.STEADY},
    },
    Path.FOLLOWING: {
        Cue.THIS_ANSWERS: {Path.STEADY},
        Cue.OTHER_ANSWERS: {Path.STEADY},
        Cue.TIME: {Path.DOUBTING},
    },
}
PATH_LAW = {path: {cue: frozenset(row.get(cue, ())) for cue in Cue} for path, row in _PATHS.items()}
"""The beliefs that may follow each belief after each cue; empty: the cue changes nothing."""
