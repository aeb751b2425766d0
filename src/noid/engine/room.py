# SPDX-License-Identifier: MIT
"""Room for one more context: which contexts are evicted if there are too many [D46].

A context that a local program began takes the place of one that a peer began. It is evicted for one
of another local program alone, and by the shares of users. A peer that does not hear the CLOSE gets
a UC for its next packet.
"""

from noid.constants import ALIKE_MAX, IN_USE_TIME
from noid.engine import lifecycle
from noid.engine.causes import Cause
from noid.engine.close import say_close
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.state import Trigger
from noid.identifiers import Label
from noid.locators import Locator
from noid.shares.policy import region_of_user, site_of
from noid.shares.tables import Rank, Table


def make_room_for_peer(core: Core, began: Locator, *, provisional: bool) -> None:
    """Evicts contexts to make room for one that a peer begins.

    Args:
        core: the core of the host.
        began: the locator of the peer whose share it takes.
        provisional: whether it will be provisional.
    """
    site = site_of(began)
    if provisional:
        _make_room(core, core.provisional, site, is_full=core.provisional.is_full)
    _make_room(core, core.begun_by_peers, site, is_full=_is_full(core))


def make_room_for_user(core: Core, user: int) -> None:
    """Evicts contexts to make room for one that a program of a local user begins."""
    site = region_of_user(user)
    _make_room(core, core.begun_here, site, is_full=core.begun_here.is_full)
    _make_room(core, core.begun_by_peers, None, is_full=_is_full(core))
    if _is_full(core):
        _make_room(core, core.begun_here, site, is_full=True)


def _is_full(core: Core) -> bool:
    return len(core.labels) >= core.options.contexts_max


def is_crowded(core: Core, label: Label, context: Context | None) -> bool:
    """Whether so many other contexts have this label of the peer that no more are accepted.

    Labels are random, so only an attacker causes this. A lookup by the peer's label examines each
    of these contexts.
    """
    alike = core.by_peer_label.get(label, ())
    return len(alike) >= ALIKE_MAX and context not in alike


def _make_room(core: Core, shares: Table[Label], site: int | None, *, is_full: bool) -> None:
    unused_ns = max(0, core.now_ns - IN_USE_TIME)

    def rank(label: Label) -> Rank:
        context = core.labels[label]
        return bool(context.verification.proven), context.used_ns

    for label in shares.in_the_way(site, core.now_ns, unused_ns, rank, is_full=is_full):
        _evict(core, core.labels[label])


def _evict(core: Core, context: Context) -> None:
    """Deletes a context at once, and sends its peer one CLOSE."""
    if context.is_settled:
        say_close(core, context)
    lifecycle.discard(core, context, Trigger.NO_ROOM, Cause.NO_ROOM)
