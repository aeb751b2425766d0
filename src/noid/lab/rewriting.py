# SPDX-License-Identifier: MIT
"""The scenarios with a site behind a border: the border moves its hosts, and they need no timer.

Host a, behind the border, has one TCP connection with b, with octets in both directions all the
time. ``router-rewrite``: provider 1's line to the border loses its carrier. ``border-restart``:
the border rewrites, and its daemon is killed and started again. ``router-plain``: host a lists its
AID alone, so that none of its packets may be rewritten, and provider 1 loses its carrier for a
while.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noid.constants import MILLISECOND, SECOND
from noid.errors import PlatformError, UsageError
from noid.lab import namespaces
from noid.lab.borders import BorderDaemon, FirstPackets
from noid.lab.configuration import ZONE
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.streams import BLOCK_OCTETS, Streams
from noid.lab.topology import HOSTS, NAME_SERVER, locators, site
from noid.lab.transfer import STALL_AFTER_S, follow_events

REWRITE, RESTART, PLAIN = "router-rewrite", "border-restart", "router-plain"
INSIDE, PEER = HOSTS
FIRST_PROVIDER, FIRST_UPLINK, SECOND_UPLINK = "isp1", "up1", "up2"
CODE_5: Final = "EACCES"
"""What Linux makes of ICMPv6 destination unreachable with code 5."""
DISCARD: Final = 9
ATTEMPT_S: Final = 3.0
ATTEMPTS: Final = 8
READY_S: Final = 15.0
READY_OCTETS: Final = 100 * BLOCK_OCTETS
STEADY_OCTETS: Final = 250 * BLOCK_OCTETS
"""What has to arrive in each direction, half a second of the pace, until it counts as going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came of it, as the result line says it.

    Attributes:
        scenario: which one.
        plane: the data plane of the hosts.
        survived: whether octets went on in both directions; in ``border-restart`` without one
            packet by the uplink of its source.
        intact: whether each octet arrived once and in order.
        gap_ms: the longest time without octets at an application after the fault.
        up_gap_ms: the same of what the host in the site sends.
        down_gap_ms: the same of what its peer sends.
        usual_gap_ms: the longest such time before the fault, for comparison.
        rewritten: packets that the border rewrote, by its programs of now.
        seconds: from the fault to the end.
    """

    scenario: str
    plane: Plane
    survived: bool
    intact: bool
    gap_ms: float
    up_gap_ms: float
    down_gap_ms: float
    usual_gap_ms: float
    rewritten: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether this is what a border is there for."""
        return self.survived and self.intact and self.rewritten > 0

    @property
    def figures(self) -> dict[str, str]:
        """The same for people, by what it is called."""
        return {
            "connection survived": _yes(self.survived),
            "longest silence": f"{self.gap_ms:.1f} ms",
            "longest silence before": f"{self.usual_gap_ms:.1f} ms",
            "octets in order": _yes(self.intact),
            "packets rewritten": str(self.rewritten),
            "seconds": f"{self.seconds:.1f}",
        }


@dataclass(frozen=True, kw_only=True)
class Rewritten(Moved):
    """What came of ``router-rewrite``.

    Attributes:
        round_trip_ms: of TCP before the fault, smoothed.
        switch_ms: from the fault to the border's switch; the start of ``ip`` included.
        peer_ms: from the border's switch until the peer's first packet by provider 2 is there.
        probed_before: hosts that probed before that packet.
    """

    round_trip_ms: float
    switch_ms: float
    peer_ms: float | None
    probed_before: list[str]

    @property
    def good(self) -> bool:
        """Whether this is what a border is there for."""
        moved = self.peer_ms is not None and not self.probed_before
        return moved and self.survived and self.intact and self.rewritten > 0

    @property
    def figures(self) -> dict[str, str]:
        """The same for people, by what it is called."""
        return super().figures | {
            "round trip": f"{self.round_trip_ms:.2f} ms",
            "fault to switch": f"{self.switch_ms:.1f} ms",
            "switch to the peer's packet": _ms(self.peer_ms),
            "probed before that": " ".join(self.probed_before) or "no host",
        }


