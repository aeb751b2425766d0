# SPDX-License-Identifier: MIT
"""Which pair of locators is measured next, while nothing is suspected.

An uplink that a context does not use carries no data of it, so requests show whether it works. Each
end of a context measures about once a second, and a sample of the peer shows as much of our uplink
as one of ours. Therefore both ends take turns: the end with the lower AID leads, the other follows.
If a sample of the peer is missing, ours is sent instead of it, and shows whether the uplink is
silent.

While data comes often, a context detects by itself, within milliseconds, that the pair in use is
silent. Where data is rare, the pair in use is measured, too, when nothing was heard for
``TURN_NS``. Here both ends take turns as well. So each direction of each uplink is tested after
``TURN_NS`` and ``GRACE_NS`` at most, if a host has no more uplinks than one sample measures.

Silent uplinks are not measured so, but more often and in an order of their own, until they answer.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from noid.constants import NEVER
from noid.control.uplinks import Pair
from noid.engine.context import Context
from noid.identifiers import Label
from noid.locators import Locator

TURN_NS: Final = 550_000_000
"""Between a sample of one end and the next one of the other."""
GRACE_NS: Final = 50_000_000
"""By how much a sample of the peer may be late."""
PERIOD_NS: Final = 2 * TURN_NS
"""Between two samples of one context."""
SHARED_NS: Final = 4 * PERIOD_NS
"""A peer that has not measured the pair in use for this time does not take turns."""
IN_USE_EVERY: Final = 10
"""So many samples come with one of the pair in use, for its loss and its round trip; then a pair
that did not answer is measured again, too."""
UPLINKS_TOGETHER_MAX: Final = 3
"""Uplinks that one sample measures; of more, others each time, so that they are reported later."""
APART_NS: Final = 100_000_000
"""Between two samples, each of another context."""
SILENT_INTERVAL_NS: Final = 300_000_000
"""Between two samples of one context over a silent uplink, so that its return is noticed."""
RARE_NS: Final = 3_000_000_000
"""If no data was heard for this time, the pair in use is not measured: data does not need it."""
REST_NS: Final = 5_000_000_000
"""A peer that answered over no uplink is not measured for this time: its daemon may be stopped.
When the peer is heard over an uplink that is not in use, the rest ends."""
TURNS_MAX: Final = 256
"""Contexts whose last sample is remembered; the oldest are forgotten."""


class Sample(NamedTuple):
    """What is measured next.

    Attributes:
        context: the context.
        pairs: its pairs.
        is_of_used: whether the pair in use alone is measured, because its data is rare.
    """

    context: Context
    pairs: list[Pair]
    is_of_used: bool = False


@dataclass(slots=True)
class Turn:
    """The last samples of a context.

    Attributes:
        ended_ns: when the last one was answered or given up; 0 if there was none. It does not
            change by a sample of the pair in use alone.
        used_ns: when the last one with the pair in use was; 0 if there was none.
        is_shared: whether the peer had sent one since the sample before.
        missed: a pair that did not answer, and over which the peer has not been heard since.
        rests_until_ns: before this, the context is not measured, unless the peer is heard.
    """

    ended_ns: int = 0
    used_ns: int = 0
    is_shared: bool = False
    missed: Pair | None = None
    rests_until_ns: int = 0


class Sampling:
    """The order of samples: of uplinks that are silent, or of the others.

    Args:
        of_silent: whether the silent uplinks are sampled, and not the others.
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
        heard_ns: Callable[[Label], int] = lambda label: NEVER - PERIOD_NS,
        *,
        again_ns: int = 0,
    ) -> Sample | None:
        """The next sample; ``ended`` follows.

        Args:
            contexts: those that may be measured; the first whose sample is due is.
            now_ns: the time, by the clock of the engine.
            silent: our locators on silent uplinks.
            heard_ns: when a context last received data or a keepalive, by its F(local).
            again_ns: when contexts are looked at again if no sample is due earlier, because
                there may be others, or more, by then; ``APART_NS`` from now without it.

        Returns:
            The sample; None if none is due.
        """
        self.due_ns = again_ns or now_ns + APART_NS
        for context in contexts:
            pairs = _idle_pairs(context, silent, of_silent=self._of_silent)
            is_used_silent = context.local_locator in silent
            if not pairs and (self._of_silent or is_used_silent):
                continue
            turn = self._turns.get(context.local_label, Turn())
            due_ns, used_due_ns = self._due_ns(context, turn, pairs), NEVER
            data_ns = heard_ns(context.local_label)
            if not (self._of_silent or is_used_silent) and data_ns >= now_ns - RARE_NS:
                used_due_ns = _used_due_ns(context, turn, data_ns)
            if min(due_ns, used_due_ns) > now_ns:
                self.due_ns = min(self.due_ns, due_ns, used_due_ns)
                continue
            self.due_ns = next_ns = now_ns + APART_NS
            if due_ns > next_ns:
                self._keep(context, replace(turn, used_ns=now_ns))
                return Sample(context, [context.pair], is_of_used=True)
            chosen = self._next_pairs(context, turn, pairs, now_ns)
            if used_due_ns <= next_ns:
                chosen.append(context.pair)
            if not self._of_silent:
                chosen = [pair for pair in dict.fromkeys(chosen) if pair[0] not in silent]
            return Sample(context, chosen)
        return None

    def ended(self, sample: Sample, now_ns: int, missed: Pair | None = None) -> None:
        """A sample was answered, or given up.

        Args:
            sample: the sample.
            now_ns: the present time.
            missed: the pair that did not answer.
        """
        turn = self._turns.get(sample.context.local_label)
        if turn is None:
            return
        if sample.context.pair in sample.pairs:
            turn.used_ns = now_ns
        if not sample.is_of_used:
            turn.ended_ns, turn.missed = now_ns, missed or turn.missed

    def rest(self, context: Context, now_ns: int) -> None:
        """Does not measure a context for a while."""
        self._keep(context, Turn(now_ns, now_ns, rests_until_ns=now_ns + REST_NS))

    def _due_ns(self, context: Context, turn: Turn, pairs: Iterable[Pair]) -> int:
        """When some of these pairs, which a context does not use, are to be measured."""
        if not turn.ended_ns:
            return 0
        if self._of_silent:
            return turn.ended_ns + SILENT_INTERVAL_NS
        heard_ns = _heard_ns(context, pairs)
        due_ns = _due_ns(context, turn, heard_ns)
        return due_ns if heard_ns > turn.ended_ns else max(due_ns, turn.rests_until_ns)

    def _next_pairs(
        self, context: Context, turn: Turn, pairs: list[Pair], now_ns: int
    ) -> list[Pair]:
        """The idle pairs that are measured now, and sometimes the pair in use."""
        missed = turn.missed
        if missed and context.history_of(missed).heard_ns > turn.ended_ns:
            missed = None
        is_shared = _heard_ns(context, pairs) > turn.ended_ns > 0
        self._keep(context, Turn(now_ns, turn.used_ns, is_shared, missed))
        if not self._of_silent:
            return self._likely(context, pairs, missed)
        return self._of_each(pairs, most=1)

    def _keep(self, context: Context, turn: Turn) -> None:
        self._turns.pop(context.local_label, None)
        self._turns[context.local_label] = turn
        while len(self._turns) > TURNS_MAX:
            del self._turns[next(iter(self._turns))]

    def _of_each(
        self, pairs: list[Pair], most: int = UPLINKS_TOGETHER_MAX, *, is_single: bool = False
    ) -> list[Pair]:
        """One pair of each uplink, in rotation; of many uplinks some, others each time.

        Args:
            pairs: those there are.
            most: pairs that are returned.
            is_single: whether the host has one uplink, so that those of the peer are meant.
        """
        self._samples += 1
        by_uplink: dict[Locator, list[Pair]] = {}
        for pair in pairs:
            by_uplink.setdefault(pair[is_single], []).append(pair)
        uplinks = list(by_uplink.values())
        chosen = []
        for place in range(min(most, len(uplinks))):
            turn, index = divmod(self._samples * most + place, len(uplinks))
            of_uplink = uplinks[index]
            if len(uplinks) <= most:
                turn = self._samples + index  # each with another uplink of the peer
            chosen.append(of_uplink[turn % len(of_uplink)])
        return chosen

    def _likely(self, context: Context, pairs: list[Pair], missed: Pair | None) -> list[Pair]:
        """A pair of each idle uplink, if possible with no locator in use; at times that in use."""
        is_all = self._samples % IN_USE_EVERY == 0
        likely = [pair for pair in pairs if pair != missed or is_all] or pairs
        disjoint = {pair[0] for pair in likely if pair[1] != context.peer_locator}
        likely = [p for p in likely if p[1] != context.peer_locator or p[0] not in disjoint]
        chosen = self._of_each(likely, is_single=len(context.own_set) == 1)
        return [*chosen, context.pair] if is_all or not likely else chosen


