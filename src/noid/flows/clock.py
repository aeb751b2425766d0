# SPDX-License-Identifier: MIT
"""When packets of a flow were sent and received. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowClock:
    """The times recorded by the entries of a flow, which are kept when the entries are replaced.

    Attributes:
        unanswered_ns: when the first unanswered packet was sent; 0 if there is none.
        unanswered: packets since then that want an answer; the programs do not count far.
        reported_ns: when that was last reported.
        received_ns: when something was last received; 0 if never.
        moved_ns: when a move of the peer was last noticed.
        sent_ns: when something was last sent, or a keepalive was due; 0 if never.
        heard_ns: when data or a keepalive last came; 0 if never.
        gap_ns: the mean time between these; 0 if not known.
        proven: when something authentic last came, or was missed, in the programs' rough time.
    """

    unanswered_ns: int = 0
    unanswered: int = 0
    reported_ns: int = 0
    received_ns: int = 0
    moved_ns: int = 0
    sent_ns: int = 0
    heard_ns: int = 0
    gap_ns: int = 0
    proven: int = 0
