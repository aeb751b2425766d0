# SPDX-License-Identifier: MIT
"""Lsl(local): this host's own locators, and what is said of them [draft §4.1 step 6, §4.5; D22]."""

from noid.constants import LOCATORS_MAX
from noid.engine.events import LocatorsChanged
from noid.locators import Locator
from noid.wire.options import Entries, LocatorEntry, LocatorFlag


def locators_with(
    own: LocatorsChanged, aid: Locator, *, is_verifiable: bool
) -> tuple[Locator, ...]:
    """Lsl of a context of ours: its AID, and then the others we have [draft §4.1 step 6].

    A host whose locators no peer can verify saves its peers the questions [draft §7.2, §7.3].
    """
    if not is_verifiable:
        return (aid,)
    return (aid, *[one for one in own.locators if one != aid])[:LOCATORS_MAX]


def marks(own: LocatorsChanged, own_local: tuple[Locator, ...]) -> Entries:
    """What is to be said of a context's locators; its AID is broken once the host lacks it."""
    said = {
        LocatorFlag.DEPRECATED: own.deprecated,
        LocatorFlag.BROKEN: own.broken | (frozenset(own_local) - frozenset(own.locators)),
        LocatorFlag.BACKUP: own.backup,
    }
    if not any(said.values()):
        return ()
    entries = [
        LocatorEntry(one, sum(flag for flag, those in said.items() if one in those))
        for one in own_local
    ]
    return tuple([entry for entry in entries if entry.flags])
