# SPDX-License-Identifier: MIT
"""What a host knows of peers without a context, and lookups of unknown hosts."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from noid.constants import NO_USER
from noid.dns.records import Question
from noid.identifiers import Label, Nonce
from noid.locators import Locator


class KnownPeer(NamedTuple):
    """An M6 host that the resolver reported: the proto-context of [draft §4.1 step 1].

    Attributes:
        name: FQDN(peer), canonical.
        locators: the addresses that it lists, the AID first.
        confirmed_until_ns: until when the reverse lookup of the AID confirms the name [D33].
        unable_ns: how long it was last reached plainly; 0 after it answered by M6 [D45].
        user: the local user whose share of the table it takes [D46].
    """

    name: str
    locators: tuple[Locator, ...]
    confirmed_until_ns: int = 0
    unable_ns: int = 0
    user: int = NO_USER


@dataclass(slots=True, eq=False)
class Lookup:
    """The lookup of an unknown host [D34].

    Attributes:
        open: questions without an answer yet.
        listing: names that list the host's address, and all addresses that they list.
        capable: names that have the M6 record.
        failed: whether a question met a transient error.
        user: the local user whose program sent to the host.
    """

    open: set[Question]
    listing: dict[str, tuple[Locator, ...]] = field(default_factory=dict)
    capable: set[str] = field(default_factory=set)
    failed: bool = False
    user: int = NO_USER


@dataclass(slots=True, eq=False)
class Disowning:
    """Whether the hosts at AIDs have the contexts that others have set up in their name.

    Attributes:
        asked: the nonces of the questions to the AID of a context, by F(local).
        until_ns: until when a set-up has to prove the AID, by <AID(local), AID(peer)>.
    """

    asked: OrderedDict[Label, list[Nonce]] = field(default_factory=OrderedDict)
    until_ns: OrderedDict[bytes, int] = field(default_factory=OrderedDict)
