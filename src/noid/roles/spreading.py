# SPDX-License-Identifier: MIT
"""From which locator new connections start: by pins, weights and routes.

The program in the kernel (``noid.planes.bpf.connecting``) chooses for each connection, by weight.
Where it cannot be used, and for packets without a connection, each address of a peer has one
source: the weights then hold over many addresses.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from noid.engine.options import Pin
from noid.errors import ShimError
from noid.locators import Locator, is_unique_local
from noid.planes.bpf.connecting import Connecting
from noid.roles.local_locators import LocalLocators

HASH_OCTETS: Final = 8
HASHES: Final = 1 << 8 * HASH_OCTETS

logger = logging.getLogger("noid")


class Spreading:
    """Chooses the sources of new connections of one host.

    Args:
        own: the host's locators.
        pinned: our locators on the uplink that a peer is pinned to, if any.
        log_path: where the messages of the verifier go if the kernel refuses the program.

    Attributes:
        trouble: why the kernel does not choose for each connection; empty if it can.
    """

    def __init__(
        self,
        own: LocalLocators,
        pinned: Callable[[Locator], frozenset[Locator]],
        log_path: Path,
    ) -> None:
        self.own = own
        self.pinned = pinned
        self.log_path = log_path
        self.trouble = ""
        self._peers: set[Locator] = set()
        self._slots: list[Locator] = []
        self._pins: tuple[Pin, ...] = ()
        self._connecting: Connecting | None = None

    def close(self) -> None:
        """Lets the routes choose again."""
        if self._connecting is not None:
            self._connecting.close()
            self._connecting = None

    def describe(self) -> dict[str, str]:
        """How new connections are spread, for ``noid status``."""
        by = "routes"
        if self.own.weights:
            by = "addresses" if self._connecting is None else "connections"
        return {"by": by, "trouble": self.trouble}

    def sources(self, aid: Locator) -> tuple[Locator, ...]:
        """The locators that connections to a peer's address may start from, the best first.

        Those that are unique local as the address is, or are not as it is not, come before others,
        as the kernel has it (RFC 6724 §5 rule 6).
        """
        own, pinned, weights = self.own, self.pinned(aid), self.own.weights
        found = own.sources
        if pinned:
            found = own.working(pinned) or own.working(own.locators) or found
        elif weights and _are_alike(aid, next(iter(weights))):
            return (min(weights, key=lambda one: _rank(aid, one, weights[one])),)
        return tuple(sorted(found, key=lambda one: not _are_alike(aid, one)))

    def led(self, aid: Locator, is_led: bool) -> None:
        """A plane chooses the source of packets to a peer's address from now on, or does not."""
        if is_led:
            self._peers.add(aid)
        else:
            self._peers.discard(aid)
        if self._connecting is not None:
            self._connecting.set_peer(aid, is_spread=is_led and self._is_spread(aid))

    def _is_spread(self, aid: Locator) -> bool:
        """Whether the kernel is to choose the source of each connection to a peer's address."""
        return _are_alike(aid, self._slots[0]) and not self.pinned(aid)

    def refresh(self) -> None:
        """Takes weights, uplinks and pins as they are now."""
        slots, pins = list(_slots(self.own.weights)), self.own.said.pins
        if (slots, pins) == (self._slots, self._pins):
            return
        self._slots, self._pins = slots, pins
        if len(set(slots)) < 2:
            self.close()
            return
        try:
            self._take(slots)
        except ShimError as error:
            if str(error) != self.trouble:
                logger.warning("connections are spread by the addresses of peers only: %s", error)
            self.trouble = str(error)
            self.close()

    def _take(self, slots: list[Locator]) -> None:
        if self._connecting is None:
            self._connecting = Connecting(self.log_path)
        for aid in self._peers:
            self._connecting.set_peer(aid, is_spread=self._is_spread(aid))
        self._connecting.set_sources(slots)
        self.trouble = ""


def _are_alike(one: Locator, other: Locator) -> bool:
    """Whether both are unique local, or neither is."""
    return is_unique_local(one) == is_unique_local(other)


def _slots(weights: Mapping[Locator, int]) -> Iterator[Locator]:
    """Each locator as often as its weight says."""
    for one, weight in weights.items():
        yield from [one] * weight


def _rank(aid: Locator, source: Locator, weight: int) -> float:
    """The rank of a source for an address: of all addresses, its weight gets the first rank.

    The ranks of other sources do not change when one comes or goes (rendezvous hashing).
    """
    digest = hashlib.blake2b(aid + source, digest_size=HASH_OCTETS).digest()
    return -math.log((int.from_bytes(digest, "big") + 1) / HASHES) / weight
