# SPDX-License-Identifier: MIT
"""What messages and data over a pair of locators have shown of it [D20, D43]."""

from collections.abc import Mapping
from typing import NamedTuple

from noid.constants import (
    ASK_WAIT_MIN,
    LATE_MIN,
    LATE_MIN_UNMEASURED,
    LATE_TIME,
    PEER_UNABLE_MAX,
    SILENCE_MAX,
    SILENCE_MIN,
    SILENCE_UNMEASURED,
    TOLERANCE_MAX,
    VERDICT_WAIT_MIN,
)
from noid.identifiers import NO_NONCE, Nonce
from noid.locators import Locator

Pair = tuple[Locator, Locator]
"""A source locator of ours and a destination locator of the peer's."""


class History(NamedTuple):
    """What is known of a pair; times are 0 where there was nothing.

    Attributes:
        heard_ns: when an authentic message last came over it in the form of data.
        plain_ns: when one last came over it in the plain form.
        message_ns: when one last came over it in the form of data that was no measurement of the
            peer's: its measurements go over pairs that it does not use.
        round_trip_ns: how long an answer takes, smoothed; 0 until measured.
        variation_ns: by how much that varies, smoothed (RFC 6298 §2).
        late_ns: when an answer came late, before which the request of the next is not sent if that
            measures; 0 if the last answer was not late.
        late_by_ns: how long that answer took.
        alarms: how often lately it was suspected and found to work.
        misses: how often of these the first request was not answered in time.
        used_ns: since when data is sent over it; 0 once a keepalive came.
        unheard: reports of unanswered data since data or a keepalive last came.
        unheard_ns: when the first of these came.
        unheard_packets: the number of packets they are about.
        loses_requests: whether a request over it has stayed unanswered since the first of these.
        unseen: proofs asked for and got since the peer last said on request that data comes.
        passes_ns: when the peer last said on request that data comes over it.
        losses: how often data was found to be lost over it while messages pass.
        lost_ns: when that was last found.
        lost_nonce: of the first of our URs since then.
        shortened_ns: when a program was last told to send shorter packets over it.
        asked_ns: when a request of the peer last came over it.
    """

    heard_ns: int = 0
    plain_ns: int = 0
    message_ns: int = 0
    round_trip_ns: int = 0
    variation_ns: int = 0
    late_ns: int = 0
    late_by_ns: int = 0
    alarms: int = 0
    misses: int = 0
    used_ns: int = 0
    unheard: int = 0
    unheard_ns: int = 0
    unheard_packets: int = 0
    loses_requests: bool = False
    unseen: int = 0
    passes_ns: int = 0
    losses: int = 0
    lost_ns: int = 0
    lost_nonce: Nonce = NO_NONCE
    shortened_ns: int = 0
    asked_ns: int = 0

    @property
    def latest_ns(self) -> int:
        """When a message last came over it, in either form."""
        return max(self.heard_ns, self.plain_ns)

    def heard(self, at_ns: int, *, in_slot: bool, measures: bool) -> "History":
        """After an authentic message over the pair."""
        if not in_slot:
            return self._replace(plain_ns=at_ns)
        return self._replace(heard_ns=at_ns, message_ns=self.message_ns if measures else at_ns)

    def loses_data(self, now_ns: int, within_ns: int = PEER_UNABLE_MAX) -> bool:
        """Whether data was lost over it lately, so that an answer proves nothing about data."""
        return self.losses > 0 and now_ns < self.lost_ns + within_ns

    @property
    def ask_wait_ns(self) -> int:
        """How long the first UR may stay unanswered before the pair is in doubt."""
        usual_ns = self.round_trip_ns or SILENCE_UNMEASURED // 2
        wait_ns = max(usual_ns * 5 // 4, usual_ns + 4 * self.variation_ns, ASK_WAIT_MIN)
        return min(wait_ns, SILENCE_MAX)

    @property
    def verdict_wait_ns(self) -> int:
        """How long the last UR stays unanswered before the pair is silent [D43]."""
        if not self.round_trip_ns:
            return SILENCE_UNMEASURED
        usual_ns = self.round_trip_ns
        wait_ns = max(usual_ns * 3 // 2, usual_ns + 4 * self.variation_ns, VERDICT_WAIT_MIN)
        return min(wait_ns, SILENCE_MAX)

    def silence_ns(self, tolerated_ns: int) -> int:
        """T: how long a packet may stay unanswered before another pair is looked for [D20].

        Twice the round-trip time; or twice a silence that proved harmless, such as a delayed
        acknowledgement of a receiver, so that the same silence is not reported again.
        """
        return silence_after(self.round_trip_ns, tolerated_ns)

    def measured(self, sent_ns: int, now_ns: int, slowest_ns: int = 0) -> "History":
        """After an answer that measures the pair (RFC 6298 §2).

        One that is late says nothing of the path, unless the answer to a request after it takes
        about as long, and soon: the daemon of either end may have stood still.

        Args:
            sent_ns: when the request was sent.
            now_ns: when the answer came.
            slowest_ns: the longest round trip of another pair, which this one may have too.
        """
        before_ns, round_trip_ns = self.round_trip_ns, now_ns - sent_ns
        if round_trip_ns <= 0:
            return self
        usual = self._replace(round_trip_ns=before_ns or slowest_ns)
        is_known = usual.round_trip_ns > 0
        at_once_ns = max(usual.ask_wait_ns, LATE_MIN) if is_known else LATE_MIN_UNMEASURED
        is_late = round_trip_ns > at_once_ns
        is_soon = now_ns - self.late_ns <= LATE_TIME
        if is_late and is_soon and sent_ns < self.late_ns:
            return self
        late = self._replace(late_ns=now_ns, late_by_ns=round_trip_ns)
        is_alike = self.late_by_ns // 2 <= round_trip_ns <= 2 * self.late_by_ns
        if is_late and not (is_soon and is_alike):
            return late
        one = late if is_late else self._replace(late_ns=0, late_by_ns=0)
        after_ns = smoothed(before_ns, round_trip_ns)
        if not before_ns:
            return one._replace(round_trip_ns=after_ns)
        difference_ns = min(abs(round_trip_ns - before_ns), SILENCE_MAX)
        return one._replace(
            round_trip_ns=after_ns,
            variation_ns=self.variation_ns + (difference_ns - self.variation_ns) // 4,
        )


def silence_after(round_trip_ns: int, tolerated_ns: int) -> int:
    """T for a round-trip time, which is 0 if not measured; see ``History.silence_ns``."""
    if not round_trip_ns:
        return SILENCE_UNMEASURED
    usual_ns = max(2 * round_trip_ns, min(2 * tolerated_ns, TOLERANCE_MAX))
    return max(SILENCE_MIN, min(usual_ns, SILENCE_MAX))


def smoothed(before_ns: int, round_trip_ns: int) -> int:
    """The smoothed round-trip time after one more measurement (RFC 6298 §2).

    It falls by half of the difference, not by an eighth, because the messages of a set-up take
    longer than others: much is computed for each. An answer that takes longer than SILENCE_MAX
    counts as that long: it shows that messages are held back, rather than how long the path is.

    Args:
        before_ns: the smoothed time so far; 0 if there is none.
        round_trip_ns: the measurement; 0 or less is none.
    """
    round_trip_ns = min(round_trip_ns, SILENCE_MAX)
    if not before_ns or round_trip_ns <= 0:
        return before_ns or max(0, round_trip_ns)
    return before_ns + (round_trip_ns - before_ns) // (8 if round_trip_ns > before_ns else 2)


UNKNOWN = History()
"""The history of a pair over which nothing has come yet."""
NO_HISTORY: Mapping[Pair, History] = {}
"""Where a context begins."""
