# SPDX-License-Identifier: MIT
"""Which hosts speak M6: by names that were resolved, and by lookups of unknown hosts.

A peer is usually known because a program resolved its name [draft §4.1 step 1]. If a program has
the address from elsewhere, the engine looks up in the background whether the host "is M6 capable":
PTR, then AAAA and M6 [draft §5.2, D34]. **No packet waits for that**: packets are plain during the
lookup. If the host is a peer, its next packet begins a context.
"""

import heapq

from noid.constants import (
    KNOWN_PEERS_MAX,
    LOCATORS_MAX,
    NAMES_PER_LOCATOR_MAX,
    NO_USER,
    PEER_UNABLE_MAX,
    PEER_UNABLE_TIME,
    STRANGER_TIME,
    STRANGERS_MAX,
    UNABLE_PEERS_MAX,
)
from noid.dns.records import Answer, Kind, Question, Status, canonical_name, reverse_name
from noid.engine.causes import Cause
from noid.engine.core import Core
from noid.engine.events import (
    AnswerArrived,
    AskDns,
    PeerResolved,
    PeerUnable,
    PolicyChanged,
    WatchPeer,
)
from noid.engine.known import KnownPeer, Lookup
from noid.flows.events import UnknownPeerSeen
from noid.locators import LOCATOR_OCTETS, Locator, is_global_unicast
from noid.shares.policy import LOOKUPS, region_of_user, site_of
from noid.shares.tables import Rank

UNKNOWN = KnownPeer("", ())
OF_ONE_USER = LOOKUPS.limit // 2
"""The most lookups for the packets of one local user."""


def on_resolved(core: Core, event: PeerResolved) -> None:
    """A program was given an address of a name that speaks M6.

    If two names list one address, the name in the reverse lookup is the peer's [draft §16.2, D33].
    A later resolution of the other name does not change that.
    """
    name = canonical_name(event.name)
    if core.policy.names_it(name):
        _bypass(core, event.locators)
    if core.bypasses(event.aid):
        return
    confirmed = confirmed_name(core, event.aid)
    if confirmed and confirmed != name:
        return
    others = [locator for locator in event.locators if locator != event.aid]
    before = core.peers.get(event.aid, UNKNOWN)
    locators = (event.aid, *others)[:LOCATORS_MAX]
    known = before._replace(name=name, locators=locators, user=_owner(core, event))
    remember(core, event.aid, known)


def on_policy_changed(core: Core, event: PolicyChanged) -> None:
    """Stops watching peers that are to be reached as without M6; their contexts continue.

    Programs that still send from an address that is not a locator are reported again, because the
    operator may have changed some of them.
    """
    core.policy = event.policy
    core.uncovered.clear()
    core.bypassing.clear()
    for peer in core.peers.values():
        if core.policy.names_it(peer.name):
            _bypass(core, peer.locators)
    for aid in [one for one in core.peers if core.bypasses(one)]:
        _forget(core, aid)


def _bypass(core: Core, locators: tuple[Locator, ...]) -> None:
    """Stores the addresses of a name in the policy, because a peer sends its AID, not its name."""
    for one in locators:
        core.bypassing[one] = None
        core.bypassing.move_to_end(one)
    while len(core.bypassing) > KNOWN_PEERS_MAX:
        core.bypassing.popitem(last=False)


def remember(core: Core, aid: Locator, peer: KnownPeer) -> None:
    """Stores what is known of a peer.

    If the table is full, that of the user with the most that was resolved longest ago is removed.
    """
    before = core.peers.get(aid)
    site, entry = region_of_user(peer.user), int.from_bytes(aid, "big")
    if before is None:
        _make_room(core, site)
        core.resolved.add(site, entry)
    elif before.user != peer.user:
        core.resolved.remove(region_of_user(before.user), entry)
        core.resolved.add(site, entry)
    else:
        core.resolved.use(site, entry, is_proven=False)
    core.peers[aid] = peer
    if not core.is_unable(aid):
        core.emit(WatchPeer(aid))


def _owner(core: Core, event: PeerResolved) -> int:
    """Whose share a peer takes: of the users that resolve it, one with fewer peers than another."""
    before, count_of = core.peers.get(event.aid), core.resolved.count_of
    if before is None or count_of(event.user) + 1 < count_of(before.user):
        return event.user
    return before.user


def _make_room(core: Core, site: int) -> None:
    """Removes peers if there is no room for one more of a user [D46]."""

    def rank(_: int) -> Rank:
        return False, 0  # none is in use: contexts keep their own peers

    shares = core.resolved
    for entry in shares.in_the_way(site, core.now_ns, 0, rank, is_full=shares.is_full):
        _forget(core, Locator(entry.to_bytes(LOCATOR_OCTETS, "big")))


def _forget(core: Core, aid: Locator) -> None:
    """Removes a peer that a program has resolved."""
    user = core.peers.pop(aid).user
    core.resolved.remove(region_of_user(user), int.from_bytes(aid, "big"))
    core.release(aid)


def confirm(core: Core, aid: Locator, name: str, locators: tuple[Locator, ...], ns: int) -> None:
    """The reverse lookup of a peer's AID returned its name; no other counts for that time [D33]."""
    if aid in core.peers:
        core.peers[aid] = core.peers[aid]._replace(
            name=name, locators=locators, confirmed_until_ns=core.now_ns + ns
        )


def confirmed_name(core: Core, aid: Locator) -> str:
    """The name that the reverse lookup of an AID returned; empty if not known [D33]."""
    peer = core.peers.get(aid, UNKNOWN)
    return peer.name if peer.confirmed_until_ns > core.now_ns else ""


