# SPDX-License-Identifier: MIT
"""What the scenarios of sites with borders have in common: who talks, and what is measured.

Host a, behind a border, has one TCP connection with b, with octets in both directions all the time.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from noid.constants import MILLISECOND, SECOND
from noid.counters import BorderCounter
from noid.errors import PlatformError, UsageError
from noid.lab.borders import start_borders
from noid.lab.configuration import ZONE
from noid.lab.inventory import Plane
from noid.lab.lab import Lab
from noid.lab.sites import Sites
from noid.lab.streams import BLOCK_OCTETS, Streams
from noid.lab.topology import HOSTS, locators

INSIDE, PEER = HOSTS
FIRST_PROVIDER, FIRST_UPLINK, SECOND_UPLINK = "isp1", "up1", "up2"
READY_S: Final = 60.0
"""A busy machine."""
READY_OCTETS: Final = 100 * BLOCK_OCTETS
STEADY_OCTETS: Final = 250 * BLOCK_OCTETS
"""What has to arrive in each direction, half a second of the pace, until it counts as going on."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The result of the scenario, as the result line says it.

    Attributes:
        scenario: the scenario.
        plane: the data plane of the hosts.
        survived: whether octets went on in both directions.
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
        """Whether the connection survived undamaged, and the border rewrote packets."""
        return self.survived and self.intact and self.rewritten > 0

    @property
    def figures(self) -> dict[str, str]:
        """The outcome as texts, by their labels."""
        return {
            "connection survived": yes(self.survived),
            "longest silence": f"{self.gap_ms:.1f} ms",
            "longest silence before": f"{self.usual_gap_ms:.1f} ms",
            "octets in order": yes(self.intact),
            "packets rewritten": str(self.rewritten),
            "seconds": f"{self.seconds:.1f}",
        }


class Play:
    """The borders of a lab, and the streams in it.

    Args:
        lab: with borders, whose daemons do not run yet.
        scenario: its name.
        stall_after_s: how long to wait for octets.
        sites: the network that the scenario needs.
        listed: how many addresses host a lists.

    Raises:
        UsageError: the lab has another network, or no noid.
        PlatformError: the hosts do not come to a context that can move.
    """

    def __init__(
        self,
        lab: Lab,
        scenario: str,
        stall_after_s: float,
        *,
        sites: Sites = "one",
        listed: int = 2,
    ) -> None:
        if lab.plane == "none":
            raise UsageError(f"{scenario}: without noid no packet is rewritten; take --plane bpf")
        self.lab = lab
        self.scenario = scenario
        self.stall_after_s = stall_after_s
        self.listed = {INSIDE: len(locators(PEER)), PEER: listed}
        """How many verified addresses of its peer each host has in a context that is complete."""
        if lab.description.sites != sites:
            raise UsageError(f"{scenario}: needs a lab built with --sites {sites}")
        if listed == 1:
            _list_one(lab)
        self.borders = start_borders(lab)
        self.border = self.borders[0]
        done = lab.run(INSIDE, ["ping", "-c1", "-i0.2", "-w20", f"{PEER}.{ZONE}"])
        if done.returncode != 0:
            raise PlatformError(scenario, 0, f"the hosts do not talk: {done.stdout.strip()}")
        lab.wait_for("the context can move", self._can_move, READY_S)
        self.streams = Streams(lab, INSIDE, PEER, lab.contexts(INSIDE)[0]["peer_aid"])
        self.began_ns = time.monotonic_ns()

    def begin(self) -> None:
        """Measures how long nothing comes while nothing fails, for comparison."""
        self.began_ns = time.monotonic_ns()
        self.await_octets(READY_OCTETS)

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
        """What every scenario reports, of the time since a fault."""
        now_ns = time.monotonic_ns()
        both = (self.streams.up, self.streams.down)
        up, down = (one.longest_silence_ns(fault_ns, now_ns) for one in both)
        usual = max(one.longest_silence_ns(self.began_ns, fault_ns) for one in both)
        return {
            "scenario": self.scenario,
            "plane": self.lab.plane,
            "survived": survived,
            "intact": all(one.intact for one in both),
            "gap_ms": as_ms(max(up, down)),
            "up_gap_ms": as_ms(up),
            "down_gap_ms": as_ms(down),
            "usual_gap_ms": as_ms(usual),
            "rewritten": rewritten,
            "seconds": round((now_ns - fault_ns) / SECOND, 3),
        }

    def rewritten(self) -> int:
        """How many packets all borders have rewritten since their programs were loaded."""
        return sum(one.count(BorderCounter.PACKETS_REWRITTEN) for one in self.borders)

    def _can_move(self) -> bool:
        return all(
            any(
                one["state"] == "established" and len(one["lsv_peer"]) == self.listed[host]
                for one in self.lab.contexts(host)
            )
            for host in HOSTS
        )


def as_ms(span_ns: int) -> float:
    """A span of time in milliseconds."""
    return round(span_ns / MILLISECOND, 2)


def yes(value: bool) -> str:
    """A verdict, for people."""
    return "yes" if value else "no"


def _list_one(lab: Lab) -> None:
    """Lets the host in the site list its AID alone, as one that peers cannot verify."""
    path = Path(lab.environment(INSIDE)["NOID_CONFIG"])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[host]\n", "[host]\nverifiable = false\n", 1), encoding="utf-8")
    lab.stop_daemon(INSIDE)
    lab.start_daemon(INSIDE)
