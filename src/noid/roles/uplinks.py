# SPDX-License-Identifier: MIT
"""Watches the health of the uplinks: asks peers over each, and reports what changes.

Without a suspicion one pair of one context is measured at a time (``sampling``). When a context
suspects or leaves its pair, or a sample is unanswered, a few peers are asked over all their pairs.
The model is ``noid.control.uplinks``.
"""

import asyncio
import contextlib
import functools
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from noid.control.reports import context_report
from noid.control.schema import RequestHandler
from noid.control.uplink_reports import uplink_report
from noid.control.uplinks import (
    LOST_MIN,
    Asked,
    Change,
    Health,
    Pair,
    Reason,
    Sighting,
    Switch,
    Uplinks,
)
from noid.engine.context import Context
from noid.engine.events import (
    Input,
    MeasurePairs,
    PairMeasured,
    PeerDoubts,
    ProbeStarted,
    Switched,
)
from noid.engine.host import Host
from noid.errors import UsageError
from noid.host.precise import until_next
from noid.host.survey import Survey
from noid.identifiers import Label
from noid.locators import Locator, parse_locator
from noid.roles.doubters import Doubters
from noid.roles.gateway_search import GatewaySearch
from noid.roles.local_locators import LocalLocators
from noid.roles.measuring import Measuring, Round, both_ways, with_peer
from noid.roles.preferring import Preferring
from noid.roles.sampling import Sample, Sampling
from noid.text import printable

PEERS_ASKED_MAX: Final = 4
"""Peers that are asked at a time, over every uplink."""
SUSPECTS_MAX: Final = PEERS_ASKED_MAX // 2
"""Of them those whose contexts suspect or left a pair; the others are asked whether it is they."""
CONTEXTS_LOOKED_AT_MAX: Final = 64
"""Contexts that are looked at to find peers to ask."""
LOOK_INTERVAL_S: Final = 0.5
"""How often contexts are looked at while no sample is due; less than ``TURN_NS``, or it is late."""
TIMES_IN_DOUBT: Final = 3
"""So often a pair is asked at one time, where an uplink is suspected."""
TIMES_FOR_LOSS: Final = 2
"""So often more for each of the last measurements that was lost, up to ``LOST_MIN``: all of them
may be lost by chance."""
ASKED_IN_ALL_MAX: Final = 3
"""So often peers are asked whose answers are lost except over the pair of each request: such a peer
switches soon, and then its answers tell the directions apart."""
SWITCH_WAIT_S: Final = 0.2
"""How long it may take to notice: our requests over the pair in use are signs of life for it."""
ROUNDS_MAX: Final = 64
"""Contexts that are measured at one time."""
RECENT_NS: Final = 10_000_000_000
"""Without a reason only peers are asked from which data came so recently: asking would keep the
contexts of others at the peer."""
ENDS: Final = ("local_aid", "peer_aid")
"""Keys of a request about one context."""
MEASURED_OFTEN: Final = frozenset({Reason.SILENT, Reason.INBOUND_SILENT})
"""Reasons for which an uplink is measured often, to detect its recovery."""


