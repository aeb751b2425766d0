# SPDX-License-Identifier: MIT
"""Lsl(local): this host's own locators, and their marks [draft §4.1 step 6, §4.5; D22]."""

from noid.constants import LOCATORS_MAX
from noid.engine.events import LocatorsChanged
from noid.locators import UNSPECIFIED, Locator
from noid.wire.options import Entries, LocatorEntry, LocatorFlag


def locators_with(
    own: LocatorsChanged, aid: Locator, *, is_verifiable: bool
) -> tuple[Locator, ...]:
    """Lsl of a context of ours: its AID, then our other locators [draft §4.1 step 6].

    It has only the AID if no peer can verify the others, which saves questions [draft §7.2, §7.3].
    """
    if not is_verifiable:
        return (aid,)
    return (aid, *[one for one in own.locators if one != aid])[:LOCATORS_MAX]


def pinned(own: LocatorsChanged, peer_aid: Locator, name: str) -> frozenset[Locator]:
    """Our locators on the uplink to which a peer is pinned; empty if it is not pinned.

    Args:
        own: our locators.
        peer_aid: AID(peer).
        name: FQDN(peer), canonical; empty while it is not known.
    """
    for pin in own.pins:
        if pin.peers.covers(peer_aid) or pin.peers.names_it(name):
            return pin.locators.intersection(own.locators)
    return frozenset()


def marks(
    own: LocatorsChanged,
    own_local: tuple[Locator, ...],
    local_aid: Locator,
    peer_aid: Locator = UNSPECIFIED,
    name: str = "",
) -> Entries:
    """The marks of a context's locators; its AID is broken if the host does not have it.

    Args:
        own: our locators.
        own_local: those of the context.
        local_aid: AID(local).
        peer_aid: AID(peer), which may be pinned to an uplink.
        name: FQDN(peer), canonical; empty while it is not known.
    """
    missing = frozenset(own_local).difference(own.locators)
    if own.is_unmarked and not missing:
        return ()
    kept_to = pinned(own, peer_aid, name)
    if not kept_to and own.is_spread and local_aid not in own.backup:
        kept_to = frozenset((local_aid,))
    others = frozenset(own_local) - kept_to
    said = {
        LocatorFlag.DEPRECATED: own.deprecated,
        LocatorFlag.BROKEN: own.broken | missing,
        LocatorFlag.BACKUP: others if kept_to.intersection(own_local) else own.backup,
    }
    entries = [
        LocatorEntry(
            one,
            sum(flag for flag, those in said.items() if one in those) | own.weights.get(one, 1) - 1,
        )
        for one in own_local
    ]
    return tuple([entry for entry in entries if entry.flags])
