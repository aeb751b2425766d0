# SPDX-License-Identifier: MIT
"""What has happened at a border since its daemon began, for ``history``, ``monitor`` and the page.

Times are in seconds since 1970; the record survives a reload of the configuration.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any, NamedTuple

from noid.border_config import EVENTS_MAX
from noid.flows.liveness import Liveness
from noid.roles.border_placed import Place

UP, DOWN = "up", "down"

Publish = Callable[[dict[str, Any]], None]


class Known(NamedTuple):
    """The last known state of a provider.

    Attributes:
        works: whether its uplink works.
        why: why it does not; empty if it does.
        since_s: since when ``works`` has this value.
    """

    works: bool
    why: str
    since_s: float


class Record:
    """The states of the providers, and the last events."""

    def __init__(self) -> None:
        self.providers: dict[str, Known] = {}
        self.liveness: dict[str, Liveness] = {}
        """That of each provider at the last reload: a prefix may be replaced, a name stays."""
        self.place: Place | None = None
        """Where the configuration before the last reload had its rules, routes and pins."""
        self.mark = 0
        """The mark of refused packets before the last reload; 0: there was none."""
        self.events: deque[dict[str, Any]] = deque(maxlen=EVENTS_MAX)
        self.publish: Publish = lambda event: None
        """Is given each event; the daemon sets it to send them to the monitors."""

    def keep(self, names: Collection[str]) -> None:
        """Forgets providers that are no longer configured."""
        self.providers = {name: one for name, one in self.providers.items() if name in names}
        self.liveness = {name: one for name, one in self.liveness.items() if name in names}

    def see(self, states: Mapping[str, tuple[bool, str]], now_s: float) -> None:
        """Compares with the last known states, and notes each change.

        Args:
            states: for each provider whether its uplink works, and why not.
            now_s: the time.
        """
        for name, (works, why) in states.items():
            known = self.providers.get(name)
            if known is not None and known.works == works:
                self.providers[name] = known._replace(why=why)
                continue
            self.providers[name] = Known(works, why, now_s)
            if known is not None:
                self._note(
                    {
                        "event": "provider_changed",
                        "at": round(now_s, 3),
                        "provider": name,
                        "old": UP if known.works else DOWN,
                        "new": UP if works else DOWN,
                        "why": why or known.why,
                        "lasted_s": round(max(0.0, now_s - known.since_s), 3),
                    }
                )

    def switched(
        self, old: Mapping[str, str], new: Mapping[str, str], use: str, now_s: float
    ) -> None:
        """Notes a switch.

        Args:
            old: by prefix, the provider by which rewritable packets left; empty: by none.
            new: by which they leave now.
            use: the provider that the operator has chosen; ``auto``: none.
            now_s: the time.
        """
        moves = [
            {"prefix": prefix, "old": old[prefix], "new": name}
            for prefix, name in new.items()
            if old.get(prefix, name) != name
        ]
        if moves:
            self._note(
                {"event": "border_switched", "at": round(now_s, 3), "use": use, "prefixes": moves}
            )

    def _note(self, event: dict[str, Any]) -> None:
        self.events.appendleft(event)
        self.publish(event)

    def last(self, count: int) -> Iterable[dict[str, Any]]:
        """The last events, the newest first."""
        return islice(self.events, count)
