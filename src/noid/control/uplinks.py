# SPDX-License-Identifier: MIT
"""The health of this host's uplinks: what ``noid paths``, metrics, events and the web page show.

Pure: takes facts and the time, returns changes. An uplink is an interface with the locators that
one provider gave it; where an interface has locators of several providers, each /64 is an uplink.

There are two kinds of evidence. The host reports that a link, a route or an address is missing;
this takes effect immediately. Peers are asked over every uplink: an uplink is silent if no peer
answers over it and a peer answers over another. A peer that answers over none is not counted.
Nothing arrives over an uplink if peers answer requests sent over it, but no answer arrives over it
although they are asked to use it, and answers arrive over another.
"""

import enum
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from noid.locators import SUBNET_OCTETS, Locator, format_locator

UPLINKS_MAX: Final = 32
"""The maximum of stored uplinks; those missing for longest are removed first."""
SWITCHES_SHOWN_MAX: Final = 5
"""The number of last switches that are shown for each uplink."""
SAMPLES_MAX: Final = 50
"""The number of last measurements from which the loss of an uplink is computed."""
SAMPLES_MIN: Final = 10
"""With fewer measurements, the loss is not known."""
LOST_MIN: Final = 3
"""Fewer lost measurements are no sign of a failure."""
LOSS_DEGRADED: Final = 0.05
"""The share of lost measurements above which an uplink is degraded; below half of it, it is up."""
PARTLY_SILENT_ROUNDS: Final = 2
"""An uplink is degraded after some peers did not answer over it this many times in sequence."""
SETTLING_S: Final = 3.0
"""How long silence does not count after a link returns: neighbours and routes are found again."""
SMOOTHING: Final = 8

Pair = tuple[Locator, Locator]


