# SPDX-License-Identifier: MIT
"""Which pair of locators is measured next, while nothing is suspected.

A context detects by itself, within milliseconds, that the pair in use is silent. So samples go over
the uplinks that the context does not use. A context is measured about once a second, as the law of
quiet wants, and so is it by the peer, whose sample shows as much of our uplink. Therefore both ends
take turns, half a period apart: the end with the lower AID leads, the other follows. If a sample of
the peer is missing, ours is sent instead of it, and shows whether the uplink is silent.

Where data is rare, its silence shows late that the pair in use has failed. Then a request over
another uplink lets the peer answer over the pair that it uses: one exchange shows both uplinks, and
the exchange of the other end their other directions.

Silent uplinks are not measured so, but more often and in an order of their own, until they answer.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from noid.control.uplinks import Pair
from noid.engine.context import Context
from noid.locators import Locator

TURN_NS: Final = 600_000_000
"""Between a sample of one end and the next one of the other."""
GRACE_NS: Final = 50_000_000
"""By how much a sample of the peer may be late."""
PERIOD_NS: Final = 2 * TURN_NS
"""Between two samples of one context."""
IN_USE_EVERY: Final = 5
"""So many samples come with one of the pair in use, for its loss and its round trip; then a pair
that did not answer is measured again, too."""
APART_NS: Final = 250_000_000
"""Between two samples, each of another context."""
SILENT_INTERVAL_NS: Final = 300_000_000
"""Between two samples of one context over a silent uplink, so that its return is noticed."""
REST_NS: Final = 5_000_000_000
"""A peer that answered over no uplink is not measured for this time: its daemon may be stopped.
When the peer is heard over an uplink that is not in use, the rest ends."""
TURNS_MAX: Final = 256
"""Contexts whose last sample is remembered; the oldest are forgotten."""
LOSSY_NS: Final = 60_000_000_000
"""How long each sample is about one pair alone after one was lost that was about two: else it would
not be known which of them loses packets."""


class Sample(NamedTuple):
    """What is measured next.

    Attributes:
        context: which.
        pairs: its pairs.
        here: whether each answer is to use the pair of its request.
    """

    context: Context
    pairs: list[Pair]
    here: bool


@dataclass(slots=True)
class Turn:
    """The last sample of a context.

    Attributes:
        ended_ns: when it was answered or given up; 0 if there was none.
        is_shared: whether the peer had sent one since the sample before.
        missed: a pair that did not answer, and over which the peer has not been heard since.
        rests_until_ns: before this, the context is not measured, unless the peer is heard.
        lossy_until_ns: before this, each sample is about one pair alone.
    """

    ended_ns: int = 0
    is_shared: bool = False
    missed: Pair | None = None
    rests_until_ns: int = 0
    lossy_until_ns: int = 0


class Sampling:
    """The order of samples: of uplinks that are silent, or of the others.

    Args:
        of_silent: which.
    """

    def __init__(self, *, of_silent: bool = False) -> None:
        self._of_silent = of_silent
        self._samples = 0
        self._turns: dict[int, Turn] = {}
        self.due_ns = 0
        """When contexts are to be looked at again."""
        self.place = 0
        """Of the context that is looked at next, among those of the host."""

    def next_of(
        self,
        contexts: Iterable[Context],
        now_ns: int,
        silent: Collection[Locator] = (),
        hears_seldom: Callable[[Context], bool] = lambda _: False,
    ) -> Sample | None:
        """The next sample; ``ended`` follows.

        Args:
            contexts: those that may be measured; the first whose sample is due is.
            now_ns: the time, by the clock of the engine.
            silent: our locators on silent uplinks.
            hears_seldom: whether data shows late that the pair in use of a context has failed.

        Returns:
            The sample; None if none is due.
        """
        self.due_ns = now_ns + APART_NS
        for context in contexts:
            pairs = _idle_pairs(context, silent, of_silent=self._of_silent)
            if not pairs and (self._of_silent or context.local_locator in silent):
                continue
            turn = self._turns.get(context.local_label, Turn())
            heard_ns = max((context.history_of(pair).heard_ns for pair in pairs), default=0)
            due_ns = turn.ended_ns + SILENT_INTERVAL_NS
            if not self._of_silent:
                due_ns = _due_ns(context, turn, heard_ns)
                if heard_ns <= turn.ended_ns:
                    due_ns = max(due_ns, turn.rests_until_ns)
            if turn.ended_ns and due_ns > now_ns:
                self.due_ns = min(self.due_ns, due_ns)
                continue
            self.due_ns = now_ns + APART_NS
            missed = turn.missed
            if missed and context.history_of(missed).heard_ns > turn.ended_ns:
                missed = None
            is_shared = heard_ns > turn.ended_ns > 0
            kept = Turn(now_ns, is_shared, missed, lossy_until_ns=turn.lossy_until_ns)
            self._keep(context, kept)
            if self._of_silent:
                return Sample(context, [self._in_rotation(pairs)], here=True)
            chosen = self._likely(context, pairs, missed)
            chosen = [pair for pair in chosen if pair[0] not in silent]
            is_about_both = context.local_locator not in {*silent, *[pair[0] for pair in chosen]}
            may_be = is_about_both and now_ns >= turn.lossy_until_ns
            return Sample(context, chosen, here=not (may_be and hears_seldom(context)))
        return None

    def ended(self, context: Context, now_ns: int, missed: Pair | None = None) -> None:
        """The sample of a context was answered, or given up.

        Args:
            context: which.
            now_ns: when.
            missed: the pair that did not answer.
        """
        turn = self._turns.get(context.local_label)
        if turn is not None:
            turn.ended_ns, turn.missed = now_ns, missed or turn.missed

    def lost(self, context: Context, now_ns: int) -> None:
        """A sample about two pairs was lost, and both work."""
        turn = self._turns.get(context.local_label)
        if turn is not None:
            turn.lossy_until_ns = now_ns + LOSSY_NS

    def latest(self, count: int) -> list[int]:
        """The contexts that were measured last, by F(local), the latest first."""
        return list(islice(reversed(self._turns), count))

    def rest(self, context: Context, now_ns: int) -> None:
        """Does not measure a context for a while."""
        self._keep(context, Turn(now_ns, rests_until_ns=now_ns + REST_NS))

    def _keep(self, context: Context, turn: Turn) -> None:
        self._turns.pop(context.local_label, None)
        self._turns[context.local_label] = turn
        while len(self._turns) > TURNS_MAX:
            del self._turns[next(iter(self._turns))]

    def _in_rotation(self, pairs: list[Pair]) -> Pair:
        """One pair of the next uplink."""
        self._samples += 1
        uplinks = list(dict.fromkeys(local for local, _ in pairs))
        count, place = divmod(self._samples, len(uplinks))
        of_uplink = [pair for pair in pairs if pair[0] == uplinks[place]]
        return of_uplink[count % len(of_uplink)]

    def _likely(self, context: Context, pairs: list[Pair], missed: Pair | None) -> list[Pair]:
        """One of the pairs, if possible with no locator in use; sometimes the pair in use too."""
        is_all = self._samples % IN_USE_EVERY == 0
        likely = [pair for pair in pairs if pair != missed or is_all] or pairs
        disjoint = {pair[0] for pair in likely if pair[1] != context.peer_locator}
        likely = [p for p in likely if p[1] != context.peer_locator or p[0] not in disjoint]
        chosen = [self._in_rotation(likely or [context.pair])]
        return [*chosen, context.pair] if is_all and likely else chosen


def _due_ns(context: Context, turn: Turn, heard_ns: int) -> int:
    """When the next sample of a context is due.

    Args:
        context: which.
        turn: the last sample.
        heard_ns: when the peer was last heard over an uplink that the context does not use.
    """
    leads = context.local_aid < context.peer_aid
    if heard_ns > turn.ended_ns:
        return turn.ended_ns + PERIOD_NS if leads else heard_ns + TURN_NS
    if turn.is_shared:
        return turn.ended_ns + TURN_NS + GRACE_NS
    # Two ends that sample at the same time do not hear each other's samples as such: one is later.
    return turn.ended_ns + PERIOD_NS + (0 if leads else GRACE_NS)


def _idle_pairs(context: Context, silent: Collection[Locator], *, of_silent: bool) -> list[Pair]:
    """The pairs of the silent uplinks; or those of the others that are not in use."""
    local = [
        one
        for one in context.own_set
        if (one in silent) == of_silent and (of_silent or one != context.local_locator)
    ]
    peer = [one for one in context.peer_set if context.is_verified(one)]
    return [(one, other) for other in peer for one in local]