class _Play:
    """A border, and the streams in its lab."""

    def __init__(self, lab: Lab, scenario: str, stall_after_s: float, *, listed: int = 2) -> None:
        if lab.plane == "none":
            raise UsageError(f"{scenario}: without noid no packet is rewritten; take --plane bpf")
        self.lab = lab
        self.scenario = scenario
        self.stall_after_s = stall_after_s
        self.listed = {INSIDE: len(locators(PEER)), PEER: listed}
        """How many verified addresses of its peer each host has in a context that is complete."""
        if listed == 1:
            _list_one(lab)
        self.border = BorderDaemon(lab)
        self.border.start()
        done = lab.run(INSIDE, ["ping", "-c1", "-W5", f"{PEER}.{ZONE}"])
        if done.returncode != 0:
            raise PlatformError(scenario, 0, f"the hosts do not talk: {done.stdout.strip()}")
        lab.wait_for("the context can move", self._can_move, READY_S)
        self.streams = Streams(lab, INSIDE, PEER, lab.contexts(INSIDE)[0]["peer_aid"])
        self.began_ns = time.monotonic_ns()

    def await_octets(self, octets: int, timeout_s: float = READY_S) -> None:
        """Waits until so many more octets have arrived in each direction.

        Raises:
            PlatformError: they have not.
        """
        self.lab.wait_for("octets arrive in both directions", self.streams.flows(octets), timeout_s)

    def goes_on(self) -> bool:
        """Whether many more octets arrive in both directions."""
        try:
            self.await_octets(STEADY_OCTETS, self.stall_after_s)
        except PlatformError:
            return False
        return True

    def figures(self, fault_ns: int, *, survived: bool, rewritten: int) -> dict[str, Any]:
        """What both scenarios report, of the time since a fault."""
        now_ns = time.monotonic_ns()
        both = (self.streams.up, self.streams.down)
        up, down = (one.longest_silence_ns(fault_ns, now_ns) for one in both)
        usual = max(one.longest_silence_ns(self.began_ns, fault_ns) for one in both)
        return {
            "scenario": self.scenario,
            "plane": self.lab.plane,
            "survived": survived,
            "intact": all(one.intact for one in both),
            "gap_ms": _as_ms(max(up, down)),
            "up_gap_ms": _as_ms(up),
            "down_gap_ms": _as_ms(down),
            "usual_gap_ms": _as_ms(usual),
            "rewritten": rewritten,
            "seconds": round((now_ns - fault_ns) / SECOND, 3),
        }

    def _can_move(self) -> bool:
        return all(
            any(
                one["state"] == "established" and len(one["lsv_peer"]) == self.listed[host]
                for one in self.lab.contexts(host)
            )
            for host in HOSTS
        )


