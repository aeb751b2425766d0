# SPDX-License-Identifier: MIT
"""A run of a scenario told as it happens.

There is a row of rates for every half second, and finer rows after the cut, with what the daemons
report in between. Pure: it is shown a run and a moment and says which lines have become due. It
knows no terminal.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from noid.constants import MILLISECOND, SECOND
from noid.lab.download import RATE_OCTETS_PER_SECOND
from noid.lab.transfer import Run

BIN_NS: Final = 100 * MILLISECOND
BINS_PER_ROW: Final = 5
FINE_AFTER_CUT_NS: Final = 600 * MILLISECOND
LAG_NS: Final = 50 * MILLISECOND
"""A bin is told this long after its end, when everything of it has surely been seen."""
MEGABYTE: Final = 1_000_000
LEVELS: Final = "▁▂▃▄▅▆▇█"
NOTHING: Final = "·"
BAR_WIDTH: Final = 20
INDENT: Final = " " * 12

Kind = Literal["rates", "silence", "event"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the timeline.

    Attributes:
        kind: what it tells: bytes arriving, none arriving, or something that happened.
        text: the line itself, less than 80 columns wide.
    """

    kind: Kind
    text: str


class Timeline:
    """The lines of one run, in order, each told once."""

    def __init__(self) -> None:
        self._octets: Counter[int] = Counter()
        self._arrivals_seen = 0
        self._events_seen = 0
        self._next_bin = 0
        self._waiting: list[int] = []
        self._cut_told = False
        self._told: set[tuple[str, str]] = set()

    def advance(self, run: Run, now_ns: int) -> Iterator[Line]:
        """The lines that have become due.

        Args:
            run: the run so far.
            now_ns: the present on the run's clock.
        """
        for arrival in run.arrivals[self._arrivals_seen :]:
            self._octets[(arrival.at_ns - run.started_ns) // BIN_NS] += arrival.octets
            self._arrivals_seen += 1
        over = run.ended_ns is not None
        until_ns = run.ended_ns if run.ended_ns is not None else now_ns - LAG_NS
        complete = (until_ns - run.started_ns) // BIN_NS
        for index in range(self._next_bin, complete):
            self._next_bin = index + 1
            if _is_fine(run, index):
                yield from self._row(run)
                self._waiting.append(index)
                yield from self._row(run)
            else:
                self._waiting.append(index)
                if len(self._waiting) == BINS_PER_ROW:
                    yield from self._row(run)
        if over:
            yield from self._row(run)
            yield from self._happened(run, until_ns)

    def _row(self, run: Run) -> Iterator[Line]:
        """The bins that wait, in one row, and what happened before the end of the last of them."""
        if not self._waiting:
            return
        rates = [self._octets[index] * SECOND / BIN_NS / MEGABYTE for index in self._waiting]
        start_ns = self._waiting[0] * BIN_NS
        end_ns = run.started_ns + (self._waiting[-1] + 1) * BIN_NS
        picture = "".join(map(_level, rates))
        if _is_fine(run, self._waiting[0]):
            picture = ("█" * round(BAR_WIDTH * min(1.0, rates[0] / _full_rate()))) or NOTHING
            picture = picture.ljust(BAR_WIDTH)
        figures = " ".join(f"{rate:5.1f}" for rate in rates)
        kind: Kind = "rates" if any(rates) else "silence"
        yield Line(kind, f"{start_ns / SECOND:8.1f} s  {picture}  {figures} MB/s")
        self._waiting.clear()
        yield from self._happened(run, end_ns)

    def _happened(self, run: Run, until_ns: int) -> Iterator[Line]:
        """The cut, and what the daemons have reported, up to a moment."""
        if run.cut_ns is not None and run.cut_ns <= until_ns and not self._cut_told:
            self._cut_told = True
            moment_s = (run.cut_ns - run.started_ns) / SECOND
            yield Line("event", f"{moment_s:8.3f} s  {run.cut_text}")
        events = run.events[self._events_seen :]
        self._events_seen += len(events)
        for host, event in sorted(events, key=_event_ns):
            yield from self._report(run, host, event)

    def _report(self, run: Run, host: str, event: dict[str, Any]) -> Iterator[Line]:
        """What a daemon says, as far as it explains the picture; all but switches only once."""
        at_ns = _event_ns((host, event))
        if run.cut_ns is None or at_ns < run.cut_ns:
            prefix = f"{(at_ns - run.started_ns) / SECOND:8.3f} s  {host}: "
        else:
            prefix = f"{(at_ns - run.cut_ns) / MILLISECOND:+8.1f} ms  {host}: "
        match event["event"]:
            case "state_changed" if event.get("new") == "established":
                if self._first(host, "established"):
                    yield Line("event", f"{prefix}context with {event.get('peer_aid')} established")
            case "probe_started" if run.cut_ns is not None and at_ns >= run.cut_ns:
                if self._first(host, "probe"):
                    yield Line("event", f"{prefix}{event.get('why')}, probing every pair")
            case "switched":
                yield Line("event", f"{prefix}switched ({event.get('why')})")
                yield Line("event", f"{INDENT}from {event.get('old')}")
                yield Line("event", f"{INDENT}to   {event.get('new')}")
            case _:
                pass

    def _first(self, host: str, what: str) -> bool:
        """Whether a host says something for the first time."""
        first = (host, what) not in self._told
        self._told.add((host, what))
        return first


def _is_fine(run: Run, index: int) -> bool:
    """Whether a bin is so near the cut that it has a row of its own."""
    if run.cut_ns is None:
        return False
    start_ns = run.started_ns + index * BIN_NS
    return run.cut_ns < start_ns + BIN_NS and start_ns < run.cut_ns + FINE_AFTER_CUT_NS


def _full_rate() -> float:
    return RATE_OCTETS_PER_SECOND / MEGABYTE


def _level(rate: float) -> str:
    """A bar one column wide; an undisturbed download is three quarters of the full height."""
    if rate == 0:
        return NOTHING
    return LEVELS[min(len(LEVELS) - 1, int(rate / _full_rate() * 0.75 * len(LEVELS)))]


def _event_ns(event: tuple[str, dict[str, Any]]) -> int:
    return int(event[1].get("at_ns", 0))
