# SPDX-License-Identifier: MIT
"""Which pair of locators is best: fields compared in order, no weights [D20].

Answers to probes improve the rank of a pair and never lower it. A context looks for another pair
only because of silence, or because one of the hosts says so. Therefore no threshold is needed, and
two ends with the same facts choose the same pair.
"""

from collections.abc import Iterable, Sequence

from noid.constants import HEARD_TOGETHER, SILENCE_MAX
from noid.engine.causes import Cause
from noid.engine.context import Context
from noid.engine.history import Pair
from noid.engine.state import Path
from noid.locators import Locator
from noid.wire.options import LocatorFlag

NEW_MARKS = (Cause.OWN_LOCATORS_BETTER, Cause.PEER_LOCATORS_BETTER)
"""Why a pair is left as soon as its ends are marked."""


def standing(context: Context, pair: Pair) -> tuple[int, int, int]:
    """The rank of a pair by the marks of its ends; smaller is better.

    In order: how many ends are broken, how many are deprecated, how many are backups. A
    deprecated pair is better than a broken one, and a backup is better than a deprecated pair
    [D20, D22, D25]. A locator that the DNS no longer lists counts as deprecated [D44].
    """
    local, peer = context.own_marks_of(pair[0]), context.marks_of(pair[1])
    local_unlisted, peer_unlisted = pair[0] not in context.own_set, pair[1] in context.lapsing
    return (
        bool(local & LocatorFlag.BROKEN) + bool(peer & LocatorFlag.BROKEN),
        bool(local & LocatorFlag.DEPRECATED or local_unlisted)
        + bool(peer & LocatorFlag.DEPRECATED or peer_unlisted),
        bool(local & LocatorFlag.BACKUP) + bool(peer & LocatorFlag.BACKUP),
    )


def is_broken(context: Context) -> bool:
    """Whether an end of the pair in use is marked broken."""
    return standing(context, context.pair)[0] > 0


def rank(context: Context, pair: Pair) -> tuple[tuple[int, int, int], bool, int, int]:
    """The rank of a pair; smaller is better.

    In order: fewer ends are broken; fewer are deprecated; fewer are backups; it shares no locator
    with the pair in use, because either end may be why that is silent; something was heard over it
    more recently, pairs never heard over last; its round-trip time is shorter.
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

    A pair that was left only because of marks is one of them when its ends have no more.
    """
    home = context.left_pair
    if home is None and not _has_marks(context):
        return []
    now = standing(context, context.pair)
    if not any(now) and home is None:
        return []
    better = [
        pair
        for pair in other_pairs(context)
        if standing(context, pair) < now or (pair == home and standing(context, pair) <= now)
    ]
    return sorted(better, key=lambda pair: rank(context, pair))


def answer_pairs(context: Context) -> tuple[Pair, ...]:
    """The pairs over which the peer is answered: the one in use, and the AIDs if data uses these.

    In a search nothing is known of the pair in use, and data is plain between the AIDs.
    """
    if context.is_searching and not context.is_on_aids and context.local_aid in context.own_usable:
        return context.pair, (context.local_aid, context.peer_aid)
    return (context.pair,)


def is_worse(context: Context) -> bool:
    """Whether the pair in use has a worse standing than another."""
    now = standing(context, context.pair)
    return any(standing(context, pair) < now for pair in alternatives(context)[:1])


def _has_marks(context: Context) -> bool:
    """Whether a locator of either host may rank below others by its marks, or by the DNS."""
    if context.own_marks or context.peer_marks or context.lapsing:
        return True
    is_listed = context.own_remote is None or context.own_remote is context.own_local
    return not is_listed or context.local_locator not in context.own_local


def is_set_aside(context: Context, pair: Pair, why: Cause) -> bool:
    """Whether a pair is left only because of marks, and used again without them [D22, D25].

    The first such pair is the one that is returned to, unless it is a backup. Of backups, only the
    pair of the AIDs counts, and only if it is left because the mark is new: others were used
    because no better pair worked, and a backup that failed is left because it failed.
    """
    flags, home = _flags(context, pair), context.left_pair
    is_kept = home is not None and not _flags(context, home) & LocatorFlag.BACKUP
    if is_kept or flags & LocatorFlag.BROKEN:
        return False
    is_home = pair == (context.local_aid, context.peer_aid)
    if is_home and flags & LocatorFlag.BACKUP and why in NEW_MARKS:
        return True
    return bool(flags & LocatorFlag.DEPRECATED)


