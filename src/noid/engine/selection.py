"""Which pair of locators is best: fields compared in order, no weights [D20].

Probes promote a pair, they never demote one; only silence makes a context look around at all. So
nothing here needs a threshold, and two ends that look at the same facts choose alike.
"""

from noid.engine.context import Context, Pair
from noid.locators import Locator
from noid.wire.options import LocatorFlag


def rank(context: Context, pair: Pair) -> tuple[bool, bool, bool, bool, int]:
    """How good a pair is; the smaller the better.

    In order: its destination is not broken; neither end is deprecated; it is no backup; it shares
    no locator with the pair in use, whose silence speaks against both its ends; it was heard from
    most recently, where a pair never heard from comes last.
    """
    flags = context.marks_of(pair[1])
    shared = pair[0] == context.local_locator or pair[1] == context.peer_locator
    return (
        bool(flags & LocatorFlag.BROKEN),
        bool(flags & LocatorFlag.DEPRECATED) or pair[0] in context.own_deprecated,
        bool(flags & LocatorFlag.BACKUP),
        shared,
        -context.heard_ns.get(pair, 0),
    )


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
    """The pairs over which INIT is tried, in order [draft §4.4, §7.2].

    "The first INIT message is sent to the destination locator which is the AID." Then the other
    destinations, then the other sources too, "as it is retransmitting the INIT message".
    """
    locals_: list[Locator] = [context.local_aid]
    locals_ += [locator for locator in context.own_set if locator != context.local_aid]
    return [(local, peer) for local in locals_ for peer in context.peer_set]
