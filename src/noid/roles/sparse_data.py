# SPDX-License-Identifier: MIT
"""Asks the pair in use of a context whose rare data stays unanswered.

The plane reports silence when the next packet is sent, and after a multiple of the usual interval
between packets of the peer. A program that sends once a second would wait for seconds. Therefore
the contexts that were measured last are looked at often, and one whose packet is not answered
within a few round trips suspects its pair. Some packets draw no answer: after such a question a
context is not asked again for a time, unless it has changed its pair. The time is shorter if the
answer was late, as on a busy machine. So the law of quiet holds.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol

from noid.constants import SECOND
from noid.control.uplinks import Pair
from noid.engine.context import Context
from noid.engine.events import Input, MeasurePairs
from noid.engine.host import Host

LOOK_INTERVAL_S: Final = 0.05
CONTEXTS_MAX: Final = 4
"""Contexts that are looked at: if an uplink fails, some of them notice it."""
REST_NS: Final = 60 * SECOND
"""After a question, so long none is asked about the same pair."""
LATE_NS: Final = SECOND // 2
"""Data or a keepalive of the peer that comes so soon after a question is a late answer."""
REST_LATE_NS: Final = 10 * SECOND
"""After a question whose packet was answered late, so long none is asked about the same pair."""
QUESTIONS_MAX: Final = 256
"""Questions that are remembered; the oldest are forgotten."""


class WaitS(Protocol):
    """How long an answer over a pair is waited for; see ``Measuring.wait_s``."""

    def __call__(self, context: Context, pair: Pair, *, here: bool) -> float:
        """In seconds."""


class Question(NamedTuple):
    """A question about a pair in use.

    Attributes:
        pair: which.
        asked_ns: when.
        rest_ns: for how long none is asked about that pair again.
    """

    pair: Pair
    asked_ns: int
    rest_ns: int = REST_NS


class SparseData:
    """The watch over a few contexts of a host.

    Args:
        host: the engine.
        latest: returns the contexts that were measured last, by F(local).
        silence_ns: how long packets of a context have been unanswered, by F(local).
        heard_ns: when a context last received data or a keepalive, by F(local).
        wait_s: how long an answer over a pair may take.
        handle: takes events for the engine.
    """

    def __init__(
        self,
        host: Host,
        *,
        latest: Callable[[int], Iterable[int]],
        silence_ns: Callable[[int], int],
        heard_ns: Callable[[int], int],
        wait_s: WaitS,
        handle: Callable[[Input], None],
    ) -> None:
        self.host, self.latest = host, latest
        self.silence_ns, self.heard_ns = silence_ns, heard_ns
        self.wait_s, self.handle = wait_s, handle
        self._questions: dict[int, Question] = {}

    async def watch(self) -> None:
        """Looks until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            self.look(time.monotonic_ns())

    def look(self, now_ns: int) -> None:
        """Looks at each context once."""
        for label in self.latest(CONTEXTS_MAX):
            context = self.host.context(label)
            if context is not None and context.is_settled and context.search is None:
                self._look_at(context, now_ns)

    def _look_at(self, context: Context, now_ns: int) -> None:
        label = context.local_label
        if self._rests(context, now_ns):
            return
        silent_ns = self.silence_ns(label)
        if not silent_ns or silent_ns < self.wait_s(context, context.pair, here=True) * SECOND:
            return
        if now_ns - silent_ns < context.history_of(context.pair).used_ns:
            return  # that packet was sent over the pair before
        self.handle(MeasurePairs(label, (), suspects=True))
        if context.search is None:
            return  # its pair was asked just before, so the engine refuses
        self._questions[label] = Question(context.pair, now_ns)
        while len(self._questions) > QUESTIONS_MAX:
            del self._questions[next(iter(self._questions))]

    def _rests(self, context: Context, now_ns: int) -> bool:
        """Whether the pair in use is not to be asked yet."""
        label = context.local_label
        before = self._questions.get(label)
        if before is None:
            return False
        if 0 < self.heard_ns(label) - before.asked_ns < LATE_NS:
            before = self._questions[label] = before._replace(rest_ns=REST_LATE_NS)
        if before.pair == context.pair and now_ns < before.asked_ns + before.rest_ns:
            return True
        del self._questions[label]  # it was right to ask, or is long ago
        return False
