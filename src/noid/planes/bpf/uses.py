# SPDX-License-Identifier: MIT
"""Counts which addresses and routes of this host the flows need. Pure."""

from collections import Counter

from noid.flows.flow import Flow
from noid.identifiers import Label
from noid.locators import Locator


class Uses:
    """Counts the flows that use an address or a route to a peer: one that none uses is removed.

    Attributes:
        addresses: how many flows have an address of this host as AID(local) or Lp(local).
        local_of: the AID that programs last spoke from to each peer.
    """

    def __init__(self) -> None:
        self.addresses: Counter[Locator] = Counter()
        self.local_of: dict[Locator, Locator] = {}
        self._flows: dict[Label, tuple[Locator, Locator]] = {}
        self._led: dict[Label, tuple[int, Locator]] = {}
        self._leading: Counter[tuple[int, Locator]] = Counter()

    def take(self, flow: Flow) -> None:
        """Counts a flow, in the place of the one with its label."""
        self._leave(flow.local_label)
        self._flows[flow.local_label] = flow.local_aid, flow.local_locator
        for one in self._flows[flow.local_label]:
            self.addresses[one] += 1

    def drop(self, local_label: Label) -> tuple[int, Locator] | None:
        """Forgets a flow; returns row and peer if no other flow needs that route."""
        self._leave(local_label)
        return self.need_route(local_label, None)

    def need_route(
        self, local_label: Label, to: tuple[int, Locator] | None
    ) -> tuple[int, Locator] | None:
        """Records the route that a flow needs: the row of an uplink and a peer, or none.

        Returns:
            Row and peer of the route that the flow needed before, if no other flow needs it now.
        """
        before = self._led.pop(local_label, None)
        if to is not None:
            self._led[local_label] = to
            self._leading[to] += 1
        if before is None:
            return None
        self._leading[before] -= 1
        if self._leading[before]:
            return None
        del self._leading[before]
        return before

    def _leave(self, local_label: Label) -> None:
        for one in self._flows.pop(local_label, ()):
            self.addresses[one] -= 1
            if not self.addresses[one]:
                del self.addresses[one]
