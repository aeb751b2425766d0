# SPDX-License-Identifier: MIT
"""A provider's line loses its carrier: the border moves the hosts of its site without a timer.

``router-rewrite``: one border has both lines. ``router-bfd``: the same, but the line keeps its
carrier, and BFD tells the border that it passes nothing. ``two-borders``: each provider has a
border of its own, and the one whose line is dead hands what it has rewritten to the other.
``router-both``: the sites of both hosts have a border, and both lose their line to provider 1, one
after the other.
"""

from dataclasses import dataclass
from typing import Any, Final

from noid.counters import BorderCounter
from noid.lab.bird import Bird, with_bfd
from noid.lab.faults import Fault
from noid.lab.lab import Lab
from noid.lab.passing import Passing
from noid.lab.site_play import INSIDE, PEER, READY_S, SECOND_UPLINK, Moved, Play, as_ms, yes
from noid.lab.transfer import STALL_AFTER_S, follow_events

REWRITE, BFD, TWO, BOTH = "router-rewrite", "router-bfd", "two-borders", "router-both"
DEAD: Final = 1
"""The provider whose line dies."""
PEER_BOUND_MS: Final = 10.0
"""After a switch, the peer sends by the new path within a round trip and this."""
GAP_BOUND_MS: Final = {Fault.CARRIER: 60.0, Fault.ACCESS: 150.0}
"""The longest silence where the border learns at once, and with BFD at 3 x 20 ms."""


@dataclass(frozen=True, kw_only=True)
class Rewritten(Moved):
    """The result of ``router-rewrite``, ``router-bfd`` and ``two-borders``.

    Attributes:
        round_trip_ms: of TCP before the fault, smoothed.
        switch_ms: from the fault to the border's switch.
        peer_ms: from the border's switch until the peer's first packet by provider 2 is there.
        probed_before: hosts that probed before that packet.
        peer_bound_ms: the bound of ``peer_ms``: a round trip and 10 ms.
        gap_bound_ms: the bound of ``gap_ms``.
        within_bounds: whether neither is above; a busy machine may need longer.
    """

    round_trip_ms: float
    switch_ms: float
    peer_ms: float | None
    probed_before: list[str]
    peer_bound_ms: float
    gap_bound_ms: float
    within_bounds: bool

    @property
    def good(self) -> bool:
        """As in the base class, and in time; hosts may notice silence before BFD."""
        moved = self.peer_ms is not None and self.survived and self.intact
        return moved and (self.scenario == BFD or (not self.probed_before and self.rewritten > 0))

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return super().figures | {
            "round trip": f"{self.round_trip_ms:.2f} ms",
            "fault to switch": f"{self.switch_ms:.1f} ms",
            "switch to the peer's packet": _ms(self.peer_ms),
            "probed before that": " ".join(self.probed_before) or "no host",
            "bounds": f"{self.peer_bound_ms:.2f} ms, silence {self.gap_bound_ms:.0f} ms",
            "within bounds": yes(self.within_bounds),
        }


@dataclass(frozen=True, kw_only=True)
class BothRewritten(Moved):
    """The result of ``router-both``.

    Attributes:
        rewritten_by: packets that each border rewrote while the operator had both do it; after a
            failure a host may have moved by itself.
    """

    rewritten_by: dict[str, int]

    @property
    def good(self) -> bool:
        """Whether both borders did what they are there for."""
        return self.survived and self.intact and all(self.rewritten_by.values())


def run_rewrite(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Rewritten:
    """Plays ``router-rewrite`` in a lab that is up.

    Raises:
        UsageError: there is no noid in this lab, or it is another network.
        PlatformError: it does not come as far as the fault, or not over provider 1.
    """
    return _rewrite(Play(lab, REWRITE, stall_after_s), Fault.CARRIER)


def run_bfd(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Rewritten:
    """Plays ``router-bfd`` in a lab that is up; as ``run_rewrite``.

    Raises:
        Unsupported: BIRD is not installed.
    """
    play = Play(lab, BFD, stall_after_s)
    bird = Bird(lab, play.border.router, DEAD)
    play.border.reload(with_bfd(play.border.config.read_text(encoding="utf-8"), INSIDE, DEAD))
    bird.await_up()
    return _rewrite(play, Fault.ACCESS)


def run_two_borders(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> Rewritten:
    """Plays ``two-borders`` in a lab that is up; as ``run_rewrite``."""
    return _rewrite(Play(lab, TWO, stall_after_s, sites="two-borders"), Fault.CARRIER)


def run_both(lab: Lab, *, stall_after_s: float = STALL_AFTER_S) -> BothRewritten:
    """Plays ``router-both`` in a lab that is up.

    The operator has both borders rewrite for a while. Then the lines die, the peer's while the
    first border already rewrites.

    Raises:
        UsageError: there is no noid in this lab, or it is another network.
        PlatformError: it does not come as far as the fault.
    """
    play = Play(lab, BOTH, stall_after_s, sites="both")
    with play.streams:
        for one in play.borders:
            one.use("isp2")
        survived = play.goes_on()
        counts = {
            one.router.node: one.count(BorderCounter.PACKETS_REWRITTEN) for one in play.borders
        }
        for one in play.borders:
            one.use("auto")
        play.begin()
        fault_ns = lab.cut(DEAD, Fault.CARRIER, INSIDE)
        survived &= play.goes_on()
        lab.cut(DEAD, Fault.CARRIER, PEER)
        survived &= play.goes_on()
        figures = play.figures(fault_ns, survived=survived, rewritten=play.rewritten())
    return BothRewritten(**figures, rewritten_by=counts)


def _rewrite(play: Play, fault: Fault) -> Rewritten:
    lab = play.lab
    events: list[tuple[str, dict[str, Any]]] = []
    follow_events(lab, events)
    with play.streams as streams, Passing(lab, play.borders[-1].router.node, SECOND_UPLINK) as seen:
        lab.wait_for("provider 1 carries all", lambda: _begins_by_first(play, seen), READY_S)
        round_trip_ns = streams.round_trip_ns
        fault_ns = lab.cut(DEAD, fault)
        survived = play.goes_on()
        play.border.await_leaves_by("isp2", "isp2")
        switched_ns = play.border.status()["switched_ns"]
        figures = play.figures(fault_ns, survived=survived, rewritten=play.rewritten())
        peer_ns = seen.first_ns(outgoing=False)
    peer_ms = None if peer_ns is None else as_ms(peer_ns - switched_ns)
    peer_bound_ms = as_ms(round_trip_ns) + PEER_BOUND_MS
    is_early = peer_ms is not None and peer_ms <= peer_bound_ms
    return Rewritten(
        **figures,
        round_trip_ms=as_ms(round_trip_ns),
        switch_ms=as_ms(switched_ns - fault_ns),
        peer_ms=peer_ms,
        probed_before=_probed(events, fault_ns, peer_ns),
        peer_bound_ms=peer_bound_ms,
        gap_bound_ms=GAP_BOUND_MS[fault],
        within_bounds=is_early and figures["gap_ms"] <= GAP_BOUND_MS[fault],
    )


def _begins_by_first(play: Play, seen: Passing) -> bool:
    """Whether nothing passes provider 2 then; a busy machine answers BFD or hosts too late."""
    seen.forget()
    play.begin()
    return not (seen.of_contexts(outgoing=True) or seen.of_contexts(outgoing=False))


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


def _ms(span_ms: float | None) -> str:
    return "none came" if span_ms is None else f"{span_ms:.2f} ms"
