# SPDX-License-Identifier: MIT
"""What sources compete for, and how much of it each gets [D46].

One row for each table, budget and rate. A source is counted by its site, the /48 of its address,
and by its region, the /32. A site and a region may have more than one eighth of a row only while
others do not need it: of a table, as long as no source with less finds it full; of the others,
as long as half of it is free. The rows are data: the tables and rates that obey them are
``noid.shares.tables`` and ``noid.shares.rates``; ``noid status`` shows the largest users.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from noid.constants import (
    CC_RATE_PER_SECOND,
    CONTEXTS_MAX,
    ERROR_RATE_PER_SECOND,
    KNOWN_PEERS_MAX,
    LOOKUPS_MAX,
    PREFIX_ERROR_RATE_PER_SECOND,
    PREFIX_OCTETS,
    PREFIX_RATE_PER_SECOND,
    PROVISIONAL_CONTEXTS_MAX,
    QUARANTINED_LABELS_MAX,
    SECOND,
    VERIFY_AGAIN_QUESTIONS_MAX,
)
from noid.locators import Locator

REGION_SHIFT = 16
"""The bits of a site that follow its region: a region is a /32, a site a /48."""
SHARES = 8
"""The share of a site or region is one part of this number."""
NEEDED_TIME = 60 * SECOND
"""How long a full table counts as needed after a source below its share needed it."""
RECALLED_MAX = 16
"""Unused entries that a new source takes from a region above its share, while needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One resource that sources compete for.

    Attributes:
        name: the name in ``noid status``.
        limit: entries, or events per second.
        each: maximum rate of a single user, even if others do not need it; 0: no such limit.
        burst: of a rate, the burst in seconds.
        user: what counts as one user.
        by_chance: of a rate, above half of the burst events are refused at random, the more the
            fuller it is. A host that sees whether one event is permitted learns little of others.
    """

    name: str
    limit: int
    each: int = 0
    burst: int = 2
    user: str = "/48"
    by_chance: bool = False

    @property
    def at_once(self) -> int:
        """The burst of a rate, in events."""
        return self.limit * self.burst

    @property
    def each_at_once(self) -> int:
        """The burst of a rate for a single user, in events."""
        return self.each * self.burst

    @property
    def share(self) -> int:
        """The share of a site or region while others need the resource."""
        return max(1, self.limit // SHARES)


@dataclass(frozen=True, slots=True)
class Standing:
    """The current use of a row.

    Attributes:
        row: the row.
        limit: the maximum of entries here; of a rate, events per second.
        used: the number of entries; 0 for a rate.
        largest: the sites with the greatest counts of entries, or of refusals by a rate.
        regions: the same for regions.
    """

    row: Row
    limit: int
    used: int
    largest: dict[int, int]
    regions: dict[int, int]


LARGEST_SHOWN = 3
"""The number of sites and regions in a standing."""


def largest(counts: Mapping[int, int]) -> dict[int, int]:
    """The LARGEST_SHOWN greatest counts, by user, the greatest first."""
    found = sorted(counts.items(), key=lambda one: one[1], reverse=True)
    return dict(found[:LARGEST_SHOWN])


CONTEXTS = Row(name="contexts", limit=CONTEXTS_MAX)
"""Contexts that peers began; those that local programs began are exempt. The configuration may set
a lower limit."""
LOCAL_USER = "user"
LOCAL_CONTEXTS = Row(
    name="contexts of local programs",
    limit=CONTEXTS_MAX - CONTEXTS_MAX // SHARES,
    user=LOCAL_USER,
)
"""Contexts that local programs began, by user. An eighth of all contexts is left to peers. With a
lower limit in the configuration, it is the same part of that."""
RESOLVED = Row(name="resolved peers", limit=KNOWN_PEERS_MAX, user=LOCAL_USER)
"""Peers that programs have resolved, by user."""
PROVISIONAL = Row(name="provisional contexts", limit=PROVISIONAL_CONTEXTS_MAX)
"""Contexts whose CC was not sent to the AID [D37]."""
INQUIRIES = Row(name="dns questions", limit=VERIFY_AGAIN_QUESTIONS_MAX)
"""Open questions about peers that began the context [D31]."""
ZONE_QUESTIONS = Row(name="dns questions of a zone", limit=INQUIRIES.limit, each=32, user="zone")
"""The same questions, for one zone, whose server may not answer."""
LOOKUPS = Row(name="lookups of strangers", limit=LOOKUPS_MAX)
"""Lookups of unknown hosts to which local programs send [D34]; a site whose name servers are silent
leaves room for others. The packets of one local user cause at most half of them."""
QUARANTINE = Row(name="labels in quarantine", limit=QUARANTINED_LABELS_MAX)
"""Labels of deleted contexts; those that local programs began are exempt [D19]."""
CHECKS = Row(name="CC", limit=CC_RATE_PER_SECOND, each=PREFIX_RATE_PER_SECOND)
"""CCs per second: as many as one processor core can make [D9]."""
ERRORS = Row(
    name="UC and CLOSEACK",
    limit=ERROR_RATE_PER_SECOND,
    each=PREFIX_ERROR_RATE_PER_SECOND,
    by_chance=True,
)
"""UCs and CLOSEACKs without a context, per second [D9, D41]. A packet with a label in use causes
none: by a limit that can be reached exactly, others could see that."""
MESSAGES = Row(name="messages of a context", limit=0, each=256, user="context")
"""New authentic URs, UAs and keepalives of one context per second, from all locators of the peer
together."""
REPEATS = Row(name="repeated messages of a context", limit=0, each=32, user="context")
"""Repeated and late ones of one context and one locator of the peer: any host may send them."""
AGREEMENTS = Row(name="keys of a context", limit=0, each=4, burst=1, user="context")
"""X25519 computations per second with public keys in INITs during a set-up, which any host may have
sent. The same for CONFs, and for CCRs [D40]."""
HINTS = Row(name="errors about a context", limit=0, each=1, burst=1, user="context")
"""ICMPv6 errors about one context that start a search, per second: any host may have sent them.
Silence of the pair in use starts a search nevertheless [D47]. URs from a locator that is not proven
share this rate, where they make the DNS be asked sooner. Questions whether data has come have
another one."""
CONTROL = Row(name="control messages", limit=16_000, each=2_000, burst=1)
"""Control messages and ICMPv6 errors that a plane passes to the engine per second."""
NAMED = Row(name="control messages that name a context", limit=0, each=128, burst=1, user="context")
"""The same, per context and locator of the peer, if they have the label, AIDs and locators of a
context. They are not authenticated yet; those above this rate count like all others."""
UNKNOWN = Row(name="unknown labels", limit=200, each=25, burst=1, by_chance=True)
"""Data packets without a context that a plane reports per second."""
POLICY = (
    CONTEXTS, LOCAL_CONTEXTS, RESOLVED, PROVISIONAL, INQUIRIES, ZONE_QUESTIONS, LOOKUPS,
    QUARANTINE, CHECKS, ERRORS, MESSAGES, REPEATS, AGREEMENTS, HINTS, CONTROL, NAMED, UNKNOWN,
)  # fmt: skip


def local_contexts(limit: int) -> int:
    """The contexts that local programs may begin, of a number of all; an eighth is for peers."""
    return max(1, limit - limit // SHARES)


def region_of_user(user: int) -> int:
    """The site that counts for a local user: the only one of a region."""
    return user << REGION_SHIFT


def site_of(source: Locator) -> int:
    """The site of an address, as a number of 48 bits."""
    return int.from_bytes(source[:PREFIX_OCTETS], "big")
