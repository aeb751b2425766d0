"""Which pair of locators is best: fields compared in order, no weights [D20].

Probes promote a pair, they never demote one; only silence, or a word from one of the hosts, makes a
context look around at all. So nothing here needs a threshold, and two ends that look at the same
facts choose alike.
"""

from noid.constants import HEARD_TOGETHER, SILENCE_MAX
from noid.engine.context import Context, Heard, Pair
from noid.locators import Locator
from noid.wire.options import LocatorFlag

NEVER_HEARD = Heard(0)


def rank(context: Context, pair: Pair) -> tuple[bool, bool, bool, bool, int, int]:
    """How good a pair is; the smaller the better.

    In order: neither end is broken; neither is deprecated; it is no backup; it shares no locator
    with the pair in use, whose silence speaks against both its ends; it was heard from most
    recently, where a pair never heard from comes last; its round-trip time is the shortest.
    """
    flags = context.marks_of(pair[1]) | context.own_marks_of(pair[0])
    shared = pair[0] == context.local_locator or pair[1] == context.peer_locator
    heard = context.heard.get(pair, NEVER_HEARD)
    return (
        bool(flags & LocatorFlag.BROKEN),
        bool(flags & LocatorFlag.DEPRECATED),
        bool(flags & LocatorFlag.BACKUP),
        shared,
        -(heard.at_ns // HEARD_TOGETHER),
        heard.round_trip_ns or SILENCE_MAX,
    )


def is_to_be_left(context: Context, pair: Pair) -> bool:
    """Whether an end of a pair is said to be broken or deprecated [draft §4.5, D20, D25]."""
    flags = context.marks_of(pair[1]) | context.own_marks_of(pair[0])
    return bool(flags & (LocatorFlag.BROKEN | LocatorFlag.DEPRECATED))


def instead(context: Context) -> list[Pair]:
    """Where to go from a pair in use that is to be left, the best first; empty if nowhere."""
    if not is_to_be_left(context, context.pair):
        return []
    return [pair for pair in alternatives(context) if not is_to_be_left(context, pair)]


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