def run_rewrite(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Rewritten:
    """Plays ``router-rewrite`` in a lab of ``site_plan`` that is up.

    Raises:
        UsageError: there is no noid in this lab.
        PlatformError: it does not come as far as the fault, or not over provider 1.
    """
    play = _Play(lab, REWRITE, stall_after_s)
    events: list[tuple[str, dict[str, Any]]] = []
    follow_events(lab, events)
    with play.streams as streams, FirstPackets(lab, SECOND_UPLINK) as watch:
        play.began_ns = time.monotonic_ns()
        play.await_octets(READY_OCTETS)
        if any(watch.seen):
            raise PlatformError(REWRITE, 0, "the connection does not run over provider 1")
        round_trip_ns, fault_ns = streams.round_trip_ns, time.monotonic_ns()
        lab.run(FIRST_PROVIDER, ["ip", "link", "set", "custa", "down"])
        survived = play.goes_on()
        status = play.border.status()
        figures = play.figures(fault_ns, survived=survived, rewritten=play.border.rewritten())
        switched_ns, peer_ns = status["switched_ns"], watch.seen.in_ns
    return Rewritten(
        **figures,
        round_trip_ms=_as_ms(round_trip_ns),
        switch_ms=_as_ms(switched_ns - fault_ns),
        peer_ms=None if peer_ns is None else _as_ms(peer_ns - switched_ns),
        probed_before=_probed(events, fault_ns, peer_ns),
    )


@dataclass(frozen=True, kw_only=True)
class Refused(Moved):
    """What came of ``router-plain``: the connection waits, and goes on when provider 1 is back.

    Attributes:
        refused: packets for which no uplink worked.
        plain_heard: what a plain connection attempt by provider 1 failed with; EACCES is code 5.
    """

    refused: int
    plain_heard: str

    @property
    def good(self) -> bool:
        """Whether no packet was rewritten, and senders heard of it."""
        heard = self.plain_heard == CODE_5 and self.refused > 0
        return heard and self.survived and self.intact and self.rewritten == 0

    @property
    def figures(self) -> dict[str, str]:
        """The same for people, by what it is called."""
        return super().figures | {
            "packets refused": str(self.refused),
            "a plain sender heard": self.plain_heard,
        }


def run_plain(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Refused:
    """Plays ``router-plain`` in a lab of ``site_plan`` that is up.

    Raises:
        UsageError: there is no noid in this lab.
        PlatformError: it does not come as far as the fault.
    """
    play = _Play(lab, PLAIN, stall_after_s, listed=1)
    with play.streams:
        play.await_octets(READY_OCTETS)
        with _carrier_lost(lab) as fault_ns:
            lab.wait_for("packets are refused", lambda: play.border.refused() > 0, READY_S)
            heard = _plain_attempt(lab)
            refused, rewritten = play.border.refused(), play.border.rewritten()
        survived = play.goes_on()
        figures = play.figures(fault_ns, survived=survived, rewritten=rewritten)
    return Refused(**figures, refused=refused, plain_heard=heard)


@contextlib.contextmanager
def _carrier_lost(lab: Lab) -> Iterator[int]:
    """Provider 1's line to the border is dead while the block runs; since when, in ns."""
    keep = "echo 1 > /proc/sys/net/ipv6/conf/custa/keep_addr_on_down"
    lab.run(FIRST_PROVIDER, ["sh", "-c", keep])
    back = next(
        route
        for route in lab.plan.routes
        if route.node == FIRST_PROVIDER and route.destination == site(1, INSIDE)
    )
    since_ns = time.monotonic_ns()
    lab.run(FIRST_PROVIDER, ["ip", "link", "set", "custa", "down"])
    try:
        yield since_ns
    finally:
        lab.run(FIRST_PROVIDER, ["ip", "link", "set", "custa", "up"])
        route = ["route", "replace", back.destination, "via", back.gateway]
        lab.run(FIRST_PROVIDER, ["ip", "-6", *route])


def _plain_attempt(lab: Lab) -> str:
    """What a plain connection from provider 1's address fails with.

    The kernel of the border limits its errors for each host: an attempt may hear nothing.
    """

    def attempt() -> str:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as plain:
            plain.bind((locators(INSIDE)[0], 0))
            plain.settimeout(ATTEMPT_S)
            code = plain.connect_ex((NAME_SERVER, DISCARD))
        return errno.errorcode.get(code, "")

    node = namespaces.namespace(lab.name, INSIDE)
    found = ""
    for _ in range(ATTEMPTS):
        found = namespaces.inside(node, attempt)
        if found == CODE_5:
            break
    return found


def run_restart(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Moved:
    """Plays ``border-restart`` in a lab of ``site_plan`` that is up.

    Raises:
        UsageError: there is no noid in this lab.
        PlatformError: it does not come as far as the kill, or the daemon does not start again.
    """
    play = _Play(lab, RESTART, stall_after_s)
    with play.streams:
        play.border.use("isp2")
        play.await_octets(READY_OCTETS)
        play.began_ns = time.monotonic_ns()
        play.await_octets(READY_OCTETS)
        killed_ns = time.monotonic_ns()
        with FirstPackets(lab, FIRST_UPLINK) as watch:
            play.border.kill()
            survived = play.goes_on()
            play.border.start()
            survived &= play.border.leaves_by() == ["isp2", "isp2"] and play.goes_on()
            survived &= watch.seen.out_ns is None
        rewritten = play.border.rewritten()
        return Moved(**play.figures(killed_ns, survived=survived, rewritten=rewritten))


def _list_one(lab: Lab) -> None:
    """Lets the host in the site list its AID alone, as one that peers cannot verify."""
    path = Path(lab.environment(INSIDE)["NOID_CONFIG"])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[host]\n", "[host]\nverifiable = false\n", 1), encoding="utf-8")
    lab.stop_daemon(INSIDE)
    lab.start_daemon(INSIDE)


def _probed(
    events: list[tuple[str, dict[str, Any]]], since_ns: int, until_ns: int | None
) -> list[str]:
    """The hosts that began to probe in a span of time."""
    return sorted(
        {
            host
            for host, event in tuple(events)
            if event["event"] == "probe_started"
            and since_ns <= int(event["at_ns"])
            and (until_ns is None or int(event["at_ns"]) < until_ns)
        }
    )


def _as_ms(span_ns: int) -> float:
    return round(span_ns / MILLISECOND, 2)


def _ms(span_ms: float | None) -> str:
    return "none came" if span_ms is None else f"{span_ms:.2f} ms"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


ROUTER_SCENARIOS: Final[dict[str, Callable[..., Moved]]] = {
    REWRITE: run_rewrite,
    RESTART: run_restart,
    PLAIN: run_plain,
}
ROUTER_TEXTS: Final = {
    REWRITE: "a site behind a border, whose line to provider 1 loses its carrier",
    RESTART: "a border rewrites while its daemon is killed and started again",
    PLAIN: "the same as router-rewrite, but no packet of the site may be rewritten",
}
