# SPDX-License-Identifier: MIT
"""What a user may expect: packets arrive, and nothing happens while nothing fails.

checks.py checks single events; a law checks a conversation over time. Each law is judged
continuously while its premise holds. The judgements are counted, to detect a law whose premise
never holds.

=================== ===============================================================================
liveness            A pair of locators, or one per direction, has been verified and has carried
                    packets for the time L and a round trip: new packets arrive.
never worse than    Plain IPv6 between the AIDs has worked that long: new packets arrive, also if
plain               M6 packets, the peer's shim, its state or the DNS fail.
agreement           Both ends have the same Lsl and marks of each other that long after a change.
quiet               While nothing fails no context changes its pair, no packet is delivered twice,
                    and there is at most one control message per second and context [D42, D43].
renumbering         A renumbering by D25 loses no packet.
set-up              Both ends have a context, where programs send, the DNS works, and a pair does.
=================== ===============================================================================
"""

import enum
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from noid.constants import (
    DATA_UNSEEN,
    DATA_UNSEEN_AGAIN,
    MILLISECOND,
    MINUTE,
    NEVER,
    PLAIN_SILENCE_MAX,
    SECOND,
    UNPROVEN_TIME,
)
from noid.engine.context import Context
from noid.locators import Locator
from noid.sim.checks import Checks
from noid.sim.destinations import Destinations
from noid.sim.names import Names
from noid.sim.network import (
    Line,
    Network,
    filters_any,
    filters_m6,
    filters_plain,
    provider_of,
)
from noid.sim.node import Node
from noid.sim.quiet import QUIET, Quiet
from noid.sim.ulp import Ledger, Sent
from noid.sim.violation import Violation
from noid.sim.way import Way, ends_of
from noid.wire.options import Entries, LocatorFlag

LIVENESS = "liveness"
PLAIN = "never worse than plain"
AGREEMENT = "agreement"
RENUMBERING = "renumbering"
SETUP = "set-up"
LAWS = (LIVENESS, PLAIN, AGREEMENT, QUIET, RENUMBERING, SETUP)

LIVE_FEW_NS = SECOND
"""L, up to 4x4 pairs."""
LIVE_MANY_NS = 5 * SECOND
"""L, up to 16x16 pairs: 64 probes a second try 256 pairs in 4 s [D43]. If no pair works in both
directions, it is twice as long, because the peer starts to search only after a probe."""
FEW_PAIRS = 16
TOLD_AGAIN_NS = 20 * SECOND
"""The longest time from the first to the third transmission of a UR [D16]."""
STATE_NS = 3 * SECOND
"""If an end has lost its contexts: the silence that proves it [D39], and a set-up."""
LOSSY_NS = 2 * SECOND
LOSSY_EACH_NS = SECOND
"""Added while pairs pass messages and lose data, and for each such pair: the time to detect it."""
UNSEEN_NS = DATA_UNSEEN * UNPROVEN_TIME
UNSEEN_EACH_NS = DATA_UNSEEN_AGAIN * UNPROVEN_TIME
"""The same where both ends send unasked: what one end sends alone may be lost."""
SETUP_NS = 15 * SECOND
SETUP_AGAIN_NS = 60 * SECOND
"""If INITs were unanswered before the last change: the longest interval between them [D16]."""
UNABLE_NS = 15 * MINUTE
"""If a peer was considered unable before: it is retried with back-off."""
ROUND_TRIPS = 4
"""Added to these times: detection, a probe lost with the change, and a set-up."""
PAUSE_NS = 10 * MINUTE
"""After a longer silence a program counts as new, because contexts may be closed [D19]."""
SENT_MIN = 6
"""Packets that a program must send after the change, because only traffic detects failures. Four
that are unanswered are silence [D42]; the rest takes as many round trips as after a time L."""
APART_NS = 100 * MILLISECOND
"""Packets that are closer together count as one."""
LOST_IN_A_ROW_MAX = 20
"""If a line loses packets by chance, this many in sequence are not by chance."""
MARKS = LocatorFlag.DEPRECATED | LocatorFlag.BROKEN | LocatorFlag.BACKUP
JUDGED_AGAIN_NS = 250 * MILLISECOND
"""How long the result of checking a premise is used."""


class Change(enum.Enum):
    """The kind of a change; recovery from later ones takes longer."""

    NETWORK = enum.auto()
    """Lines, addresses, the DNS."""
    STATE = enum.auto()
    """An end may have lost the context that the other has."""
    SHIM = enum.auto()
    """A shim stops, starts, or is unreachable: its host may be considered unable."""


