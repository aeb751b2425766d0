# SPDX-License-Identifier: MIT
"""Every interleaving of a small world: two engines, one pair of AIDs, any network.

The swarm plays many long random runs; this module plays **all** short ones: from a beginning, every
order of delivery, every loss and duplication, and every timer that fires early or late, within
bounds. Each state is checked by the laws; a violation is shown with the shortest path to it.

The steps of each end are computed once (ends.py); combinations of two ends and a network are
lookups, many thousands per second.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from noid.constants import MINUTE, SECOND, SEGMENT_LIFETIME
from noid.engine.host import Host
from noid.errors import UsageError
from noid.locators import Locator
from noid.sim.ends import LOCATORS, Do, Ends, agree, name_of, new_end
from noid.wire import ipv6

HEAL_NS: Final = 5 * MINUTE
"""How long two ends may take to agree after the last fault."""
HEAL_STEPS_MAX: Final = 2_000
WAIT_NS: Final = 10 * SECOND
"""The largest step of the clocks during the recovery, if no timer expires earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The bounds of a walk.

    Attributes:
        in_flight: packets on the network at one time; states with more are left out.
        drops: lost packets.
        duplicates: duplicated packets.
        timers: timers that fire.
        depth: steps from the beginning.
        states: states in all; the walk stops there and reports that.
    """

    in_flight: int = 4
    drops: int = 1
    duplicates: int = 1
    timers: int = 2
    depth: int = 24
    states: int = 2_000_000


@dataclass(frozen=True, slots=True)
class Violation:
    """A violation of a law.

    Attributes:
        law: the name of the law.
        what: what has happened.
        steps: the shortest path to it, one line per step.
    """

    law: str
    what: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.law}: {self.what}"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Exploration:
    """The result of a walk.

    Attributes:
        states: states visited.
        transitions: steps taken between them.
        violations: the first violation of each law.
        ends: states of single ends.
        steps: steps of single ends, each an event for an engine.
        complete: whether every state within the bounds was visited.
    """

    states: int
    transitions: int
    violations: tuple[Violation, ...]
    ends: int
    steps: int
    complete: bool


# --- worlds ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Action:
    """An event that may happen once, at any time after another action.

    Attributes:
        side: the end to which it happens.
        method: the name of a method of End.
        after: the index of the action that must have happened before; -1 if there is none.
    """

    side: int
    method: str
    after: int = -1

    @property
    def do(self) -> Do:
        """The action in the form of ``Do``."""
        return self.method, None


@dataclass(frozen=True, slots=True)
class World:
    """A beginning, and the actions that may follow.

    Attributes:
        summary: in a sentence.
        actions: the actions, each at most once.
        established: whether the ends have a context from the beginning.
        prepared: the events before the beginning; None is a delivery.
        dead: locators that do not work.
        engine: the class of the engines; a test may use a broken one.
    """

    summary: str
    actions: tuple[Action, ...]
    established: bool = False
    prepared: tuple[Action | None, ...] = ()
    dead: frozenset[Locator] = frozenset()
    engine: type[Host] = Host


_A_SENDS, _B_SENDS = Action(0, "ulp_sends"), Action(1, "ulp_sends")

WORLDS: Final[dict[str, World]] = {
    "initiate": World("a initiates", (_A_SENDS,)),
    "cross": World("both initiate; their messages cross anyhow", (_A_SENDS, _B_SENDS)),
    "init-after-cc": World(
        "b initiates after it has answered a's INIT with CC [draft §4.3.2]",
        (_B_SENDS,),
        prepared=(_A_SENDS, None),
    ),
    "lose": World(
        "b loses an established context; both send",
        (Action(1, "reboot"), Action(0, "ulp_sends", 0), Action(1, "ulp_sends", 0)),
        established=True,
    ),
    "update": World(
        "each end changes its sets",
        (Action(0, "change_sets"), Action(1, "change_sets")),
        established=True,
    ),
    "close": World(
        "idle contexts are closed, while a may send [draft App. A]", (_A_SENDS,), established=True
    ),
    "other-locator": World(
        "nothing passes between the AIDs, so that contexts are provisional at first [D37]",
        (_A_SENDS, _B_SENDS),
        dead=frozenset({LOCATORS[0][0]}),
    ),
}
"""By name."""


def run(name: str, bounds: Bounds | None = None) -> Exploration:
    """Explores the world with a name.

    Raises:
        UsageError: there is no such world.
    """
    world = WORLDS.get(name)
    if world is None:
        raise UsageError(f"no world {name!r}; there are: {', '.join(WORLDS)}")
    return explore(world, bounds or Bounds())


# --- the walk -------------------------------------------------------------------------------------

Pair = tuple[int, int]
"""The numbers of the states of both ends."""
Flight = tuple[int, ...]
"""The numbers of the packets on the network, one for each copy."""
Move = tuple[str, int]
"""A move: a word, and the packet, end or action."""
Fault = tuple[str, str]
"""The violated law, and what has happened."""


class Place(NamedTuple):
    """A state of the world: both ends, the network, and the actions left."""

    ends: Pair
    flight: Flight
    done: int
    drops: int
    duplicates: int
    timers: int


def explore(world: World, bounds: Bounds) -> Exploration:
    """Walks every state within the bounds, the nearest first."""
    return _Walk(world, bounds).walk()


class _Walk:
    """One exploration.

    Args:
        world: the beginning.
        bounds: the bounds of the walk.
    """

    def __init__(self, world: World, bounds: Bounds) -> None:
        self.world = world
        self.bounds = bounds
        self.ends = Ends()
        self.packets: list[bytes] = []
        self.receiver: list[int] = []
        self.number: dict[bytes, int] = {}
        self.came: dict[Place, tuple[Place, Move] | None] = {}
        self.healed: dict[tuple[Pair, Flight], bool] = {}
        self.violations: dict[str, Violation] = {}
        self.transitions = 0

    def walk(self) -> Exploration:
        """Walks breadth first."""
        begin = self._begin()
        self.came[begin] = None
        frontier, depth = [begin], 0
        while frontier and depth < self.bounds.depth and len(self.came) < self.bounds.states:
            depth += 1
            following: list[Place] = []
            for place in frontier:
                for move, reached, fault in self._moves(place):
                    self.transitions += 1
                    if fault is not None:
                        self._accuse(fault, place, move)
                    if reached not in self.came and len(self.came) < self.bounds.states:
                        self.came[reached] = (place, move)
                        self._judge(reached)
                        following.append(reached)
            frontier = following
        return Exploration(
            states=len(self.came),
            transitions=self.transitions,
            violations=tuple(self.violations.values()),
            ends=len(self.ends.facts),
            steps=len(self.ends.steps),
            complete=len(self.came) < self.bounds.states,
        )

    def _begin(self) -> Place:
        one, other = (new_end(side, engine=self.world.engine) for side in (0, 1))
        ends: Pair = (self.ends.put(one), self.ends.put(other))
        prepared = (_A_SENDS,) if self.world.established else self.world.prepared
        flight: Flight = ()
        for action in prepared:
            if action is None:
                ends, sent, _ = self._deliver(ends, flight[0])
                flight = flight[1:] + sent
            else:
                ends, sent, _ = self._do(ends, action.side, action.do)
                flight += sent
        while flight and self.world.established:
            ends, sent, _ = self._deliver(ends, flight[0])
            flight = flight[1:] + sent
        assert not self.world.established or self._agree(ends), "no context to begin with"
        bounds = self.bounds
        return Place(ends, tuple(sorted(flight)), 0, bounds.drops, bounds.duplicates, bounds.timers)

    # --- one step ---------------------------------------------------------------------------------

    def _do(self, ends: Pair, side: int, do: Do) -> tuple[Pair, Flight, Fault | None]:
        """Executes an event at one end; returns both ends, the sent packets, and a fault."""
        step = self.ends.step(ends[side], do)
        sent: list[int] = []
        for packet in step.sent:
            number = self.number.setdefault(packet, len(self.packets))
            if number == len(self.packets):
                self.packets.append(packet)
                self.receiver.append(self._receiver(packet))
            if self.receiver[number] >= 0:
                sent.append(number)
        after = (step.end, ends[1]) if side == 0 else (ends[0], step.end)
        return after, tuple(sent), step.fault

    def _deliver(self, ends: Pair, number: int) -> tuple[Pair, Flight, Fault | None]:
        return self._do(ends, self.receiver[number], ("arrive", self.packets[number]))

    def _receiver(self, packet: bytes) -> int:
        """The end that gets a packet; -1 if none does."""
        header = ipv6.Header.decode_unchecked(packet)
        if header.source in self.world.dead or header.destination in self.world.dead:
            return -1
        return next((side for side in (0, 1) if header.destination in LOCATORS[side]), -1)

    def _moves(self, place: Place) -> Iterator[tuple[Move, Place, Fault | None]]:
        """All possible next moves, within the bounds."""
        flight, room = place.flight, self.bounds.in_flight
        for number in dict.fromkeys(flight):
            at = flight.index(number)
            rest = flight[:at] + flight[at + 1 :]
            ends, sent, fault = self._deliver(place.ends, number)
            if len(rest) + len(sent) <= room:
                reached = place._replace(ends=ends, flight=tuple(sorted(rest + sent)))
                yield ("arrives", number), reached, fault
            if place.drops:
                yield ("is lost", number), place._replace(flight=rest, drops=place.drops - 1), None
            if place.duplicates and len(flight) < room:
                both = tuple(sorted((*flight, number)))
                left = place.duplicates - 1
                yield ("is doubled", number), place._replace(flight=both, duplicates=left), None
        for side in (0, 1) if place.timers else ():
            if self._may_fire(place, side):
                ends, sent, fault = self._do(place.ends, side, ("fire", None))
                if len(flight) + len(sent) <= room:
                    after = tuple(sorted(flight + sent))
                    left = place.timers - 1
                    reached = place._replace(ends=ends, flight=after, timers=left)
                    yield ("timer", side), reached, fault
        for index, action in enumerate(self.world.actions):
            bit = 1 << index
            if place.done & bit or (action.after >= 0 and not place.done >> action.after & 1):
                continue
            ends, sent, fault = self._do(place.ends, action.side, action.do)
            if len(flight) + len(sent) <= room:
                after = tuple(sorted(flight + sent))
                reached = place._replace(ends=ends, flight=after, done=place.done | bit)
                yield ("action", index), reached, fault

    def _may_fire(self, place: Place, side: int) -> bool:
        """Whether no packet would be on the network longer than a segment may live."""
        delay_ns = self.ends.facts[place.ends[side]].delay_ns
        return delay_ns >= 0 and (not place.flight or delay_ns <= SEGMENT_LIFETIME)

    # --- the laws ---------------------------------------------------------------------------------

    def _agree(self, ends: Pair) -> bool:
        return agree(self.ends.facts[ends[0]], self.ends.facts[ends[1]])

    def _judge(self, place: Place) -> None:
        """Checks a state by the laws."""
        one, other = (self.ends.facts[end] for end in place.ends)
        if not place.flight and one.proven and other.proven:
            theirs = {(view[2], view[1]): view[3] for view in other.proven}
            matching = [view for view in one.proven if view[1:3] in theirs]
            if not matching:
                self._accuse(("labels match when all is quiet", f"{one} {other}"), place)
            elif any(view[3] != theirs[view[1:3]] for view in matching):
                self._accuse(("keys match when all is quiet", f"{one} {other}"), place)
        if not self._heals(place.ends, place.flight):
            self._accuse(("what goes wrong heals", "the ends do not agree again"), place)

    def _heals(self, ends: Pair, flight: Flight) -> bool:
        """Whether both ends agree after some time, if nothing is lost from now on.

        Packets arrive in order. If the network is empty and they do not agree, both send; if that
        does not help, the next timer fires.
        """
        facts = self.ends.facts
        until = tuple(facts[end].now_ns + HEAL_NS for end in ends)
        way: list[tuple[Pair, Flight]] = []
        stirred = False
        while (ends, flight) not in self.healed and len(way) < HEAL_STEPS_MAX:
            way.append((ends, flight))
            late = any(facts[end].now_ns > end_ns for end, end_ns in zip(ends, until, strict=True))
            if late or (not flight and self._agree(ends)):
                self.healed[ends, flight] = not late
            elif flight:
                ends, sent, _ = self._deliver(ends, flight[0])
                flight = flight[1:] + sent
            elif not stirred:
                stirred = True
                ends, flight, _ = self._do(ends, 0, _A_SENDS.do)
                ends, sent, _ = self._do(ends, 1, _B_SENDS.do)
                flight += sent
            else:
                stirred = False
                ends, flight = self._time_passes(ends)
        found = self.healed.get((ends, flight), False)
        # A result with less time says nothing about states with more time.
        self.healed.update(dict.fromkeys(way if found else way[:1], found))
        return found

    def _time_passes(self, ends: Pair) -> tuple[Pair, Flight]:
        """Moves both clocks to the next timer of either end."""
        delays = [self.ends.facts[end].delay_ns for end in ends]
        pause_ns = min((delay_ns for delay_ns in delays if delay_ns >= 0), default=WAIT_NS)
        do: Do = ("wait", min(pause_ns, WAIT_NS))
        ends, sent, _ = self._do(ends, 0, do)
        ends, more, _ = self._do(ends, 1, do)
        return ends, sent + more

    def _accuse(self, fault: Fault, place: Place, last: Move | None = None) -> None:
        """Stores the first violation of each law, with the path to it."""
        law, what = fault
        if law in self.violations:
            return
        moves = [] if last is None else [last]
        here: Place | None = place
        while here is not None:
            came = self.came.get(here)
            if came is None:
                break
            here, move = came
            moves.append(move)
        steps = tuple(self._tell(move) for move in reversed(moves))
        self.violations[law] = Violation(law, what, steps)

    def _tell(self, move: Move) -> str:
        """A move, for people."""
        what, number = move
        if what == "timer":
            return f"a timer of {'ab'[number]} fires"
        if what == "action":
            action = self.world.actions[number]
            return f"{'ab'[action.side]}: {action.method.replace('_', ' ')}"
        return f"{name_of(self.packets[number])} {what}"
