# SPDX-License-Identifier: MIT
"""Which pair of locators is measured next, while nothing is suspected.

A context detects by itself, within milliseconds, that the pair in use is silent. So most samples go
over the uplinks that the context does not use. A context is measured at most once a second, as the
law of quiet wants; with few contexts, this bounds how soon the failure of an idle uplink is found.
"""

from collections.abc import Collection, Iterable
from typing import Final

from noid.control.uplinks import Pair
from noid.engine.context import Context
from noid.locators import Locator

CONTEXT_INTERVAL_S: Final = 1.0
"""Between two samples of one context."""
SILENT_INTERVAL_S: Final = 0.3
"""The same while an uplink is silent, so that its return is noticed."""
UNANSWERED_REST_S: Final = 5.0
"""A peer that answered over no uplink is not measured for this time: its daemon may be stopped."""
IN_USE_EVERY: Final = 5
"""So many samples contain one of the pair in use, for its loss and its round trip."""
RESTING_MAX: Final = 256
"""Contexts whose last sample is remembered; the oldest are forgotten."""


class Sampling:
    """The order of samples.

    Args:
        interval_s: between two samples of one context, in seconds.
    """

    def __init__(self, interval_s: float = CONTEXT_INTERVAL_S) -> None:
        self.interval_s = interval_s
        self._samples = 0
        self._idle_samples = 0
        self._rests_until_s: dict[int, float] = {}

    def next_of(
        self, contexts: Iterable[Context], now_s: float, silent: Collection[Locator] = ()
    ) -> tuple[Context, Pair] | None:
        """The next sample.

        Args:
            contexts: those that may be measured; the first that has rested is.
            now_s: the time, in seconds of any clock.
            silent: our locators on silent uplinks. If there are any, only these are sampled.

        Returns:
            A context and one of its pairs; None if every context has just been measured.
        """
        self._forget(now_s)
        for context in contexts:
            if context.local_label in self._rests_until_s:
                continue
            pair = self._choose(context, silent)
            if pair is not None:
                self.rest(context, now_s + self.interval_s)
                return context, pair
        return None

    def rest(self, context: Context, until_s: float) -> None:
        """Does not measure a context until then."""
        self._rests_until_s.pop(context.local_label, None)
        self._rests_until_s[context.local_label] = until_s
        while len(self._rests_until_s) > RESTING_MAX:
            del self._rests_until_s[next(iter(self._rests_until_s))]

    def _choose(self, context: Context, silent: Collection[Locator]) -> Pair | None:
        used = context.local_locator
        pairs = [
            (local, peer)
            for peer in context.peer_set
            if context.is_verified(peer)
            for local in context.own_set
            if (local in silent if silent else local != used)
        ]
        if silent and not pairs:
            return None
        self._samples += 1
        if not pairs or (not silent and self._samples % IN_USE_EVERY == 0):
            return context.pair
        self._idle_samples += 1
        return pairs[self._idle_samples % len(pairs)]

    def _forget(self, now_s: float) -> None:
        over = [label for label, until_s in self._rests_until_s.items() if until_s <= now_s]
        for label in over:
            del self._rests_until_s[label]