class Scene(Protocol):
    """What the laws look at; see ``noid.sim.world.World``."""

    now_ns: int
    nodes: dict[str, Node]
    network: Network
    names: Names
    ledger: Ledger
    measured_ns: int
    checks: Checks


class Laws:
    """The laws of one world.

    Args:
        world: the world.
        lossless: the law by which no packet at all may be lost; empty if there is none.
        lossless_from_ns: the begin of that.
        lossless_until_ns: the end of that.
        may_be_unable: whether peers may be considered unable.

    Attributes:
        judged: how often each law was judged.
    """

    def __init__(
        self,
        world: Scene,
        *,
        lossless: str = "",
        lossless_from_ns: int = 0,
        lossless_until_ns: int = 0,
        may_be_unable: bool = False,
    ) -> None:
        self.world = world
        self.lossless = lossless
        self.lossless_from_ns, self.lossless_until_ns = lossless_from_ns, lossless_until_ns
        self.judged: Counter[str] = Counter()
        self.changed_ns = world.now_ns
        self.change = Change.NETWORK
        self.state_ns = -STATE_NS
        self.may_be_unable = may_be_unable
        self.destinations = Destinations(world)
        self.first_ns: dict[int, int] = {}
        self.last_ns: dict[int, int] = {}
        self.ways: dict[tuple[int, bool], Way] = {}
        self.quiet = Quiet(world, self.judged)
        self._round_trip_ns = self._lossy_ns = 0
        world.network.listeners.append(self.quiet.passes)
        world.checks.listeners.append(self.destinations.see)

    # --- what happens ---------------------------------------------------------------------------

    def changed(self, change: Change = Change.NETWORK) -> None:
        """Something is about to fail, work again, or change: every premise starts again."""
        self._judge_due()
        # An end that has just lost its contexts needs the longer time, also after the next change.
        recovers_ns = STATE_NS + ROUND_TRIPS * self._trip_ns()
        if change is not Change.NETWORK:
            self.change, self.state_ns = change, self.world.now_ns
        elif self.world.now_ns - self.state_ns > recovers_ns:
            self.change = change
        self.may_be_unable |= change is Change.SHIM
        self.destinations.changed()
        self.changed_ns = self.world.now_ns
        self._round_trip_ns = 0
        self.first_ns.clear()
        self.quiet.changed()
        for way in self.ways.values():
            way.sent = way.lost = 0
            way.due.clear()
            way.premise = ("", -1)

    def sent(self, number: int) -> None:
        """A program sends a packet."""
        one = self.world.ledger.sent[number]
        way = self._way(one)
        self._judge(way)
        now_ns = self.world.now_ns
        if now_ns - way.counted_ns >= APART_NS:
            way.sent += 1
            way.counted_ns = now_ns
            if way.sent <= SENT_MIN:
                way.noticed_ns = now_ns
        if now_ns - self.last_ns.get(one.conversation, now_ns) > PAUSE_NS:
            self.first_ns.pop(one.conversation, None)
        self.last_ns[one.conversation] = now_ns
        first_ns = self.first_ns.setdefault(one.conversation, now_ns)
        if self.lossless_from_ns <= now_ns < self.lossless_until_ns:
            way.due.append((number, now_ns + self._arrival_ns(), self.lossless))
        if now_ns - first_ns < self._limit_ns(way) or way.sent <= SENT_MIN:
            return
        if now_ns - way.noticed_ns < ROUND_TRIPS * self._trip_ns():
            return
        law = self._premise(way)
        if law:
            way.due.append((number, now_ns + self._arrival_ns(), law))

    def delivered(self, one: Sent) -> None:
        """A packet reaches its program, perhaps as a repetition."""
        self.quiet.delivered(one)

    def finish(self) -> None:
        """Ends the traffic; requires that due packets have arrived."""
        self._judge_due()

    # --- arrival --------------------------------------------------------------------------------

    def _way(self, one: Sent) -> Way:
        talk = self.world.ledger.conversations[one.conversation]
        by_server = one.sender == talk.server
        key = (one.conversation, by_server)
        if key not in self.ways:
            aids = ends_of(talk, by_server=by_server)
            nodes = self.world.nodes
            two = nodes[one.sender], nodes[one.receiver]
            self.ways[key] = Way(one.conversation, *two, *aids)
        return self.ways[key]

    def _limit_ns(self, way: Way, *, searches: int = 1) -> int:
        """The time after a change until packets arrive, for this number of searches in sequence."""
        pairs = len(way.sender.present) * len(way.receiver.present)
        few = LIVE_FEW_NS if pairs <= FEW_PAIRS else searches * LIVE_MANY_NS
        limit_ns = few if self.change is Change.NETWORK else max(STATE_NS, few)
        return limit_ns + ROUND_TRIPS * self._trip_ns() + self._lossy_ns

    def _trip_ns(self) -> int:
        """The longest round trip between two hosts, computed once after each change."""
        if not self._round_trip_ns:
            network = self.world.network
            lines = (network.weather, *network.lines.values())
            self._round_trip_ns = 2 * max(line.delay_ns + line.jitter_ns for line in lines)
            lossy = network.lossy_pairs()
            self._lossy_ns = LOSSY_NS + lossy * LOSSY_EACH_NS if lossy else 0
            if lossy and any(one.server_talks for one in self.world.ledger.conversations):
                self._lossy_ns += UNSEEN_NS + lossy * UNSEEN_EACH_NS
        return self._round_trip_ns

    def _arrival_ns(self) -> int:
        return 2 * self._trip_ns() + SECOND // 2

    def _judge_due(self) -> None:
        for way in self.ways.values():
            self._judge(way)

    def _judge(self, way: Way) -> None:
        """Judges the packets that are due."""
        now_ns, sent = self.world.now_ns, self.world.ledger.sent
        while way.due and way.due[0][1] <= now_ns:
            number, _, law = way.due.popleft()
            one = sent[number]
            self.judged[law] += 1
            way.lost = 0 if one.copies else way.lost + 1
            if way.lost and way.lost > (LOST_IN_A_ROW_MAX if self._is_lossy(way) else 0):
                after_ns = one.at_ns - self.changed_ns
                text = f"a packet from {one.sender} to {one.receiver} does not arrive"
                raise Violation(law, f"{text}, {after_ns // MILLISECOND} ms after the last change")

    def _is_lossy(self, way: Way) -> bool:
        network = self.world.network
        if network.weather.rewriting:
            return True  # a border may still use a provider that has failed
        return network.weather.is_lossy or any(line.is_lossy for line in network.lines.values())

    # --- premises -------------------------------------------------------------------------------

    def _premise(self, way: Way) -> str:
        """The law by which a packet must arrive now; empty if there is none."""
        law, until_ns = way.premise
        if until_ns < self.world.now_ns:
            law = self._find_premise(way)
            way.premise = (law, self.world.now_ns + JUDGED_AGAIN_NS)
        return law

    def _find_premise(self, way: Way) -> str:
        if not all(one.runs and one.honest for one in (way.sender, way.receiver)):
            return ""
        self._are_set_up(way)
        if self._passes_plainly(way):
            self._agree(way)
            return PLAIN
        contexts = self._contexts(way)
        if contexts is None:
            return ""
        ours, theirs = contexts
        until_ns = self.world.now_ns - self._limit_ns(way)
        there = self._pairs(way.sender, ours, way.receiver, theirs, until_ns)
        back = self._pairs(way.receiver, theirs, way.sender, ours, until_ns)
        if not there or not back:
            return ""
        is_one_way = there.isdisjoint({(one, other) for other, one in back})
        since_ns = self.world.now_ns - self.first_ns[way.conversation]
        if is_one_way and since_ns < self._limit_ns(way, searches=2):
            return ""
        is_contested = ours.contested_until_ns or theirs.contested_until_ns
        if is_contested and since_ns < self._limit_ns(way) + PLAIN_SILENCE_MAX:
            return ""
        self._agree(way)
        return LIVENESS

    def _passes_plainly(self, way: Way) -> bool:
        present = way.source in way.sender.present and way.destination in way.receiver.present
        return present and self._pass_both_ways(way.source, way.destination, filters_plain)

    def _pass_both_ways(
        self, one: Locator, other: Locator, filters: Callable[[Line], bool]
    ) -> bool:
        network = self.world.network
        return all(
            network.keeps(there, back)
            and network.passes(there, back)
            and not filters(self._line(there, back))
            for there, back in ((one, other), (other, one))
        )

    def _may_be_set_up(self, way: Way) -> bool:
        """Whether the AIDs, or locators that the DNS ties to them, pass messages in both ways."""
        if self._passes_plainly(way):
            return self._pass_both_ways(way.source, way.destination, filters_m6)
        if self.world.names.caches or self.world.network.filtered:
            return False  # resolvers may still give old answers
        pairs = itertools.product(
            self._tied(way.sender, way.source), self._tied(way.receiver, way.destination)
        )
        return any(self._pass_both_ways(*pair, filters_any) for pair in pairs)

    def _tied(self, node: Node, aid: Locator) -> list[Locator]:
        names, name = self.world.names, f"{node.name}.example"
        listed = [one for one in names.forward.get(name, ()) if name in names.reverse.get(one, ())]
        return [one for one in node.present if one in listed] if aid in listed else []

    def _line(self, source: Locator, destination: Locator) -> Line:
        network = self.world.network
        return network.lines.get(source + destination, network.weather)

    def _contexts(self, way: Way) -> tuple[Context, Context] | None:
        """The contexts of both ends, if they belong together."""
        ours = way.sender.host.context_between(way.source, way.destination)
        theirs = way.receiver.host.context_between(way.destination, way.source)
        if ours is None or theirs is None or not (ours.is_settled and theirs.is_settled):
            return None
        labels = (ours.local_label, ours.peer_label)
        return (ours, theirs) if labels == (theirs.peer_label, theirs.local_label) else None

    def _pairs(
        self, sender: Node, ours: Context, receiver: Node, theirs: Context, until_ns: int
    ) -> set[tuple[Locator, Locator]]:
        """The pairs that carry M6 packets in that direction, of locators verified before a time."""
        network, rewritable = self.world.network, len(ours.own_set) > 1
        destinations = self.destinations.known(sender, ours, receiver, until_ns=until_ns)
        return {
            (source, destination)
            for source in sender.present
            if source in ours.own_usable & {*ours.own_set}
            for destination in destinations
            if destination in receiver.present
            for sent in network.sources_sent(source, destination, rewritable=rewritable)
            if sent in theirs.peer_acceptable
            and network.passes(sent, destination)
            and not filters_m6(self._line(sent, destination))
            and not {provider_of(sent), provider_of(destination)} & network.filtered
        }

    def _are_set_up(self, way: Way) -> None:
        """Requires a context at both ends, if nothing has prevented that for a long time."""
        names = self.world.names
        if self.world.now_ns < self._set_up_by_ns(way):
            return
        if names.timeouts or names.lies or names.silent or names.mute or self._is_lossy(way):
            return
        if not self._may_be_set_up(way):
            return
        self.judged[SETUP] += 1
        if self._contexts(way) is None:
            text = f"{way.sender.name} and {way.receiver.name} have no context"
            raise Violation(SETUP, f"{text}, {self._since_change()} after a change")

    def _set_up_by_ns(self, way: Way) -> int:
        """The time at which the context must exist; NEVER while no shim knows the other host."""
        limit_ns, begun_ns = 0, self.first_ns[way.conversation]
        ways = [one for one in self.ways.values() if one.conversation == way.conversation]
        speakers = {one.sender.name for one in ways if one.sent}
        for node, own, other in way.ends:
            if node.name not in speakers:
                continue  # nothing tells it that the other end has no context
            context = node.host.context_between(own, other)
            exchange = context.exchange if context is not None else None
            # A host that is looked up in the background may count as plain for 10 min [D34].
            is_found = node is way.sender and node.attentive and self._tied(way.receiver, other)
            is_unable = node.host.inspection.is_unable(other)
            if other in node.host.inspection.peers or context is not None or is_unable or is_found:
                may_be_unable = self.may_be_unable or is_unable or is_found
                limit_ns = max(limit_ns, UNABLE_NS if may_be_unable else SETUP_NS)
            if exchange is not None:
                begun_ns = max(begun_ns, exchange.started_ns + node.behind_ns)
                if exchange.started_ns + node.behind_ns < self.changed_ns:
                    limit_ns = max(limit_ns, SETUP_AGAIN_NS)
        return begun_ns + limit_ns if limit_ns else NEVER

    def _since_change(self) -> str:
        return f"{(self.world.now_ns - self.changed_ns) // MILLISECOND} ms"

    def _agree(self, way: Way) -> None:
        """Requires that both ends have the same sets and marks of each other [D17]."""
        contexts = self._contexts(way)
        doomed = self.world.network.doomed
        early = doomed and self.world.now_ns - self.changed_ns < TOLD_AGAIN_NS
        if contexts is None or early or self._is_lossy(way):
            return
        since_ns = self.world.now_ns - self._limit_ns(way)
        ends = zip((way.sender, way.receiver), contexts, strict=True)
        if any(one.established_ns + node.behind_ns > since_ns for node, one in ends):
            return  # what has changed during the set-up is told after it
        self.judged[AGREEMENT] += 1
        for one, other in (contexts, contexts[::-1]):
            same = set(one.own_local) | {one.local_aid} == other.peer_acceptable
            if not same or _marks(one.own_marks) != _marks(other.peer_marks):
                text = f"{way.sender.name} and {way.receiver.name} have different sets"
                raise Violation(AGREEMENT, f"{text} {self._since_change()} after a change")


def _marks(entries: Entries) -> dict[Locator, int]:
    return {one.locator: one.flags & MARKS for one in entries if one.flags & MARKS}
