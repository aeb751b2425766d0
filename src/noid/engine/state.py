# SPDX-License-Identifier: MIT
"""The state machine of a host-pair context: its law, as data [draft §7.1, D11].

``LAW[state][trigger]`` says which states a context may be in after a trigger, and where that is
written. The table is total: that something changes nothing is an entry too. The one door through
which a state changes is ``Context.enter``, which asks this table first.

This file knows neither messages nor timers beyond their names.
"""

import enum
from dataclasses import dataclass


class State(enum.Enum):
    """Where a context stands; no context at all is IDLE."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    IDLE = "idle"
    INIT_SENT = "init-sent"
    CCR_SENT = "ccr-sent"
    ESTABLISHED = "established"
    UR_SENT = "ur-sent"
    CLOSING = "closing"


class Timer(enum.Enum):
    """What a context may be waiting for.

    Attributes:
        number: its place among all.
    """

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    def __init__(self, why: str) -> None:
        self.number: int = len(type(self).__members__)

    RETRANSMIT = "retransmission"
    """The answer to INIT, CCR or an Update Request that changes sets is overdue [draft §7.10]."""
    PROBE = "next probes"
    """The pair in use is in doubt, or no pair has answered yet [D20]."""
    BETTER = "time for a better pair"
    """A pair that its owners call better than the one in use may work now [D20, D22]."""
    REPEAT = "packet after a switch"
    """The peer has had time to switch too; what went unanswered is sent again [D20]."""
    DNS_RETRY = "dns retry"
    """A transient error is to be tried again [draft §7.13, D30]."""
    VERIFY_AGAIN = "verification again"
    """What the DNS said of the peer may have changed [draft §4.5, D31]."""
    TOLERANCE = "time of tolerance"
    """What false alarms taught has grown old [D43]."""
    IDLE = "idle time"
    """The context may have received nothing for long enough to be closed [draft App. A]."""
    CLOSE = "close retransmission"
    """CLOSE has not been acknowledged yet [draft App. A]."""
    TRIAL = "test of the context"
    """The peer has not shown yet that it still has the context [D39]."""
    PROVISIONAL = "provisional lifetime"
    """The DNS has not proven a context in time [D37]."""


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
    DNS_RETRY = Timer.DNS_RETRY.value
    VERIFY_AGAIN = Timer.VERIFY_AGAIN.value
    TOLERANCE = Timer.TOLERANCE.value
    IDLE = Timer.IDLE.value
    CLOSE = Timer.CLOSE.value
    TRIAL = Timer.TRIAL.value
    PROVISIONAL = Timer.PROVISIONAL.value


@dataclass(frozen=True, slots=True)
class Rule:
    """What one trigger may do in one state.

    Attributes:
        next: the states afterwards.
        reference: where that is written.
    """

    next: frozenset[State]
    reference: str


def _rule(reference: str, *following: State) -> Rule:
    return Rule(frozenset(following), reference)


_IDLE, _INIT, _CCR, _ESTABLISHED, _UR, _CLOSING = State

LAW: dict[State, dict[Trigger, Rule]] = {
    State.IDLE: {
        Trigger.ULP_PACKET: _rule("[draft §7.2, D15]", _INIT, _IDLE),
        Trigger.UNANSWERED: _rule("no flow, nothing to watch", _IDLE),
        Trigger.SOURCE_MOVED: _rule("no flow, nothing to watch", _IDLE),
        Trigger.INIT: _rule("answered without state [draft §7.3]", _IDLE),
        Trigger.CC: _rule("silently dropped [draft §7.4]", _IDLE),
        Trigger.CCR: _rule("[draft §7.5, D8]", _ESTABLISHED, _IDLE),
        Trigger.CONF: _rule("silently discarded [draft §7.6]", _IDLE),
        Trigger.UR: _rule("answered with UC [D17]", _IDLE),
        Trigger.UA: _rule("silently dropped [draft §7.9]", _IDLE),
        Trigger.UC: _rule("silently discarded [draft §7.12]", _IDLE),
        Trigger.ICMP_ERROR: _rule("about nothing of ours", _IDLE),
        Trigger.DNS_ANSWER: _rule("about nobody any more", _IDLE),
        Trigger.LOCATORS_CHANGED: _rule("nobody to tell", _IDLE),
        Trigger.CONTEXT_FOUND: _rule("taken up again [D36]", _ESTABLISHED, _IDLE),
        Trigger.RETRANSMIT: _rule("spurious", _IDLE),
        Trigger.PROBE: _rule("spurious", _IDLE),
        Trigger.BETTER: _rule("spurious", _IDLE),
        Trigger.REPEAT: _rule("spurious", _IDLE),
        Trigger.DNS_RETRY: _rule("spurious", _IDLE),
        Trigger.VERIFY_AGAIN: _rule("spurious", _IDLE),
        Trigger.CLOSE_MESSAGE: _rule("acknowledged all the same [draft App. A 3]", _IDLE),
        Trigger.CLOSEACK: _rule("in response to nothing [draft App. A 5]", _IDLE),
        Trigger.KEEPALIVE: _rule("silently dropped [D42]", _IDLE),
        Trigger.ONE_WAY_DATA: _rule("no flow, nothing to answer", _IDLE),
        Trigger.IDLE_CHECKED: _rule("too late", _IDLE),
        Trigger.PACKET_HELD: _rule("too late", _IDLE),
        Trigger.NO_ROOM: _rule("takes none", _IDLE),
        Trigger.TOLERANCE: _rule("spurious", _IDLE),
        Trigger.IDLE: _rule("spurious", _IDLE),
        Trigger.CLOSE: _rule("spurious", _IDLE),
        Trigger.TRIAL: _rule("spurious", _IDLE),
        Trigger.PROVISIONAL: _rule("spurious", _IDLE),
    },
    State.INIT_SENT: {
        Trigger.ULP_PACKET: _rule("kept for a piggyback [D7]", _INIT),
        Trigger.UNANSWERED: _rule("nothing is sent by the flow [D18]", _INIT),
        Trigger.SOURCE_MOVED: _rule("still receives [D18]", _INIT),
        Trigger.INIT: _rule("crossing, answered with CONF [draft §4.3.1, D13]", _INIT),
        Trigger.CC: _rule("[draft §7.4]", _CCR, _INIT),
        Trigger.CCR: _rule("[draft §4.3.2, §7.5]", _ESTABLISHED, _INIT),
        Trigger.CONF: _rule("[draft §4.3.1, §7.6]", _ESTABLISHED, _INIT),
        Trigger.UR: _rule("no peer label to match [draft §7.8]; restored [D39]", _INIT, _UR),
        Trigger.UA: _rule("silently dropped [draft §7.9]; restored [D39]", _INIT, _UR),
        Trigger.UC: _rule("already starting over [D18]", _INIT),
        Trigger.ICMP_ERROR: _rule("about nothing of ours", _INIT),
        Trigger.DNS_ANSWER: _rule("[draft §7.13]; the AID is another's [D44]", _INIT, _IDLE),
        Trigger.LOCATORS_CHANGED: _rule("said in the next INIT", _INIT),
        Trigger.CONTEXT_FOUND: _rule("it is there already [D36]", _INIT),
        Trigger.RETRANSMIT: _rule("[draft §7.10, D16]; restored [D18]", _INIT, _IDLE, _UR),
        Trigger.PROBE: _rule("spurious", _INIT),
        Trigger.BETTER: _rule("spurious", _INIT),
        Trigger.REPEAT: _rule("spurious", _INIT),
        Trigger.DNS_RETRY: _rule("[draft §7.13, D30]", _INIT),
        Trigger.VERIFY_AGAIN: _rule("[draft §4.5, D31]", _INIT),
        Trigger.CLOSE_MESSAGE: _rule("already starting over [D18]", _INIT),
        Trigger.CLOSEACK: _rule("not in CLOSING [draft App. A 5]", _INIT),
        Trigger.KEEPALIVE: _rule("silently dropped [D42]; restored [D39]", _INIT, _UR),
        Trigger.ONE_WAY_DATA: _rule("nothing is sent by the flow [D18]", _INIT),
        Trigger.IDLE_CHECKED: _rule("too late", _INIT),
        Trigger.PACKET_HELD: _rule("[D48]", _INIT),
        Trigger.NO_ROOM: _rule("closed for another [D46]", _INIT, _IDLE),
        Trigger.TOLERANCE: _rule("spurious", _INIT),
        Trigger.IDLE: _rule("spurious", _INIT),
        Trigger.CLOSE: _rule("spurious", _INIT),
        Trigger.TRIAL: _rule("spurious", _INIT),
        Trigger.PROVISIONAL: _rule("spurious", _INIT),
    },
    State.CCR_SENT: {
        Trigger.ULP_PACKET: _rule("kept for a piggyback [D7]", _CCR),
        Trigger.UNANSWERED: _rule("nothing is sent by the flow [D18]", _CCR),
        Trigger.SOURCE_MOVED: _rule("still receives [D18]", _CCR),
        Trigger.INIT: _rule("silently ignored [draft §4.3.2 step 5]", _CCR),
        Trigger.CC: _rule("not in INIT-SENT [draft §7.4]", _CCR),
        Trigger.CCR: _rule("not in INIT-SENT [draft §7.5]", _CCR),
        Trigger.CONF: _rule("[draft §7.6]", _ESTABLISHED, _CCR),
        Trigger.UR: _rule("as CONF [D48]; restored [D39]", _CCR, _ESTABLISHED, _UR),
        Trigger.UA: _rule("silently dropped [draft §7.9]; restored [D39]", _CCR, _UR),
        Trigger.UC: _rule("already starting over [D18]", _CCR),
        Trigger.ICMP_ERROR: _rule("about nothing of ours", _CCR),
        Trigger.DNS_ANSWER: _rule("[draft §7.13]; the AID is another's [D44]", _CCR, _IDLE),
        Trigger.LOCATORS_CHANGED: _rule("said in the first UR", _CCR),
        Trigger.CONTEXT_FOUND: _rule("it is there already [D36]", _CCR),
        Trigger.RETRANSMIT: _rule(
            "[draft §7.10]; back to INIT, or enough [D16]; restored [D18]",
            *(_CCR, _INIT, _IDLE, _UR),
        ),
        Trigger.PROBE: _rule("spurious", _CCR),
        Trigger.BETTER: _rule("spurious", _CCR),
        Trigger.REPEAT: _rule("spurious", _CCR),
        Trigger.DNS_RETRY: _rule("[draft §7.13, D30]", _CCR),
        Trigger.VERIFY_AGAIN: _rule("[draft §4.5, D31]", _CCR),
        Trigger.CLOSE_MESSAGE: _rule("already starting over [D18]", _CCR),
        Trigger.CLOSEACK: _rule("not in CLOSING [draft App. A 5]", _CCR),
        Trigger.KEEPALIVE: _rule("silently dropped [D42]; restored [D39]", _CCR, _UR),
        Trigger.ONE_WAY_DATA: _rule("nothing is sent by the flow [D18]", _CCR),
        Trigger.IDLE_CHECKED: _rule("too late", _CCR),
        Trigger.PACKET_HELD: _rule("[D48]", _CCR),
        Trigger.NO_ROOM: _rule("closed for another [D46]", _CCR, _IDLE),
        Trigger.TOLERANCE: _rule("spurious", _CCR),
        Trigger.IDLE: _rule("spurious", _CCR),
        Trigger.CLOSE: _rule("spurious", _CCR),
        Trigger.TRIAL: _rule("spurious", _CCR),
        Trigger.PROVISIONAL: _rule("spurious", _CCR),
    },
    State.ESTABLISHED: {
        Trigger.ULP_PACKET: _rule("goes plainly [D15]; silence [D28]", _ESTABLISHED),
        Trigger.UNANSWERED: _rule("[draft §4.4, D20]", _ESTABLISHED),
        Trigger.SOURCE_MOVED: _rule("[draft §7.11 3b, 3c, D21]", _ESTABLISHED),
        Trigger.INIT: _rule("answered with CC, and nothing else [D39]", _ESTABLISHED),
        Trigger.CC: _rule("not in INIT-SENT [draft §7.4]", _ESTABLISHED),
        Trigger.CCR: _rule(
            "CONF again [D12]; replaces a silent peer [D39]; sets that changed [draft §7.7]",
            *(_ESTABLISHED, _IDLE, _UR),
        ),
        Trigger.CONF: _rule("discarded [draft §7.6]; the one just taken [§7.7]", _ESTABLISHED, _UR),
        Trigger.UR: _rule("[draft §7.8, D17]; told again [D45]", _ESTABLISHED, _UR),
        Trigger.UA: _rule("answers a probe [D43]; told again [D45]", _UR, _ESTABLISHED),
        Trigger.UC: _rule("[draft §7.12, D18]", _INIT, _ESTABLISHED),
        Trigger.ICMP_ERROR: _rule("a hint that starts a search [D47]", _ESTABLISHED),
        Trigger.DNS_ANSWER: _rule(
            "[draft §7.7, §7.13]; refuted [D37]; the AID is another's [D44]",
            *(_UR, _ESTABLISHED, _IDLE, _CLOSING),
        ),
        Trigger.LOCATORS_CHANGED: _rule("[draft §4.5, §7.7]", _UR, _ESTABLISHED),
        Trigger.CONTEXT_FOUND: _rule("it is there already [D36]", _ESTABLISHED),
        Trigger.RETRANSMIT: _rule("spurious", _ESTABLISHED),
        Trigger.PROBE: _rule("next probes, or enough [D20]", _ESTABLISHED),
        Trigger.BETTER: _rule("[D20, D22]", _ESTABLISHED),
        Trigger.REPEAT: _rule("[D20]", _ESTABLISHED),
        Trigger.DNS_RETRY: _rule("[draft §7.13, D30]", _ESTABLISHED),
        Trigger.VERIFY_AGAIN: _rule("[draft §4.5, D31]", _ESTABLISHED),
        Trigger.CLOSE_MESSAGE: _rule("[draft App. A 2]", _IDLE, _ESTABLISHED),
        Trigger.CLOSEACK: _rule("not in CLOSING [draft App. A 5]", _ESTABLISHED),
        Trigger.KEEPALIVE: _rule("the peer is alive [D42]; told again [D45]", _UR, _ESTABLISHED),
        Trigger.ONE_WAY_DATA: _rule("answered with KEEPALIVE [D42]", _ESTABLISHED),
        Trigger.IDLE_CHECKED: _rule(
            "[draft App. A 1, D19]; told again [D45]", _CLOSING, _UR, _ESTABLISHED
        ),
        Trigger.PACKET_HELD: _rule("[D37]", _ESTABLISHED),
        Trigger.NO_ROOM: _rule("closed for another [D46]", _ESTABLISHED, _IDLE),
        Trigger.TOLERANCE: _rule("[D43]", _ESTABLISHED),
        Trigger.IDLE: _rule("asks whether it is [D19]", _ESTABLISHED),
        Trigger.CLOSE: _rule("spurious", _ESTABLISHED),
        Trigger.TRIAL: _rule("again, or set aside [D39]", _INIT, _ESTABLISHED),
        Trigger.PROVISIONAL: _rule("[D37]", _IDLE, _ESTABLISHED),
    },
    State.UR_SENT: {
        Trigger.ULP_PACKET: _rule("no verified locator yet, goes plainly [D15]", _UR),
        Trigger.UNANSWERED: _rule("[D20]", _UR),
        Trigger.SOURCE_MOVED: _rule("[draft §7.11 3b, 3c, D21]", _UR),
        Trigger.INIT: _rule("answered with CC, and nothing else [D39]", _UR),
        Trigger.CC: _rule("not in INIT-SENT [draft §7.4]", _UR),
        Trigger.CCR: _rule("CONF again [D12]; replaces a silent peer [D39]", _UR, _IDLE),
        Trigger.CONF: _rule("silently discarded [draft §7.6]", _UR),
        Trigger.UR: _rule("[draft §7.8, D17, D20]; names ours [D43]", _UR, _ESTABLISHED),
        Trigger.UA: _rule("[draft §7.9]", _ESTABLISHED, _UR),
        Trigger.UC: _rule("[draft §7.12, D18]", _INIT, _UR),
        Trigger.ICMP_ERROR: _rule("a hint that starts a search [D47]", _UR),
        Trigger.DNS_ANSWER: _rule("[draft §7.7, D17]; the AID is another's [D44]", _UR, _CLOSING),
        Trigger.LOCATORS_CHANGED: _rule("supersedes [D17]", _UR),
        Trigger.CONTEXT_FOUND: _rule("it is there already [D36]", _UR),
        Trigger.RETRANSMIT: _rule("[draft §7.10, D16]", _UR, _ESTABLISHED),
        Trigger.PROBE: _rule("next probes, or enough [D20]", _UR),
        Trigger.BETTER: _rule("[D20, D22]", _UR),
        Trigger.REPEAT: _rule("[D20]", _UR),
        Trigger.DNS_RETRY: _rule("[draft §7.13, D30]", _UR),
        Trigger.VERIFY_AGAIN: _rule("[draft §4.5, D31]", _UR),
        Trigger.CLOSE_MESSAGE: _rule("[draft App. A 2]", _IDLE, _UR),
        Trigger.CLOSEACK: _rule("not in CLOSING [draft App. A 5]", _UR),
        Trigger.KEEPALIVE: _rule("the peer is alive [D42]", _UR),
        Trigger.ONE_WAY_DATA: _rule("answered with KEEPALIVE [D42]", _UR),
        Trigger.IDLE_CHECKED: _rule("[draft App. A 1, D19]", _CLOSING, _UR),
        Trigger.PACKET_HELD: _rule("[D37]", _UR),
        Trigger.NO_ROOM: _rule("closed for another [D46]", _UR, _IDLE),
        Trigger.TOLERANCE: _rule("[D43]", _UR),
        Trigger.IDLE: _rule("asks whether it is [D19]", _UR),
        Trigger.CLOSE: _rule("spurious", _UR),
        Trigger.TRIAL: _rule("again, or set aside [D39]", _INIT, _UR),
        Trigger.PROVISIONAL: _rule("spurious: a provisional context sends no UR", _UR),
    },
    State.CLOSING: {
        Trigger.ULP_PACKET: _rule("as if there were no context [draft App. A]", _CLOSING),
        Trigger.UNANSWERED: _rule("nothing is sent by the flow [draft App. A 1]", _CLOSING),
        Trigger.SOURCE_MOVED: _rule("nothing is sent by the flow [draft App. A 1]", _CLOSING),
        Trigger.INIT: _rule("makes a context of its own [draft App. A]", _CLOSING),
        Trigger.CC: _rule("of another context [draft App. A]", _CLOSING),
        Trigger.CCR: _rule("makes a context of its own [draft App. A]", _CLOSING),
        Trigger.CONF: _rule("of another context [draft App. A]", _CLOSING),
        Trigger.UR: _rule("acknowledged, as in ESTABLISHED [draft App. A]", _CLOSING),
        Trigger.UA: _rule("not in UR-SENT [draft §7.9]", _CLOSING),
        Trigger.UC: _rule("the peer has nothing to close [draft §7.12]", _IDLE, _CLOSING),
        Trigger.CLOSE_MESSAGE: _rule("crossing [draft App. A 2]", _IDLE, _CLOSING),
        Trigger.CLOSEACK: _rule("[draft App. A 4, 5]", _IDLE, _CLOSING),
        Trigger.KEEPALIVE: _rule("silently dropped [D42]", _CLOSING),
        Trigger.ONE_WAY_DATA: _rule("nothing is sent by the flow [draft App. A 1]", _CLOSING),
        Trigger.IDLE_CHECKED: _rule("too late", _CLOSING),
        Trigger.PACKET_HELD: _rule("too late", _CLOSING),
        Trigger.NO_ROOM: _rule("closed for another [D46]", _CLOSING, _IDLE),
        Trigger.ICMP_ERROR: _rule("nothing is sent by the flow", _CLOSING),
        Trigger.DNS_ANSWER: _rule("of no use any more", _CLOSING),
        Trigger.LOCATORS_CHANGED: _rule("of no use any more", _CLOSING),
        Trigger.CONTEXT_FOUND: _rule("it is there already [D36]", _CLOSING),
        Trigger.RETRANSMIT: _rule("spurious", _CLOSING),
        Trigger.PROBE: _rule("spurious", _CLOSING),
        Trigger.BETTER: _rule("spurious", _CLOSING),
        Trigger.REPEAT: _rule("spurious", _CLOSING),
        Trigger.DNS_RETRY: _rule("spurious", _CLOSING),
        Trigger.VERIFY_AGAIN: _rule("spurious", _CLOSING),
        Trigger.TOLERANCE: _rule("spurious", _CLOSING),
        Trigger.IDLE: _rule("spurious", _CLOSING),
        Trigger.CLOSE: _rule("again, or enough [draft App. A 4, D19]", _CLOSING, _IDLE),
        Trigger.TRIAL: _rule("spurious", _CLOSING),
        Trigger.PROVISIONAL: _rule("spurious", _CLOSING),
    },
}

_ASKING = frozenset({Timer.DNS_RETRY, Timer.VERIFY_AGAIN})
_SETTLED = _ASKING | {
    *(Timer.PROBE, Timer.BETTER, Timer.REPEAT, Timer.TOLERANCE, Timer.TRIAL, Timer.IDLE),
}

TIMERS_OF: dict[State, frozenset[Timer]] = {
    State.IDLE: frozenset(),
    State.INIT_SENT: _ASKING | {Timer.RETRANSMIT},
    State.CCR_SENT: _ASKING | {Timer.RETRANSMIT},
    State.ESTABLISHED: _SETTLED | {Timer.PROVISIONAL},
    State.UR_SENT: _SETTLED | {Timer.RETRANSMIT},
    State.CLOSING: frozenset({Timer.CLOSE}),
}
"""The timers a context in a state may have; entering a state stops all others."""


class Path(enum.Enum):
    """What a settled context believes of its pair of locators [D43]; in other states STEADY."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    STEADY = "steady"
    """The pair in use works, as far as is known."""
    ASKING = "asking"
    """It is suspected, and has been asked by one UR."""
    DOUBTING = "doubting"
    """It has not answered in time; it is asked more, and others are probed."""
    SEARCHING = "searching"
    """It is silent, and so are the others: data travels plain, and all pairs are probed in turn."""
    LEAVING = "leaving"
    """Another is said to be better; the first of those that answers is used."""
    FOLLOWING = "following"
    """Data comes from another locator of the peer's; it and the one before are asked [D41]."""


