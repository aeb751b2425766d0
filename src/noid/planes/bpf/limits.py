# SPDX-License-Identifier: MIT
"""How much a kernel plane has room for, besides contexts, and does in one turn. Pure."""

from dataclasses import dataclass
from typing import Final

from noid.constants import KNOWN_PEERS_MAX
from noid.planes.uplink import OWN_ROW


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a kernel plane.

    Attributes:
        known_peers: AIDs that are watched, besides those of contexts.
        own_addresses: addresses of this host at which it takes M6 packets of unknown contexts.
        uplinks: uplinks that have a row.
        routes_at_once: routes added in one turn when an uplink comes back.
        reports_at_once: reports taken in one turn, of unknown hosts and of packets without a flow.
    """

    known_peers: int = KNOWN_PEERS_MAX
    own_addresses: int = 4_096
    uplinks: int = OWN_ROW - 1
    routes_at_once: int = 500
    reports_at_once: int = 16


LIMITS: Final = Limits()
