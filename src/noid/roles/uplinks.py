# SPDX-License-Identifier: MIT
"""Watches the health of the uplinks: asks peers over each, and reports what changes.

Without a suspicion one pair of one context is measured at a time (``sampling``). When a context
suspects or leaves its pair, or a sample is unanswered, a few peers are asked over all their pairs.
The model is ``noid.control.uplinks``.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from noid.control.schema import RequestHandler
from noid.control.uplink_reports import uplink_report
from noid.control.uplinks import Asked, Change, Health, Pair, Reason, Sighting, Switch, Uplinks
from noid.dns.records import canonical_name
from noid.engine.context import Context
from noid.engine.events import Input, MeasurePairs, PairMeasured, ProbeStarted, Switched
from noid.engine.host import Host
from noid.errors import UsageError
from noid.host.survey import Survey
from noid.locators import Locator, format_locator, parse_locator
from noid.roles.local_locators import LocalLocators
from noid.roles.preferring import Preferring
from noid.roles.sampling import SILENT_INTERVAL_S, UNANSWERED_REST_S, Sampling
from noid.text import printable

PEERS_ASKED_MAX: Final = 4
"""Peers that are asked at a time, over every uplink."""
SUSPECTS_MAX: Final = PEERS_ASKED_MAX // 2
"""Of them those whose contexts suspect or left a pair; the others are asked whether it is they."""
PEER_LOCATORS_ASKED_MAX: Final = 3
"""Of one peer, so many locators are asked over each of ours."""
CONTEXTS_LOOKED_AT_MAX: Final = 64
"""Contexts that are looked at to find peers to ask."""
SAMPLE_INTERVAL_S: Final = 0.25
"""Between two samples, each of another context."""
TIMES_IN_DOUBT: Final = 3
"""So often a pair is asked at one time, where an uplink is suspected."""
TIMES_APART_S: Final = 0.04
ANSWER_WAIT_MIN_S: Final = 0.1
ANSWER_WAIT_MAX_S: Final = 0.6
"""How long an answer is waited for: three round trips, within these."""
PING_WAIT_S: Final = 1.0
"""How long ``noid ping`` waits for the answers of one time."""
ROUNDS_MAX: Final = 64
"""Contexts that are measured at one time."""
RECENT_S: Final = 10.0
"""Without a reason only peers are asked from which data came so recently: asking would keep the
contexts of others at the peer."""

Answers = dict[Pair, int | None]


@dataclass(slots=True, eq=False)
class Round:
    """Requests to one context that wait for their answers: a round trip in ns, or none yet."""

    label: int
    answers: Answers = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, pair: Pair, round_trip_ns: int) -> None:
        """An answer."""
        if self.answers.get(pair, 0) is None:
            self.answers[pair] = round_trip_ns
            if None not in self.answers.values():
                self.complete.set()

    @property
    def asked(self) -> Asked:
        """What the peer answered over each locator of ours."""
        answered: dict[Locator, int] = {}
        for pair, round_trip_ns in self.answers.items():
            if round_trip_ns is not None:
                answered[pair[0]] = min(round_trip_ns, answered.get(pair[0], round_trip_ns))
        return Asked(answered, frozenset(pair[0] for pair in self.answers) - answered.keys())


class UplinkWatch:
    """The watch over the uplinks of one host.

    Args:
        host: the engine.
        own: the host's locators.
        handle: takes events for the engine.
        compare: lets the host's locators be compared anew.
        received_ns: when a context last received data, by its F(local).
        changed: is told of each change of an uplink.
        switched: is told of each switch of a context.
    """

    def __init__(
        self,
        host: Host,
        own: LocalLocators,
        *,
        handle: Callable[[Input], None],
        compare: Callable[[], object],
        received_ns: Callable[[int], int],
        changed: Callable[[Change], None],
        switched: Callable[[Switch], None],
    ) -> None:
        self.host = host
        self.own = own
        self.handle = handle
        self.received_ns = received_ns
        self.changed = changed
        self.on_switch = switched
        self.uplinks = Uplinks()
        self.preferring = Preferring(own, self.uplinks, compare)
        self.names: dict[int, str] = {}
        self.rounds: list[Round] = []
        self.suspects: deque[tuple[Locator, Locator]] = deque(maxlen=SUSPECTS_MAX)
        self.hurry = asyncio.Event()
        self.turn = 0
        self.sampling = Sampling()
        self.returns = Sampling(SILENT_INTERVAL_S)

    # --- what happens ---------------------------------------------------------------------------

    def surveyed(self, survey: Survey) -> None:
        """The host is now like this."""
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

    def link_lost(self, index: int, *, is_up: bool) -> None:
        """A device has lost its carrier, or is down."""
        name = self.names.get(index, "")
        self._report(self.uplinks.lose(name, is_up=is_up, now_s=time.time()))

    def take(self, output: Switched | ProbeStarted | PairMeasured) -> None:
        """The engine reports something about pairs."""
        match output:
            case PairMeasured():
                for one in self.rounds:
                    if one.label == output.local_label:
                        one.take(output.pair, output.round_trip_ns)
            case ProbeStarted():
                self._suspect(output.local_aid, output.peer_aid)
            case Switched():
                switch = Switch(time.time(), output.peer_aid, output.old, output.new, output.why)
                self.uplinks.switched(switch)
                self.on_switch(switch)
                self._suspect(output.local_aid, output.peer_aid)

    def _suspect(self, local_aid: Locator, peer_aid: Locator) -> None:
        if (local_aid, peer_aid) not in self.suspects:
            self.suspects.append((local_aid, peer_aid))
        self.hurry.set()

    def _report(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.changed(change)

    # --- asking peers ---------------------------------------------------------------------------

    async def watch(self) -> None:
        """Asks peers until it is cancelled."""
        while True:
            silent = self._silent_locators()
            if await self._wait(is_silent=bool(silent)):
                await self._ask(list(self._to_ask()))
            else:
                await self._sample(silent)

    def _silent_locators(self) -> frozenset[Locator]:
        uplinks = self.uplinks.by_name.values()
        silent = (one.locators for one in uplinks if one.reason is Reason.SILENT)
        return frozenset(itertools.chain.from_iterable(silent))

    async def _wait(self, *, is_silent: bool) -> bool:
        """Waits until something is to be measured; returns whether there is a suspicion."""
        if is_silent:
            await asyncio.sleep(SILENT_INTERVAL_S)
        else:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAMPLE_INTERVAL_S):
                    await self.hurry.wait()
        is_suspicion = self.hurry.is_set()
        self.hurry.clear()
        return is_suspicion

    def _to_ask(self) -> Iterator[Context]:
        """The contexts that are asked: those that suspect something, and others in turn."""
        found: dict[Locator, Context] = {}
        contexts = self.host.core.contexts
        for local, peer in reversed(self.suspects):
            suspect = contexts.get(local + peer)
            if suspect is not None and suspect.is_settled:
                found.setdefault(peer, suspect)
        self.suspects.clear()
        for context in self._in_turn():
            if len(found) >= PEERS_ASKED_MAX:
                break
            found.setdefault(context.peer_aid, context)
        yield from found.values()

    def _in_turn(self) -> Iterator[Context]:
        """A few contexts that may be asked, others each time."""
        labels = self.host.core.labels
        start = self.turn % len(labels) if labels else 0
        end = start + CONTEXTS_LOOKED_AT_MAX
        self.turn = end if end < len(labels) else 0
        for context in list(itertools.islice(labels.values(), start, end)):
            if context.is_settled and not context.is_provisional:
                yield context

    async def _ask(self, contexts: list[Context]) -> None:
        """Asks over every pair, and judges the uplinks by the answers."""
        results = await self.measure(contexts, times=TIMES_IN_DOUBT)
        asked = [one.asked for one in results]
        self._report(self.uplinks.judge(asked, time.time()))
        for context, one in zip(contexts, asked, strict=True):
            if not one.answered:
                self.sampling.rest(context, time.monotonic() + UNANSWERED_REST_S)

    async def _sample(self, silent: frozenset[Locator]) -> None:
        """Measures one pair; if that is not answered, peers are asked over all of theirs."""
        recent_ns = 0 if silent else time.monotonic_ns() - round(RECENT_S * 1e9)
        contexts = (one for one in self._in_turn() if self._hears(one, recent_ns))
        sampling = self.returns if silent else self.sampling
        sample = sampling.next_of(contexts, time.monotonic(), silent)
        if sample is None:
            return
        context, pair = sample
        (first,) = await self.measure([context], [pair], times=1)
        round_trip_ns, is_lost = first.answers[pair], first.answers[pair] is None
        if is_lost and not silent:
            (again,) = await self.measure([context], [pair], times=TIMES_IN_DOUBT - 1)
            round_trip_ns = again.answers[pair]
        if round_trip_ns is not None:
            found = self.uplinks.sample(pair[0], round_trip_ns, time.time(), is_lost=is_lost)
            self._report(found)
        elif not silent:
            self._suspect(context.local_aid, context.peer_aid)

    def _hears(self, context: Context, since_ns: int) -> bool:
        return self.received_ns(context.local_label) >= since_ns

    async def measure(
        self,
        contexts: Iterable[Context],
        pairs: Sequence[Pair] = (),
        *,
        times: int,
        wait_s: float = 0.0,
    ) -> list[Round]:
        """Sends requests over the pairs of contexts, and waits for the answers.

        Args:
            contexts: whose pairs.
            pairs: these alone; without them, all that ``pairs_of`` gives.
            times: how often each pair is asked.
            wait_s: how long the last answer is waited for; 0 for as long as it may well take.
        """
        rounds = []
        usual_s = ANSWER_WAIT_MIN_S
        for context in contexts:
            one = Round(context.local_label, dict.fromkeys(pairs or pairs_of(context)))
            usual_s = max(usual_s, 3e-9 * context.expected.round_trip_ns)
            rounds.append(one)
        wait_s = wait_s or min(usual_s, ANSWER_WAIT_MAX_S)
        self.rounds += rounds
        try:
            for number in range(times):
                for one in rounds:
                    self._send(one)
                last = number + 1 == times
                await _complete(rounds, wait_s if last else TIMES_APART_S)
        finally:
            self.rounds = [one for one in self.rounds if one not in rounds]
        return rounds

    def _send(self, one: Round) -> None:
        pairs = tuple(pair for pair, answer in one.answers.items() if answer is None)
        if pairs:
            self.handle(MeasurePairs(one.label, pairs))

    # --- answers ----------------------------------------------------------------------------------

    @property
    def requests(self) -> dict[str, RequestHandler]:
        """The commands it answers, by the names that they have on the control socket."""
        return {"ping": self.ping, **self.preferring.requests}

    def report(self, octets: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
        """What ``noid paths`` shows."""
        self.preferring.show()
        contexts = Counter(one.local_locator for one in self.host.core.labels.values())
        uplinks = self.uplinks.by_name.values()
        return {
            "now": round(time.time(), 3),
            "uplinks": [uplink_report(one, contexts, octets) for one in uplinks],
        }

    async def ping(self, request: dict[str, Any]) -> dict[str, Any]:
        """Asks a peer once over every pair; the peer is an AID, a locator or a name."""
        peer = str(request.get("peer", ""))
        found = [one for one in self.host.contexts if _is_peer(one, peer) and one.is_settled]
        if not found:
            return {"error": f"no context with {printable(peer)}; see: noid contexts"}
        if len(self.rounds) >= ROUNDS_MAX:
            return {"error": "too many measurements at one time; try again in a second"}
        results = await self.measure(found[:PEERS_ASKED_MAX], times=1, wait_s=PING_WAIT_S)
        pairs = [
            pair_report(context, pair, round_trip_ns)
            for context, one in zip(found, results, strict=False)
            for pair, round_trip_ns in one.answers.items()
        ]
        return {"now": round(time.time(), 3), "pairs": pairs}

    @property
    def down(self) -> list[str]:
        """The names of the uplinks that are down."""
        return [one.name for one in self.uplinks.by_name.values() if one.health is Health.DOWN]


def _is_peer(context: Context, text: str) -> bool:
    """Whether a text names the peer of a context."""
    if context.verification.name and canonical_name(text) == context.verification.name:
        return True
    try:
        locator = parse_locator(text)
    except UsageError:
        return False
    return locator == context.peer_aid or locator in context.peer_set


def pair_report(context: Context, pair: Pair, round_trip_ns: int | None) -> dict[str, Any]:
    """A pair as ``noid ping --json`` has it."""
    return {
        "peer_aid": format_locator(context.peer_aid),
        "local_locator": format_locator(pair[0]),
        "peer_locator": format_locator(pair[1]),
        "in_use": pair == context.pair,
        "round_trip_us": None if round_trip_ns is None else round_trip_ns // 1000,
    }


def pairs_of(context: Context) -> list[Pair]:
    """The pairs of a context that are asked: each locator of ours with a few of the peer's."""
    peer = [one for one in context.peer_set if context.is_verified(one)]
    peer = peer[:PEER_LOCATORS_ASKED_MAX]
    return [(local, one) for local in context.own_set for one in peer]


async def _complete(rounds: Iterable[Round], wait_s: float) -> None:
    """Waits until everything is answered, or for so long."""
    try:
        async with asyncio.timeout(wait_s):
            for one in rounds:
                await one.complete.wait()
    except TimeoutError:
        pass