def name_of(core: Core, aid: Locator) -> str:
    """The name of a peer; empty if not known."""
    peer = core.peers.get(aid) or met(core, aid)
    return peer.name if peer is not None else ""


def met(core: Core, aid: Locator) -> KnownPeer | None:
    """What the DNS said of a peer that has a context with another address of ours.

    Because of that context the planes watch it, so they do not report it as unknown [D34].
    """
    if not core.uses[aid]:
        return None
    contexts = (core.contexts.get(own + aid) for own in core.locators)
    inquiries = (one.verification for one in contexts if one is not None)
    found = next((one for one in inquiries if one.settled and aid in one.proven), None)
    return KnownPeer(found.name, found.remote) if found is not None else None


def hold_unable(core: Core, aid: Locator, why: Cause) -> None:
    """Reaches a peer plainly for a time that doubles with each failure [D15, D45].

    After that a known peer is watched again, so that the next packet of a program begins a set-up.
    """
    if core.is_unable(aid):
        return
    known = core.peers.get(aid, UNKNOWN)
    unable_ns = min(max(PEER_UNABLE_TIME, 2 * known.unable_ns), PEER_UNABLE_MAX)
    core.unable[aid] = core.now_ns + unable_ns
    core.unable.move_to_end(aid)
    if len(core.unable) > UNABLE_PEERS_MAX:
        oldest, _ = core.unable.popitem(last=False)
        if oldest in core.peers:
            core.emit(WatchPeer(oldest))
    if known is not UNKNOWN:
        core.peers[aid] = known._replace(unable_ns=unable_ns)
    heapq.heappush(core.retries, (core.unable[aid], aid))
    if len(core.retries) > 64 + 2 * len(core.unable):
        core.retries = sorted((until_ns, one) for one, until_ns in core.unable.items())
    core.emit(PeerUnable(aid, why))
    core.release(aid)


def answered(core: Core, aid: Locator) -> None:
    """A peer answers by M6: if it fails later, the time to the next attempt is the first again."""
    core.unable.pop(aid, None)
    known = core.peers.get(aid, UNKNOWN)
    if known.unable_ns:
        core.peers[aid] = known._replace(unable_ns=0)


def on_time(core: Core) -> None:
    """Watches unable peers again whose time is over."""
    while core.retries and core.retries[0][0] <= core.now_ns:
        until_ns, aid = heapq.heappop(core.retries)
        if core.unable.get(aid) == until_ns:
            del core.unable[aid]
            if aid in core.peers:
                core.emit(WatchPeer(aid))


def on_unknown_peer(core: Core, event: UnknownPeerSeen) -> None:
    """The ULP sent to an address that no program has resolved: starts a lookup [D34]."""
    aid = event.aid
    if aid in core.peers or aid in core.lookups or core.is_unable(aid) or core.bypasses(aid):
        return
    if not is_global_unicast(aid) or aid in core.locators or core.options.excludes(aid):
        return
    if core.strangers.get(aid, 0) > core.now_ns or len(core.lookups) >= LOOKUPS.limit:
        return
    if sum(site_of(one) == site_of(aid) for one in core.lookups) >= LOOKUPS.share:
        return
    is_known = event.user != NO_USER
    if is_known and sum(one.user == event.user for one in core.lookups.values()) >= OF_ONE_USER:
        return
    core.lookups[aid] = Lookup(set(), user=event.user)
    _ask(core, core.lookups[aid], Question(Kind.NAMES, reverse_name(aid)))


def on_answer(core: Core, event: AnswerArrived) -> None:
    """Gives an answer to each lookup that waits for it."""
    if not core.lookups:
        return
    waiting = [(aid, one) for aid, one in core.lookups.items() if event.question in one.open]
    for aid, lookup in waiting:
        lookup.open.discard(event.question)
        _take(core, aid, lookup, event.question, event.answer)
        name = next((one for one in lookup.listing if one in lookup.capable), None)
        if name is not None:
            del core.lookups[aid]
            on_resolved(core, PeerResolved(name, aid, lookup.listing[name], lookup.user))
        elif not lookup.open:
            del core.lookups[aid]
            duration_ns = PEER_UNABLE_TIME if lookup.failed else STRANGER_TIME
            _remember_stranger(core, aid, duration_ns)


def _ask(core: Core, lookup: Lookup, question: Question) -> None:
    lookup.open.add(question)
    core.emit(AskDns(question))


def _take(core: Core, aid: Locator, lookup: Lookup, question: Question, answer: Answer) -> None:
    """Takes one answer, and asks what follows from it."""
    lookup.failed |= answer.status is Status.UNREACHABLE
    match question.kind:
        case Kind.NAMES:
            for text in answer.names[:NAMES_PER_LOCATOR_MAX]:
                _ask(core, lookup, Question(Kind.LOCATORS, canonical_name(text)))
                _ask(core, lookup, Question(Kind.CAPABILITY, canonical_name(text)))
        case Kind.LOCATORS if aid in answer.locators:
            # A name that does not list the address may belong to another host [D14].
            lookup.listing[question.name] = answer.locators
        case Kind.CAPABILITY if answer.status is Status.FOUND:
            lookup.capable.add(question.name)
        case _:
            pass


def _remember_stranger(core: Core, aid: Locator, duration_ns: int) -> None:
    """Asks nothing about an address for a time."""
    core.strangers[aid] = core.now_ns + duration_ns
    core.strangers.move_to_end(aid)
    if len(core.strangers) > STRANGERS_MAX:
        core.strangers.popitem(last=False)
