# SPDX-License-Identifier: MIT
"""What the scenarios share: a download in a lab, what is to happen to it, and the result of it.

Host a downloads a file from b over provider 1. A scenario waits until so much has arrived, does
something to the hosts or their providers, and lets the download come to its end or be given up.
"""

import contextlib
import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgspec

from noid.constants import MILLISECOND, SECOND
from noid.control.client import stream_events
from noid.errors import PlatformError
from noid.lab import topology
from noid.lab.configuration import ZONE
from noid.lab.download import Arrival, Download, longest_silence_ns
from noid.lab.faults import Fault
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.waiting import POLL_S, wait_for

STALL_AFTER_S: Final = 20.0
EVENTS_TIMEOUT_S: Final = 60.0
"""A busy machine."""
DOWNLOADER: Final = "a"
SERVER: Final = "b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of the scenario, as the result line says it.

    Attributes:
        scenario: the scenario.
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
        """Whether the download survived, and its content is right."""
        return self.survived and self.sha256_ok

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        silence = f"{self.gap_ms:.1f} ms" if self.survived else f"> {self.gap_ms / 1000:.1f} s"
        return {
            "download survived": _yes(self.survived),
            "longest silence": silence,
            "bytes received": f"{self.bytes:,}",
            "SHA-256 right": _yes(self.sha256_ok),
            "contexts": str(self.contexts),
            "seconds": f"{self.seconds:.1f}",
        }


@dataclass(slots=True, kw_only=True)
class Run:
    """The progress of a run, for display.

    Attributes:
        arrivals: the bytes that have arrived so far.
        octets: how many bytes that is.
        octets_expected: how many the file has.
        started_ns: when the download was started.
        events: (host, event) of both daemons, as they came.
        cut_ns: when provider 1 died, if it has.
        ended_ns: when the download ended or was given up, if it has.
        cut_text: what the death of provider 1 is.
    """

    arrivals: list[Arrival]
    octets_expected: int
    started_ns: int
    octets: int = 0
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    cut_ns: int | None = None
    ended_ns: int | None = None
    cut_text: str = "provider 1 forwards nothing any more"


Watch = Callable[[Run], None]


class Transfer:
    """A download that a scenario plays with, from its ``with`` on.

    Args:
        lab: where; it is up and whole.
        scenario: for which scenario.
        stall_after_s: how long without a byte until the download is given up.
        watch: called every few milliseconds.
    """

    def __init__(self, lab: Lab, scenario: str, stall_after_s: float, watch: Watch) -> None:
        self.lab = lab
        self.scenario = scenario
        self.stall_after_s = stall_after_s
        self.watch = watch
        self._provider_octets = lab.delivered_octets(1, DOWNLOADER)
        events: list[tuple[str, dict[str, Any]]] = []
        if lab.plane != "none":
            follow_events(lab, events)
        self.download = Download(lab, DOWNLOADER, f"{SERVER}.{ZONE}")
        self.state = Run(
            arrivals=self.download.arrivals,
            octets_expected=lab.description.content_octets,
            started_ns=self.download.started_ns,
            events=events,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.download.stop()

    def await_part(self, part: float, ready: Callable[[], bool] = lambda: True) -> None:
        """Lets the download run until a part of the file is there, and something is ready.

        Args:
            part: of the whole, from 0 to 1.
            ready: what else has to hold.

        Raises:
            PlatformError: the download ends or stalls before that.
        """
        while self.download.octets < part * self.state.octets_expected or not ready():
            if not self.download.running:
                complaint = self.download.stop() or "it has ended, and noid was not ready"
                raise PlatformError(
                    self.scenario, 0, f"the download failed before the cut: {complaint}"
                )
            if self._stalled():
                raise PlatformError(
                    self.scenario,
                    errno.ETIMEDOUT,
                    f"the download stalled before the cut, after {self.download.octets} bytes",
                )
            self._tell()

    def await_moment(self, at_ns: int) -> None:
        """Lets the download run until a moment of the monotonic clock, in ns.

        Raises:
            PlatformError: as ``await_part``.
        """
        self.await_part(0, lambda: time.monotonic_ns() >= at_ns)

    def is_protected(self) -> bool:
        """Whether a death of provider 1 meets a host that noid protects, where there is noid."""
        return self.lab.plane == "none" or self._established() > 0

    def cut(self, how: Fault = Fault.SILENT) -> None:
        """Makes provider 1 fail, silently unless a fault is given.

        Raises:
            PlatformError: the download does not run over it.
        """
        carried = self.lab.delivered_octets(1, DOWNLOADER) - self._provider_octets
        if carried < self.download.octets // 2:
            raise PlatformError(self.scenario, 0, "the download does not run over provider 1")
        self.state.cut_ns = self.lab.cut(1, how)

    def finish(self) -> Outcome:
        """Lets the download run to its end, or until nothing has come for too long."""
        download, state = self.download, self.state
        assert state.cut_ns is not None, "a scenario without a cut has nothing to finish"
        while download.running and not self._stalled():
            self._tell()
        finished = not download.running
        contexts = self._established()
        complaint = download.stop()
        survived = finished and not complaint and download.octets == state.octets_expected
        gone_ns = max(time.monotonic_ns(), download.last_ns)
        state.ended_ns = download.last_ns if survived else gone_ns
        state.octets = download.octets
        self.watch(state)
        return Outcome(
            scenario=self.scenario,
            plane=self.lab.plane,
            survived=survived,
            gap_ms=self.silence_ms(state.cut_ns, state.ended_ns),
            bytes=download.octets,
            sha256_ok=download.sha256 == self.lab.description.content_sha256,
            contexts=contexts,
            seconds=round((state.ended_ns - state.started_ns) / SECOND, 3),
        )

    def silence_ms(self, since_ns: int, until_ns: int) -> float:
        """The longest time without application bytes within a span of time, in ms."""
        gap_ns = longest_silence_ns(self.download.arrivals, since_ns, until_ns)
        return round(gap_ns / MILLISECOND, 1)

    def _tell(self) -> None:
        self.state.octets = self.download.octets
        self.watch(self.state)
        time.sleep(POLL_S)

    def _stalled(self) -> bool:
        return time.monotonic_ns() - self.download.last_ns > self.stall_after_s * SECOND

    def _established(self) -> int:
        contexts = self.lab.contexts(DOWNLOADER)
        return sum(context["state"] == "established" for context in contexts)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def follow_events(lab: Lab, events: list[tuple[str, dict[str, Any]]]) -> None:
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