class Health(enum.StrEnum):
    """The state of an uplink."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class Reason(enum.StrEnum):
    """Why an uplink is not up."""

    NONE = ""
    INTERFACE_DOWN = "interface_down"
    NO_CARRIER = "no_carrier"
    NO_ADDRESS = "no_address"
    NO_ROUTE = "no_route"
    SILENT = "silent"
    PARTLY_SILENT = "partly_silent"
    INBOUND_SILENT = "inbound_silent"
    LOSS = "loss"


TEXTS: Final[Mapping[Reason, str]] = {
    Reason.NONE: "",
    Reason.INTERFACE_DOWN: "the interface is down or gone",
    Reason.NO_CARRIER: "the link has no carrier",
    Reason.NO_ADDRESS: "the interface has no address that may be a locator",
    Reason.NO_ROUTE: "no route leads out from its address",
    Reason.SILENT: "peers answer over other uplinks, none over this one",
    Reason.PARTLY_SILENT: "some peers answer over other uplinks alone",
    Reason.INBOUND_SILENT: "packets leave over this uplink, but none arrive over it",
    Reason.LOSS: "measurements are lost",
}
"""The description of each reason."""
HOST_REASONS: Final = frozenset(
    {Reason.INTERFACE_DOWN, Reason.NO_CARRIER, Reason.NO_ADDRESS, Reason.NO_ROUTE}
)
"""Reasons that the host itself reports; answers of peers do not override them."""


class Sighting(NamedTuple):
    """The current state of an interface.

    Attributes:
        interface: its name.
        is_up: whether it is set up.
        carries: whether it has a carrier.
        locators: the locators on it.
        broken: those of them that do not work.
        deprecated: those of them that are deprecated.
        backup: those of them that are backups.
    """

    interface: str
    is_up: bool
    carries: bool
    locators: tuple[Locator, ...]
    broken: frozenset[Locator] = frozenset()
    deprecated: frozenset[Locator] = frozenset()
    backup: frozenset[Locator] = frozenset()


class Switch(NamedTuple):
    """A switch of a context to another pair of locators.

    Attributes:
        at_s: when, in seconds since 1970.
        peer_aid: AID of the peer.
        old: the pair before.
        new: the pair after.
        why: the cause that the engine reports.
    """

    at_s: float
    peer_aid: Locator
    old: Pair
    new: Pair
    why: str


class Change(NamedTuple):
    """A change of the state of an uplink, or of its reason.

    Attributes:
        at_s: when, in seconds since 1970.
        uplink: its name.
        old: the state before.
        new: the state after.
        reason: the reason of the new state.
        lasted_s: how long the state before lasted.
    """

    at_s: float
    uplink: str
    old: Health
    new: Health
    reason: Reason
    lasted_s: float


class Asked(NamedTuple):
    """The answers of one peer that was asked over every uplink.

    Attributes:
        answered: our locators over which it answered, and the round trip of each in ns.
        unanswered: our locators over which it did not.
        returned: our locators at which an answer to a request from them arrived.
        unreturned: our locators at which no answer to a request from them arrived, although the
            peer was told to answer there.
    """

    answered: Mapping[Locator, int]
    unanswered: frozenset[Locator]
    returned: frozenset[Locator] = frozenset()
    unreturned: frozenset[Locator] = frozenset()


@dataclass(slots=True, eq=False, kw_only=True)
class Uplink:
    """One uplink.

    Attributes:
        name: the interface, or the interface and the prefix if that has several uplinks.
        interface: the interface.
        locators: the locators on it now; the last ones while it has none, if any are known.
        health: its state.
        reason: the reason of the state.
        since_s: when the state began, in seconds since 1970.
        deprecated: whether every locator on it is deprecated.
        backup: whether every locator on it is a backup.
        round_trip_ns: the smoothed round trip of answers over it; 0 until measured.
        samples: the last measurements: whether each was answered.
        partly_silent: how many times in sequence some peers answered only over other uplinks.
        inbound_silent: whether peers receive what is sent over it, and nothing arrives over it.
        settled_s: when silence counts again after its link returned.
        switches_from: how often a context switched from it.
        switches_to: how often a context switched to it.
        last: the last of these switches.
        is_there: whether the interface has a locator of it now.
        preference: the preference of the operator: ``use``, ``avoid`` or nothing.
        until_s: when that ends, in seconds since 1970; None if it has no end.
        priority: as configured; of the uplinks that work, the lowest is in use.
        weight: as configured; None if it is not.
        share: the share of new connections that start at it, 0 to 1; None if the routes decide.
    """

    name: str
    interface: str
    locators: tuple[Locator, ...]
    since_s: float
    health: Health = Health.UP
    reason: Reason = Reason.NONE
    deprecated: bool = False
    backup: bool = False
    round_trip_ns: int = 0
    samples: deque[bool] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    partly_silent: int = 0
    inbound_silent: bool = False
    settled_s: float = 0.0
    switches_from: int = 0
    switches_to: int = 0
    last: deque[Switch] = field(default_factory=lambda: deque(maxlen=SWITCHES_SHOWN_MAX))
    is_there: bool = True
    preference: str = ""
    until_s: float | None = None
    priority: int = 1
    weight: int | None = None
    share: float | None = None

    @property
    def loss(self) -> float | None:
        """The share of unanswered measurements; None until there are enough."""
        if len(self.samples) < SAMPLES_MIN:
            return None
        return self.samples.count(False) / len(self.samples)

    @property
    def loses_packets(self) -> bool:
        """Whether so many measurements are lost that the uplink is degraded."""
        loss = self.loss or 0.0
        if self.reason is Reason.LOSS:
            return loss >= LOSS_DEGRADED / 2
        return loss >= LOSS_DEGRADED and self.samples.count(False) >= LOST_MIN

    def measured(self, round_trip_ns: int) -> None:
        """Updates the smoothed round trip with a measurement."""
        before_ns = self.round_trip_ns or round_trip_ns
        self.round_trip_ns = before_ns + (round_trip_ns - before_ns) // SMOOTHING


class Uplinks:
    """All uplinks, by name, in the order in which they were first seen."""

    def __init__(self) -> None:
        self.by_name: dict[str, Uplink] = {}
        self._by_locator: dict[Locator, Uplink] = {}

    def of(self, locator: Locator) -> Uplink | None:
        """The uplink that a locator of ours belongs to."""
        return self._by_locator.get(locator)

    # --- what the host says -------------------------------------------------------------------

    def see(self, sightings: Iterable[Sighting], now_s: float) -> list[Change]:
        """Updates the uplinks from the state of the host; missing uplinks are down, or moved."""
        seen = {one.interface: one for one in sightings}
        live = {locator for one in seen.values() for locator in one.locators}
        changes: list[Change] = []
        there: set[str] = set()
        for sighting in seen.values():
            groups = _by_subnet(sighting.locators)
            for locators in groups.values():
                alone = sighting.interface
                name = name_within(alone, locators[0]) if len(groups) > 1 else alone
                there.add(name)
                uplink = self._known(name, sighting.interface, locators, now_s)
                _take_marks(uplink, sighting)
                changes += self._found(uplink, sighting, now_s)
        for uplink in [one for name, one in self.by_name.items() if name not in there]:
            uplink.is_there = False
            if live.isdisjoint(uplink.locators):
                reason = _why_gone(seen.get(uplink.interface))
                changes += self._turn(uplink, Health.DOWN, reason, now_s)
            else:  # another uplink has its locators now
                del self.by_name[uplink.name]
        self._forget()
        return changes

    def lose(self, interface: str, *, is_up: bool, now_s: float) -> list[Change]:
        """Records that an interface has lost its carrier or is down."""
        reason = Reason.NO_CARRIER if is_up else Reason.INTERFACE_DOWN
        found = [one for one in self.by_name.values() if one.interface == interface]
        return [change for one in found for change in self._turn(one, Health.DOWN, reason, now_s)]

    def keep(self, is_kept: Callable[[Uplink], bool]) -> None:
        """Removes all other uplinks, there or not."""
        self.by_name = {name: one for name, one in self.by_name.items() if is_kept(one)}
        self._forget()

    def _known(
        self, name: str, interface: str, locators: tuple[Locator, ...], now_s: float
    ) -> Uplink:
        before = interface if name != interface else name_within(interface, locators[0])
        known = self.by_name.get(before)
        if known and name not in self.by_name and {*locators} & set(known.locators or locators):
            known.name = name  # the interface has several uplinks now, or one alone
            self.by_name[name] = self.by_name.pop(before)
        fresh = Uplink(name=name, interface=interface, locators=locators, since_s=now_s)
        uplink = self.by_name.setdefault(name, fresh)
        uplink.locators, uplink.is_there = locators, True
        return uplink

    def _found(self, uplink: Uplink, sighting: Sighting, now_s: float) -> list[Change]:
        if not sighting.is_up:
            return self._turn(uplink, Health.DOWN, Reason.INTERFACE_DOWN, now_s)
        if not sighting.carries:
            return self._turn(uplink, Health.DOWN, Reason.NO_CARRIER, now_s)
        if sighting.broken.issuperset(uplink.locators):
            return self._turn(uplink, Health.DOWN, Reason.NO_ROUTE, now_s)
        if uplink.reason in HOST_REASONS:
            uplink.settled_s = now_s + SETTLING_S
            return self._turn(uplink, Health.UP, Reason.NONE, now_s)
        return []

    def _forget(self) -> None:
        """Makes room: removes those missing for longest; then indexes the others."""
        while len(self.by_name) > UPLINKS_MAX:
            gone = (one for one in self.by_name.values() if not one.is_there)
            first = min(gone, key=lambda one: one.since_s, default=None)
            del self.by_name[first.name if first else next(reversed(self.by_name))]
        self._by_locator = {one: u for u in self.by_name.values() for one in u.locators}

    # --- what peers say -----------------------------------------------------------------------

    def sample(
        self,
        locator: Locator,
        round_trip_ns: int,
        now_s: float,
        *,
        is_lost: bool,
        returned: bool = True,
    ) -> list[Change]:
        """Records one measurement of an uplink.

        Args:
            locator: our locator in the request.
            round_trip_ns: the round trip.
            now_s: the time, in seconds since 1970.
            is_lost: whether the first request was not answered, but a later one was.
            returned: whether the answer arrived over the uplink.
        """
        if (uplink := self.of(locator)) is None:
            return []
        uplink.inbound_silent &= not returned
        if returned:  # else it is also about another uplink
            uplink.measured(round_trip_ns)
            uplink.samples.append(not is_lost)
        return self._conclude(uplink, 1, 0, now_s)

    def judge(self, peers: Iterable[Asked], now_s: float) -> list[Change]:
        """Evaluates the answers of peers that were asked over every uplink.

        Args:
            peers: those that were asked.
            now_s: the time, in seconds since 1970.
        """
        heard: dict[str, int] = {}
        missed: dict[str, int] = {}
        peers = list(peers)
        for one in self.by_name.values():
            one.inbound_silent = _is_inbound_silent(one, peers)
        for peer in filter(lambda one: one.answered, peers):
            over = self._names(peer.answered)
            for locator, round_trip_ns in peer.answered.items():
                if (uplink := self.of(locator)) is not None:
                    uplink.measured(round_trip_ns)
            for name in over:
                heard[name] = heard.get(name, 0) + 1
            for name in self._names(peer.unanswered) - over:
                missed[name] = missed.get(name, 0) + 1
        changes: list[Change] = []
        for name in heard.keys() | missed.keys():
            uplink, answers, silences = self.by_name[name], heard.get(name, 0), missed.get(name, 0)
            changes += self._conclude(uplink, answers, silences, now_s)
        return changes

    def _names(self, locators: Iterable[Locator]) -> set[str]:
        return {uplink.name for uplink in map(self.of, locators) if uplink is not None}

    def _conclude(self, uplink: Uplink, answers: int, silences: int, now_s: float) -> list[Change]:
        if uplink.reason in HOST_REASONS:
            return []
        if silences and 0 < uplink.settled_s - now_s <= SETTLING_S:  # else the clock was set back
            return []
        if not answers:
            return self._turn(uplink, Health.DOWN, Reason.SILENT, now_s)
        if uplink.inbound_silent and not silences:
            return self._turn(uplink, Health.DEGRADED, Reason.INBOUND_SILENT, now_s)
        if uplink.health is Health.DOWN:
            return self._turn(uplink, Health.UP, Reason.NONE, now_s)
        uplink.partly_silent = uplink.partly_silent + 1 if silences else 0
        if uplink.partly_silent >= PARTLY_SILENT_ROUNDS:
            return self._turn(uplink, Health.DEGRADED, Reason.PARTLY_SILENT, now_s)
        if silences:
            return []
        if uplink.loses_packets:
            return self._turn(uplink, Health.DEGRADED, Reason.LOSS, now_s)
        return self._turn(uplink, Health.UP, Reason.NONE, now_s)

    def switched(self, switch: Switch) -> None:
        """Records that a context uses another pair of locators."""
        before, after = self.of(switch.old[0]), self.of(switch.new[0])
        if before is after:
            return
        if before is not None:
            before.switches_from += 1
            before.last.append(switch)
        if after is not None:
            after.switches_to += 1
            after.last.append(switch)

    def _turn(self, uplink: Uplink, health: Health, reason: Reason, now_s: float) -> list[Change]:
        if (uplink.health, uplink.reason) == (health, reason):
            return []
        if health is Health.DOWN:  # what was found before says nothing of the time after
            uplink.samples.clear()
            uplink.partly_silent = 0
            uplink.inbound_silent &= reason is Reason.SILENT
        lasted_s = max(0.0, now_s - uplink.since_s)
        change = Change(now_s, uplink.name, uplink.health, health, reason, lasted_s)
        uplink.health, uplink.reason = health, reason
        if change.old is health:
            return []  # another reason for the same state is not reported
        uplink.since_s = now_s
        return [change]


def _by_subnet(locators: Iterable[Locator]) -> dict[bytes, tuple[Locator, ...]]:
    found: dict[bytes, tuple[Locator, ...]] = {}
    for one in locators:
        found[one[:SUBNET_OCTETS]] = (*found.get(one[:SUBNET_OCTETS], ()), one)
    return found


def name_within(interface: str, locator: Locator) -> str:
    """The name of the uplink of a locator whose interface has several uplinks."""
    prefix = format_locator(Locator(locator[:SUBNET_OCTETS] + bytes(SUBNET_OCTETS)))
    return f"{interface}/{prefix.removesuffix('::')}"


def _take_marks(uplink: Uplink, sighting: Sighting) -> None:
    uplink.deprecated = sighting.deprecated.issuperset(uplink.locators)
    uplink.backup = sighting.backup.issuperset(uplink.locators)


def _is_inbound_silent(uplink: Uplink, peers: Iterable[Asked]) -> bool:
    """Whether nothing arrives over an uplink, by the present or earlier answers of peers."""
    there = frozenset(uplink.locators)
    if any(there & peer.returned for peer in peers):
        return False
    return uplink.inbound_silent or any(there & peer.unreturned for peer in peers)


def _why_gone(sighting: Sighting | None) -> Reason:
    if sighting is None or not sighting.is_up:
        return Reason.INTERFACE_DOWN
    return Reason.NO_ADDRESS if sighting.carries else Reason.NO_CARRIER
