# SPDX-License-Identifier: MIT
"""What a run of ``noid bench failover`` shows, computed from its records. Pure."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from noid.bench.traffic import RECORD
from noid.constants import MILLISECOND, SECOND
from noid.lab.download import Arrival, longest_silence_ns

DISTURBANCE_NS: Final = 50 * MILLISECOND
"""A silence this long or longer is a disturbance."""
ALIVE_NS: Final = SECOND
"""A conversation whose last silence is longer than this has not survived."""
IN_FLIGHT_NS: Final = 500 * MILLISECOND
"""What was sent this shortly before the end is not counted as lost."""
BIN_NS: Final = 10 * MILLISECOND
DRAWN_BEFORE_NS: Final = 200 * MILLISECOND
DRAWN_AFTER_NS: Final = 1_800 * MILLISECOND
"""What is drawn, around the fault."""
BEFORE_NS: Final = SECOND
"""Losses are counted from this long before the fault."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Datagrams of one direction.

    Attributes:
        lost: sent and not received.
        duplicated: received once too often, each time.
    """

    lost: int
    duplicated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One run.

    Attributes:
        silence_ms: the longest silence after the fault.
        disturbed_ms: from the fault to the end of the last disturbance; 0 if there is none.
        survived: whether data arrives in the end.
        observed_ms: from the fault to the end of the observation.
        losses: of datagrams, by direction.
        connect_ms: what a new connection takes at the end; None if not tried, infinite if it fails.
    """

    silence_ms: float
    disturbed_ms: float
    survived: bool
    observed_ms: float
    losses: dict[str, Losses]
    connect_ms: float | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        found: dict[str, Any] = {
            "silence_ms": self.silence_ms,
            "disturbed_ms": self.disturbed_ms,
            "survived": self.survived,
            "observed_ms": self.observed_ms,
        }
        for direction, losses in self.losses.items():
            found[f"lost_{direction}"] = losses.lost
            found[f"duplicated_{direction}"] = losses.duplicated
        if self.connect_ms is not None:
            found["connect_ms"] = self.connect_ms if math.isfinite(self.connect_ms) else None
        return found


def read_records(octets: bytes) -> list[Arrival]:
    """The records of a file; one that is not complete yet is left out."""
    whole = len(octets) - len(octets) % RECORD.size
    return [Arrival(*pair) for pair in RECORD.iter_unpack(octets[:whole])]


def observe(
    arrivals: Iterable[Sequence[Arrival]],
    fault_ns: int,
    end_ns: int,
    losses: dict[str, Losses],
    connect_ms: float | None = None,
) -> Observation:
    """Measures the silences between a fault and the end of the observation.

    Args:
        arrivals: at each receiving application; the worst of them counts.
        fault_ns: when the fault happened.
        end_ns: when the observation ended.
        losses: of datagrams, by direction.
        connect_ms: what a new connection took.
    """
    silences = [longest_silence_ns(one, fault_ns, end_ns) for one in arrivals]
    gaps = [gap for one in arrivals for gap in _gaps(one, fault_ns, end_ns)]
    disturbed = [end - fault_ns for begin, end in gaps if end - begin >= DISTURBANCE_NS]
    last = min(max((begin for begin, _ in _gaps(one, fault_ns, end_ns))) for one in arrivals)
    return Observation(
        silence_ms=_ms(max(silences)),
        disturbed_ms=_ms(max(disturbed, default=0)),
        survived=end_ns - last <= ALIVE_NS,
        observed_ms=_ms(end_ns - fault_ns),
        losses=losses,
        connect_ms=connect_ms,
    )


def _gaps(arrivals: Sequence[Arrival], since_ns: int, until_ns: int) -> list[tuple[int, int]]:
    """Begin and end of each time without an arrival, the last one cut off at the end."""
    moments = [one.at_ns for one in arrivals if since_ns <= one.at_ns <= until_ns]
    return list(zip((since_ns, *moments), (*moments, until_ns), strict=True))


def count_losses(
    sent: Sequence[Arrival], received: Sequence[Arrival], fault_ns: int, end_ns: int
) -> Losses:
    """Compares what was sent around a fault with what was received.

    Args:
        sent: each datagram with its number.
        received: each datagram with its number.
        fault_ns: when the fault happened.
        end_ns: when the observation ended.
    """
    since_ns, until_ns = fault_ns - BEFORE_NS, end_ns - IN_FLIGHT_NS
    numbers = {number for at_ns, number in sent if since_ns <= at_ns <= until_ns}
    times = Counter(number for _, number in received if number in numbers)
    return Losses(lost=len(numbers - set(times)), duplicated=times.total() - len(times))


def bins(arrivals: Iterable[Arrival], fault_ns: int, *, packets: bool) -> list[int]:
    """What arrived around a fault, in bins of equal length.

    Args:
        arrivals: what arrived.
        fault_ns: when the fault happened.
        packets: whether each arrival counts as one, rather than by its octets.
    """
    found = [0] * ((DRAWN_BEFORE_NS + DRAWN_AFTER_NS) // BIN_NS)
    for one in arrivals:
        at = (one.at_ns - fault_ns + DRAWN_BEFORE_NS) // BIN_NS
        if 0 <= at < len(found):
            found[at] += 1 if packets else one.octets
    return found


def middle(runs: Sequence[Observation]) -> int:
    """The index of the run with the median silence; of two, that with the shorter one."""
    order = sorted(range(len(runs)), key=lambda index: runs[index].silence_ms)
    return order[(len(order) - 1) // 2]


def summary(runs: Sequence[Observation]) -> dict[str, Any]:
    """Median, minimum and maximum over runs, and each run."""
    found: dict[str, Any] = {"n": len(runs), "survived": sum(one.survived for one in runs)}
    rows = [one.as_json() for one in runs]
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        if name not in ("survived", "observed_ms") and values:
            found[name] = _spread(values)
    return {**found, "runs": rows}


def texts(runs: Sequence[Observation]) -> dict[str, str]:
    """The summary as text: ``median (min-max)`` in ms, and datagrams as ``to a/from a``."""
    found = summary(runs)
    tried = any(one.connect_ms is not None for one in runs)
    connect = _text(found["connect_ms"]) if "connect_ms" in found else "never"
    return {
        "lives": f"{found['survived']}/{found['n']}",
        "silence ms": _text(found["silence_ms"]),
        "disturbed ms": _text(found["disturbed_ms"]),
        "lost": _both(found, "lost"),
        "twice": _both(found, "duplicated"),
        "connect ms": connect if tried else "",
    }


def _text(spread: dict[str, float]) -> str:
    return f"{spread['median']:.0f} ({spread['min']:.0f}-{spread['max']:.0f})"


def _both(found: dict[str, Any], what: str) -> str:
    """The medians of both directions, where there are datagrams."""
    spreads = [found.get(f"{what}_{direction}") for direction in ("to_a", "from_a")]
    return "/".join(f"{one['median']:g}" for one in spreads if one)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def _ms(ns: float) -> float:
    return round(ns / MILLISECOND, 1)
