# SPDX-License-Identifier: MIT
"""Which pair of locators is best: fields compared in order, no weights [D20].

Probes promote a pair, they never demote one; only silence, or a word from one of the hosts, makes a
context look around at all. So nothing here needs a threshold, and two ends that look at the same
facts choose alike.
"""

from collections.abc import Iterable, Sequence

from noid.constants import HEARD_TOGETHER, SILENCE_MAX
from noid.engine.context import Context
from noid.engine.history import Pair
from noid.engine.state import Path
from noid.locators import Locator
from noid.wire.options import LocatorFlag

BROKEN = (True, False, False)
"""The best standing of a pair with a broken end."""


def standing(context: Context, pair: Pair) -> tuple[bool, bool, bool]:
    """What a pair's owners say of it: broken, deprecated, backup; the smaller the better.

    What is broken is to be left for what is deprecated, and that for a backup [D20, D22, D25]. A
    locator that the DNS lists no longer counts as deprecated [D44].
    """
    flags = context.marks_of(pair[1]) | context.own_marks_of(pair[0])
    is_unlisted = pair[0] not in context.own_set or pair[1] in context.lapsing
    return (
        bool(flags & LocatorFlag.BROKEN),
        bool(flags & LocatorFlag.DEPRECATED) or is_unlisted,
        bool(flags & LocatorFlag.BACKUP),
    )


def rank(context: Context, pair: Pair) -> tuple[tuple[bool, bool, bool], bool, int, int]:
    """How good a pair is; the smaller the better.

    In order: neither end is broken; neither is deprecated; it is no backup; it shares no locator
    with the pair in use, whose silence speaks against both its ends; it was heard from most
    recently, where a pair never heard from comes last; its round-trip time is the shortest.
    """
    shared = pair[0] == context.local_locator or pair[1] == context.peer_locator
    history = context.history_of(pair)
    return (
        standing(context, pair),
        shared,
        -(history.heard_ns // HEARD_TOGETHER),
        history.round_trip_ns or SILENCE_MAX,
    )


def better_pairs(context: Context) -> list[Pair]:
    """The pairs that are said to be better than the one in use, the best first [draft §4.5].

    So is the one that was left only because an end of it was deprecated, once none is any more.
    """
    now, home = standing(context, context.pair), context.left_pair
    if not any(now) and home is None:
        return []
    return [
        pair
        for pair in alternatives(context)
        if standing(context, pair) < now or (pair == home and standing(context, pair) <= now)
    ]


def is_deprecated(context: Context, pair: Pair) -> bool:
    """Whether a pair is to be left because an owner says so, and for nothing else [D22, D25]."""
    flags = context.marks_of(pair[1]) | context.own_marks_of(pair[0])
    return bool(flags & LocatorFlag.DEPRECATED) and not flags & LocatorFlag.BROKEN


def alternatives(context: Context) -> list[Pair]:
    """The pairs that data could use instead of the one in use, the best first."""
    verified = context.peer_verified
    pairs = [
        (local, peer)
        for local in context.own_set
        for peer in context.peer_set
        if peer in verified and (local, peer) != context.pair
    ]
    return sorted(pairs, key=lambda pair: rank(context, pair))


def first_contacts(context: Context) -> list[Pair]:
    """The pairs over which INIT is tried, in order [draft §4.4, §7.2; D38].

    "The first INIT message is sent to the destination locator which is the AID." Then the other
    destinations, as far as the DNS has proven them, then the other sources too, "as it is
    retransmitting the INIT message".
    """
    others = [locator for locator in context.own_set if locator != context.local_aid]
    others.sort(key=lambda locator: standing(context, (locator, context.peer_aid)))
    locals_: list[Locator] = [context.local_aid, *others]
    proven = context.peer_verified | {context.peer_aid}
    return [(local, peer) for local in locals_ for peer in context.peer_set if peer in proven]


def working(contexts: Iterable[Context], locators: Sequence[Locator]) -> tuple[Locator, ...]:
    """Those of a peer's locators at which a connection may well begin, as its contexts know [D24].

    Not there: what the peer calls broken or deprecated; what the DNS has shown not to be the
    peer's; an AID that its own context had to leave. All of them where nothing else is left.
    """
    kept = list(locators)
    for context in contexts:
        if context.is_settled:
            kept = [locator for locator in kept if _is_good(context, locator)]
    return tuple(kept or locators)


def is_questioned(context: Context) -> bool:
    """Whether the pair in use is asked for a proof, and nothing speaks against it."""
    one = context.search
    return context.path is Path.ASKING and one is not None and one.is_question


def answering(contexts: Iterable[Context]) -> tuple[Locator, ...]:
    """The AIDs of those contexts whose peer is known to speak M6, and to be reached by it [D49].

    Not a peer that is being asked because of a suspicion, and not one that has been silent.
    """
    return tuple(
        context.peer_aid
        for context in contexts
        if context.is_settled
        and not context.is_provisional
        and (context.path in (Path.STEADY, Path.LEAVING) or is_questioned(context))
    )


def _is_good(context: Context, locator: Locator) -> bool:
    if context.marks_of(locator) & (LocatorFlag.BROKEN | LocatorFlag.DEPRECATED):
        return False
    if locator not in context.peer_set:
        return False
    return locator != context.peer_aid or locator == context.peer_locator
