# SPDX-License-Identifier: MIT
"""Which pair of locators is measured next, while nothing is suspected.

Contexts notice by themselves that the pair in use is silent, within milliseconds. So most samples
go over the uplinks that a context does not use. A context is measured at most once a second: that
is the law of quiet, and with few contexts it bounds how soon an idle uplink is found to be silent.
"""

from collections.abc import Collection, Iterable
from typing import Final

from noid.engine.context import Context
from noid.engine.history import Pair
from noid.locators import Locator

CONTEXT_INTERVAL_S: Final = 1.0
"""Between two samples of one context."""
SILENT_INTERVAL_S: Final = 0.3
"""The same while an uplink is silent, so that its return is noticed."""
UNANSWERED_REST_S: Final = 30.0
"""A peer that answered over no uplink is left alone for so long: its daemon may have stopped."""
IN_USE_EVERY: Final = 5
"""So many samples contain one of the pair in use, for its loss and its round trip."""
RESTING_MAX: Final = 256
"""Contexts whose last sample is remembered; the oldest are forgotten."""


class Sampling:
    """The order of samples."""

    def __init__(self) -> None:
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
                interval_s = SILENT_INTERVAL_S if silent else CONTEXT_INTERVAL_S
                self.rest(context, now_s + interval_s)
                return context, pair
        return None

    def rest(self, context: Context, until_s: float) -> None:
        """Leaves a context alone for some time."""
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