def _heard_ns(context: Context, pairs: Iterable[Pair]) -> int:
    """When the peer was last heard over one of these pairs; 0 if never."""
    return max((context.history_of(pair).heard_ns for pair in pairs), default=0)


def _due_ns(context: Context, turn: Turn, heard_ns: int) -> int:
    """When the next sample of a context is due.

    Args:
        context: the context.
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


def _used_due_ns(context: Context, turn: Turn, data_ns: int) -> int:
    """When the pair in use is to be measured, by when data was heard.

    The end that measured it last waits a bit for the other one, or longer if that does not measure.
    """
    history = context.history_of(context.pair)
    leads = context.local_aid < context.peer_aid
    is_ours = turn.used_ns > history.asked_ns or not (turn.used_ns or history.asked_ns or leads)
    wait_ns = TURN_NS + (GRACE_NS if is_ours else 0)
    if turn.used_ns > history.asked_ns + SHARED_NS:
        wait_ns = PERIOD_NS
    known_ns = max(turn.used_ns, history.heard_ns, data_ns)
    return max(known_ns + wait_ns, turn.rests_until_ns)


def _idle_pairs(context: Context, silent: Collection[Locator], *, of_silent: bool) -> list[Pair]:
    """The pairs of the silent uplinks; or those of the others that are not in use.

    Of a host with one uplink, these are the pairs with the other locators of the peer, for which
    this shows as much as the peer's own samples.
    """
    local = [
        one
        for one in context.own_set
        if (one in silent) == of_silent and (of_silent or one != context.local_locator)
    ]
    peer = [one for one in context.peer_set if context.is_verified(one)]
    if len(context.own_set) == 1 and not (of_silent or context.local_locator in silent):
        return [(context.local_locator, one) for one in peer if one != context.peer_locator]
    return [(one, other) for other in peer for one in local]