class UplinkWatch:
    """The watch over the uplinks of one host.

    Args:
        host: the engine.
        own: the host's locators.
        handle: takes events for the engine.
        compare: lets the host's locators be compared anew.
        heard_ns: when a context last received data or a keepalive, by its F(local).
        changed: is told of each change of an uplink.
        switched: is told of each switch of a context.
        spread: is called when the uplinks from which connections start may be others.
        gateways: is told of surveys, and of our locators at which a context hears nothing.
    """

    def __init__(
        self,
        host: Host,
        own: LocalLocators,
        *,
        handle: Callable[[Input], None],
        compare: Callable[[], object],
        heard_ns: Callable[[Label], int],
        changed: Callable[[Change], None],
        switched: Callable[[Switch], None],
        spread: Callable[[], object] = lambda: None,
        gateways: GatewaySearch,
    ) -> None:
        self.host = host
        self.own = own
        self.handle = handle
        self.heard_ns = heard_ns
        self.changed = changed
        self.on_switch = switched
        self.compare, self.spread, self.gateways = compare, spread, gateways
        self.uplinks = Uplinks()
        self.preferring = Preferring(own, self.uplinks, compare)
        self.names: dict[int, str] = {}
        self.measuring = Measuring(handle, self._round_trip_ns)
        self.suspects: deque[tuple[Locator, Locator]] = deque(maxlen=SUSPECTS_MAX)
        self.doubters = Doubters()
        self.hurry = asyncio.Event()
        self.sampling, self.returning = Sampling(), Sampling(of_silent=True)
        self._asked_here: frozenset[Locator] = frozenset()

    # --- what happens ---------------------------------------------------------------------------

    def surveyed(self, survey: Survey) -> None:
        """The host is now like this."""
        self.gateways.surveyed(survey)
        said = self.own.said
        carries = {device.name: device.carries for device in survey.devices}
        self.names |= {device.index: device.name for device in survey.devices}
        on: dict[str, list[Locator]] = {name: [] for name in carries}
        for one in survey.locators:
            if one.locator in said.locators:
                on.setdefault(one.interface, []).append(one.locator)
        sightings = [
            Sighting(
                interface=name,
                is_up=name in carries,
                carries=carries.get(name, False),
                locators=tuple(locators),
                broken=said.broken,
                deprecated=said.deprecated,
                backup=said.backup,
            )
            for name, locators in on.items()
        ]
        self._report(self.uplinks.see(sightings, time.time()))
        self.spread()

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """A device has lost its carrier, or is down."""
        name = self.names.get(index, "")
        self._report(self.uplinks.lose(name, is_up=is_up, now_s=time.time()))

    def take(self, output: Switched | ProbeStarted | PairMeasured | PeerDoubts) -> None:
        """The engine reports something about pairs."""
        match output:
            case PairMeasured():
                if not self.measuring.take(output) and output.returned:
                    self._answered_late(output.pair[0])
            case PeerDoubts():
                if self.doubters.add(output.local_label):
                    self.hurry.set()
            case ProbeStarted():
                self._suspect(output.local_aid, output.peer_aid)
                self.gateways.suspect({local for local, _ in output.pairs})
            case Switched():
                switch = Switch(time.time(), output.peer_aid, output.old, output.new, output.why)
                self.uplinks.switched(switch)
                self.on_switch(switch)
                self._suspect(output.local_aid, output.peer_aid)

    def _answered_late(self, locator: Locator) -> None:
        """No request waits for an answer: round trips may be longer, and the uplink not silent."""
        if locator in self._silent_locators():
            # How late it is may be due to an outage that is over.
            self._count(locator, self._round_trip_ns(locator), returned=True)

    def _suspect(self, local_aid: Locator, peer_aid: Locator) -> None:
        if (local_aid, peer_aid) not in self.suspects:
            self.suspects.append((local_aid, peer_aid))
        self.hurry.set()
        self.measuring.give_way()

    def _report(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.changed(change)
        uplinks = self.uplinks.by_name.values()
        down = itertools.chain.from_iterable(
            one.locators for one in uplinks if one.health is Health.DOWN
        )
        if self.own.set_down(frozenset(down)):
            self.compare()
        self.spread()

    # --- asking peers ---------------------------------------------------------------------------

    async def watch(self) -> None:
        """Asks peers until it is cancelled."""
        while True:
            orders = [self.sampling, *[self.returning] * bool(self._silent_locators())]
            sampling = min(orders, key=lambda one: one.due_ns)
            if await self._is_hurried((sampling.due_ns - time.monotonic_ns()) / 1e9):
                await asyncio.sleep(self.doubters.wait_s)
                await self._ask()
            elif sampling is self.returning:
                await self._sample_silent()
            else:
                await self._sample()

    async def _is_hurried(self, wait_s: float) -> bool:
        """Waits until something is suspected, at most for so long; returns whether something is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.hurry.wait()
        return self.hurry.is_set()

    def _silent_locators(self) -> frozenset[Locator]:
        uplinks = self.uplinks.by_name.values()
        silent = (one.locators for one in uplinks if one.reason in MEASURED_OFTEN)
        return frozenset(itertools.chain.from_iterable(silent))

    def _to_ask(self) -> Iterator[Context]:
        """The contexts that are asked: those that suspect something, and others in turn."""
        found: dict[Locator, Context] = {}
        for local, peer in reversed(self.suspects):
            suspect = self.host.context_between(local, peer)
            if suspect is not None and suspect.is_settled:
                found.setdefault(peer, suspect)
        self.suspects.clear()
        for context in self._in_turn(self.sampling):
            if len(found) >= PEERS_ASKED_MAX:
                break
            found.setdefault(context.peer_aid, context)
        yield from found.values()

    def _in_turn(self, sampling: Sampling) -> Iterator[Context]:
        """A few contexts that may be asked; next time, those behind the last one that is taken."""
        count = self.host.context_count
        start = sampling.place % count if count else 0
        contexts = self.host.contexts_from(start, CONTEXTS_LOOKED_AT_MAX)
        contexts += self.host.contexts_from(0, min(start, CONTEXTS_LOOKED_AT_MAX - len(contexts)))
        for place, context in enumerate(contexts, start + 1):
            sampling.place = place
            if context.is_settled:
                yield context

    async def _ask(self) -> dict[int, Round]:
        """Asks peers over every pair, in both ways, and judges the uplinks by the answers.

        Returns:
            By F(local), the requests whose answers use the same pair.
        """
        self.hurry.clear()
        if not self.suspects and not await self._ask_doubters():
            return {}
        self.hurry.clear()
        contexts, found = list(self._to_ask()), dict[int, Round]()
        for left in reversed(range(ASKED_IN_ALL_MAX)):
            contexts = await self._ask_once(contexts, found, is_last=not left)
            if not contexts or await self._is_hurried(SWITCH_WAIT_S):
                break
        return found

    async def _ask_doubters(self) -> bool:
        """Asks peers that doubt a pair; one that does not answer over an uplink is suspected."""
        for context, unanswered in await self.doubters.ask(self.host, self.measuring):
            if unanswered - self._silent_locators() and not self.suspects:
                self._suspect(context.local_aid, context.peer_aid)
        return bool(self.suspects)

    async def _ask_once(
        self, contexts: list[Context], found: dict[int, Round], *, is_last: bool
    ) -> list[Context]:
        """Asks peers, and judges the uplinks by those whose answers tell the directions apart.

        Args:
            contexts: those that are asked.
            found: takes the requests whose answers use the same pair, by F(local).
            is_last: whether all are judged.

        Returns:
            The contexts that were not judged.
        """
        self.doubters.note_asked(contexts)
        lost = max((self._lost(one) for context in contexts for one in context.own_set), default=0)
        times = TIMES_IN_DOUBT + TIMES_FOR_LOSS * min(lost, LOST_MIN)
        there, back = await asyncio.gather(
            self.measuring.measure(contexts, times=times, in_doubt=True),
            self.measuring.measure(contexts, times=times, in_doubt=True, here=True),
        )
        found |= {one.label: one for one in back}
        unclear: list[Context] = []
        clear: list[Asked] = []
        for context, one, other in zip(contexts, there, back, strict=True):
            if other.is_answered and not (one.is_answered or is_last):
                self._suspect_pair_of(context)
                unclear.append(context)
            else:
                clear.append(both_ways(one, other))
            if not (one.is_answered or other.is_answered):
                self.sampling.rest(context, time.monotonic_ns())
        self._report(self.uplinks.judge(clear, time.time()))
        return unclear

    async def _sample(self) -> None:
        """Measures a pair of a context; if that is not answered, asks peers over all of theirs."""
        now_ns = time.monotonic_ns()
        since_ns, in_turn = now_ns - RECENT_NS, self._in_turn(self.sampling)
        heard_ns = functools.cache(self.heard_ns)
        recent = (one for one in in_turn if heard_ns(one.local_label) >= since_ns)
        wait_s = until_next(LOOK_INTERVAL_S, asyncio.get_running_loop().time())
        are_all = self.host.context_count <= CONTEXTS_LOOKED_AT_MAX
        again_ns = now_ns + int(wait_s * 1e9) if are_all else 0
        silent = self._silent_locators()
        sample = self.sampling.next_of(recent, now_ns, silent, heard_ns, again_ns=again_ns)
        if sample is None:
            return
        one = await self._measure(sample, here=True)
        missed = None if self.suspects else next(iter(one.unanswered), None)
        self.sampling.ended(sample, time.monotonic_ns(), missed)
        self._count_answers(one)
        if missed:
            await self._doubt(sample, missed, one.waits_s[missed])

    async def _sample_silent(self) -> None:
        """Measures a pair of a silent uplink, to notice its return."""
        contexts = self._in_turn(self.returning)
        sample = self.returning.next_of(contexts, time.monotonic_ns(), self._silent_locators())
        if sample is None:
            return
        local = sample.pairs[0][0]
        uplink = self.uplinks.of(local)
        is_known_one_way = uplink is not None and uplink.reason is Reason.INBOUND_SILENT
        here = local not in self._asked_here
        self._asked_here = (self._asked_here & self._silent_locators()) ^ {local}
        one = await self._measure(sample, here=here)
        self.returning.ended(sample, time.monotonic_ns())
        if self.hurry.is_set():
            return
        is_answered, is_returned = not one.unanswered, local in one.returned
        if is_returned:
            self._count_answers(one)
        elif not here and is_answered != is_known_one_way:
            # Only one direction has changed: all are asked which.
            self._suspect(sample.context.local_aid, sample.context.peer_aid)

    async def _measure(self, sample: Sample, *, here: bool) -> Round:
        """One request over each pair of a sample, until something is suspected."""
        (one,) = await self.measuring.measure(
            [sample.context], sample.pairs, times=1, here=here, gives_way=True
        )
        return one

    def _count_answers(self, one: Round) -> None:
        for pair, round_trip_ns in one.answers.items():
            if round_trip_ns is not None:
                self._count(pair[0], round_trip_ns, returned=pair[0] in one.returned)

    async def _doubt(self, sample: Sample, pair: Pair, waited_s: float) -> None:
        """A sample is not answered. Where some are lost, a second one is tried before peers."""
        context = sample.context
        if self._lost(pair[0]) >= LOST_MIN:
            one = await self._measure(sample._replace(pairs=[pair]), here=True)
            if one.answers[pair] is not None:
                self._count_second(one, pair, waited_s)
                return
        if pair == context.pair:
            self._suspect_pair_of(context)
        self._suspect(context.local_aid, context.peer_aid)
        back = (await self._ask()).get(context.local_label)
        if back is not None and back.returns_over(pair):
            # If this pair stays silent and others of the uplink answer, the fault is at the peer.
            self._count_second(back, pair, waited_s)

    def _count_second(self, one: Round, pair: Pair, waited_s: float) -> None:
        """A sample was lost if the next answer takes less time; else the peer was busy."""
        taken_ns, returned = one.answers[pair] or 0, pair[0] in one.returned
        self._count(pair[0], taken_ns, is_lost=taken_ns < waited_s * 1e9, returned=returned)

    def _suspect_pair_of(self, context: Context) -> None:
        """Lets a context ask its pair in use, before its data shows that this has failed."""
        self.handle(MeasurePairs(context.local_label, (), suspects=True))

    def _lost(self, locator: Locator) -> int:
        """How many of the last measurements of an uplink were lost."""
        uplink = self.uplinks.of(locator)
        return 0 if uplink is None else uplink.samples.count(False)

    def _round_trip_ns(self, locator: Locator) -> int:
        uplink = self.uplinks.of(locator)
        return 0 if uplink is None else uplink.round_trip_ns

    def _count(
        self, locator: Locator, round_trip_ns: int, *, is_lost: bool = False, returned: bool
    ) -> None:
        now_s = time.time()
        self._report(
            self.uplinks.sample(locator, round_trip_ns, now_s, is_lost=is_lost, returned=returned)
        )

    # --- answers ----------------------------------------------------------------------------------

    @property
    def requests(self) -> dict[str, RequestHandler]:
        """The commands it answers, by the names that they have on the control socket."""
        return {"context": self.context, "ping": self.ping, **self.preferring.requests}

    def report(self, octets: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
        """What ``noid paths`` shows."""
        self.preferring.show()
        contexts = self.host.counts_by_locator
        each = (uplink_report(one, contexts, octets) for one in self.uplinks.by_name.values())
        return {"now": round(time.time(), 3), "uplinks": list(each)}

    async def context(self, request: dict[str, Any]) -> dict[str, Any]:
        """The context between two AIDs and the uplink that it uses, for one program."""
        try:
            local, peer = (parse_locator(str(request.get(key, ""))) for key in ENDS)
        except UsageError as error:
            return {"error": printable(str(error))}
        found = self.host.context_between(local, peer)
        uplink = None if found is None else self.uplinks.of(found.local_locator)
        return {
            "context": None if found is None else context_report(found),
            "uplink": "" if uplink is None else uplink.name,
        }

    async def ping(self, request: dict[str, Any]) -> dict[str, Any]:
        """Asks a peer once over every pair; the peer is an AID, a locator or a name."""
        peer = str(request.get("peer", ""))
        found = list(itertools.islice(with_peer(self.host.contexts, peer), PEERS_ASKED_MAX))
        if not found:
            return {"error": f"no context with {printable(peer)}; see: noid contexts"}
        if len(self.measuring.rounds) >= ROUNDS_MAX:
            return {"error": "too many measurements at one time; try again in a second"}
        return {"now": round(time.time(), 3), "pairs": await self.measuring.ping(found)}

    @property
    def down(self) -> list[str]:
        """The names of the uplinks that are down."""
        return [one.name for one in self.uplinks.by_name.values() if one.health is Health.DOWN]