def _flags(context: Context, pair: Pair) -> int:
    """The marks of both ends of a pair."""
    return context.own_marks_of(pair[0]) | context.marks_of(pair[1])


def alternatives(context: Context) -> list[Pair]:
    """The pairs that data could use instead of the one in use, the best first."""
    return sorted(other_pairs(context), key=lambda pair: rank(context, pair))


def other_pairs(context: Context) -> list[Pair]:
    """The same pairs in any order."""
    verified = context.peer_verified
    return [
        (local, peer)
        for local in context.own_set
        for peer in context.peer_set
        if peer in verified and (local, peer) != context.pair
    ]


def unlisted_pairs(context: Context) -> list[Pair]:
    """The pairs from our working locators that the peer does not list, if no other works.

    Only an update is sent over them, because the peer has to learn of these locators.
    """
    usable, listed = context.own_usable, context.own_set
    if not usable.isdisjoint(listed):
        return []
    verified = context.peer_verified
    pairs = [(one, peer) for one in context.own_local if one in usable for peer in verified]
    return sorted(pairs, key=lambda pair: rank(context, pair))


def first_contacts(context: Context) -> list[Pair]:
    """The pairs over which INIT is tried, in order [draft §4.4, §7.2; D38].

    "The first INIT message is sent to the destination locator which is the AID." Then "a different
    destination locator should be used", among those that the DNS has proven, and it may be
    "necessary [...] to try different source locators as well". Each pair has another source than
    the one before, too: if a provider of both hosts has failed, both ends have to be others.
    Sources of a worse standing than the first come after all pairs of the others. A source that is
    known to be broken is left out if there are others.
    """
    sources = list(dict.fromkeys((context.local_aid, *context.own_set)))
    groups = _by_standing(context, sources) if _has_marks(context) else [sources]
    proven = context.peer_verified | {context.peer_aid}
    peers = [locator for locator in context.peer_set if locator in proven]
    return [
        (group[(turn + place) % len(group)], peer)
        for group in groups
        for turn in range(len(group))
        for place, peer in enumerate(peers)
    ]


def _by_standing(context: Context, sources: list[Locator]) -> list[list[Locator]]:
    """Our sources of INIT that are not worse than the first, and the worse ones.

    Args:
        context: the context.
        sources: the AID, and the others.
    """
    ranks = {one: standing(context, (one, context.peer_aid)) for one in sources}
    every = [sources[0], *sorted(sources[1:], key=ranks.__getitem__)]
    kept = [one for one in every if not context.own_marks_of(one) & LocatorFlag.BROKEN] or every
    worse = [one for one in kept if ranks[one] > ranks[kept[0]]]
    return [kept[: len(kept) - len(worse)], worse]


def working(contexts: Iterable[Context], locators: Sequence[Locator]) -> tuple[Locator, ...]:
    """The locators of a peer at which a connection can probably start, by its contexts [D24].

    Left out: locators that the peer calls broken or deprecated; locators that the DNS has shown not
    to be the peer's; AIDs that their own context had to leave. If none remains, all are returned.
    """
    kept = list(locators)
    for context in contexts:
        if context.is_settled:
            kept = [locator for locator in kept if _is_good(context, locator)]
    return tuple(kept or locators)


def weight(contexts: Iterable[Context], locator: Locator) -> int:
    """The weight that a peer gives one of its locators for new connections, 1 to 8."""
    said = (one.marks_of(locator) & LocatorFlag.WEIGHT for one in contexts if one.is_settled)
    return 1 + max(said, default=0)


def is_questioned(context: Context) -> bool:
    """Whether the pair in use is asked only for a proof, without any suspicion."""
    one = context.search
    return context.path is Path.ASKING and one is not None and one.is_question


def answering(contexts: Iterable[Context]) -> tuple[Locator, ...]:
    """The AIDs of contexts whose peer is known to speak M6 and is reached by it [D49].

    A peer that is suspected or silent is left out.
    """
    return tuple(
        context.peer_aid
        for context in contexts
        if context.is_settled
        and (context.path in (Path.STEADY, Path.LEAVING) or is_questioned(context))
    )


def _is_good(context: Context, locator: Locator) -> bool:
    if context.marks_of(locator) & (LocatorFlag.BROKEN | LocatorFlag.DEPRECATED):
        return False
    if locator not in context.peer_set:
        return False
    return locator != context.peer_aid or locator == context.peer_locator
