# SPDX-License-Identifier: MIT
"""Pairs of addresses between which programs have connections, from the kernel [draft §5, D19].

The kernel can only be asked for all of them, which with some 40,000 takes a tenth of a second. So
one look, on a thread of its own, answers all questions of a short time: a connection that is
younger than that has sent something, and its context is not idle.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from noid.locators import LOCATOR_OCTETS, Locator

TABLES: Final = (Path("/proc/net/tcp6"), Path("/proc/net/udp6"))
"""TCP connections and connected UDP sockets: in each line their number, both ends, their state."""
GONE: Final = (b"06", b"07")
"""TIME_WAIT and CLOSE (of UDP: not connected): no program waits for an answer."""
LOOK_AGE_S: Final = 10.0
"""How long the result of one reading is used; much less than the idle time X."""

Pairs = frozenset[tuple[bytes, bytes]]


class Connections:
    """The connections of this host.

    Args:
        tables: where the kernel lists them.
        look_age_s: for how many seconds one look answers.
    """

    def __init__(self, tables: Sequence[Path] = TABLES, look_age_s: float = LOOK_AGE_S) -> None:
        self._tables = tables
        self._look_age_s = look_age_s
        self._look: asyncio.Task[Pairs | None] | None = None
        self._looked_s = 0.0

    async def exist(self, local: Locator, peer: Locator) -> bool:
        """Whether a TCP connection, or a connected UDP socket, is open between two addresses.

        There may be one, and the answer is yes, as long as that cannot be read: while the daemon
        has no descriptor left, no context ends that a program needs.
        """
        now_s = time.monotonic()
        if self._look is None or now_s - self._looked_s > self._look_age_s:
            self._looked_s = now_s
            self._look = asyncio.create_task(asyncio.to_thread(_pairs, self._tables))
        # One question that is given up must not end the look of the others.
        pairs = await asyncio.shield(self._look)
        return pairs is None or (_as_listed(local), _as_listed(peer)) in pairs


def _pairs(tables: Sequence[Path]) -> Pairs | None:
    """The two addresses of each connection; None if a table is there and cannot be read."""
    found = set()
    for table in tables:
        try:
            lines = table.read_bytes().splitlines()[1:]
        except FileNotFoundError:
            continue
        except OSError:
            return None
        for line in lines:
            _, local, peer, state, _ = line.split(None, 4)
            if state not in GONE:
                found.add((local.partition(b":")[0], peer.partition(b":")[0]))
    return frozenset(found)


def _as_listed(locator: Locator) -> bytes:
    """An address as the kernel lists it: four words, each in the machine's own order."""
    words = (locator[at : at + 4] for at in range(0, LOCATOR_OCTETS, 4))
    return b"".join(b"%08X" % int.from_bytes(word, sys.byteorder) for word in words)