class Cue(enum.Enum):
    """What changes that belief."""

    __hash__ = object.__hash__  # as members are compared; that of Enum runs in Python

    SUSPICION = "suspicion"
    """Data is unanswered, the peer hears nothing, or an error came."""
    SOURCE = "source moved"
    """Data comes from another locator than the peer is known to send from."""
    MARKS = "better pair"
    """An owner says that another pair is better."""
    THIS_ANSWERS = "pair in use answers"
    OTHER_ANSWERS = "other pair answers"
    TIME = "time"
    """An answer is overdue, or it is enough."""


PATH_LAW: dict[Path, dict[Cue, frozenset[Path]]] = {
    Path.STEADY: {
        Cue.SUSPICION: frozenset({Path.ASKING}),
        Cue.SOURCE: frozenset({Path.FOLLOWING}),
        Cue.MARKS: frozenset({Path.LEAVING}),
        Cue.THIS_ANSWERS: frozenset(),
        Cue.OTHER_ANSWERS: frozenset(),
        Cue.TIME: frozenset(),
    },
    Path.ASKING: {
        Cue.SUSPICION: frozenset(),
        Cue.SOURCE: frozenset({Path.FOLLOWING}),
        Cue.MARKS: frozenset(),
        Cue.THIS_ANSWERS: frozenset({Path.STEADY}),
        Cue.OTHER_ANSWERS: frozenset({Path.STEADY}),
        Cue.TIME: frozenset({Path.DOUBTING}),
    },
    Path.DOUBTING: {
        Cue.SUSPICION: frozenset(),
        Cue.SOURCE: frozenset({Path.FOLLOWING}),
        Cue.MARKS: frozenset(),
        Cue.THIS_ANSWERS: frozenset({Path.STEADY}),
        Cue.OTHER_ANSWERS: frozenset({Path.STEADY}),
        Cue.TIME: frozenset({Path.SEARCHING, Path.STEADY}),
    },
    Path.SEARCHING: {
        Cue.SUSPICION: frozenset(),
        Cue.SOURCE: frozenset(),
        Cue.MARKS: frozenset(),
        Cue.THIS_ANSWERS: frozenset({Path.STEADY}),
        Cue.OTHER_ANSWERS: frozenset({Path.STEADY}),
        Cue.TIME: frozenset(),
    },
    Path.LEAVING: {
        Cue.SUSPICION: frozenset({Path.ASKING}),
        Cue.SOURCE: frozenset({Path.FOLLOWING}),
        Cue.MARKS: frozenset({Path.LEAVING}),
        Cue.THIS_ANSWERS: frozenset(),
        Cue.OTHER_ANSWERS: frozenset({Path.STEADY}),
        Cue.TIME: frozenset({Path.STEADY}),
    },
    Path.FOLLOWING: {
        Cue.SUSPICION: frozenset(),
        Cue.SOURCE: frozenset(),
        Cue.MARKS: frozenset(),
        Cue.THIS_ANSWERS: frozenset({Path.STEADY}),
        Cue.OTHER_ANSWERS: frozenset({Path.STEADY}),
        Cue.TIME: frozenset({Path.DOUBTING}),
    },
}
"""What may follow each belief after each cue; nothing: the cue changes nothing."""
