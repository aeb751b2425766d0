# SPDX-License-Identifier: MIT
"""What a host knows of peers without a context, and what it is finding out about them."""

from dataclasses import dataclass, field

from noid.dns.records import Question
from noid.locators import Locator


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """An M6 host the resolver told us of: the proto-context of [draft §4.1 step 1].

    Attributes:
        name: FQDN(peer), canonical.
        locators: what it lists, the AID first.
        confirmed_until_ns: until when the reverse lookup of the AID is known to say so too [D33].
        unable_ns: for how long it was last reached plainly; 0 since it answered by M6 [D45].
    """

    name: str
    locators: tuple[Locator, ...]
    confirmed_until_ns: int = 0
    unable_ns: int = 0


@dataclass(slots=True, eq=False)
class Lookup:
    """What is being found out about a stranger [D34].

    Attributes:
        open: questions without an answer yet.
        listing: names found to list the stranger's address -> all the addresses they list.
        capable: names found to have the M6 record.
        failed: whether a question met a transient error.
    """

    open: set[Question]
    listing: dict[str, tuple[Locator, ...]] = field(default_factory=dict)
    capable: set[str] = field(default_factory=set)
    failed: bool = False
