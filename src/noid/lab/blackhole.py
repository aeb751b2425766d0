"""The scenario ``blackhole``: a provider dies in silence in the middle of a download.

Host a downloads a file from b over provider 1. When half of it has arrived, provider 1 forwards
nothing any more: no error, no link going down. Plain TCP sends into the hole until it gives up, in
a quarter of an hour; with noid it should not notice more than a pause.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from noid.constants import MILLISECOND, SECOND
from noid.control import stream_events
from noid.errors import PlatformError
from noid.lab import topology
from noid.lab.configuration import ZONE
from noid.lab.download import Arrival, Download, longest_silence_ns
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.waiting import POLL_S, wait_for

NAME: Final = "blackhole"
STALL_AFTER_S: Final = 20.0
EVENTS_TIMEOUT_S: Final = 5.0
DOWNLOADER: Final = "a"
SERVER: Final = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of it, as the result line says it.

    Attributes:
        scenario: always ``blackhole``.
        plane: the data plane, or ``none``.
        survived: whether the download came to its end.
        gap_ms: the longest time without application bytes after the cut.
        bytes: how many arrived.
        sha256_ok: whether they are the bytes of the file, all of them.
        contexts: established contexts of a at the end.
        seconds: how long the download took, or until we gave it up.
    """

    scenario: str
    plane: Plane
    survived: bool
    gap_ms: float
    bytes: int
    sha256_ok: bool
    contexts: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether this is what noid is there for."""
        return self.survived and self.sha256_ok


@dataclass(slots=True, kw_only=True)
class Run:
    """A run as it goes, for whoever watches it.

    Attributes:
        arrivals: the bytes that have arrived so far.
        octets: how many bytes that is.
        octets_expected: how many the file has.
        started_ns: when the download was started.
        events: (host, event) of both daemons, as they came.
        cut_ns: when provider 1 died, if it has.
        ended_ns: when the download ended or was given up, if it has.
    """

    arrivals: list[Arrival]
    octets_expected: int
    started_ns: int
    octets: int = 0
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cut_ns: int | None = None
    ended_ns: int | None = None


Watch = Callable[[Run], None]


def run(
    lab: Lab, *, stall_after_s: float = STALL_AFTER_S, watch: Watch = lambda run: None
) -> Outcome:
    """Runs the scenario in a lab that is up and whole.

    Args:
        lab: where.
        stall_after_s: how long without a byte until the download is given up.
        watch: called every few milliseconds.

    Raises:
        PlatformError: it does not come as far as the cut, or not over provider 1.
    """
    events: list[tuple[str, dict[str, Any]]] = []
    if lab.plane != "none":
        _follow_events(lab, events)
    before = lab.delivered_octets(1, DOWNLOADER)
    with Download(lab, DOWNLOADER, f"{SERVER}.{ZONE}") as download:
        state = Run(
            arrivals=download.arrivals,
            octets_expected=lab.description.content_octets,
            started_ns=download.started_ns,
            events=events,
        )
        _await_half(lab, download, state, stall_after_s, watch)
        if lab.delivered_octets(1, DOWNLOADER) - before < download.octets // 2:
            raise PlatformError(NAME, 0, "the download does not run over provider 1")
        state.cut_ns = lab.cut_provider(1)
        _await_end(download, state, stall_after_s, watch)
        finished = not download.running
        contexts = _established(lab)
        complaint = download.stop()
    survived = finished and not complaint and download.octets == state.octets_expected
    state.ended_ns = download.last_ns if survived else max(time.monotonic_ns(), download.last_ns)
    state.octets = download.octets
    watch(state)
    gap_ns = longest_silence_ns(download.arrivals, state.cut_ns, state.ended_ns)
    return Outcome(
        scenario=NAME,
        plane=lab.plane,
        survived=survived,
        gap_ms=round(gap_ns / MILLISECOND, 1),
        bytes=download.octets,
        sha256_ok=download.sha256 == lab.description.content_sha256,
        contexts=contexts,
        seconds=round((state.ended_ns - state.started_ns) / SECOND, 3),
    )


def _await_half(
    lab: Lab, download: Download, state: Run, stall_after_s: float, watch: Watch
) -> None:
    """Lets the download run until half the bytes are there and, with noid, a context is.

    Raises:
        PlatformError: the download ends or stalls before that.
    """
    while download.octets < state.octets_expected // 2 or not _ready_for_cut(lab):
        if not download.running:
            complaint = download.stop() or "it has ended and noid has established no context"
            raise PlatformError(NAME, 0, f"the download failed before the cut: {complaint}")
        if _stalled(download, stall_after_s):
            raise PlatformError(
                NAME,
                errno.ETIMEDOUT,
                f"the download stalled before the cut, after {download.octets} bytes",
            )
        state.octets = download.octets
        watch(state)
        time.sleep(POLL_S)


def _await_end(download: Download, state: Run, stall_after_s: float, watch: Watch) -> None:
    """Lets the download run to its end, or until nothing has come for too long."""
    while download.running and not _stalled(download, stall_after_s):
        state.octets = download.octets
        watch(state)
        time.sleep(POLL_S)


def _stalled(download: Download, stall_after_s: float) -> bool:
    return time.monotonic_ns() - download.last_ns > stall_after_s * SECOND


def _ready_for_cut(lab: Lab) -> bool:
    """Whether a death of provider 1 meets a host that noid protects, where there is noid."""
    return lab.plane == "none" or _established(lab) > 0


def _established(lab: Lab) -> int:
    contexts = lab.contexts(DOWNLOADER)
    return sum(context["state"] == "established" for context in contexts)


def _follow_events(lab: Lab, events: list[tuple[str, dict[str, Any]]]) -> None:
    """Collects what both daemons report, from now on and until they end."""

    def follow(host: str) -> None:
        # A daemon that is ended in the middle of a line closes the stream as well as it can.
        with contextlib.suppress(PlatformError, OSError, msgspec.DecodeError):
            for event in stream_events(lab.control_socket(host)):
                events.append((host, event))

    for host in topology.HOSTS:
        threading.Thread(target=follow, args=(host,), name=f"events-{host}", daemon=True).start()

    def all_followed() -> bool:
        return {host for host, _ in tuple(events)} == set(topology.HOSTS)

    wait_for("both daemons report their events", all_followed, EVENTS_TIMEOUT_S)
