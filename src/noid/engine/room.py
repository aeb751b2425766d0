# SPDX-License-Identifier: MIT
"""Room for one more context: which contexts are evicted if there are too many [D46].

A context that a local program began takes the place of one that a peer began, and is never evicted.
A peer that does not hear the CLOSE gets a UC for its next packet.
"""

from noid.constants import IN_USE_TIME
from noid.engine.causes import Cause
from noid.engine.close import say_close
from noid.engine.context import Context
from noid.engine.core import Core
from noid.engine.state import Trigger
from noid.locators import Locator
from noid.shares.policy import site_of
from noid.shares.tables import Rank, Table


def make_room(core: Core, began: Locator | None, *, provisional: bool = False) -> None:
    """Evicts contexts to make room for one more.

    Args:
        core: of the host.
        began: the locator of the peer whose share it takes; None if a local program began.
        provisional: whether it will be provisional.
    """
    if provisional:
        _make_room(core, core.provisional, began, is_full=core.provisional.is_full)
    is_full = len(core.labels) >= core.options.contexts_max
    _make_room(core, core.begun_by_peers, began, is_full=is_full)


def _make_room(core: Core, shares: Table, began: Locator | None, *, is_full: bool) -> None:
    site = None if began is None else site_of(began)
    unused_ns = max(0, core.now_ns - IN_USE_TIME)

    def rank(label: int) -> Rank:
        context = core.labels[label]
        return bool(context.verification.proven), context.used_ns

    for label in shares.in_the_way(site, core.now_ns, unused_ns, rank, is_full=is_full):
        _evict(core, core.labels[label])


def _evict(core: Core, context: Context) -> None:
    """Deletes a context at once, and sends its peer one CLOSE."""
    if context.is_settled:
        say_close(core, context)
    core.discard(context, Trigger.NO_ROOM, Cause.NO_ROOM)
